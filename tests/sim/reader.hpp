#pragma once
#include <vector>

#include "dataplane/shm/counters.hpp"
#include "tests/sim/ledger.hpp"
#include "tests/sim/log_memory.hpp"
#include "tests/sim/scenario.hpp"
#include "tests/sim/verdict.hpp"

// One subscriber position on an image or an IPC log: polls as a client does (client-protocol 7.7), puts fragments together
// (wire-protocol 1.14) and compares every message with the ledger.
namespace thalweg::sim {

// Which messages it may be without: a relay sends padding for what it had no receiver for, when it is slow for more.
enum class Skips : std::uint8_t { kNone, kBeforeFirst, kAny };

class Reader {
 public:
  Reader(const StreamPlan& stream, const ReaderPlan& plan, Skips skips, shm::LogBuffer log, const Ledger& ledger, Verdict& verdict)
      : stream_{stream}, plan_{plan}, skips_{skips}, log_{log}, ledger_{ledger}, verdict_{verdict} {}
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  // The lane chose the position; from now on this reader counts.
  void join(std::int64_t position);
  [[nodiscard]] bool has_joined() const noexcept { return has_joined_; }
  bool poll(std::int64_t now_ns);
  [[nodiscard]] std::int64_t next_due_ns(std::int64_t now_ns) const noexcept;
  [[nodiscard]] bool has_died(std::int64_t now_ns) const noexcept { return now_ns >= plan_.die_at_ns; }
  void close() noexcept { is_closed_ = true; }
  // From now on it reads as fast as it can.
  void heal() noexcept {
    is_fast_ = has_paused_ = true;
    next_poll_ns_ = 0;
  }
  [[nodiscard]] bool is_closed() const noexcept { return is_closed_; }

  [[nodiscard]] std::int64_t position() const noexcept { return position_; }
  [[nodiscard]] std::int64_t join_position() const noexcept { return join_position_; }
  [[nodiscard]] std::uint64_t messages() const noexcept { return messages_; }
  // Read up to the end-of-stream position stored in the log.
  [[nodiscard]] bool is_at_end() const noexcept { return position_ >= log_.load<std::int64_t>(shm::meta::kEndOfStreamPosition); }
  // Every live message of the ledger from the join on was delivered.
  [[nodiscard]] bool is_complete() const noexcept;
  [[nodiscard]] const ReaderPlan& plan() const noexcept { return plan_; }

 private:
  void take(std::byte* frame, std::int32_t length);
  void deliver(std::int64_t start_position);
  [[nodiscard]] bool may_skip() const noexcept { return skips_ == Skips::kAny || (skips_ == Skips::kBeforeFirst && messages_ == 0); }

  const StreamPlan& stream_;
  const ReaderPlan& plan_;
  Skips skips_;
  shm::LogBuffer log_;
  const Ledger& ledger_;
  Verdict& verdict_;
  std::vector<std::byte> message_;
  std::int64_t position_{};
  std::int64_t join_position_{};
  std::int64_t message_start_{};
  std::int64_t expected_fragment_{-1};  // position, -1: none
  std::int64_t next_poll_ns_{};
  std::size_t next_record_{};
  std::uint64_t messages_{};
  bool has_joined_{}, is_closed_{}, has_paused_{}, is_fast_{};
};

}  // namespace thalweg::sim
