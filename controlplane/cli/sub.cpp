// thalweg sub: a subscriber that reads every byte, checks what `thalweg pub --verify` sends, or prints lines.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "controlplane/cli/traffic.hpp"
#include "controlplane/cli/verbs.hpp"
#include "dataplane/base/time.hpp"

namespace thalweg::cli {
namespace {

struct SubOptions {
  StreamOptions stream;
  std::vector<std::string> destinations;
  std::int64_t count{};
  std::int64_t duration_ns{};
  std::int64_t wait_ns{};
  std::int64_t interval_ns{kSecond_ns};
  bool is_verified{};
  bool prints_lines{};
  bool ends_with_stream{};
};

class Subscriber {
 public:
  Subscriber(Context& context, const SubOptions& options, client::Subscription subscription, bool reports)
      : context_{context}, options_{options}, subscription_{std::move(subscription)}, reports_{reports} {}

  EndReason run() {
    const std::int64_t begin_ns = monotonic_ns();
    Progress progress{begin_ns, reports_ ? options_.interval_ns : 0};
    client::FragmentAssembler take{[this](std::span<const std::byte> message, const client::Header& header) { on_message(message, header); }};
    Backoff backoff;
    for (;;) {
      constexpr int kFragments = 64;
      const std::int64_t before = received_;
      const int fragments = subscription_.poll(take, kFragments);
      const std::int64_t now_ns = monotonic_ns();
      if (received_ != before) {
        if (before == 0) first_ns_ = now_ns;
        else note_gap(now_ns - last_ns_);
        last_ns_ = now_ns;
      }
      was_connected_ |= fragments > 0 || subscription_.is_connected();
      if (const auto end = is_over(now_ns - begin_ns, fragments)) return *end;
      if (const auto rates = progress.tick(now_ns, received_, bytes_)) report(*rates, now_ns);
      if (fragments == 0) {
        if (options_.prints_lines) context_.out.flush();
        backoff.wait();
      } else {
        backoff.reset();
      }
    }
  }

  Exit summarise(EndReason end) {
    std::int64_t missing = 0;
    std::int64_t out_of_order = 0;
    Table sessions{"sessions", {{"session_id", "SESSION", Unit::kCount}, {"source", "SOURCE"}, {"messages_received", "RECEIVED", Unit::kCount},
                                {"first_sequence", "FIRST", Unit::kCount}, {"last_sequence", "LAST", Unit::kCount},
                                {"missing", "MISSING", Unit::kCount}, {"out_of_order", "OUT OF ORDER", Unit::kCount},
                                {"corrupt", "CORRUPT", Unit::kCount}}};
    for (const auto& [id, session] : sessions_) {
      missing += session.check.missing();
      out_of_order += session.check.out_of_order();
      const bool is_numbered = session.valid > 0;
      sessions.add({id, session.source, session.received, is_numbered ? Cell{session.check.first()} : Cell{},
                    is_numbered ? Cell{session.check.next() - 1} : Cell{}, session.check.missing(), session.check.out_of_order(), session.corrupt});
    }
    const std::int64_t duration_ns = last_ns_ - first_ns_;
    Output& out = context_.out;
    out.value("verb", "verb", "sub");
    out.value("channel", "channel", subscription_.channel());
    out.value("stream_id", "stream", subscription_.stream_id());
    out.value("end_reason", "ended by", to_string(end));
    out.value("is_connected", "connected", was_connected_);
    out.value("messages_received", "messages received", received_);
    out.value("bytes_received", "bytes received", bytes_, Unit::kBytes);
    out.value("duration_ns", "duration", duration_ns, Unit::kDuration);
    out.value("messages_per_second", "messages", per_second(received_, duration_ns), Unit::kPerSecond);
    out.value("bytes_per_second", "throughput", per_second(bytes_, duration_ns), Unit::kBytesPerSecond);
    out.value("longest_gap_ns", "longest gap", longest_gap_ns_, Unit::kDuration);
    out.value("checksum", "checksum", fmt::format("{:08x}", digest_));
    out.value("is_verified", "verified", options_.is_verified && received_ > 0);
    if (options_.is_verified) {
      out.value("missing", "missing", missing);
      out.value("out_of_order", "out of order", out_of_order);
      out.value("corrupt", "corrupt", corrupt_);
    }
    out.print(sessions, "no publisher was seen");
    if (const Exit exit = exit_of(end); exit != Exit::kOk) return exit;
    const bool is_unheard = options_.is_verified && received_ == 0;
    return missing + out_of_order + corrupt_ == 0 && !is_unheard ? Exit::kOk : Exit::kProblems;
  }

 private:
  struct Session {
    std::string source;
    std::int64_t received{};
    std::int64_t valid{};
    std::int64_t corrupt{};
    SequenceCheck check;
  };

  void on_message(std::span<const std::byte> message, const client::Header& header) {
    if (options_.count > 0 && received_ >= options_.count) return;
    ++received_;
    bytes_ += static_cast<std::int64_t>(message.size());
    Session& session = session_of(header);
    ++session.received;
    if (options_.is_verified) {
      if (const auto read = read_message(message)) {
        ++session.valid;
        session.check.on(read->sequence);
        digest_ ^= load_le<std::uint32_t>(message.data() + 16);  // the checksum of each message, which read_message() has just confirmed
      } else {
        ++session.corrupt;
        ++corrupt_;
      }
    } else {
      digest_ = add_bytes(digest_, message);
    }
    if (options_.prints_lines) {
      context_.out.raw({reinterpret_cast<const char*>(message.data()), message.size()});
      context_.out.raw("\n");
    }
  }

  Session& session_of(const client::Header& header) {
    const std::int32_t id = header.session_id();
    if (current_ != nullptr && current_id_ == id) return *current_;
    Session& session = sessions_[id];
    if (session.source.empty()) session.source = header.image().source_identity();
    current_ = &session;
    current_id_ = id;
    return session;
  }

  std::optional<EndReason> is_over(std::int64_t elapsed_ns, int fragments) {
    if (options_.count > 0 && received_ >= options_.count) return EndReason::kCount;
    if (is_interrupted()) return EndReason::kInterrupted;
    if (options_.duration_ns > 0 && elapsed_ns >= options_.duration_ns) return options_.count > 0 ? EndReason::kTimedOut : EndReason::kDuration;
    if (fragments > 0) return std::nullopt;
    if (subscription_.is_closed()) return EndReason::kClosed;
    if (options_.wait_ns > 0 && !was_connected_ && elapsed_ns >= options_.wait_ns) {
      context_.out.note("thalweg sub: nobody published within the time allowed by --wait");
      return EndReason::kTimedOut;
    }
    if (options_.ends_with_stream && was_connected_ && !subscription_.is_connected()) return EndReason::kEndOfStream;
    return std::nullopt;
  }

  // Between two polls that brought messages.
  void note_gap(std::int64_t gap_ns) noexcept {
    gap_ns_ = std::max(gap_ns_, gap_ns);
    longest_gap_ns_ = std::max(longest_gap_ns_, gap_ns);
  }

  void report(const Progress::Rates& rates, std::int64_t now_ns) {
    const std::int64_t open_gap_ns = received_ > 0 ? now_ns - last_ns_ : 0;
    const std::int64_t gap_ns = std::max(std::exchange(gap_ns_, 0), open_gap_ns);
    if (context_.out.is_json()) {
      context_.out.document() = {{"event", "progress"}, {"messages_received", received_}, {"messages_per_second", rates.messages_per_second},
                                 {"bytes_per_second", rates.bytes_per_second}, {"longest_gap_ns", gap_ns}, {"is_connected", subscription_.is_connected()}};
      context_.out.flush();
    } else {
      context_.out.note(fmt::format("received {}  {}/s  {}/s  {}", human_count(static_cast<double>(received_)),
                                    human_count(rates.messages_per_second), human_bytes(rates.bytes_per_second),
                                    subscription_.is_connected() ? "connected" : "no publisher"));
    }
  }

  Context& context_;
  const SubOptions& options_;
  client::Subscription subscription_;
  bool reports_;
  bool was_connected_{};
  std::map<std::int32_t, Session> sessions_;
  Session* current_{};  // the last message's; map nodes stay where they are
  std::int32_t current_id_{};
  std::uint32_t digest_{};
  std::int64_t received_{};
  std::int64_t bytes_{};
  std::int64_t corrupt_{};
  std::int64_t first_ns_{};
  std::int64_t last_ns_{};
  std::int64_t gap_ns_{};          // longest since the last progress line
  std::int64_t longest_gap_ns_{};  // of all
};

Exit run_sub(Context& context, const SubOptions& options, bool interval_given) {
  if (options.prints_lines && context.out.is_json()) {
    return context.out.fail("sub", {ErrorCode::kInvalidArgument, "--lines and --json both want standard output", {}});
  }
  auto client = connect(context, "sub");
  if (!client) return context.out.fail("sub", client.error());
  auto subscription = client->add_subscription(options.stream.channel, options.stream.stream_id);
  if (!subscription) return context.out.fail("sub", subscription.error());
  for (const std::string& destination : options.destinations) {
    if (auto added = client->add_destination(*subscription, destination); !added) return context.out.fail("sub", std::move(added.error()).with_context(destination));
  }
  const bool reports = !options.prints_lines && (interval_given || !context.out.is_json());
  Subscriber subscriber{context, options, std::move(*subscription), reports};
  const EndReason end = subscriber.run();
  if (options.prints_lines) return exit_of(end);  // standard output is the messages, nothing else
  return subscriber.summarise(end);
}

}  // namespace

void register_sub(CLI::App& root, Context& context) {
  CLI::App* verb = root.add_subcommand("sub", "Receive, count and check messages, or print them as lines");
  const auto options = std::make_shared<SubOptions>();
  add_stream_options(*verb, options->stream);
  verb->add_option("--destination", options->destinations, "Hear this channel, too; the channel has control-mode=manual (repeatable)")->type_name("URI");
  verb->add_option("--count", options->count, "Stop after this many messages")->check(positive_count());
  static_cast<void>(add_duration(*verb, "--duration", options->duration_ns, "Stop after this time; exit 5 if --count was not reached"));
  static_cast<void>(add_duration(*verb, "--wait", options->wait_ns, "How long to wait for a publisher; exit 5 then (default: for ever)"));
  CLI::Option* interval =
      add_duration(*verb, "--interval", options->interval_ns, "Progress line this often; with --json only when given")->default_str("1s");
  verb->add_flag("--verify", options->is_verified, "Check number and checksum of each message; exit 4 when one is missing or wrong, or none came");
  verb->add_flag("--until-end", options->ends_with_stream, "Stop when the last publisher is gone and everything is read");
  verb->add_flag("--lines", options->prints_lines, "Print each message as a line");
  set_example(*verb, "sub --channel 'aeron:udp?endpoint=10.0.0.2:40123' --stream 1001 --verify --until-end");
  on_run(*verb, context, [&context, options, interval] { return run_sub(context, *options, interval->count() > 0); });
}

}  // namespace thalweg::cli
