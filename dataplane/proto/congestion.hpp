#pragma once
#include "dataplane/shm/registry.hpp"

// Receiver-side congestion control (wire-protocol 4.6, 4.7): how large a window the next status message offers. Functions over the
// registry's state, chosen by Wanted::congestion_control; with the static window none of them is called. Thread: owning lane.
//
// `aimd` is ours, after RFC 5681 and RFC 6298: slow start from 64 KiB until the first loss, then one MTU more per window of data; a lost
// datagram halves the window, once for all that was under way; a gap that stays open for a whole retransmission time-out (RTO) takes it
// to its least, and slow start begins again.
namespace thalweg::proto::congestion {

inline constexpr std::int64_t kAimdWindowInitial = 64 << 10;
inline constexpr std::int64_t kAimdWindowMin = 4 << 10;    // or two MTUs, where that is more: with less each step would have to be told (4.7)
inline constexpr std::int64_t kAimdWindowMax = 16 << 20;
inline constexpr std::int64_t kRtoInitial_ns = 1'000'000'000;   // RFC 6298 2.1: before the first sample
inline constexpr std::int64_t kRtoMin_ns = 1'000'000;           // ours: the RFC's second would outlast a thousand round trips of a data centre
inline constexpr std::int64_t kRtoMax_ns = 60'000'000'000;      // RFC 6298 2.5
inline constexpr std::int64_t kClockGranularity_ns = 1'000;     // G of RFC 6298; a lane's turn
inline constexpr std::int64_t kAimdRttInterval_ns = 10'000'000; // between measurements while data arrives, at least 4 round trips
inline constexpr int kCubicRttTimeoutMultiple = 4;
inline constexpr int kCubicWindowInitial = 10;                  // MTUs

// What a step needs to know of its image.
struct Progress {
  std::int64_t rebuild_position{};
  std::int64_t high_water{};
  std::int64_t consumed{};        // by the slowest subscriber
  std::int64_t last_sm_position{};
  std::int64_t loss_position{-1}; // of the last gap that became known since the step before; -1: none did
};

// A new image at `position`: sets the initial window. `max_window`: min(rcv-wnd, half a term).
void start(const shm::ImageSlot::Wanted& desired, shm::ImageState& state, std::int64_t max_window, std::int64_t now_ns) noexcept;
// One rebuild step (3.6 step 4). True: the window is to be announced at once.
[[nodiscard]] bool step(const shm::ImageSlot::Wanted& desired, shm::ImageState& state, std::int64_t max_window, const Progress& progress,
                        std::int64_t now_ns) noexcept;
// When step() may have something to do though nothing arrives; INT64_MAX: then it has not.
[[nodiscard]] std::int64_t next_deadline_ns(const shm::ImageSlot::Wanted& desired, const shm::ImageState& state) noexcept;

// Time between RTT requests: the time-out of 4.7 for cubic, ours for aimd.
[[nodiscard]] std::int64_t rtt_interval_ns(const shm::ImageSlot::Wanted& desired, const shm::ImageState& state) noexcept;
// A sample, by RFC 6298 2.2 and 2.3.
void add_rtt_sample(shm::ImageState& state, std::int64_t rtt_ns) noexcept;
// RFC 6298 2.3 to 2.5, with the bounds above; doubled for each time-out in a row.
[[nodiscard]] std::int64_t rto_ns(const shm::ImageState& state) noexcept;

}  // namespace thalweg::proto::congestion
