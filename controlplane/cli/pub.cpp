// thalweg pub: a publisher for people, scripts and load tests.
#include <fmt/format.h>

#include <algorithm>
#include <iostream>
#include <utility>

#include "controlplane/cli/traffic.hpp"
#include "controlplane/cli/verbs.hpp"
#include "dataplane/base/time.hpp"

namespace thalweg::cli {
namespace {

struct PubOptions {
  StreamOptions stream;
  std::vector<std::string> destinations;   // of a manual publication
  std::int64_t size_bytes{64};
  std::int64_t count{};
  std::int64_t duration_ns{};
  std::int64_t wait_ns{30 * kSecond_ns};
  std::int64_t interval_ns{kSecond_ns};
  double rate{1000};
  bool is_shared{};
  bool is_verified{};
  bool reads_lines{};
};

// One publisher loop over either kind of publication.
template <typename P>
class Publisher {
 public:
  Publisher(Context& context, const PubOptions& options, P publication, bool reports)
      : context_{context}, options_{options}, publication_{std::move(publication)}, reports_{reports} {}

  EndReason run() {
    if (const auto end = wait_for_subscriber()) return *end;
    start_ns_ = monotonic_ns();
    const EndReason end = options_.reads_lines ? send_lines() : send_generated();
    end_ns_ = monotonic_ns();
    return end;
  }

  Exit summarise(EndReason end) {
    Output& out = context_.out;
    const std::int64_t duration_ns = end_ns_ - start_ns_;
    out.value("verb", "verb", "pub");
    out.value("channel", "channel", publication_.channel());
    out.value("stream_id", "stream", publication_.stream_id());
    out.value("session_id", "session", publication_.session_id());
    out.value("end_reason", "ended by", to_string(end));
    out.value("is_connected", "connected", was_connected_);
    out.value("messages_sent", "messages sent", sent_);
    out.value("bytes_sent", "bytes sent", bytes_, Unit::kBytes);
    out.value("duration_ns", "duration", duration_ns, Unit::kDuration);
    out.value("messages_per_second", "messages", per_second(sent_, duration_ns), Unit::kPerSecond);
    out.value("bytes_per_second", "throughput", per_second(bytes_, duration_ns), Unit::kBytesPerSecond);
    out.value("back_pressured", "back pressured", back_pressured_);
    out.value("not_connected", "not connected", not_connected_);
    out.value("admin_actions", "admin actions", admin_actions_);
    out.value("longest_stall_ns", "longest stall", longest_stall_ns_, Unit::kDuration);
    out.value("late_messages", "late messages", late_);
    out.value("is_verified", "verifiable", options_.is_verified);
    out.value("position", "position", position_);
    return exit_of(end);
  }

 private:
  std::optional<EndReason> wait_for_subscriber() {
    const std::int64_t deadline_ns = monotonic_ns() + options_.wait_ns;
    Backoff backoff;
    while (!publication_.is_connected()) {
      if (is_interrupted()) return EndReason::kInterrupted;
      if (publication_.is_closed()) return EndReason::kClosed;
      if (monotonic_ns() >= deadline_ns) {
        context_.out.note("thalweg pub: nobody subscribed within the time allowed by --wait");
        return EndReason::kTimedOut;
      }
      backoff.wait();
    }
    was_connected_ = true;
    return std::nullopt;
  }

  EndReason send_generated() {
    const Schedule schedule{start_ns_, options_.rate};
    progress_ = Progress{start_ns_, reports_ ? options_.interval_ns : 0};
    for (std::int64_t now_ns = start_ns_;;) {
      if (options_.count > 0 && sent_ >= options_.count) return EndReason::kCount;
      if (options_.duration_ns > 0 && now_ns - start_ns_ >= options_.duration_ns) return EndReason::kDuration;
      if (is_interrupted()) return EndReason::kInterrupted;
      const std::int64_t due_ns = schedule.due_ns(sent_);
      if (schedule.is_paced() && due_ns > now_ns) {
        wait_until(due_ns, now_ns);
      } else {
        if (schedule.is_paced() && now_ns - due_ns > kMillisecond_ns) ++late_;
        if (const auto end = send_one(now_ns)) return *end;
      }
      constexpr std::int64_t kMessagesPerClock = 16;  // as fast as possible: reading the clock would cost as much as a small message
      if (!schedule.is_paced() && sent_ % kMessagesPerClock != 0) continue;
      now_ns = monotonic_ns();
      report_progress(now_ns);
    }
  }

  // Long waits sleep, so that a slow publisher costs nothing; short ones spin, so that the schedule is kept.
  void wait_until(std::int64_t due_ns, std::int64_t now_ns) {
    constexpr std::int64_t kSleepAbove_ns = 200 * kMicrosecond_ns;
    constexpr std::int64_t kWakeUp_ns = 100 * kMicrosecond_ns;
    constexpr std::int64_t kSlice_ns = 50 * kMillisecond_ns;  // a signal and --duration are noticed within this
    if (due_ns - now_ns > kSleepAbove_ns) sleep_interruptible(std::min(due_ns - now_ns - kWakeUp_ns, kSlice_ns));
  }

  // Tries until the message is taken. An end only when it never will be.
  std::optional<EndReason> send_one(std::int64_t now_ns) {
    const auto size = static_cast<std::size_t>(options_.size_bytes);
    const TestMessage message{static_cast<std::uint64_t>(sent_), now_ns};
    if (options_.size_bytes <= publication_.max_payload_length()) {
      return retry([&] {
        client::BufferClaim claim;
        const auto result = publication_.try_claim(size, claim);
        if (result) {
          fill(claim.data(), message);
          claim.commit();
        }
        return result;
      }, options_.size_bytes);
    }
    buffer_.resize(size);
    fill(buffer_, message);
    return retry([&] { return publication_.offer(buffer_); }, options_.size_bytes);
  }

  void fill(std::span<std::byte> bytes, const TestMessage& message) {
    if (options_.is_verified) {
      write_message(bytes, message);
    } else {
      std::memset(bytes.data(), static_cast<int>(message.sequence & 0xFF), bytes.size());
    }
  }

  template <typename Attempt>
  std::optional<EndReason> retry(Attempt&& attempt, std::int64_t length) {
    Backoff backoff;
    for (;;) {
      const client::OfferResult result = attempt();
      if (result) {
        ++sent_;
        bytes_ += length;
        position_ = result.position();
        if (stalled_since_ns_ != 0) longest_stall_ns_ = std::max(longest_stall_ns_, monotonic_ns() - std::exchange(stalled_since_ns_, 0));
        return std::nullopt;
      }
      count(result.status());
      if (!result.is_retryable()) {
        context_.out.note(fmt::format("thalweg pub: {}", to_string(result.status())));
        return EndReason::kClosed;
      }
      if (is_interrupted()) return EndReason::kInterrupted;
      if (const auto end = is_over(result.status())) return end;
      if (result.status() != client::OfferStatus::kAdminAction) backoff.wait();
    }
  }

  // A stalled message still ends with --duration, and with --wait when the subscriber went away; progress lines show the stall.
  std::optional<EndReason> is_over(client::OfferStatus status) {
    const std::int64_t now_ns = monotonic_ns();
    report_progress(now_ns);
    if (stalled_since_ns_ == 0) stalled_since_ns_ = now_ns;
    if (options_.duration_ns > 0 && now_ns - start_ns_ >= options_.duration_ns) return EndReason::kDuration;
    if (status == client::OfferStatus::kNotConnected && now_ns - stalled_since_ns_ >= options_.wait_ns) return EndReason::kTimedOut;
    return std::nullopt;
  }

  void count(client::OfferStatus status) {
    if (status == client::OfferStatus::kBackPressured) ++back_pressured_;
    if (status == client::OfferStatus::kNotConnected) ++not_connected_;
    if (status == client::OfferStatus::kAdminAction) ++admin_actions_;
  }

  EndReason send_lines() {
    std::string line;
    while (!is_interrupted() && std::getline(std::cin, line)) {
      if (line.size() > static_cast<std::size_t>(publication_.max_message_length())) {
        context_.out.note("thalweg pub: a line is longer than a message may be");
        return EndReason::kClosed;
      }
      const auto bytes = std::as_bytes(std::span{line});
      if (const auto end = retry([&] { return publication_.offer(bytes); }, static_cast<std::int64_t>(line.size()))) return *end;
      if (options_.count > 0 && sent_ >= options_.count) return EndReason::kCount;
    }
    return is_interrupted() ? EndReason::kInterrupted : EndReason::kEndOfInput;
  }

  void report_progress(std::int64_t now_ns) {
    const auto rates = progress_.tick(now_ns, sent_, bytes_);
    if (rates) report(*rates);
  }

  void report(const Progress::Rates& rates) {
    if (context_.out.is_json()) {
      context_.out.document() = {{"event", "progress"}, {"messages_sent", sent_}, {"messages_per_second", rates.messages_per_second},
                                 {"bytes_per_second", rates.bytes_per_second}, {"is_connected", publication_.is_connected()}};
      context_.out.flush();
    } else {
      context_.out.note(fmt::format("sent {}  {}/s  {}/s  back pressured {}  {}", human_count(static_cast<double>(sent_)),
                                    human_count(rates.messages_per_second), human_bytes(rates.bytes_per_second), back_pressured_,
                                    publication_.is_connected() ? "connected" : "not connected"));
    }
  }

  Context& context_;
  const PubOptions& options_;
  P publication_;
  bool reports_;
  Progress progress_{0, 0};  // an interval of 0 reports nothing
  bool was_connected_{};
  std::vector<std::byte> buffer_;
  std::int64_t start_ns_{};
  std::int64_t end_ns_{};
  std::int64_t stalled_since_ns_{};
  std::int64_t longest_stall_ns_{};  // that one message waited to be taken
  std::int64_t sent_{};
  std::int64_t bytes_{};
  std::int64_t position_{};
  std::int64_t back_pressured_{};
  std::int64_t not_connected_{};
  std::int64_t admin_actions_{};
  std::int64_t late_{};
};

template <typename P>
Exit publish(Context& context, const PubOptions& options, client::Client& client, Result<P> publication, bool reports) {
  if (!publication) return context.out.fail("pub", publication.error());
  for (const std::string& destination : options.destinations) {
    if (const auto added = client.add_destination(*publication, destination); !added) return context.out.fail("pub", added.error());
  }
  if (options.size_bytes > publication->max_message_length()) {
    return context.out.fail("pub", {ErrorCode::kInvalidArgument,
                                    fmt::format("--size {} is more than this stream's longest message, {}", options.size_bytes,
                                                publication->max_message_length()),
                                    "give the channel a larger term-length"});
  }
  Publisher<P> publisher{context, options, std::move(*publication), reports};
  const EndReason end = publisher.run();
  return publisher.summarise(end);
}

Exit run_pub(Context& context, PubOptions options, bool interval_given) {
  if (options.is_verified && options.size_bytes < static_cast<std::int64_t>(kTestMessageMin)) {
    return context.out.fail("pub", {ErrorCode::kInvalidArgument, fmt::format("--verify needs --size {} or more", kTestMessageMin), {}});
  }
  auto client = connect(context, "pub");
  if (!client) return context.out.fail("pub", client.error());
  const bool reports = !options.reads_lines && (interval_given || !context.out.is_json());
  const auto& [channel, stream_id] = options.stream;
  if (options.is_shared) return publish(context, options, *client, client->add_publication(channel, stream_id), reports);
  return publish(context, options, *client, client->add_exclusive_publication(channel, stream_id), reports);
}

}  // namespace

void register_pub(CLI::App& root, Context& context) {
  CLI::App* verb = root.add_subcommand("pub", "Publish test messages, or the lines of standard input");
  const auto options = std::make_shared<PubOptions>();
  add_stream_options(*verb, options->stream);
  verb->add_option("--destination", options->destinations, "Send there; once for each destination of a channel with control-mode=manual")->type_name("URI");
  verb->add_option("--rate", options->rate, "Messages per second; 0 = as fast as possible")->check(non_negative_number())->capture_default_str();
  add_size(*verb, "--size", options->size_bytes, "Bytes per message (default 64)")->default_str("64");
  verb->add_option("--count", options->count, "Stop after this many messages")->check(positive_count());
  static_cast<void>(add_duration(*verb, "--duration", options->duration_ns, "Stop after this time"));
  add_duration(*verb, "--wait", options->wait_ns, "How long to wait for a subscriber; exit 5 then")->default_str("30s");
  CLI::Option* interval =
      add_duration(*verb, "--interval", options->interval_ns, "Progress line this often; with --json only when given")->default_str("1s");
  verb->add_flag("--verify", options->is_verified, "Number and checksum each message, for `thalweg sub --verify`");
  verb->add_flag("--shared", options->is_shared, "Share the session with other publishers of this stream");
  verb->add_flag("--lines", options->reads_lines, "Publish each line of standard input as a message");
  set_example(*verb, "pub --channel 'aeron:udp?endpoint=10.0.0.2:40123' --stream 1001 --rate 10000 --verify");
  on_run(*verb, context, [&context, options, interval] { return run_pub(context, *options, interval->count() > 0); });
}

}  // namespace thalweg::cli
