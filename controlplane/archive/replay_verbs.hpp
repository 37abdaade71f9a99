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

}  // namespace thalweg::archive
