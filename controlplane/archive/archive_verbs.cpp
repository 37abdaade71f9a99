#include "controlplane/archive/archive_verbs.hpp"

#include <future>

namespace thalweg::archive {
namespace {

using api::Json;

constexpr auto kPatience = std::chrono::seconds{10};  // a purge removes many files

template <typename T>
Result<T> argument(const Json& args, const char* key) {
  const auto found = args.find(key);
  const bool is_right = found != args.end() && (std::is_same_v<T, std::string> ? found->is_string() : std::is_same_v<T, bool> ? found->is_boolean() : found->is_number_integer());
  if (!is_right) return fail(ErrorCode::kInvalidArgument, std::string{"argument '"} + key + "' is missing or of another type");
  return found->template get<T>();
}

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
                       {"active", world.recorder.active_count()},
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
  if (auto cut = world.recorder.truncate(*id, static_cast<std::uint64_t>(*position)); !cut) return tl::unexpected{std::move(cut.error())};
  return Json::object();
}

Result<Json> purge(Archive::World& world, const Json& args) {
  const auto id = argument<std::int64_t>(args, "recording");
  if (!id) return tl::unexpected{id.error()};
  if (auto purged = world.recorder.purge(*id); !purged) return tl::unexpected{std::move(purged.error())};
  return Json::object();
}

}  // namespace

Result<Json> ArchiveVerbs::on_archive(std::function<Result<Json>(Archive::World&)> task) const {
  // Shared, because the archive may come to it after we gave up.
  auto promise = std::make_shared<std::promise<Result<Json>>>();
  std::future<Result<Json>> answer = promise->get_future();
  archive_->post([promise, task = std::move(task)](Archive::World& world) { promise->set_value(task(world)); });
  if (answer.wait_for(kPatience) != std::future_status::ready) return fail(ErrorCode::kTimeout, "the archive does not answer", "its disk may be slow; thalweg errors tells more");
  return answer.get();
}

Result<Json> ArchiveVerbs::run(const api::Request& request) const {
  if (archive_ == nullptr) return fail(why_not_.code, why_not_.message, why_not_.hint);
  const Json args = request.args;
  if (request.verb == "archive-status") return on_archive([](Archive::World& world) { return status(world); });
  if (request.verb == "archive-record") return on_archive([args](Archive::World& world) { return record(world, args); });
  if (request.verb == "archive-stop") return on_archive([args](Archive::World& world) { return stop(world, args); });
  if (request.verb == "archive-truncate") return on_archive([args](Archive::World& world) { return truncate(world, args); });
  if (request.verb == "archive-purge") return on_archive([args](Archive::World& world) { return purge(world, args); });
  return fail(ErrorCode::kInvalidArgument, "unknown verb '" + request.verb + "'", "known are archive-status, archive-record, archive-stop, archive-truncate, archive-purge");
}

}  // namespace thalweg::archive
