#pragma once
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

namespace thalweg {

static_assert(std::endian::native == std::endian::little, "shared memory and wire formats are little-endian");

// Cache line of every shared layout; fixed by client-protocol (Conventions), not by the CPU.
inline constexpr std::size_t kCacheLine = 64;

// Unaligned little-endian load of a trivially copyable T. Any thread; not atomic.
template <typename T>
  requires std::is_trivially_copyable_v<T>
[[nodiscard]] inline T load_le(const std::byte* p) noexcept {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}

// Unaligned little-endian store. Any thread; not atomic.
template <typename T>
  requires std::is_trivially_copyable_v<T>
inline void store_le(std::byte* p, T value) noexcept {
  std::memcpy(p, &value, sizeof(T));
}

[[nodiscard]] constexpr std::uint16_t byteswap16(std::uint16_t v) noexcept { return __builtin_bswap16(v); }
[[nodiscard]] constexpr std::uint32_t byteswap32(std::uint32_t v) noexcept { return __builtin_bswap32(v); }

// Big-endian (network order) loads and stores for the IP headers.
[[nodiscard]] inline std::uint16_t load_be16(const std::byte* p) noexcept { return byteswap16(load_le<std::uint16_t>(p)); }
[[nodiscard]] inline std::uint32_t load_be32(const std::byte* p) noexcept { return byteswap32(load_le<std::uint32_t>(p)); }
inline void store_be16(std::byte* p, std::uint16_t v) noexcept { store_le(p, byteswap16(v)); }
inline void store_be32(std::byte* p, std::uint32_t v) noexcept { store_le(p, byteswap32(v)); }

// Rounds up to a multiple of `alignment`, which must be a power of two.
template <std::integral T>
[[nodiscard]] constexpr T align_up(T value, T alignment) noexcept {
  return static_cast<T>((value + (alignment - 1)) & ~(alignment - 1));
}

}  // namespace thalweg
