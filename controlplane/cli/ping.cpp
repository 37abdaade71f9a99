// thalweg ping and thalweg pong: round-trip times through two streams.
#include <fmt/format.h>

#include "controlplane/cli/traffic.hpp"
#include "controlplane/cli/verbs.hpp"
#include "dataplane/base/time.hpp"

namespace thalweg::cli {
namespace {

constexpr std::int32_t kPingStream = 1002;
constexpr std::int32_t kPongStream = 1003;

struct PairOptions {
  StreamOptions out;
  StreamOptions in;
};

struct PingOptions : PairOptions {
  std::int64_t wait_ns{30 * kSecond_ns};
  double rate{10'000};
  std::int64_t size_bytes{32};
  std::int64_t count{};
  std::int64_t duration_ns{10 * kSecond_ns};
  std::int64_t warm_up_ns{kSecond_ns};
};

void add_pair_options(CLI::App& verb, StreamOptions& ping, StreamOptions& pong) {
  ping.stream_id = kPingStream;
  pong.stream_id = kPongStream;
  verb.add_option("--channel", ping.channel, "Channel of the questions")->type_name("URI")->capture_default_str();
  verb.add_option("--stream", ping.stream_id, "Stream of the questions")->type_name("ID")->capture_default_str();
  verb.add_option("--reply-channel", pong.channel, "Channel of the answers")->type_name("URI")->capture_default_str();
  verb.add_option("--reply-stream", pong.stream_id, "Stream of the answers")->type_name("ID")->capture_default_str();
}

// A connection with one stream out and one in.
struct Pair {
  client::Client client;
  client::ExclusivePublication out;
  client::Subscription in;

  [[nodiscard]] static Result<Pair> open(const Context& context, const std::string& verb, const PairOptions& options) {
    auto client = connect(context, verb);
    if (!client) return tl::unexpected<Error>{std::move(client.error())};
    auto in = client->add_subscription(options.in.channel, options.in.stream_id);
    if (!in) return tl::unexpected<Error>{std::move(in.error())};
    auto out = client->add_exclusive_publication(options.out.channel, options.out.stream_id);
    if (!out) return tl::unexpected<Error>{std::move(out.error())};
    return Pair{std::move(*client), std::move(*out), std::move(*in)};
  }
  [[nodiscard]] bool is_connected() { return out.is_connected() && in.is_connected(); }
  [[nodiscard]] bool is_closed() const { return in.is_closed(); }
};

class Ping {
 public:
  Ping(Context& context, const PingOptions& options, Pair pair) : context_{context}, options_{options}, pair_{std::move(pair)} {
    buffer_.resize(static_cast<std::size_t>(options.size_bytes));
  }

  EndReason run() {
    if (const auto end = wait_for_pong()) return *end;
    start_ns_ = monotonic_ns();
    const EndReason end = exchange();
    if (end != EndReason::kClosed) collect_stragglers();
    return end;
  }

  Exit summarise(EndReason end) {
    Output& out = context_.out;
    const std::int64_t lost = sent_ - answered_;
    out.value("verb", "verb", "ping");
    out.value("channel", "channel", pair_.out.channel());
    out.value("reply_channel", "reply channel", pair_.in.channel());
    out.value("end_reason", "ended by", to_string(end));
    out.value("is_connected", "connected", was_connected_);
    out.value("rate_per_second", "rate", options_.rate, Unit::kPerSecond);
    out.value("size_bytes", "message size", options_.size_bytes, Unit::kBytes);
    out.value("messages_sent", "messages sent", sent_);
    out.value("messages_received", "answers", answered_);
    out.value("missing", "missing", lost);
    out.value("out_of_order", "out of order", check_.out_of_order());
    out.value("corrupt", "corrupt", corrupt_);
    out.value("back_pressured", "back pressured", back_pressured_);
    out.value("measured", "measured", histogram_.count());
    print_histogram(out, histogram_);
    if (const Exit exit = exit_of(end); exit != Exit::kOk) return exit;
    if (answered_ == 0) return Exit::kTimeout;  // also when interrupted before anybody answered
    return lost + corrupt_ + check_.out_of_order() == 0 ? Exit::kOk : Exit::kProblems;
  }

 private:
  std::optional<EndReason> wait_for_pong() {
    const std::int64_t deadline_ns = monotonic_ns() + options_.wait_ns;
    Backoff backoff;
    while (!pair_.is_connected()) {
      if (is_interrupted()) return EndReason::kInterrupted;
      if (pair_.is_closed()) return EndReason::kClosed;
      if (monotonic_ns() >= deadline_ns) {
        context_.out.note("thalweg ping: nobody answers; is `thalweg pong` running on the other side?");
        return EndReason::kTimedOut;
      }
      backoff.wait();
    }
    was_connected_ = true;
    return std::nullopt;
  }

  // A message carries the time it was due, and that is what its answer is measured against: a stall counts for every message it delayed.
  EndReason exchange() {
    const Schedule schedule{start_ns_, options_.rate};
    const std::int64_t end_ns = start_ns_ + options_.warm_up_ns + options_.duration_ns;
    for (;;) {
      const std::int64_t now_ns = monotonic_ns();
      if (options_.count > 0 && sent_ >= options_.count) return EndReason::kCount;
      if (now_ns >= end_ns) return EndReason::kDuration;
      if (is_interrupted()) return EndReason::kInterrupted;
      if (pair_.is_closed()) return EndReason::kClosed;
      // Without a rate the next question waits for the last answer: the closed loop of a classic ping.
      const bool may_send = schedule.is_paced() ? schedule.due_ns(sent_) <= now_ns : answered_ == sent_;
      if (may_send) send(schedule.is_paced() ? schedule.due_ns(sent_) : now_ns);
      poll();
    }
  }

  void send(std::int64_t due_ns) {
    write_message(buffer_, {static_cast<std::uint64_t>(sent_), due_ns});
    const client::OfferResult result = pair_.out.offer(buffer_);
    if (result) {
      ++sent_;
    } else if (result.status() == client::OfferStatus::kBackPressured) {
      ++back_pressured_;
    }
  }

  void poll() {
    constexpr int kFragments = 16;
    pair_.in.poll(assembler_, kFragments);
  }

  void on_answer(std::span<const std::byte> message) {
    const auto read = read_message(message);
    if (!read) {
      ++corrupt_;
      return;
    }
    ++answered_;
    check_.on(read->sequence);
    if (read->time_ns - start_ns_ >= options_.warm_up_ns) histogram_.record(monotonic_ns() - read->time_ns);
  }

  void collect_stragglers() {
    const std::int64_t deadline_ns = monotonic_ns() + kSecond_ns;
    while (answered_ + corrupt_ < sent_ && monotonic_ns() < deadline_ns && !pair_.is_closed()) poll();
  }

  Context& context_;
  const PingOptions& options_;
  Pair pair_;
  std::vector<std::byte> buffer_;
  struct OnAnswer {
    Ping* ping;
    void operator()(std::span<const std::byte> message, const client::Header&) const { ping->on_answer(message); }
  };
  client::FragmentAssembler<OnAnswer> assembler_{OnAnswer{this}};
  Histogram histogram_;
  SequenceCheck check_;
  bool was_connected_{};
  std::int64_t start_ns_{};
  std::int64_t sent_{};
  std::int64_t answered_{};
  std::int64_t corrupt_{};
  std::int64_t back_pressured_{};
};

Exit run_ping(Context& context, const PingOptions& options) {
  if (options.size_bytes < static_cast<std::int64_t>(kTestMessageMin)) {
    return context.out.fail("ping", {ErrorCode::kInvalidArgument, fmt::format("--size must be {} or more", kTestMessageMin), {}});
  }
  auto pair = Pair::open(context, "ping", options);
  if (!pair) return context.out.fail("ping", pair.error());
  if (options.size_bytes > pair->out.max_message_length()) {
    return context.out.fail("ping", {ErrorCode::kInvalidArgument, "--size is more than this stream's longest message", {}});
  }
  Ping ping{context, options, std::move(*pair)};
  const EndReason end = ping.run();
  return ping.summarise(end);
}

struct PongOptions : PairOptions {
  std::int64_t duration_ns{};
  bool ends_with_stream{};
};

// Sends every message back as it came.
class Pong {
 public:
  Pong(Context& context, const PongOptions& options, Pair pair) : context_{context}, options_{options}, pair_{std::move(pair)} {}

  EndReason run() {
    const std::int64_t begin_ns = monotonic_ns();
    client::FragmentAssembler echo{[this](std::span<const std::byte> message, const client::Header&) { answer(message); }};
    Backoff backoff;
    bool was_connected = false;
    for (;;) {
      const int fragments = pair_.in.poll(echo, 16);
      if (is_interrupted()) return EndReason::kInterrupted;
      if (pair_.is_closed()) return EndReason::kClosed;
      if (options_.duration_ns > 0 && monotonic_ns() - begin_ns >= options_.duration_ns) return EndReason::kDuration;
      if (fragments > 0) {
        backoff.reset();
        continue;
      }
      was_connected |= pair_.in.is_connected();
      if (options_.ends_with_stream && was_connected && !pair_.in.is_connected()) return EndReason::kEndOfStream;
      backoff.wait();
    }
  }

  Exit summarise(EndReason end) {
    Output& out = context_.out;
    out.value("verb", "verb", "pong");
    out.value("end_reason", "ended by", to_string(end));
    out.value("messages_received", "questions", received_);
    out.value("messages_sent", "answers", sent_);
    out.value("dropped", "dropped", received_ - sent_);
    out.value("checksum", "checksum", fmt::format("{:08x}", digest_));
    return exit_of(end);
  }

 private:
  void answer(std::span<const std::byte> message) {
    constexpr std::int64_t kGiveUp_ns = 100 * kMillisecond_ns;  // an asker that went away must not hold the others up
    constexpr std::int64_t kFirst_ns = 5 * kSecond_ns;  // the first question may be here before the answers' stream is connected at this end
    ++received_;
    digest_ = crc32c(message, digest_);
    client::OfferResult result = pair_.out.offer(message);
    std::int64_t deadline_ns = 0;
    while (result.is_retryable() && !is_interrupted()) {
      const std::int64_t now_ns = monotonic_ns();
      if (deadline_ns == 0) deadline_ns = now_ns + (sent_ == 0 ? kFirst_ns : kGiveUp_ns);
      if (now_ns >= deadline_ns) break;
      result = pair_.out.offer(message);
    }
    if (result) ++sent_;
  }

  Context& context_;
  const PongOptions& options_;
  Pair pair_;
  std::uint32_t digest_{};
  std::int64_t received_{};
  std::int64_t sent_{};
};

Exit run_pong(Context& context, const PongOptions& options) {
  auto pair = Pair::open(context, "pong", options);
  if (!pair) return context.out.fail("pong", pair.error());
  Pong pong{context, options, std::move(*pair)};
  const EndReason end = pong.run();
  return pong.summarise(end);
}

}  // namespace

void register_ping(CLI::App& root, Context& context) {
  CLI::App* verb = root.add_subcommand("ping", "Measure round-trip times against `thalweg pong`");
  const auto options = std::make_shared<PingOptions>();
  add_pair_options(*verb, options->out, options->in);
  add_duration(*verb, "--wait", options->wait_ns, "How long to wait for the other side; exit 5 then")->default_str("30s");
  verb->add_option("--rate", options->rate, "Messages per second, on a fixed schedule; 0 = the next when the last is answered")
      ->check(non_negative_number())
      ->capture_default_str();
  add_size(*verb, "--size", options->size_bytes, "Bytes per message")->default_str("32");
  verb->add_option("--count", options->count, "Stop after this many messages")->check(positive_count());
  add_duration(*verb, "--duration", options->duration_ns, "Measure for this long")->default_str("10s");
  add_duration(*verb, "--warm-up", options->warm_up_ns, "Leave the first messages out of the histogram")->default_str("1s");
  set_example(*verb, "ping --rate 10000 --size 32 --duration 10s");
  on_run(*verb, context, [&context, options] { return run_ping(context, *options); });
}

void register_pong(CLI::App& root, Context& context) {
  CLI::App* verb = root.add_subcommand("pong", "Answer `thalweg ping`");
  const auto options = std::make_shared<PongOptions>();
  add_pair_options(*verb, options->in, options->out);
  static_cast<void>(add_duration(*verb, "--duration", options->duration_ns, "Stop after this time"));
  verb->add_flag("--until-end", options->ends_with_stream, "Stop when the last asker is gone");
  set_example(*verb, "pong --channel 'aeron:udp?endpoint=10.0.0.2:40124' --reply-channel 'aeron:udp?endpoint=10.0.0.1:40124'");
  on_run(*verb, context, [&context, options] { return run_pong(context, *options); });
}

}  // namespace thalweg::cli
