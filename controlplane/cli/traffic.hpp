#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "controlplane/cli/cli.hpp"
#include "controlplane/cli/histogram.hpp"
#include "dataplane/client/thalweg.hpp"

// What the traffic verbs (pub, sub, ping, pong, bench) share: connecting, test messages, pacing, checking.
namespace thalweg::cli {

struct StreamOptions {
  std::string channel{"aeron:ipc"};
  std::int32_t stream_id{1001};
};
// --channel and --stream, or both as positional arguments.
void add_stream_options(CLI::App& verb, StreamOptions& options);

// Why a traffic loop ended. The summary names it; only kTimedOut and kClosed are failures.
enum class EndReason : std::uint8_t { kCount, kDuration, kInterrupted, kEndOfInput, kEndOfStream, kTimedOut, kClosed };
[[nodiscard]] const char* to_string(EndReason reason) noexcept;
[[nodiscard]] Exit exit_of(EndReason reason) noexcept;

// Connects as a client named "thalweg <verb>"; waits `wait_ns` for a driver, or AERON_DRIVER_TIMEOUT if that is shorter. The library's errors become notes on standard error, written
// by its thread: `out` itself is left to the caller.
[[nodiscard]] Result<client::Client> connect(const Context& context, const std::string& verb, std::int64_t wait_ns = 2'000'000'000);

// Waits without burning a core for long: spins, then yields, then sleeps 50 us at a time.
class Backoff {
 public:
  void reset() noexcept { idle_turns_ = 0; }
  void wait() noexcept;

 private:
  unsigned idle_turns_{};
};

// Scheduled send times at a fixed rate: message n is due at start + n / rate, whatever happened to those before it, so that a stalled
// publisher shows up in the latencies instead of thinning out the load. Rate 0: everything is due at once.
class Schedule {
 public:
  Schedule(std::int64_t start_ns, double per_second) noexcept : start_ns_{start_ns}, interval_ns_{per_second > 0 ? 1e9 / per_second : 0} {}
  [[nodiscard]] std::int64_t due_ns(std::int64_t n) const noexcept {
    return start_ns_ + static_cast<std::int64_t>(interval_ns_ * static_cast<double>(n));
  }
  [[nodiscard]] bool is_paced() const noexcept { return interval_ns_ > 0; }

 private:
  std::int64_t start_ns_;
  double interval_ns_;
};

// ---- test messages ---------------------------------------------------------------------------------------------------------------------
// 24 bytes of header, then a pattern made from the sequence number; a CRC32C over everything but itself.

inline constexpr std::size_t kTestMessageMin = 24;
struct TestMessage {
  std::uint64_t sequence{};
  std::int64_t time_ns{};  // CLOCK_MONOTONIC of the sender: when it was due (ping) or sent (pub)
};
// Precondition: bytes.size() >= kTestMessageMin.
void write_message(std::span<std::byte> bytes, const TestMessage& message) noexcept;
// nullopt: shorter than a header, of another length than was sent, or the checksum is wrong. Reads every byte.
[[nodiscard]] std::optional<TestMessage> read_message(std::span<const std::byte> bytes) noexcept;
[[nodiscard]] std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t seed = 0) noexcept;
// A digest over messages that reads every byte and costs next to nothing beside that: for streams whose messages carry no checksum.
[[nodiscard]] std::uint32_t add_bytes(std::uint32_t digest, std::span<const std::byte> bytes) noexcept;

// Judges the sequence numbers of one session. A subscriber may join late: the first number seen is taken as the start.
class SequenceCheck {
 public:
  void on(std::uint64_t sequence) noexcept;
  [[nodiscard]] std::uint64_t first() const noexcept { return first_; }
  [[nodiscard]] std::uint64_t next() const noexcept { return next_; }
  [[nodiscard]] std::int64_t missing() const noexcept { return missing_; }            // gaps not filled later
  [[nodiscard]] std::int64_t out_of_order() const noexcept { return out_of_order_; }  // below one already seen

 private:
  bool has_started_{};
  std::uint64_t first_{};
  std::uint64_t next_{};
  std::int64_t missing_{};
  std::int64_t out_of_order_{};
};

// ---- reporting -------------------------------------------------------------------------------------------------------------------------

// Calls back about once a second (or every `interval_ns`) with messages and bytes per second since the last time.
class Progress {
 public:
  Progress(std::int64_t now_ns, std::int64_t interval_ns) noexcept : last_ns_{now_ns}, interval_ns_{interval_ns} {}
  struct Rates {
    double messages_per_second;
    double bytes_per_second;
  };
  [[nodiscard]] std::optional<Rates> tick(std::int64_t now_ns, std::int64_t messages, std::int64_t bytes) noexcept;

 private:
  std::int64_t last_ns_;
  std::int64_t interval_ns_;
  std::int64_t messages_{};
  std::int64_t bytes_{};
};

[[nodiscard]] double per_second(std::int64_t count, std::int64_t duration_ns) noexcept;
// min, mean, the usual percentiles and max: values named rtt_p50_ns … and a table for people.
void print_histogram(Output& out, const Histogram& histogram);
[[nodiscard]] double median(std::vector<double> values) noexcept;

}  // namespace thalweg::cli
