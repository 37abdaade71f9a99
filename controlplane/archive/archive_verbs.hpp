#pragma once
#include "controlplane/api/records.hpp"
#include "controlplane/archive/archive.hpp"

namespace thalweg::archive {

// The verbs of the control socket whose names begin with "archive-": archive-status, archive-record, archive-stop, archive-truncate, archive-purge.
// Listing needs none: whoever may read the directory finds everything there (view.hpp). Called on the socket's thread.
class ArchiveVerbs {
 public:
  // `archive` may be null: then `why_not` is what every verb answers.
  ArchiveVerbs(Archive* archive, Error why_not) : archive_{archive}, why_not_{std::move(why_not)} {}
  // Errors: kInvalidArgument (unknown verb or argument), kTimeout (the archive is busy or hangs), those of the verb.
  [[nodiscard]] Result<api::Json> run(const api::Request& request) const;

 private:
  [[nodiscard]] Result<api::Json> on_archive(std::function<Result<api::Json>(Archive::World&)> task) const;

  Archive* archive_;
  Error why_not_;
};

}  // namespace thalweg::archive
