#include "controlplane/archive/replication_verbs.hpp"

#include "controlplane/archive/verb_arguments.hpp"

namespace thalweg::archive {

using api::Json;

namespace {

Result<ReplicationRequest> request_of(const Json& args) {
  const auto recording = argument<std::int64_t>(args, "recording");
  if (!recording) return tl::unexpected{recording.error()};
  const auto source = argument<std::string>(args, "source_channel");
  if (!source) return tl::unexpected{source.error()};
  const auto stream = optional_argument<std::int32_t>(args, "source_stream");
  if (!stream) return tl::unexpected{stream.error()};
  const auto response = argument<std::string>(args, "response_channel");
  if (!response) return tl::unexpected{response.error()};
  const auto into = optional_argument<std::int64_t>(args, "into");
  if (!into) return tl::unexpected{into.error()};
  const auto stop = not_negative(args, "stop_position");
  if (!stop) return tl::unexpected{stop.error()};
  const auto follow = optional_argument<bool>(args, "follow");
  if (!follow) return tl::unexpected{follow.error()};
  return ReplicationRequest{.source_recording = *recording, .source_channel = *source, .source_stream = stream->value_or(ReplicationRequest{}.source_stream), .response_channel = *response,
                            .into = *into, .stop_position = *stop, .is_followed = follow->value_or(false)};
}

}  // namespace

Result<Json> start_replication(Archive::World& world, const Json& args) {
  auto request = request_of(args);
  if (!request) return tl::unexpected{std::move(request.error())};
  const auto view = world.replicator.start(std::move(*request));
  if (!view) return tl::unexpected{view.error()};
  return describe(*view);
}

Json describe_replications(const Archive::World& world) {
  Json replications = Json::array();
  for (const ReplicationView& view : world.replicator.views()) replications.push_back(describe(view));
  return Json::object({{"replications", std::move(replications)}});
}

Result<Json> stop_replication(Archive::World& world, const Json& args) {
  const auto id = argument<std::int64_t>(args, "replication");
  if (!id) return tl::unexpected{id.error()};
  if (auto stopped = world.replicator.stop(*id); !stopped) return tl::unexpected{std::move(stopped.error())};
  return Json::object();
}

Result<Json> checksum(Archive::World& world, const Json& args) {
  const auto id = argument<std::int64_t>(args, "recording");
  if (!id) return tl::unexpected{id.error()};
  const auto from = not_negative(args, "from");
  if (!from) return tl::unexpected{from.error()};
  const auto to = not_negative(args, "to");
  if (!to) return tl::unexpected{to.error()};
  const Recording* const recording = world.catalog.get(*id);
  if (recording == nullptr) return fail(ErrorCode::kNotFound, "there is no recording " + std::to_string(*id), "thalweg archive list shows them");
  const auto sum = world.checksums.of(*recording, from->value_or(recording->start_position), to->value_or(INT64_MAX));
  if (!sum) return tl::unexpected{sum.error()};
  return Json::object({{"end", sum->end}, {"crc32c", sum->crc}});
}

std::vector<client::archive_protocol::Message> list_replications(const Archive::World& world, const client::archive_protocol::Message& request) {
  constexpr std::int64_t kNone = INT64_MIN;
  std::vector<client::archive_protocol::Message> found;
  for (const ReplicationView& view : world.replicator.views())
    found.push_back({.kind = client::archive_protocol::Kind::kReplication,
                     .correlation_id = request.correlation_id,
                     .numbers = {view.id, static_cast<std::int64_t>(view.state), view.request.source_recording, view.recording.value_or(kNone), static_cast<std::int64_t>(view.position),
                                 static_cast<std::int64_t>(view.verified_position), static_cast<std::int64_t>(view.source_position),
                                 view.stop_position ? static_cast<std::int64_t>(*view.stop_position) : kNone},
                     .texts = {view.request.source_channel, view.error}});
  return found;
}

}  // namespace thalweg::archive
