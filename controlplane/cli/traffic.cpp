#include "controlplane/cli/traffic.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <array>
#include <cstdio>
#include <thread>

#include "dataplane/base/time.hpp"
#ifdef __SSE4_2__
#include <nmmintrin.h>
#endif

namespace thalweg::cli {
namespace {

// Layout of a test message: sequence, time, checksum, length.
constexpr std::size_t kTimeOffset = 8;
constexpr std::size_t kCrcOffset = 16;
constexpr std::size_t kLengthOffset = 20;

#ifndef __SSE4_2__
constexpr auto kCrcTable = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78U : 0U);
    table[i] = crc;
  }
  return table;
}();
#endif

std::uint32_t checksum_of(std::span<const std::byte> bytes) noexcept {
  return crc32c(bytes.subspan(kLengthOffset), crc32c(bytes.first(kCrcOffset)));
}

void pause_core() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

}  // namespace

void add_stream_options(CLI::App& verb, StreamOptions& options) {
  verb.add_option("--channel,channel", options.channel, "Channel URI")->type_name("URI")->capture_default_str();
  verb.add_option("--stream,stream", options.stream_id, "Stream id")->type_name("ID")->capture_default_str();
}

const char* to_string(EndReason reason) noexcept {
  switch (reason) {
    case EndReason::kCount: return "count";
    case EndReason::kDuration: return "duration";
    case EndReason::kInterrupted: return "interrupted";
    case EndReason::kEndOfInput: return "end_of_input";
    case EndReason::kEndOfStream: return "end_of_stream";
    case EndReason::kTimedOut: return "timed_out";
    case EndReason::kClosed: return "closed";
  }
  return "closed";
}

Exit exit_of(EndReason reason) noexcept {
  if (reason == EndReason::kTimedOut) return Exit::kTimeout;
  return reason == EndReason::kClosed ? Exit::kUnreachable : Exit::kOk;
}

Result<client::Client> connect(const Context& context, const std::string& verb, std::int64_t wait_ns) {
  client::Context options = client::Context::from_environment();
  options.directory = context.instance_directory();
  options.client_name = "thalweg " + verb;
  options.connect_timeout = std::min(options.connect_timeout, std::chrono::nanoseconds{wait_ns});
  options.on_error = [verb](const Error& error) { std::fprintf(stderr, "thalweg %s: %s\n", verb.c_str(), error.message.c_str()); };
  return client::Client::connect(std::move(options));
}

void Backoff::wait() noexcept {
  constexpr unsigned kSpins = 64;
  constexpr unsigned kYields = 64;
  ++idle_turns_;
  if (idle_turns_ < kSpins) {
    pause_core();
  } else if (idle_turns_ < kSpins + kYields) {
    std::this_thread::yield();
  } else {
    std::this_thread::sleep_for(std::chrono::microseconds{50});
  }
}

std::uint32_t add_bytes(std::uint32_t digest, std::span<const std::byte> bytes) noexcept {
  std::uint64_t sum = bytes.size();
  std::size_t at = 0;
  for (; at + 8 <= bytes.size(); at += 8) sum += load_le<std::uint64_t>(bytes.data() + at);  // independent loads: the compiler vectorises
  for (; at < bytes.size(); ++at) sum += static_cast<std::uint64_t>(bytes[at]) << (at % 8 * 8);
  return std::rotl(digest, 1) ^ static_cast<std::uint32_t>(sum ^ sum >> 32);
}

std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t seed) noexcept {
#ifdef __SSE4_2__
  std::uint64_t crc = ~seed;
  while (bytes.size() >= 8) {
    crc = _mm_crc32_u64(crc, load_le<std::uint64_t>(bytes.data()));
    bytes = bytes.subspan(8);
  }
  auto tail = static_cast<std::uint32_t>(crc);
  for (const std::byte b : bytes) tail = _mm_crc32_u8(tail, static_cast<std::uint8_t>(b));
  return ~tail;
#else
  std::uint32_t crc = ~seed;
  for (const std::byte b : bytes) crc = (crc >> 8) ^ kCrcTable[(crc ^ static_cast<std::uint8_t>(b)) & 0xFF];
  return ~crc;
#endif
}

void write_message(std::span<std::byte> bytes, const TestMessage& message) noexcept {
  store_le(bytes.data(), message.sequence);
  store_le(bytes.data() + kTimeOffset, message.time_ns);
  store_le(bytes.data() + kLengthOffset, static_cast<std::uint32_t>(bytes.size()));
  std::uint64_t word = message.sequence * 0x9E3779B97F4A7C15U;
  std::span<std::byte> rest = bytes.subspan(kTestMessageMin);
  while (rest.size() >= 8) {
    store_le(rest.data(), word);
    word += 0x9E3779B97F4A7C15U;
    rest = rest.subspan(8);
  }
  for (std::byte& b : rest) {
    b = static_cast<std::byte>(word);
    word >>= 8;
  }
  store_le(bytes.data() + kCrcOffset, checksum_of(bytes));
}

std::optional<TestMessage> read_message(std::span<const std::byte> bytes) noexcept {
  if (bytes.size() < kTestMessageMin) return std::nullopt;
  const bool is_length_right = load_le<std::uint32_t>(bytes.data() + kLengthOffset) == bytes.size();
  const bool is_checksum_right = load_le<std::uint32_t>(bytes.data() + kCrcOffset) == checksum_of(bytes);
  if (!is_length_right || !is_checksum_right) return std::nullopt;
  return TestMessage{load_le<std::uint64_t>(bytes.data()), load_le<std::int64_t>(bytes.data() + kTimeOffset)};
}

void SequenceCheck::on(std::uint64_t sequence) noexcept {
  if (!has_started_) {
    has_started_ = true;
    first_ = next_ = sequence;
  }
  if (sequence < next_) {
    ++out_of_order_;
    if (missing_ > 0 && sequence >= first_) --missing_;
    return;
  }
  missing_ += static_cast<std::int64_t>(sequence - next_);
  next_ = sequence + 1;
}

std::optional<Progress::Rates> Progress::tick(std::int64_t now_ns, std::int64_t messages, std::int64_t bytes) noexcept {
  if (interval_ns_ <= 0 || now_ns - last_ns_ < interval_ns_) return std::nullopt;
  const std::int64_t elapsed_ns = now_ns - last_ns_;
  const Rates rates{per_second(messages - messages_, elapsed_ns), per_second(bytes - bytes_, elapsed_ns)};
  last_ns_ = now_ns;
  messages_ = messages;
  bytes_ = bytes;
  return rates;
}

double per_second(std::int64_t count, std::int64_t duration_ns) noexcept {
  return duration_ns > 0 ? static_cast<double>(count) * 1e9 / static_cast<double>(duration_ns) : 0.0;
}

void print_histogram(Output& out, const Histogram& histogram) {
  struct Row {
    const char* key;
    const char* label;
    double percent;
  };
  static constexpr std::array<Row, 6> kRows{{{"rtt_p50_ns", "p50", 50}, {"rtt_p90_ns", "p90", 90}, {"rtt_p99_ns", "p99", 99},
                                             {"rtt_p999_ns", "p99.9", 99.9}, {"rtt_p9999_ns", "p99.99", 99.99}, {"rtt_max_ns", "max", 100}}};
  const auto measured = [&](auto value) { return histogram.count() > 0 ? Cell{value} : Cell{}; };
  out.value("rtt_min_ns", "round trip min", measured(histogram.min()), Unit::kDuration);
  out.value("rtt_mean_ns", "mean", measured(histogram.mean()), Unit::kDuration);
  for (const Row& row : kRows) out.value(row.key, row.label, measured(histogram.percentile(row.percent)), Unit::kDuration);
}

double median(std::vector<double> values) noexcept {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

}  // namespace thalweg::cli
