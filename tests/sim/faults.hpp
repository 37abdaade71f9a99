#pragma once
#include <array>
#include <cstdint>
#include <string_view>

// What really happened in a run. A seed that asks for 30 % loss on a link that carries two datagrams proves little; these counts say so.
namespace thalweg::sim {

enum class Fault : std::uint8_t {
  kLost, kDuplicated, kReordered, kCorrupted, kHeaderFuzzed, kPartitioned, kTransmitRefused, kReceiveOverflow,
  kNodePaused, kNodeCrashed, kTornInsert, kTornClean, kControlPlaneStall,
  kReaderPaused, kReaderDied, kReaderJoinedLate, kClaimHeld, kClaimDied, kMessageAborted, kImageRejected, kRevoked, kRejoined, kNakMadeUp,
  kReceiverLeft, kReceiverJoined, kGapGivenUp, kSideDied, kCopy, kWayRemoved, kDestinationLearned, kDestinationForgotten,
  kDestinationRefused, kStrangerFrame, kStrangerAnswered, kTagLost, kRelayed, kRelaySkipped, kRelayWentBack,
  kDiedBeforeStatusMessage, kDiedInRepair, kDiedAtEnd, kDiedDraining, kDiedInLinger, kCount,
};
inline constexpr std::size_t kFaultCount = static_cast<std::size_t>(Fault::kCount);

[[nodiscard]] constexpr std::string_view name_of(Fault fault) noexcept {
  constexpr std::string_view kNames[kFaultCount] = {
      "lost", "duplicated", "reordered", "corrupted", "header_fuzzed", "partitioned", "transmit_refused", "receive_overflow",
      "node_paused", "node_crashed", "torn_insert", "torn_clean", "control_plane_stall",
      "reader_paused", "reader_died", "reader_joined_late", "claim_held", "claim_died", "message_aborted", "image_rejected", "revoked",
      "rejoined", "nak_made_up", "receiver_left", "receiver_joined", "gap_given_up",
      "side_died", "copy", "way_removed", "destination_learned", "destination_forgotten",
      "destination_refused", "stranger_frame", "stranger_answered", "tag_lost", "relayed", "relay_skipped", "relay_went_back",
      "died_before_status_message", "died_in_repair", "died_at_end", "died_draining", "died_in_linger"};
  return kNames[static_cast<std::size_t>(fault)];
}

class FaultCounts {
 public:
  void add(Fault fault, std::uint64_t n = 1) noexcept { counts_[static_cast<std::size_t>(fault)] += n; }
  [[nodiscard]] std::uint64_t get(Fault fault) const noexcept { return counts_[static_cast<std::size_t>(fault)]; }
  void add(const FaultCounts& other) noexcept {
    for (std::size_t i = 0; i < kFaultCount; ++i) counts_[i] += other.counts_[i];
  }

 private:
  std::array<std::uint64_t, kFaultCount> counts_{};
};

}  // namespace thalweg::sim
