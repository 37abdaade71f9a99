#pragma once
#include <string>
#include <vector>

#include "dataplane/base/result.hpp"

// Giving up the rights a process was started with.
namespace thalweg {

// Makes this process, with all of its threads, `user` with that user's groups, for good; nothing to do when it is that user already. The
// signal for the parent's death, which a change of user clears, stays set.
// Thread: the one that was forked. Errors: kNotFound (no such user), kPermission (only root can become somebody else).
[[nodiscard]] Result<void> become_user(const std::string& user);

// Of the capabilities the calling thread has, keeps those in `kept` (numbers of <linux/capability.h>) and gives up the others for good: no
// program it runs gets them back. Threads it starts from now on have no more either; those that run already are not touched, because the
// kernel keeps capabilities by thread.
// Thread: any. Errors: kPermission (the kernel does not let us, as in some sandboxes).
[[nodiscard]] Result<void> keep_capabilities(const std::vector<int>& kept);

}  // namespace thalweg
