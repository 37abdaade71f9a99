#pragma once
#include "controlplane/api/records.hpp"
#include "controlplane/archive/archive.hpp"

// The control socket's verbs archive-replicate, archive-replications, archive-stop-replication and archive-checksum; docs/reference/archive-control.md. The
// archive's thread.
namespace thalweg::archive {

// Errors: kInvalidArgument, those of Replicator::start().
[[nodiscard]] Result<api::Json> start_replication(Archive::World& world, const api::Json& args);
[[nodiscard]] api::Json describe_replications(const Archive::World& world);
// Errors: kInvalidArgument, kNotFound.
[[nodiscard]] Result<api::Json> stop_replication(Archive::World& world, const api::Json& args);
// Errors: kInvalidArgument, kNotFound, kIo.
[[nodiscard]] Result<api::Json> checksum(Archive::World& world, const api::Json& args);
// What a client's list of replications is. The archive's thread.
[[nodiscard]] std::vector<client::archive_protocol::Message> list_replications(const Archive::World& world, const client::archive_protocol::Message& request);

}  // namespace thalweg::archive
