#pragma once
#include <atomic>
#include <memory>
#include <optional>

#include "controlplane/conductor/world.hpp"

namespace thalweg::conductor {

// The names of one channel on their way to addresses. Literal addresses are there at once; others are asked for on the worker thread.
// Thread: the conductor.
class Resolution {
 public:
  // Settles `channel` step by step: false while an answer is outstanding. Errors: kUnknownHost, kInvalidChannel (multicast rules).
  [[nodiscard]] Outcome<bool> poll(World& world, UdpChannel& channel);

 private:
  struct Answer {
    std::string host;
    Result<std::uint32_t> address{0U};
    std::int64_t duration_ns{};
    bool is_there{};
  };
  std::shared_ptr<Answer> answer_;  // shared with the worker, which may outlive the command
};

}  // namespace thalweg::conductor
