#pragma once
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace thalweg::test {

// Reports single times as p50_ns, p99_ns and p999_ns. Precondition: there is one.
inline void report_percentiles(benchmark::State& state, std::vector<std::int64_t>& times) {
  std::sort(times.begin(), times.end());
  const auto at = [&](double part) { return static_cast<double>(times[static_cast<std::size_t>(part * static_cast<double>(times.size() - 1))]); };
  state.counters["p50_ns"] = at(0.5);
  state.counters["p99_ns"] = at(0.99);
  state.counters["p999_ns"] = at(0.999);
}

}  // namespace thalweg::test
