#include "dataplane/proto/congestion.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "dataplane/base/planted.hpp"
#include "dataplane/base/time.hpp"
#include "dataplane/wire/frames.hpp"

namespace thalweg::proto::congestion {
namespace {

using shm::CongestionControl;
using shm::CongestionState;
using Wanted = shm::ImageSlot::Wanted;

constexpr double kCubicC = 0.4;   // 4.7
constexpr double kCubicB = 0.2;
constexpr std::int64_t kAlignMask = ~std::int64_t{wire::kFrameAlignment - 1};
constexpr std::uint32_t kTimeoutsMax = 16;  // doublings; beyond, kRtoMax_ns holds anyway

// ---- cubic: 4.7, in segments of one MTU ----

void set_cubic_window(const Wanted& desired, CongestionState& c, std::int64_t max_window, std::int32_t cwnd) noexcept {
  c.cubic_cwnd = cwnd;
  c.window = std::min(std::int64_t{cwnd} * desired.mtu, max_window);  // one MTU may be more than half a term
}

void start_cubic(const Wanted& desired, CongestionState& c, std::int64_t max_window, std::int64_t now_ns) noexcept {
  c.cubic_cwnd_max = std::max<std::int32_t>(1, static_cast<std::int32_t>(max_window / desired.mtu));
  c.cubic_w_max = c.cubic_cwnd_max;
  c.cubic_k = std::cbrt(c.cubic_w_max * kCubicB / kCubicC);
  c.last_loss_ns = c.last_update_ns = now_ns;
  set_cubic_window(desired, c, max_window, std::min(kCubicWindowInitial, c.cubic_cwnd_max));
}

std::int32_t grown_cubic(const Wanted& desired, const shm::ImageState& s, std::int64_t now_ns) noexcept {
  const CongestionState& c = s.congestion;
  const double t = static_cast<double>(now_ns - c.last_loss_ns) / kSecond_ns;
  const double from_k = t - c.cubic_k;
  const double growth = std::trunc(kCubicC * from_k * from_k * from_k);
  double cwnd = std::min<double>(c.cubic_cwnd_max, c.cubic_w_max + growth);
  if (desired.is_tcp_mode && cwnd < c.cubic_w_max) {
    const double rtt = static_cast<double>(s.rtt_ns > 0 ? s.rtt_ns : std::max<std::int64_t>(desired.initial_rtt_ns, 1)) / kSecond_ns;
    cwnd = std::max(cwnd, std::trunc(c.cubic_w_max * (1 - kCubicB) + (3 * kCubicB / (2 - kCubicB)) * (t / rtt)));
  }
  return static_cast<std::int32_t>(std::clamp<double>(cwnd, 1, c.cubic_cwnd_max));
}

bool step_cubic(const Wanted& desired, shm::ImageState& s, std::int64_t max_window, const Progress& progress, std::int64_t now_ns) noexcept {
  CongestionState& c = s.congestion;
  if (progress.loss_position >= 0) {
    c.cubic_w_max = c.cubic_cwnd;
    c.cubic_k = std::cbrt(c.cubic_w_max * kCubicB / kCubicC);
    c.last_loss_ns = now_ns;
    const auto less = static_cast<std::int32_t>(c.cubic_cwnd * (1 - kCubicB));
    set_cubic_window(desired, c, max_window, planted(Bug::kCongestionIgnoresLoss) ? c.cubic_cwnd : std::max(1, less));
    return true;
  }
  if (c.cubic_cwnd < c.cubic_cwnd_max && now_ns - c.last_update_ns > desired.initial_rtt_ns) {
    set_cubic_window(desired, c, max_window, grown_cubic(desired, s, now_ns));
    c.last_update_ns = now_ns;
    return false;
  }
  return c.cubic_cwnd == 1 && progress.consumed > progress.last_sm_position;
}

// ---- aimd, in bytes ----

std::int64_t aimd_min(const Wanted& desired, std::int64_t max_window) noexcept {
  return std::min(max_window, std::max<std::int64_t>(kAimdWindowMin, 2 * std::int64_t{desired.mtu}));
}
std::int64_t aimd_max(std::int64_t max_window) noexcept { return std::min(max_window, kAimdWindowMax); }

void start_aimd(const Wanted& desired, shm::ImageState& s, std::int64_t max_window, std::int64_t now_ns) noexcept {
  CongestionState& c = s.congestion;
  c.window = std::clamp(kAimdWindowInitial, aimd_min(desired, max_window), aimd_max(max_window)) & kAlignMask;
  c.threshold = std::numeric_limits<std::int64_t>::max();
  c.counted = c.recovery_position = s.rebuild_position;
  c.last_update_ns = now_ns;
}

void cut(const Wanted& desired, shm::ImageState& s, std::int64_t max_window, std::int64_t window) noexcept {
  CongestionState& c = s.congestion;
  c.threshold = std::max(c.window / 2, aimd_min(desired, max_window));
  c.window = std::max(window, aimd_min(desired, max_window)) & kAlignMask;
  c.credit = 0;
  c.recovery_position = s.high_water;
}

void grow(const Wanted& desired, CongestionState& c, std::int64_t max_window, std::int64_t arrived) noexcept {
  if (c.window < c.threshold) {
    c.window = std::min(c.window + std::min(arrived, c.window), c.threshold);  // slow start: doubles with each window of data
  } else {
    c.credit += arrived;
    if (c.credit < c.window) return;
    c.credit = std::min(c.credit - c.window, c.window);
    c.window += desired.mtu;
  }
  c.window = std::min(c.window, aimd_max(max_window)) & kAlignMask;
}

bool step_aimd(const Wanted& desired, shm::ImageState& s, std::int64_t max_window, const Progress& progress, std::int64_t now_ns) noexcept {
  CongestionState& c = s.congestion;
  const bool was_recovering = c.counted < c.recovery_position;
  const std::int64_t arrived = progress.rebuild_position - c.counted;
  if (arrived > 0) {
    c.counted = progress.rebuild_position;
    c.timeouts = 0;
    c.last_update_ns = now_ns;
    if (!was_recovering) grow(desired, c, max_window, arrived);
  }
  if (progress.loss_position >= c.recovery_position) {
    cut(desired, s, max_window, planted(Bug::kCongestionIgnoresLoss) ? c.window : c.window / 2);
    c.last_update_ns = now_ns;  // the time-out of what is missing runs from here
    return true;
  }
  const bool is_waiting = progress.rebuild_position < progress.high_water;
  if (!is_waiting) {
    c.last_update_ns = now_ns;  // nothing is missing: no time-out runs
  } else if (now_ns - c.last_update_ns > rto_ns(s)) {
    cut(desired, s, max_window, 0);
    c.timeouts = std::min(c.timeouts + 1, kTimeoutsMax);
    c.last_update_ns = now_ns;
    return true;
  }
  // Less than a quarter of so small a window may be what keeps a datagram from fitting.
  return c.window < 2 * std::int64_t{desired.mtu} && progress.consumed > progress.last_sm_position;
}

}  // namespace

void start(const Wanted& desired, shm::ImageState& state, std::int64_t max_window, std::int64_t now_ns) noexcept {
  state.congestion = {};
  switch (desired.congestion_control) {
    case CongestionControl::kCubic: return start_cubic(desired, state.congestion, max_window, now_ns);
    case CongestionControl::kAimd: return start_aimd(desired, state, max_window, now_ns);
    case CongestionControl::kStatic: break;
  }
  state.congestion.window = max_window;
}

bool step(const Wanted& desired, shm::ImageState& state, std::int64_t max_window, const Progress& progress, std::int64_t now_ns) noexcept {
  switch (desired.congestion_control) {
    case CongestionControl::kCubic: return step_cubic(desired, state, max_window, progress, now_ns);
    case CongestionControl::kAimd: return step_aimd(desired, state, max_window, progress, now_ns);
    case CongestionControl::kStatic: break;
  }
  return false;
}

std::int64_t next_deadline_ns(const Wanted& desired, const shm::ImageState& state) noexcept {
  const CongestionState& c = state.congestion;
  const bool is_cubic_growing = desired.congestion_control == CongestionControl::kCubic && c.cubic_cwnd < c.cubic_cwnd_max;
  if (is_cubic_growing) return c.last_update_ns + desired.initial_rtt_ns + 1;
  const bool is_aimd_waiting = desired.congestion_control == CongestionControl::kAimd && state.rebuild_position < state.high_water;
  return is_aimd_waiting ? c.last_update_ns + rto_ns(state) + 1 : std::numeric_limits<std::int64_t>::max();
}

std::int64_t rtt_interval_ns(const Wanted& desired, const shm::ImageState& state) noexcept {
  if (desired.congestion_control == CongestionControl::kAimd) return std::max(kAimdRttInterval_ns, 4 * state.srtt_ns);
  return kCubicRttTimeoutMultiple * std::max(state.rtt_ns, desired.initial_rtt_ns);
}

void add_rtt_sample(shm::ImageState& state, std::int64_t rtt_ns) noexcept {
  state.rtt_ns = rtt_ns;
  if (state.srtt_ns == 0) {
    state.srtt_ns = rtt_ns;
    state.rttvar_ns = rtt_ns / 2;
    return;
  }
  const std::int64_t difference = rtt_ns - state.srtt_ns;
  state.rttvar_ns += (std::abs(difference) - state.rttvar_ns) / 4;
  state.srtt_ns += difference / 8;
}

std::int64_t rto_ns(const shm::ImageState& state) noexcept {
  const std::int64_t measured = state.srtt_ns + std::max(kClockGranularity_ns, 4 * state.rttvar_ns);
  const std::int64_t base = state.srtt_ns == 0 ? kRtoInitial_ns : std::clamp(measured, kRtoMin_ns, kRtoMax_ns);
  return std::min(base << std::min(state.congestion.timeouts, kTimeoutsMax), kRtoMax_ns);
}

}  // namespace thalweg::proto::congestion
