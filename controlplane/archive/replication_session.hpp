#pragma once
#include <memory>
#include <optional>
#include <vector>

#include "controlplane/archive/active_recordings.hpp"
#include "controlplane/archive/checksum.hpp"
#include "controlplane/archive/replication.hpp"
#include "dataplane/client/archive_connection.hpp"

namespace thalweg::archive {

// One recording of another archive on its way into one of ours: asks what the source has, has it replayed from where ours ends, gives its frames their own ids back and
// appends them, and compares checksums of what has arrived with the source's. What breaks begins again from where ours ends. Never waits. The archive's thread.
// Spec: archive-log 16.3.
class ReplicationSession {
 public:
  struct Place {
    log::FileSystem& files;
    const log::Clock& clock;
    const RecordingCatalog& catalog;
    ActiveRecordings& active;
    const Settings& settings;
  };
  ReplicationSession(Place place, ReplicationView view);
  ~ReplicationSession();
  ReplicationSession(const ReplicationSession&) = delete;
  ReplicationSession& operator=(const ReplicationSession&) = delete;

  // One turn; returns the bytes of position that were copied. Nothing happens once it is over.
  std::int64_t work(client::Client& client);
  // Ends it; what is there stays.
  void stop() { finish(ReplicationState::kStopped, {}); }
  // The client is gone: it begins again with the next one.
  void detach();

  [[nodiscard]] const ReplicationView& view() const noexcept { return view_; }
  // What must survive a restart has changed since the last call.
  [[nodiscard]] bool has_news() noexcept { return std::exchange(has_news_, false); }

 private:
  using Message = client::archive_protocol::Message;
  enum class Step : std::uint8_t { kConnecting, kDescribing, kSession, kSubscribing, kResolving, kStarting, kImage, kCopying, kFinishing };
  void step(client::Client& client);
  void connect(client::Client& client);
  void describe_source();
  void plan(const Message& source);
  [[nodiscard]] Result<Recording> own_recording(const Message& source) const;
  void ask_session(client::Client& client);
  void subscribe(client::Client& client);
  void start_replay();
  void look_for_image(client::Client& client);
  [[nodiscard]] Result<void> open_own(client::Client& client);
  std::int64_t copy();
  [[nodiscard]] std::span<const std::byte> with_own_ids(std::span<const std::byte> frames);
  void verify();
  void compare(const Message& answer);
  void look_at_source();
  // A request to the source that is on its way.
  struct Asked {
    std::int64_t id{};
    std::int64_t deadline_ns{};  // monotonic
  };
  // Its answer; sends it first when it is not on its way. Errors: kTimeout, because an archive that started again does not know us any more; those of the source.
  [[nodiscard]] Result<std::optional<Message>> ask(std::optional<Asked>& asked, Message request);
  void let_go();
  void retry(const Error& error);
  void finish(ReplicationState state, std::string error);

  Place place_;
  ReplicationView view_;
  Step step_{Step::kConnecting};
  bool has_news_{true};
  std::int64_t not_before_ns_{};               // monotonic, of the next try
  std::int64_t deadline_ns_{};                 // of the replay's image
  std::optional<client::ArchiveConnection> connection_;
  std::optional<client::RegistrationId> wanted_;
  std::optional<Asked> request_;               // of the step
  std::optional<Asked> checksum_request_;
  std::optional<Asked> look_request_;          // while frames come in
  std::optional<Message> source_;              // the source's recording as it was described
  std::int32_t session_id_{};                  // of the replay's way here
  std::string replay_channel_;
  std::optional<std::int64_t> replay_;         // of the source
  int refusals_{};                             // of replays, in a row
  bool has_ended_early_{};
  client::Subscription subscription_;
  std::shared_ptr<client::Image> image_;
  std::shared_ptr<ActiveRecording> own_;
  std::optional<log::FrameReader> own_reader_;
  std::vector<std::byte> block_;
  std::int64_t next_verify_ns_{};
  std::int64_t next_look_ns_{};
  std::int64_t next_news_ns_{};
};

}  // namespace thalweg::archive
