#include "controlplane/archive/archive_verbs.hpp"

#include <algorithm>
#include <future>

#include "controlplane/archive/replay_verbs.hpp"
#include "controlplane/archive/replication_verbs.hpp"
#include "controlplane/archive/verb_arguments.hpp"

namespace thalweg::archive {
namespace {

using api::Json;

constexpr auto kPatience = std::chrono::seconds{10};  // a purge removes many files

// One of two words; the first one when it is left out. true: the second.
Result<bool> second_word(const Json& args, const char* key, const std::string& first, const std::string& second) {
  if (!args.contains(key)) return false;
  const auto word = argument<std::string>(args, key);
  if (word && (*word == first || *word == second)) return *word == second;
  return fail(ErrorCode::kInvalidArgument, std::string{"argument '"} + key + "' is neither " + first + " nor " + second);
}

Json describe(const Recorder::WishView& view) {
  return {{"number", view.number},
          {"name", view.wish.name},
          {"channel", subscription_channel(view.wish)},
          {"stream_id", view.wish.stream_id},
          {"on_slow", view.wish.drops_when_slow ? "drop" : "block"},
          {"state", view.state},
          {"error", view.error},
          {"recordings", view.sessions}};
}

Result<Json> status(Archive::World& world) {
  Json streams = Json::array();
  for (const auto& view : world.recorder.wishes()) streams.push_back(describe(view));
  const auto space = world.files.space(world.settings.directory);
  return Json::object({{"directory", world.settings.directory},
                       {"is_connected", world.is_connected},
                       {"recordings", world.catalog.recordings().size()},
                       {"active", world.active.count()},
                       {"replays", world.replayer.active_count()},
                       {"replayed_bytes", world.replayer.sent_bytes()},
                       {"replications", world.replicator.active_count()},
                       {"free_bytes", space ? space->free_bytes : 0},
                       {"streams", std::move(streams)}});
}

Result<Json> record(Archive::World& world, const Json& args) {
  const auto channel = argument<std::string>(args, "channel");
  if (!channel) return tl::unexpected{channel.error()};
  const auto stream = argument<std::int32_t>(args, "stream_id");
  if (!stream) return tl::unexpected{stream.error()};
  Wish wish{.name = {}, .channel = *channel, .stream_id = *stream, .keep = {}};
  const auto is_local = second_word(args, "source", "remote", "local");
  if (!is_local) return tl::unexpected{is_local.error()};
  const auto drops = second_word(args, "on_slow", "block", "drop");
  if (!drops) return tl::unexpected{drops.error()};
  wish.is_local = *is_local;
  wish.drops_when_slow = *drops;
  const auto number = world.recorder.add_wish(std::move(wish));
  if (!number) return tl::unexpected{number.error()};
  return Json::object({{"number", *number}});
}

Result<Json> stop(Archive::World& world, const Json& args) {
  const bool is_stream = args.contains("number");
  const auto id = argument<std::int64_t>(args, is_stream ? "number" : "recording");
  if (!id) return tl::unexpected{id.error()};
  auto stopped = is_stream ? world.recorder.remove_wish(static_cast<std::uint32_t>(*id)) : world.recorder.stop(*id);
  if (!stopped) return tl::unexpected{std::move(stopped.error())};
  return Json::object();
}

Result<Json> truncate(Archive::World& world, const Json& args) {
  const auto id = argument<std::int64_t>(args, "recording");
  if (!id) return tl::unexpected{id.error()};
  const auto position = argument<std::int64_t>(args, "position");
  if (!position) return tl::unexpected{position.error()};
  world.checksums.forget(*id);
  if (auto cut = world.recorder.truncate(*id, static_cast<std::uint64_t>(*position)); !cut) return tl::unexpected{std::move(cut.error())};
  return Json::object();
}

Result<Json> purge(Archive::World& world, const Json& args) {
  const auto id = argument<std::int64_t>(args, "recording");
  if (!id) return tl::unexpected{id.error()};
  world.checksums.forget(*id);
  if (auto purged = world.recorder.purge(*id); !purged) return tl::unexpected{std::move(purged.error())};
  return Json::object();
}

}  // namespace

void run_verb(Archive::World& world, const api::Request& request, const std::function<void(Result<Json>)>& answer) {
  const Json& args = request.args;
  if (request.verb == "archive-status") return answer(status(world));
  if (request.verb == "archive-record") return answer(record(world, args));
  if (request.verb == "archive-stop") return answer(stop(world, args));
  if (request.verb == "archive-truncate") return answer(truncate(world, args));
  if (request.verb == "archive-purge") return answer(purge(world, args));
  if (request.verb == "archive-replay") return start_replay(world, args, answer);
  if (request.verb == "archive-replays") return answer(describe_replays(world));
  if (request.verb == "archive-stop-replay") return answer(stop_replay(world, args));
  if (request.verb == "archive-replicate") return answer(start_replication(world, args));
  if (request.verb == "archive-replications") return answer(describe_replications(world));
  if (request.verb == "archive-stop-replication") return answer(stop_replication(world, args));
  if (request.verb == "archive-checksum") return answer(checksum(world, args));
  answer(fail(ErrorCode::kInvalidArgument, "unknown verb '" + request.verb + "'",
              "known are archive-status, archive-record, archive-stop, archive-truncate, archive-purge, archive-replay, archive-replays, archive-stop-replay, archive-replicate, "
              "archive-replications, archive-stop-replication, archive-checksum"));
}

std::vector<client::archive_protocol::Message> list(const Archive::World& world, const client::archive_protocol::Message& request) {
  using client::archive_protocol::Kind;
  if (request.kind == Kind::kListReplications) return list_replications(world, request);
  std::vector<client::archive_protocol::Message> found;
  const auto takes = [&](const Recording& recording) {
    if (request.kind == Kind::kRecordingPosition) return recording.id == request.number(0);
    if (recording.id < request.number(0)) return false;
    if (request.number(2, INT64_MIN) != INT64_MIN && request.number(2) != recording.stream.stream_id) return false;
    if (request.number(3, INT64_MIN) != INT64_MIN && request.number(3) != recording.stream.session_id) return false;
    if (request.number(4) != 0 && !recording.is_active()) return false;
    return recording.original_channel.find(request.text(0)) != std::string::npos;
  };
  const auto count_max = static_cast<std::size_t>(std::clamp<std::int64_t>(request.number(1), 0, 4096));
  for (const auto& [id, recording] : world.catalog.recordings()) {
    if (!takes(recording)) continue;
    if (request.kind == Kind::kFindRecording) found.clear();  // the last one counts
    else if (request.kind == Kind::kListRecordings && found.size() >= count_max) break;
    const ActiveRecording* const active = world.active.find(id);
    const auto start = active != nullptr ? active->log->first_position() : recording.start_position;
    const auto end = active != nullptr ? active->log->position() : recording.stop_position.value_or(recording.start_position);
    found.push_back({.kind = Kind::kRecording,
                     .correlation_id = request.correlation_id,
                     .numbers = {id, active != nullptr ? 1 : 0, recording.start_ns, recording.stop_ns.value_or(0), static_cast<std::int64_t>(start), static_cast<std::int64_t>(end),
                                 recording.stream.session_id, recording.stream.stream_id, recording.stream.initial_term_id, recording.stream.term_bytes, recording.stream.mtu_bytes,
                                 static_cast<std::int64_t>(recording.segment_bytes)},
                     .texts = {recording.name, recording.channel, recording.original_channel, recording.source_identity}});
  }
  return found;
}

namespace {

// The place of an answer. Whoever loses it without having given one, as an archive that ends loses its tasks, has answered that.
class Reply {
 public:
  Reply() = default;
  Reply(const Reply&) = delete;
  Reply& operator=(const Reply&) = delete;
  ~Reply() { give(fail(ErrorCode::kClosed, "the archive is ending")); }
  void give(Result<Json> result) {
    if (!std::exchange(is_given_, true)) promise_.set_value(std::move(result));
  }
  [[nodiscard]] std::future<Result<Json>> future() { return promise_.get_future(); }

 private:
  std::promise<Result<Json>> promise_;
  bool is_given_{};
};

}  // namespace

Result<Json> ArchiveVerbs::await(std::function<void(Archive::World&, const Answer&)> task) const {
  // Shared, because the archive may come to it after we gave up.
  auto reply = std::make_shared<Reply>();
  std::future<Result<Json>> answer = reply->future();
  archive_->post([reply = std::move(reply), task = std::move(task)](Archive::World& world) { task(world, [reply](Result<Json> result) { reply->give(std::move(result)); }); });
  if (answer.wait_for(kPatience) != std::future_status::ready) return fail(ErrorCode::kTimeout, "the archive does not answer", "its disk may be slow; thalweg errors tells more");
  return answer.get();
}

Result<Json> ArchiveVerbs::run(const api::Request& request) const {
  if (archive_ == nullptr) return fail(why_not_.code, why_not_.message, why_not_.hint);
  return await([request](Archive::World& world, const Answer& answer) { run_verb(world, request, answer); });
}

}  // namespace thalweg::archive
