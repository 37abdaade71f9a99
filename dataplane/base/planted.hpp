#pragma once
#include <cstdlib>

// Planted protocol bugs: the measure of our tests. A build with the meson option `planted_bugs` carries all of them and switches on the one
// whose number the environment variable THALWEG_PLANTED_BUG names; scripts/dev/planted-bugs shows that each is caught. In every other build
// planted() is a constant false and nothing of them is left. tests/sim/planted_bugs.md says what each one breaks.
namespace thalweg {

enum class Bug : int {
  kSendBeyondWindow = 1,
  kStatusMessageNotRepeated = 2,
  kNakNotRepeated = 3,
  kRetransmitWrongRange = 4,
  kEndOfStreamTooEarly = 5,
  kFlowControlIgnoresSlowest = 6,
  kLimitBeforeCleaning = 7,
  kCleanTooEarly = 8,
  kPaddingForgotten = 9,
  kStaleTermWithoutWrap = 10,
  kWrongRotation = 11,
  kDuplicateOverwrites = 12,
  kOverrunAccepted = 13,
  kRebuildSkipsGap = 14,
  kGapFilledWhenReliable = 15,
  kPaddingNotSkipped = 16,
  kElicitedSetupForgotten = 17,
  kHeartbeatForgotten = 18,
  kHalfCopyKept = 19,
  kReassemblyAcrossLoss = 20,
  kCongestionIgnoresLoss = 21,
  kSilentReceiverKept = 22,
  kRetransmitLimitIgnored = 23,
  kGroupSizeIgnored = 24,
  kGroupTagIgnored = 25,
  kSetupHoldForgotten = 26,
  kGroupNakAtOnce = 27,
  kNakBackoffForgotten = 28,
  kGivenUpGapSkipped = 29,
  kRepeatedNakServed = 30,
  kLimitNeverFalls = 31,
  kLeavingReceiverKept = 32,
  kSilentDestinationKept = 33,
  kDestinationsByPortAlone = 34,
  kOneSideEndsStream = 35,
  kOneSideTold = 36,
  kRestingStillCounts = 37,
  kTetherTimerRunsOn = 38,
  kResponseSpeaksFirst = 39,
  kResponseSetupNeverEnds = 40,
  kMembersMakeRoom = 41,
  kSilentStrangersStay = 42,
  kUntaggedStillHolds = 43,
  kEndedStreamForgotten = 44,
  kDataKeepsSetupsOut = 45,
  kSetupMovesConnection = 46,
  kAnyRoundTripBelieved = 47,
  kAnyErrorBelieved = 48,
  kOverwrittenSentAgain = 49,
  kSkipCrossesTerm = 50,
  kRelayPromiseBroken = 51,
  kEveryRoundTripAnswered = 52,
  kNakBeyondWindow = 53,
};

#ifdef THALWEG_PLANTED_BUGS
inline const int kPlantedBug = [] {
  const char* const number = std::getenv("THALWEG_PLANTED_BUG");
  return number != nullptr ? std::atoi(number) : 0;
}();
[[nodiscard]] inline bool planted(Bug bug) noexcept { return kPlantedBug == static_cast<int>(bug); }
#else
[[nodiscard]] consteval bool planted(Bug) noexcept { return false; }
#endif

}  // namespace thalweg
