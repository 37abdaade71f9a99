#include "controlplane/cli/histogram.hpp"

#include <algorithm>
#include <cmath>

namespace thalweg::cli {

Histogram::Histogram() : counts_(index_of(kMax) + 1) {}

void Histogram::add(const Histogram& other) noexcept {
  for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
  count_ += other.count_;
  saturated_ += other.saturated_;
  sum_ += other.sum_;
  min_ = std::min(min_, other.min_);
  max_ = std::max(max_, other.max_);
}

std::int64_t Histogram::highest_of(std::size_t index) noexcept {
  const std::size_t exponent = index < 2 * kHalf ? 0 : index / kHalf - 1;
  const auto sub = static_cast<std::int64_t>(index - exponent * kHalf);
  return ((sub + 1) << exponent) - 1;
}

std::int64_t Histogram::percentile(double percent) const noexcept {
  constexpr double kRounding = 1e-6;  // 99.9 % of 1000 values are 999 of them, not 1000 because of a last binary digit
  const auto wanted = static_cast<std::int64_t>(std::ceil(percent / 100.0 * static_cast<double>(count_) - kRounding));
  std::int64_t seen = 0;
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    seen += counts_[i];
    if (counts_[i] != 0 && seen >= wanted) return std::min(highest_of(i), max_);
  }
  return max_;
}

}  // namespace thalweg::cli
