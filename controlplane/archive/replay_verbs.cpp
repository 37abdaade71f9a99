#include "controlplane/archive/replay_verbs.hpp"

#include "controlplane/archive/verb_arguments.hpp"

namespace thalweg::archive {
namespace {

using api::Json;

Json describe(const ReplayView& view) {
  return {{"replay", view.id},
          {"recording", view.recording},
          {"state", to_string(view.state)},
          {"error", view.error},
          {"channel", view.channel},
          {"stream_id", view.stream_id},
          {"session_id", view.session_id},
          {"start_position", view.start_position},
          {"position", view.position},
          {"stop_position", view.stop_position ? Json(*view.stop_position) : Json()},
          {"start_ns", view.start_ns}};
}

Result<ReplayRequest> request_of(const Archive::World& world, const Json& args) {
  const auto id = argument<std::int64_t>(args, "recording");
  if (!id) return tl::unexpected{id.error()};
  const Recording* const recording = world.catalog.get(*id);
  if (recording == nullptr) return fail(ErrorCode::kNotFound, "there is no recording " + std::to_string(*id), "thalweg archive list shows them");
  const auto channel = argument<std::string>(args, "channel");
  if (!channel) return tl::unexpected{channel.error()};
  const auto stream = argument<std::int32_t>(args, "stream_id");
  if (!stream) return tl::unexpected{stream.error()};
  const auto position = not_negative(args, "position");
  if (!position) return tl::unexpected{position.error()};
  const auto length = not_negative(args, "length");
  if (!length) return tl::unexpected{length.error()};
  const auto time = optional_argument<std::int64_t>(args, "time_ns");
  if (!time) return tl::unexpected{time.error()};
  const auto follow = optional_argument<bool>(args, "follow");
  if (!follow) return tl::unexpected{follow.error()};
  const auto counter = optional_argument<std::int32_t>(args, "limit_counter");
  if (!counter) return tl::unexpected{counter.error()};
  if (*position && *time) return fail(ErrorCode::kInvalidArgument, "arguments 'position' and 'time_ns' exclude each other");
  ReplayRequest request{.recording = *recording, .live = {}, .channel = *channel, .stream_id = *stream, .position = *position, .time_ns = *time, .length_bytes = *length, .limit_counter = *counter};
  request.is_followed = follow->value_or(false);
  if (const ActiveRecording* const active = world.active.find(*id)) request.live = active->log;
  return request;
}

}  // namespace

void start_replay(Archive::World& world, const Json& args, std::function<void(Result<Json>)> answer) {
  auto request = request_of(world, args);
  if (!request) return answer(tl::unexpected{std::move(request.error())});
  world.replayer.start(std::move(*request), [answer = std::move(answer)](const Result<ReplayView>& view) {
    if (view) answer(describe(*view));
    else answer(tl::unexpected{view.error()});
  });
}

Json describe_replays(const Archive::World& world) {
  Json replays = Json::array();
  for (const ReplayView& view : world.replayer.views()) replays.push_back(describe(view));
  return Json::object({{"replays", std::move(replays)}});
}

Result<Json> stop_replay(Archive::World& world, const Json& args) {
  const auto replay = optional_argument<std::int64_t>(args, "replay");
  if (!replay) return tl::unexpected{replay.error()};
  const auto recording = optional_argument<std::int64_t>(args, "recording");
  if (!recording) return tl::unexpected{recording.error()};
  if (*replay && *recording) return fail(ErrorCode::kInvalidArgument, "arguments 'replay' and 'recording' exclude each other");
  if (!*replay) return Json::object({{"stopped", world.replayer.stop_all(*recording)}});
  if (auto stopped = world.replayer.stop(**replay); !stopped) return tl::unexpected{std::move(stopped.error())};
  return Json::object({{"stopped", 1}});
}

}  // namespace thalweg::archive
