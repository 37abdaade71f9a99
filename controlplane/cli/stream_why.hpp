#pragma once
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/cli/instance.hpp"

// What a stream waits for, and whom: from counters and the registry, which hold the lanes' own working state.
namespace thalweg::cli {

struct Cause {
  std::string_view kind;                    // stable, for programs: "no_receiver", "receiver_window", "subscriber", ...
  std::string whom;                         // "receiver 10.0.0.2:40123", "subscriber 14"; "" = nobody in particular
  std::string text;                         // the whole of it, in words
  std::optional<std::int64_t> client_id{};  // of a subscriber on this machine
  std::vector<pid_t> pids{};                // the processes that may be this client; empty where /proc does not tell
};

// The causes in the order in which they should be looked at; never empty. `now_ns`: monotonic.
[[nodiscard]] std::vector<Cause> causes_of(const Instance& instance, const StreamView& stream, std::int64_t now_ns);

}  // namespace thalweg::cli
