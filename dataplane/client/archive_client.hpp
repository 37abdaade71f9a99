#pragma once
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dataplane/client/client.hpp"

namespace thalweg::client {

namespace archive_protocol {
struct Message;
}

// A recording as its archive knows it.
struct RecordingInfo {
  std::int64_t id{};
  bool is_active{};                 // it is being written
  std::int64_t start_ns{};          // epoch
  std::int64_t stop_ns{};           // epoch; 0 while it is active
  std::int64_t start_position{};    // the lowest one that is there
  std::int64_t position{};          // behind the last frame
  std::int32_t session_id{};
  std::int32_t stream_id{};
  std::int32_t initial_term_id{};
  std::int32_t term_length{};       // bytes
  std::int32_t mtu_length{};        // bytes
  std::int64_t segment_length{};    // bytes
  std::string name;                 // of the declaration in the configuration; empty: none
  std::string channel;              // stripped to what names the stream
  std::string original_channel;
  std::string source_identity;
};

// Which recordings; an absent value takes any.
struct RecordingFilter {
  std::int64_t min_id{0};
  std::optional<std::int32_t> stream_id;
  std::optional<std::int32_t> session_id;
  std::string channel_fragment;     // in the original channel
  bool is_active{};                 // only those that are being written
};

struct RecordingOptions {
  bool is_local{};                  // this machine's own publications, as a spy
  bool drops_when_slow{};           // leave gaps instead of holding the publisher back
};

struct ReplayParams {
  std::optional<std::int64_t> position;     // of the first frame; absent: by time, or the lowest
  std::optional<std::int64_t> time_ns;      // epoch: the first frame recorded then or later, or up to 4 KiB and a frame before it
  std::optional<std::int64_t> length;       // bytes; absent: to where the recording ends now
  bool follow{};                            // go on as long as the recording is written
  std::optional<std::int32_t> limit_counter;  // of the archive's driver: nothing behind its value is sent
};

struct ReplayInfo {
  std::int64_t id{};
  std::int32_t session_id{};                // what its subscribers see
  std::int64_t start_position{};
  std::optional<std::int64_t> stop_position;
};

// Where a replication comes from and how far it goes.
struct ReplicationParams {
  std::int64_t recording{};                   // of the source
  std::string source_channel;                 // where the source's archive listens, as archive.remote-control-channel there
  std::int32_t source_stream{10};
  std::string response_channel;               // where its answers and frames come in at the archive that replicates; port 0 takes a free one
  std::optional<std::int64_t> into;           // a recording of the same stream that goes on; absent: a new one
  std::optional<std::int64_t> stop_position;  // absent: where the source's recording is when it is first looked at
  bool follow{};                              // go on as long as the source is written
};

enum class ReplicationState : std::uint8_t {
  kConnecting = 0,   // to the source
  kReplicating = 1,
  kWaiting = 2,      // something broke: it is tried again, ReplicationInfo::error says what it was
  kDone = 3,
  kStopped = 4,
  kFailed = 5,
};
[[nodiscard]] const char* to_string(ReplicationState state) noexcept;

struct ReplicationInfo {
  std::int64_t id{};
  ReplicationState state{};
  std::int64_t source_recording{};
  std::optional<std::int64_t> recording;        // absent: none has begun
  std::int64_t position{};                      // behind the last frame
  std::int64_t verified_position{};             // everything below it was compared with the source
  std::int64_t source_position{};               // where the source's recording was when it was last looked at
  std::optional<std::int64_t> stop_position;
  std::string source_channel;
  std::string error;
};

// Of whole frames, as checksum() computes it.
struct RecordingChecksum {
  std::int64_t end{};                         // position behind the last frame
  std::uint32_t crc{};                        // CRC-32C
};

// Speaks with the archive of a Thalweg appliance, here or elsewhere, over streams. One thread. Must not outlive its Client. Functions wait for the archive's answer, at
// most Options::timeout (kTimeout); errors are the archive's, with its text. Spec: archive-log 16.3, 16.4; docs/reference/archive-control.md.
class ArchiveClient {
 public:
  struct Options {
    std::string control_channel{"aeron:ipc"};   // where the archive listens: archive.control-channel, or archive.remote-control-channel
    std::int32_t control_stream{10};
    std::string response_channel{"aeron:ipc"};  // where we do; port 0 takes a free one
    std::int32_t response_stream{20};
    std::chrono::nanoseconds timeout{std::chrono::seconds{5}};
  };
  // Errors: kUnreachable (no archive listens there), kTimeout; those of the driver.
  [[nodiscard]] static Result<ArchiveClient> connect(Client& client, Options options);
  ArchiveClient(ArchiveClient&&) noexcept;
  ArchiveClient& operator=(ArchiveClient&&) noexcept;
  ~ArchiveClient();

  // At most `count_max`, by id.
  [[nodiscard]] Result<std::vector<RecordingInfo>> list_recordings(const RecordingFilter& filter = {}, std::int64_t count_max = 1000);
  // The one with the highest id; nullopt: none.
  [[nodiscard]] Result<std::optional<RecordingInfo>> find_last_recording(const RecordingFilter& filter);
  // Errors: kNotFound.
  [[nodiscard]] Result<RecordingInfo> recording(std::int64_t id);

  // Records a stream whenever it is there, until stop_stream() or the instance's end; each session is a recording. One that goes on exactly where a
  // recording of it ended extends that recording. Answers the number of the stream. Errors: kInUse when it is recorded already.
  [[nodiscard]] Result<std::int64_t> start_recording(std::string_view channel, std::int32_t stream_id, const RecordingOptions& options = {});
  [[nodiscard]] Result<> stop_stream(std::int64_t number);
  // Ends one recording; its session is not recorded again. Errors: kNotFound.
  [[nodiscard]] Result<> stop_recording(std::int64_t id);
  // Cuts, or deletes, a recording that is neither written nor replayed. Errors: kInUse, kNotFound, kInvalidArgument.
  [[nodiscard]] Result<> truncate_recording(std::int64_t id, std::int64_t position);
  [[nodiscard]] Result<> purge_recording(std::int64_t id);

  // Sends the recording into a publication of the archive's driver, and waits there for subscribers. Errors: kNotFound, kInvalidArgument with what would be right, kInUse
  // (as many as may be are running).
  [[nodiscard]] Result<ReplayInfo> start_replay(std::int64_t recording, const ReplayParams& params, std::string_view channel, std::int32_t stream_id);
  // Errors: kNotFound when it is over.
  [[nodiscard]] Result<> stop_replay(std::int64_t replay);

  // Copies a recording of another archive into this one's, frame by frame at the same positions, and compares checksums of both. What breaks is tried again, also after
  // the archive was restarted, until it is done or stopped. Answers its number. Errors: kInvalidChannel, kInvalidArgument, kNotFound (into).
  [[nodiscard]] Result<std::int64_t> start_replication(const ReplicationParams& params);
  // Ends one; what is there stays. Errors: kNotFound when none of that number runs.
  [[nodiscard]] Result<> stop_replication(std::int64_t replication);
  // Those that run, and the last ones that ended.
  [[nodiscard]] Result<std::vector<ReplicationInfo>> list_replications();
  // Checksum of the frames from `from`, at which one begins, up to `to` or 1 MiB further, whichever is less. Session and stream ids are part of it; docs/reference/archive-control.md.
  // Errors: kNotFound, kInvalidArgument, kIo for damage.
  [[nodiscard]] Result<RecordingChecksum> checksum(std::int64_t recording, std::int64_t from, std::int64_t to);

  // The archive is gone, or its driver, or ours: connect again.
  [[nodiscard]] bool is_closed() const noexcept;
  [[nodiscard]] Client& client() const noexcept;

 private:
  friend class PersistentSubscription;
  struct State;
  explicit ArchiveClient(std::unique_ptr<State> state) noexcept;
  // Sends a request; answers its correlation id. Errors: kClosed, kTimeout.
  [[nodiscard]] Result<std::int64_t> send(archive_protocol::Message request);
  // Its answer, once it is there; kRecording answers come before it. Errors: those of the archive, kClosed.
  [[nodiscard]] Result<std::optional<archive_protocol::Message>> look_for(std::int64_t correlation_id);
  // As look_for(), of a request that is answered with a recording; forgets it then.
  [[nodiscard]] Result<std::optional<RecordingInfo>> look_for_recording(std::int64_t correlation_id);
  void forget(std::int64_t correlation_id);
  [[nodiscard]] Result<archive_protocol::Message> ask(archive_protocol::Message request, std::vector<archive_protocol::Message>* before = nullptr);
  [[nodiscard]] Result<std::vector<RecordingInfo>> ask_for_recordings(archive_protocol::Message request);

  std::unique_ptr<State> state_;
};

}  // namespace thalweg::client
