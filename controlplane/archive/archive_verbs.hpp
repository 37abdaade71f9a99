#pragma once
#include "controlplane/api/records.hpp"
#include "controlplane/archive/archive.hpp"

namespace thalweg::archive {

// Runs a verb; `answer` is called once, perhaps later and on another thread. The archive's thread. Errors: kInvalidArgument (unknown verb or argument), those of the verb.
void run_verb(Archive::World& world, const api::Request& request, const std::function<void(Result<api::Json>)>& answer);
// What a client's list, find or position request asks for: recordings, replications. The archive's thread.
[[nodiscard]] std::vector<client::archive_protocol::Message> list(const Archive::World& world, const client::archive_protocol::Message& request);

// The verbs of the control socket whose names begin with "archive-": archive-status, archive-record, archive-stop, archive-truncate, archive-purge,
// archive-replay, archive-replays, archive-stop-replay, archive-replicate, archive-replications, archive-stop-replication, archive-checksum.
// Listing needs none: whoever may read the directory finds everything there (view.hpp). Called on the socket's thread.
class ArchiveVerbs {
 public:
  // `archive` may be null: then `why_not` is what every verb answers.
  ArchiveVerbs(Archive* archive, Error why_not) : archive_{archive}, why_not_{std::move(why_not)} {}
  // Errors: kInvalidArgument (unknown verb or argument), kTimeout (the archive is busy or hangs), those of the verb.
  [[nodiscard]] Result<api::Json> run(const api::Request& request) const;

 private:
  using Answer = std::function<void(Result<api::Json>)>;
  [[nodiscard]] Result<api::Json> await(std::function<void(Archive::World&, const Answer&)> task) const;

  Archive* archive_;
  Error why_not_;
};

}  // namespace thalweg::archive
