#include "pmd/decorators/capture.hpp"

#include <algorithm>
#include <chrono>

#include "dataplane/base/time.hpp"

namespace thalweg::pmd {
namespace {

// How long frames lie in a ring at most: a ring holds far more than arrives meanwhile, and whoever watches the file sees them soon enough.
constexpr std::chrono::milliseconds kDrainInterval{2};

}  // namespace

CapturePort::CapturePort(std::unique_ptr<Port> inner, std::string name) : inner_{std::move(inner)}, name_{std::move(name)} {
  rx_taps_.resize(inner_->capabilities().rx_queue_count);
  tx_taps_.resize(inner_->capabilities().tx_queue_count);
}

std::uint16_t CapturePort::rx_burst(std::uint16_t queue, rte_mbuf** frames, std::uint16_t count) noexcept {
  const std::uint16_t received = inner_->rx_burst(queue, frames, count);
  Tap& tap = rx_taps_[queue];
  if (received == 0 || !tap.gate.enter()) return received;
  const std::int64_t now_ns = epoch_ns();
  for (std::uint16_t i = 0; i < received; ++i) static_cast<void>(tap.ring->write(frames[i], now_ns));
  tap.ring->publish(tap.ring->end());
  tap.gate.leave();
  return received;
}

// Frames are copied before they are offered, because those taken are no longer ours to read, and published once it is known how many were.
std::uint16_t CapturePort::tx_burst(std::uint16_t queue, rte_mbuf** frames, std::uint16_t count) noexcept {
  Tap& tap = tx_taps_[queue];
  if (!tap.gate.enter()) return inner_->tx_burst(queue, frames, count);
  const std::int64_t now_ns = epoch_ns();
  std::uint64_t ends[kBurstMax + 1];
  ends[0] = tap.ring->end();
  const std::uint16_t offered = std::min(count, kBurstMax);
  for (std::uint16_t i = 0; i < offered; ++i) ends[i + 1] = tap.ring->write(frames[i], now_ns);
  const std::uint16_t sent = inner_->tx_burst(queue, frames, offered);
  tap.ring->publish(ends[sent]);
  tap.gate.leave();
  return sent;
}

Result<void> CapturePort::start_capture(const CaptureOptions& options) {
  if (capture_status().is_running)
    return fail(ErrorCode::kInUse, "port " + name_ + " is being captured already", "thalweg capture --list shows it, thalweg capture --stop NUMBER ends it");
  stop_capture();
  auto file = PcapngFile::create(options.path, name_, options.snap_length);
  if (!file) return tl::unexpected<Error>{std::move(file.error())};
  const std::uint32_t snap_length = options.snap_length == 0 ? UINT32_MAX : options.snap_length;
  rings_.clear();
  const auto prepare = [&](std::deque<Tap>& taps, Direction direction) {
    for (Tap& tap : taps) {
      // A frame must fit a ring whatever its descriptor says.
      tap.ring = std::make_unique<CaptureRing>(direction, std::min<std::uint32_t>(snap_length, CaptureRing::kBytes / 4));
      rings_.push_back(tap.ring.get());
    }
  };
  prepare(rx_taps_, Direction::kInbound);
  prepare(tx_taps_, Direction::kOutbound);
  frames_.store(0, std::memory_order_relaxed);
  error_.clear();
  is_running_ = true;
  writer_ = std::jthread{[this, file = std::move(*file), options](const std::stop_token& stop) mutable {
    write_until(stop, std::move(file), options);
  }};
  for (std::deque<Tap>* const taps : {&rx_taps_, &tx_taps_})
    for (Tap& tap : *taps) tap.gate.open();
  return {};
}

void CapturePort::stop_capture() {
  if (!writer_.joinable()) return;
  close_gates();  // first, so that the writer's last look finds everything
  writer_.request_stop();
  writer_.join();
}

CaptureStatus CapturePort::capture_status() const {
  const std::lock_guard lock{mutex_};
  return {.is_running = is_running_, .frames = frames_.load(std::memory_order_relaxed), .dropped = dropped(), .error = error_};
}

void CapturePort::close_gates() noexcept {
  for (std::deque<Tap>* const taps : {&rx_taps_, &tx_taps_})
    for (Tap& tap : *taps) tap.gate.close();
}

std::uint64_t CapturePort::dropped() const noexcept {
  std::uint64_t sum = 0;
  for (const CaptureRing* const ring : rings_) sum += ring->dropped();
  return sum;
}

// The writer's thread. Ends when it is told to, when a limit is reached, or when the file takes no more; then the lanes are out.
void CapturePort::write_until(const std::stop_token& stop, PcapngFile file, CaptureOptions options) {
  std::vector<std::byte> scratch;
  Result<void> result;
  bool wants_more = true;
  while (wants_more && result) {
    // Asked before the last look, not after it: stop_capture() has closed the gates by then.
    const bool is_last = stop.stop_requested();
    wants_more = drain(file, options, scratch) && !is_last;
    result = file.flush();
    if (!wants_more || !result) break;
    std::unique_lock lock{mutex_};
    wake_.wait_for(lock, stop, kDrainInterval, [] { return false; });
  }
  if (!stop.stop_requested()) close_gates();
  if (result) {
    file.add_statistics(epoch_ns(), frames_.load(std::memory_order_relaxed) + dropped(), dropped());
    result = file.flush();
  }
  const std::lock_guard lock{mutex_};
  if (!result) error_ = result.error().message;
  is_running_ = false;
}

// Writes what is in the rings, oldest first. False once a limit is reached.
bool CapturePort::drain(PcapngFile& file, const CaptureOptions& options, std::vector<std::byte>& scratch) {
  constexpr std::uint64_t kBlockMax = 80;  // bytes around a frame, and the statistics at the end
  constexpr std::size_t kFlushBytes = 32U << 10;  // as much is lost at the end of a full disk
  while (true) {
    const auto oldest = std::min_element(rings_.begin(), rings_.end(), [](const auto* a, const auto* b) { return a->oldest_ns() < b->oldest_ns(); });
    CapturedFrame frame;
    if (!(*oldest)->peek(frame, scratch)) return true;
    if (options.frame_limit != 0 && frames_.load(std::memory_order_relaxed) >= options.frame_limit) return false;
    if (options.byte_limit != 0 && file.size() + frame.bytes.size() + 2 * kBlockMax > options.byte_limit) return false;
    file.add(frame);
    (*oldest)->pop(static_cast<std::uint32_t>(frame.bytes.size()));
    frames_.fetch_add(1, std::memory_order_relaxed);
    if (options.frame_limit != 0 && frames_.load(std::memory_order_relaxed) == options.frame_limit) return false;
    if (file.waiting_bytes() >= kFlushBytes && !file.flush()) return true;  // the caller's flush will fail again and tell
  }
}

}  // namespace thalweg::pmd
