#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "controlplane/log/options.hpp"

namespace thalweg::archive {

// What of a declared stream's recordings is kept. 0: no such limit.
struct Keep {
  std::int64_t age_max_ns{0};       // segments whose newest frame is older go, and so do ended recordings as a whole
  std::uint64_t bytes_max{0};       // of files, all recordings of the declaration together
  std::uint32_t segments_min{2};    // closed segments of a running recording that stay
};

// A stream to be recorded whenever it is there.
struct Wish {
  std::string name;                 // "" = asked for by command
  std::string channel;
  std::int32_t stream_id{};
  bool is_local{};                  // this machine's own publications, as a spy
  bool drops_when_slow{};
  Keep keep;
};

struct Settings {
  std::string directory;            // of the archive
  std::string instance_directory;   // whose client it is
  std::uint64_t segment_bytes{128U << 20};
  log::SyncPolicy sync{log::SyncPolicy::kPeriodic};
  std::int64_t sync_interval_ns{1 * kSecond_ns};
  std::uint32_t recordings_max{128};
  std::string control_channel{"aeron:ipc"};  // where clients on this machine ask; "" = nowhere
  std::string remote_control_channel;        // where others do
  std::int32_t control_stream{10};
  std::uint32_t replays_max{20};
  std::int64_t replay_connect_timeout_ns{5 * kSecond_ns};  // a replay that nobody subscribes to for so long ends
  std::uint64_t low_space_bytes{0}; // 0 = one segment
  std::int64_t retention_interval_ns{10 * kSecond_ns};
  std::vector<Wish> wishes;
};

// What happens to recordings, for the process log and, later, for clients.
struct Event {
  enum class Level : std::uint8_t { kInfo, kWarn, kError };
  Level level{Level::kInfo};
  const char* name{""};             // "recording_started"; stable
  std::int64_t recording{-1};       // -1: none
  std::string text;
};
using EventSink = std::function<void(const Event&)>;  // called on threads of the archive

// The channel that a subscription for it uses.
[[nodiscard]] std::string subscription_channel(const Wish& wish);

}  // namespace thalweg::archive
