#pragma once
#include <array>
#include <cstdint>

#include "dataplane/base/random.hpp"

namespace thalweg::sim {

// What a scenario is drawn with.
class Draw {
 public:
  explicit Draw(std::uint64_t seed) noexcept : random_{seed} {}
  [[nodiscard]] bool chance(double probability) noexcept { return random_.unit() < probability; }
  [[nodiscard]] std::int64_t between(std::int64_t low, std::int64_t high) noexcept {
    return low + static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(high - low + 1)));
  }
  template <typename T>
  [[nodiscard]] T between(T low, T high) noexcept {
    return static_cast<T>(between(std::int64_t{low}, std::int64_t{high}));
  }
  template <typename T, std::size_t N>
  [[nodiscard]] T pick(const std::array<T, N>& values) noexcept {
    return values[random_.below(N)];
  }
  [[nodiscard]] std::uint32_t ppm(double share_max) noexcept { return static_cast<std::uint32_t>(random_.unit() * share_max * 1e6); }
  [[nodiscard]] std::int32_t any_int32() noexcept { return static_cast<std::int32_t>(random_.next()); }

 private:
  Random random_;
};

}  // namespace thalweg::sim
