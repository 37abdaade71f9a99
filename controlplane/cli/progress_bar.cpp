#include "controlplane/cli/progress_bar.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "dataplane/base/time.hpp"

namespace thalweg::cli {
namespace {
constexpr std::int64_t kRedraw_ns = 100 * kMillisecond_ns;
constexpr std::uint64_t kCells = 30;
}  // namespace

ProgressBar::ProgressBar(const Output& out, std::string what) : what_{std::move(what)}, is_shown_{!out.is_json() && ::isatty(STDERR_FILENO) == 1}, begin_ns_{monotonic_ns()} {}

ProgressBar::~ProgressBar() {
  if (is_drawn_) std::fputs("\r\033[K", stderr);
}

void ProgressBar::update(std::uint64_t done_bytes, std::uint64_t total_bytes) {
  if (!is_shown_ || total_bytes == 0) return;
  const std::int64_t now_ns = monotonic_ns();
  if (now_ns < next_ns_) return;
  next_ns_ = now_ns + kRedraw_ns;
  is_drawn_ = true;
  done_bytes = std::min(done_bytes, total_bytes);
  const double part = static_cast<double>(done_bytes) / static_cast<double>(total_bytes);
  const auto full = static_cast<std::size_t>(part * static_cast<double>(kCells));
  const double seconds = static_cast<double>(std::max<std::int64_t>(now_ns - begin_ns_, 1)) / 1e9;
  const std::string bar = std::string(full, '=') + std::string(kCells - full, ' ');
  std::fputs(fmt::format("\r{} [{}] {:3.0f} %  {}/s\033[K", what_, bar, part * 100, human_bytes(static_cast<double>(done_bytes) / seconds)).c_str(), stderr);
}

}  // namespace thalweg::cli
