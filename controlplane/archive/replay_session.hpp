#pragma once
#include <memory>
#include <optional>

#include "controlplane/archive/late_counter.hpp"
#include "controlplane/archive/replay.hpp"
#include "controlplane/log/frame_reader.hpp"
#include "dataplane/client/client.hpp"

namespace thalweg::archive {

// Ours: the counter of a replay's position. Key: replay id, recording id (8 bytes each), session id, stream id (4 bytes each).
inline constexpr std::int32_t kReplayPositionType = 1101;

// One recording on its way into one publication of its own, at the recording's positions. The replaying thread. Spec: archive-log 13, 16.3.
class ReplaySession {
 public:
  // Finds the place to begin at and asks for the publication. Errors: kNotFound (no such place any more), kInvalidArgument (no frame begins there, nothing is
  // there to be replayed, the channel), with what would be right; kIo.
  [[nodiscard]] static Result<std::unique_ptr<ReplaySession>> start(log::FileSystem& files, const log::Clock& clock, const std::string& archive_directory, client::Client& client,
                                                                    std::int64_t id, ReplayRequest request, std::int64_t connect_timeout_ns);

  // Sends what there is, at most `bytes_max` or one block. Returns the bytes. Nothing happens once it is over.
  std::uint64_t work(client::Client& client, std::uint64_t bytes_max);
  // Ends it; what was sent is delivered.
  void stop() noexcept { end(ReplayState::kStopped, {}); }
  void fail_with(const std::string& error) { end(ReplayState::kFailed, error); }

  [[nodiscard]] const ReplayView& view() const noexcept { return view_; }
  // The publication is there: the session id of the view counts.
  [[nodiscard]] bool has_publication() const noexcept { return has_publication_; }

 private:
  ReplaySession(const log::Clock& clock, ReplayRequest request, log::FrameReader reader, std::int64_t connect_timeout_ns);
  void look_for_publication(client::Client& client);
  [[nodiscard]] bool has_subscribers();
  [[nodiscard]] std::uint64_t bound(const client::Client& client) const;
  [[nodiscard]] bool next_block();
  [[nodiscard]] std::uint64_t send(std::uint64_t bound);
  void end(ReplayState state, std::string error);

  const log::Clock& clock_;
  const ReplayRequest request_;
  log::FrameReader reader_;
  const std::int64_t connect_timeout_ns_;
  std::int64_t deadline_ns_;                   // monotonic: somebody must subscribe until then
  ReplayView view_;
  log::FrameBlock block_;                      // what was read
  std::uint64_t used_{};                       // bytes of it that were sent, of position
  std::optional<client::RegistrationId> wanted_;
  client::ExclusivePublication publication_;
  bool has_publication_{};
  LateCounter counter_;
};

}  // namespace thalweg::archive
