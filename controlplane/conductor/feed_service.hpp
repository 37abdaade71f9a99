#pragma once
#include <array>
#include <unordered_map>

#include "controlplane/conductor/endpoint_table.hpp"
#include "controlplane/conductor/resolution.hpp"
#include "controlplane/conductor/world.hpp"

namespace thalweg::conductor {

// Counters of the two sides of an A/B stream, ours: of each image and side, labels `feed-<what>: <image id> <session> <stream> <channel> side=<a|b>`.
enum class FeedCounter : std::size_t { kFramesWon, kBytesWon, kFills, kCopies, kLateMean, kLateMax, kSilent };
inline constexpr std::size_t kFeedCounterCount = 7;
inline constexpr std::int32_t kFeedCounterType = 700;   // of the first; the others follow. Free for drivers' extensions (client-protocol 5.7)

// A/B feeds of the configuration: a subscription to a feed's channel hears both of its sides, as destinations of one multi-destination
// endpoint that all subscriptions of the feed share. The sides are open while somebody subscribes; one that cannot be opened is reported and
// tried again. What each side won, lost and was late by is published for every image, and a side that is silent while the other delivers is
// reported once, and once when it is back. Thread: the conductor. Spec: wire-protocol 5.6.
class FeedService {
 public:
  FeedService(World& world, EndpointTable& endpoints);

  // The feed that a channel stands for: same endpoint, control and interface as its `channel`; null: none. The settings of the World.
  [[nodiscard]] const FeedSettings* find(const UdpChannel& channel) const;
  // After a restart, when endpoints are there again: takes over the sides that are open.
  void recover();
  // Each duty cycle in which something moved, and each timer tick.
  void poll();
  // Copies what lanes counted, and looks for silent sides. At intervals.
  void publish();

 private:
  struct Side {
    UdpChannel channel;
    Resolution resolution;
    bool is_parsed{};
    bool is_silent{};                 // and reported
    std::uint32_t endpoint{shm::kNoSlot};
    std::int64_t retry_ns{};          // after a mistake that may pass
  };
  struct Feed {
    const FeedSettings* settings{};
    std::array<Side, 2> sides;
    bool lacks_counters{};            // and reported
  };
  struct ImageCounters {
    std::uint32_t generation{};
    bool are_there{};
    std::int64_t retry_ns{};          // while there was no room for them
    std::int64_t retry_interval_ns{};
    std::array<std::array<std::int32_t, kFeedCounterCount>, 2> ids{};
  };

  [[nodiscard]] std::uint32_t parent_of(const Feed& feed) const;
  [[nodiscard]] std::uint32_t children_of(std::uint32_t parent) const;
  void open(Feed& feed, std::size_t side, std::uint32_t parent);
  void close(Feed& feed);
  [[nodiscard]] Outcome<bool> advance(Feed& feed, std::size_t side, std::uint32_t parent);
  void publish_image(Feed& feed, std::uint32_t image, std::array<bool, 2>& silent);
  [[nodiscard]] ImageCounters* counters_of(Feed& feed, std::uint32_t image);
  [[nodiscard]] bool allocate_counters(const Feed& feed, std::uint32_t image, ImageCounters& counters);
  void free_ended();
  void free_counters(const ImageCounters& counters);
  void report_silence(Feed& feed, std::size_t side, bool is_silent);

  World* world_;
  EndpointTable* endpoints_;
  std::vector<Feed> feeds_;
  std::int64_t next_publish_ns_{};
  std::unordered_map<std::uint32_t, ImageCounters> counters_;  // by image
};

}  // namespace thalweg::conductor
