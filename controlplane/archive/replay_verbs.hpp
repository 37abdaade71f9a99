#pragma once
#include <functional>

#include "controlplane/api/records.hpp"
#include "controlplane/archive/archive.hpp"

// The control socket's verbs archive-replay, archive-replays and archive-stop-replay; docs/reference/archive-control.md. The archive's thread.
namespace thalweg::archive {

// Answers when the publication is there, on the replaying thread; or at once with what is wrong. Errors: kInvalidArgument, kNotFound, those of Replayer::start().
void start_replay(Archive::World& world, const api::Json& args, std::function<void(Result<api::Json>)> answer);
[[nodiscard]] api::Json describe_replays(const Archive::World& world);
// Errors: kInvalidArgument, kNotFound.
[[nodiscard]] Result<api::Json> stop_replay(Archive::World& world, const api::Json& args);

// An argument that must be there. Errors: kInvalidArgument.
template <typename T>
[[nodiscard]] Result<T> argument(const api::Json& args, const char* key) {
  const auto found = args.find(key);
  const bool is_right = found != args.end() && (std::is_same_v<T, std::string> ? found->is_string() : std::is_same_v<T, bool> ? found->is_boolean() : found->is_number_integer());
  if (!is_right) return fail(ErrorCode::kInvalidArgument, std::string{"argument '"} + key + "' is missing or of another type");
  return found->template get<T>();
}
// One that may be left out.
template <typename T>
[[nodiscard]] Result<std::optional<T>> optional_argument(const api::Json& args, const char* key) {
  if (!args.contains(key) || args.at(key).is_null()) return std::nullopt;
  auto given = argument<T>(args, key);
  if (!given) return tl::unexpected{std::move(given.error())};
  return std::optional<T>{std::move(*given)};
}

}  // namespace thalweg::archive
