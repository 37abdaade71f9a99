#pragma once
#include <optional>

#include "controlplane/conductor/lookup.hpp"

namespace thalweg::conductor {

// The names of one channel on their way to addresses, in the order of wire-protocol 6.2: literal addresses, drivers' names, the system's
// resolver. Thread: the conductor.
class Resolution {
 public:
  // Settles `channel` step by step: false while an answer is outstanding. Errors: kUnknownHost, kInvalidChannel (multicast rules).
  [[nodiscard]] Outcome<bool> poll(World& world, UdpChannel& channel);

 private:
  std::optional<Lookup> lookup_;
};

// Settles the IPv6 literals of a channel, whose names stay as they are.
void resolve_literals(World& world, UdpChannel& channel);

}  // namespace thalweg::conductor
