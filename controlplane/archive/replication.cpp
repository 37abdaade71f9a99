#include "controlplane/archive/replication.hpp"

namespace thalweg::archive {
namespace {

using api::Json;

template <typename T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

template <typename T>
void take(const Json& json, const char* key, std::optional<T>& value) {
  if (const auto found = json.find(key); found != json.end() && found->is_number_integer()) value = found->get<T>();
}

}  // namespace

Json describe(const ReplicationView& view) {
  return {{"replication", view.id},
          {"source_recording", view.request.source_recording},
          {"source_channel", view.request.source_channel},
          {"source_stream", view.request.source_stream},
          {"response_channel", view.request.response_channel},
          {"into", or_null(view.request.into)},
          {"wanted_stop_position", or_null(view.request.stop_position)},
          {"follow", view.request.is_followed},
          {"state", client::to_string(view.state)},
          {"error", view.error},
          {"recording", or_null(view.recording)},
          {"position", view.position},
          {"verified_position", view.verified_position},
          {"source_position", view.source_position},
          {"stop_position", or_null(view.stop_position)},
          {"breaks", view.breaks},
          {"start_ns", view.start_ns}};
}

Result<ReplicationView> decode_replication(const std::string& text) {
  const Json json = Json::parse(text, nullptr, false);
  const auto is = [&json](const char* key, bool (Json::*right)() const noexcept) { return json.contains(key) && (json.at(key).*right)(); };
  const bool is_whole = json.is_object() && is("replication", &Json::is_number_integer) && is("source_recording", &Json::is_number_integer) && is("source_channel", &Json::is_string) &&
                        is("source_stream", &Json::is_number_integer) && is("response_channel", &Json::is_string) && is("follow", &Json::is_boolean) &&
                        is("verified_position", &Json::is_number_integer) && is("start_ns", &Json::is_number_integer);
  if (!is_whole) return fail(ErrorCode::kIo, "a replication that makes no sense");
  ReplicationView view;
  view.id = json.at("replication").get<std::int64_t>();
  view.request.source_recording = json.at("source_recording").get<std::int64_t>();
  view.request.source_channel = json.at("source_channel").get<std::string>();
  view.request.source_stream = json.at("source_stream").get<std::int32_t>();
  view.request.response_channel = json.at("response_channel").get<std::string>();
  take(json, "into", view.request.into);
  take(json, "wanted_stop_position", view.request.stop_position);
  view.request.is_followed = json.at("follow").get<bool>();
  take(json, "recording", view.recording);
  view.verified_position = json.at("verified_position").get<std::uint64_t>();
  take(json, "stop_position", view.stop_position);
  view.start_ns = json.at("start_ns").get<std::int64_t>();
  return view;
}

}  // namespace thalweg::archive
