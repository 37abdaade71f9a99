#pragma once
#include "dataplane/shm/registry.hpp"
#include "dataplane/shm/ring_buffer.hpp"

namespace thalweg::core {

// Wakes the sleeping conductor on behalf of those who make no system calls: clients, whose protocol knows no bell, and the lane itself. The
// lane looks when it is about to give its core away, which is a system call anyway. One that never rests (noop, busy-spin, load) never
// looks; the conductor sees that by `watched_ns` and naps shorter. Thread: the lane.
class Doorman {
 public:
  Doorman(shm::RegistryHeader& header, shm::LaneSlot& lane) noexcept : header_{&header}, lane_{&lane} {}
  // The ring clients write commands to. Without it nothing is watched. Before the first look().
  void watch(const shm::ManyToOneRing& commands) noexcept { commands_ = commands; }

  // `now_ns`: monotonic. Wakes at most once for the same commands and bells: the conductor takes its time over some.
  void look(std::int64_t now_ns) noexcept {
    if (commands_.capacity() == 0) return;
    lane_->watched_ns.store(now_ns, std::memory_order_relaxed);
    if (header_->control_asleep.load(std::memory_order_acquire) == 0) return;  // awake, or looks once more before it sleeps
    const std::int64_t commands = commands_.producer_position();
    const std::uint32_t bells = lane_->to_control.tail.load(std::memory_order_relaxed);
    const bool has_command = commands != commands_rung_ && commands != commands_.consumer_position();
    const bool has_bell = bells != bells_rung_ && !lane_->to_control.is_empty();
    if (!has_command && !has_bell) return;
    commands_rung_ = commands;
    bells_rung_ = bells;
    shm::wake(header_->control_wake);
  }

 private:
  shm::RegistryHeader* header_;
  shm::LaneSlot* lane_;
  shm::ManyToOneRing commands_;
  std::int64_t commands_rung_{};
  std::uint32_t bells_rung_{};
};

// Where a resting lane parks; the steward rings after it put something into the lane's inbox. The lane is never waited for, and while it does
// not park ringing costs no system call.
class ParkBell {
 public:
  // Any thread, after its message is in the inbox.
  void ring() noexcept {
    word_.fetch_add(1, std::memory_order_seq_cst);  // with is_parked_ below: either we see it parked, or it sees the new word
    if (is_parked_.load(std::memory_order_seq_cst)) shm::wake(word_);
  }
  // The lane. `has_messages` looks into the inbox.
  template <typename HasMessages>
  void park(std::int64_t duration_ns, HasMessages&& has_messages) noexcept {
    const std::uint32_t seen = word_.load(std::memory_order_acquire);
    is_parked_.store(true, std::memory_order_seq_cst);
    if (!has_messages()) shm::wait(word_, seen, duration_ns);
    is_parked_.store(false, std::memory_order_relaxed);
  }

 private:
  std::atomic<std::uint32_t> word_{};
  std::atomic<bool> is_parked_{};
};

}  // namespace thalweg::core
