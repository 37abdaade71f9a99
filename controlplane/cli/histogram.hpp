#pragma once
#include <bit>
#include <cstdint>
#include <vector>

namespace thalweg::cli {

// Log-linear histogram of non-negative values (latencies in ns): exact below 2048, above that within 0.1 %. Recording costs a shift and an
// increment; the memory is fixed. Values above kMax are recorded as kMax and counted. One thread.
class Histogram {
 public:
  static constexpr int kSubBucketBits = 11;                       // 2048 sub-buckets, upper half used above the first power: 1/1024
  static constexpr std::int64_t kMax = (std::int64_t{1} << 42) - 1;  // 73 minutes in ns

  Histogram();

  // A negative value counts as 0.
  void record(std::int64_t value) noexcept {
    if (value > kMax) ++saturated_;
    const std::int64_t v = value < 0 ? 0 : value > kMax ? kMax : value;
    ++counts_[index_of(v)];
    ++count_;
    sum_ += static_cast<double>(v);
    if (v < min_) min_ = v;
    if (v > max_) max_ = v;
  }
  void add(const Histogram& other) noexcept;

  [[nodiscard]] std::int64_t count() const noexcept { return count_; }
  [[nodiscard]] std::int64_t saturated_count() const noexcept { return saturated_; }
  [[nodiscard]] std::int64_t min() const noexcept { return count_ == 0 ? 0 : min_; }
  [[nodiscard]] std::int64_t max() const noexcept { return max_; }
  [[nodiscard]] double mean() const noexcept { return count_ == 0 ? 0.0 : sum_ / static_cast<double>(count_); }
  // The smallest recordable value that at least `percent` of all values do not exceed; 0 when empty. 0 < percent <= 100.
  [[nodiscard]] std::int64_t percentile(double percent) const noexcept;

 private:
  static constexpr std::size_t kHalf = std::size_t{1} << (kSubBucketBits - 1);
  [[nodiscard]] static int exponent_of(std::int64_t value) noexcept {
    const int width = static_cast<int>(std::bit_width(static_cast<std::uint64_t>(value)));
    return width > kSubBucketBits ? width - kSubBucketBits : 0;
  }
  [[nodiscard]] static std::size_t index_of(std::int64_t value) noexcept {
    const int exponent = exponent_of(value);
    return static_cast<std::size_t>(exponent) * kHalf + static_cast<std::size_t>(value >> exponent);
  }
  [[nodiscard]] static std::int64_t highest_of(std::size_t index) noexcept;

  std::vector<std::int64_t> counts_;
  std::int64_t count_{};
  std::int64_t saturated_{};
  std::int64_t min_{kMax};
  std::int64_t max_{};
  double sum_{};
};

}  // namespace thalweg::cli
