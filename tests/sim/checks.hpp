#pragma once
#include <cstdint>
#include <map>
#include <span>

#include "dataplane/shm/registry.hpp"
#include "tests/sim/log_memory.hpp"
#include "tests/sim/scenario.hpp"
#include "tests/sim/verdict.hpp"

// Rules that must hold after every turn and for every datagram, whatever the network and the processes did.
namespace thalweg::sim {

class PublicationCheck {
 public:
  // Each datagram a publication hands to its sink: size, one term, never beyond the sender limit, retransmits inside their bounds (2.10).
  void on_sent(const StreamPlan& plan, const shm::PublicationState& state, std::span<const std::byte> datagram, Verdict& verdict);
  // After each turn: positions only grow, the limit exposes clean memory only, producers stay within one term of their consumers.
  // What the transport took of it: all retransmits of an interval stay within the stream's limit.
  void on_taken(const StreamPlan& plan, const shm::PublicationState& state, std::span<const std::byte> datagram, Verdict& verdict);
  // A receiver silent for longer than its time-out no longer holds a sender that has nothing to send.
  void after_turn(const StreamPlan& plan, const shm::PublicationState& state, const LogMemory& log, std::int64_t publisher_limit, Verdict& verdict);
  // Nor does one that speaks, but no longer as one of those that the group waits for. `wanted_ns`: by receiver, when it last did; of a data plane
  // that began at `attached_ns`, whose silence is not theirs.
  void expect_wanted(const StreamPlan& plan, const shm::PublicationState& state, const std::map<std::int64_t, std::int64_t>& wanted_ns,
                     std::int64_t attached_ns, Verdict& verdict) const;

 private:
  bool has_sent_{};                         // in the last turn
  bool was_connected_{};                    // after it
  std::int64_t start_position_{INT64_MIN};
  std::int64_t sender_position_{INT64_MIN};
  std::int64_t sender_limit_{INT64_MIN};
  std::int64_t publisher_limit_{INT64_MIN};
  std::int64_t clean_until_{INT64_MIN};
  std::int64_t interval_start_ns_{INT64_MIN};
  std::int64_t interval_bytes_{};

  void check_receivers(const StreamPlan& plan, const shm::PublicationState& state, Verdict& verdict) const;
};

class ImageCheck {
 public:
  // Each status message and NAK an image sends.
  void on_sent(const StreamPlan& plan, const shm::ImageState& state, const LogMemory& log, std::int64_t slowest_reader,
               std::span<const std::byte> datagram, Verdict& verdict);
  // After each turn: positions only grow, gaps and the end of what is there read as zeros, nothing was accepted beyond the window.
  void after_turn(const StreamPlan& plan, const shm::ImageState& state, const LogMemory& log, Verdict& verdict);

 private:
  std::int64_t high_water_{INT64_MIN};
  std::int64_t rebuild_position_{INT64_MIN};
  std::int64_t sm_position_{INT64_MIN};
};

}  // namespace thalweg::sim
