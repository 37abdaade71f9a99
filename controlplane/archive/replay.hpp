#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "controlplane/archive/recording.hpp"
#include "controlplane/log/frame_log.hpp"

namespace thalweg::archive {

// What is to be replayed, and where to.
struct ReplayRequest {
  Recording recording;
  std::weak_ptr<const log::FrameLog> live;   // who writes it now; expired: nobody
  std::string channel;                       // of the publication that it goes into
  std::int32_t stream_id{};
  std::optional<std::uint64_t> position;     // of the first frame; absent: by time, or the lowest
  std::optional<std::int64_t> time_ns;       // epoch: the first frame recorded then or later
  std::optional<std::uint64_t> length_bytes; // to the end of the frame that holds the last of them; absent: to where the recording ends now
  bool is_followed{};                        // goes on as long as the recording is written, and ends with it or with length_bytes
  std::optional<std::int32_t> limit_counter; // id of a counter of the driver: nothing behind its value is sent
};

enum class ReplayState : std::uint8_t {
  kConnecting,  // the publication is being made, or nobody subscribes yet
  kReplaying,
  kDone,        // everything asked for was sent
  kStopped,     // on command
  kFailed,
};
[[nodiscard]] const char* to_string(ReplayState state) noexcept;

// A replay as others see it.
struct ReplayView {
  std::int64_t id{};
  std::int64_t recording{};
  ReplayState state{ReplayState::kConnecting};
  std::string error;                           // of a failed one
  std::string channel;                         // as asked for
  std::int32_t stream_id{};
  std::int32_t session_id{};
  std::uint64_t start_position{};
  std::uint64_t position{};                    // behind the last frame sent
  std::optional<std::uint64_t> stop_position;  // absent: it follows the recording
  std::int64_t start_ns{};                     // epoch
  [[nodiscard]] bool is_over() const noexcept { return state > ReplayState::kReplaying; }
};

// The channel of a publication whose positions are those of the recording from `position` on: term length, MTU and initial position are set. Errors:
// kInvalidChannel; kInvalidArgument for a spy, or when the channel has another value for one of these.
[[nodiscard]] Result<std::string> replay_channel(const std::string& channel, const log::FrameStream& stream, std::uint64_t position);

}  // namespace thalweg::archive
