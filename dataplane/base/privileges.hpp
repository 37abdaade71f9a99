#pragma once
#include <string>

#include "dataplane/base/result.hpp"

// Giving up the rights a process was started with.
namespace thalweg {

// Makes this process, with all of its threads, `user` with that user's groups, for good; nothing to do when it is that user already. The
// signal for the parent's death, which a change of user clears, stays set.
// Thread: the one that was forked. Errors: kNotFound (no such user), kPermission (only root can become somebody else).
[[nodiscard]] Result<void> become_user(const std::string& user);

}  // namespace thalweg
