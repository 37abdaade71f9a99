#pragma once
#include <concepts>
#include <type_traits>

// Signed arithmetic that wraps: term ids do so by design, positions that a hostile writer left in shared memory by accident.
namespace thalweg {

template <std::signed_integral T>
[[nodiscard]] constexpr T wrapping_sub(T a, std::type_identity_t<T> b) noexcept {
  using Unsigned = std::make_unsigned_t<T>;
  return static_cast<T>(static_cast<Unsigned>(a) - static_cast<Unsigned>(b));
}
template <std::signed_integral T>
[[nodiscard]] constexpr T wrapping_add(T a, std::type_identity_t<T> b) noexcept {
  using Unsigned = std::make_unsigned_t<T>;
  return static_cast<T>(static_cast<Unsigned>(a) + static_cast<Unsigned>(b));
}

}  // namespace thalweg
