#pragma once
#include <deque>
#include <memory>
#include <vector>

#include "controlplane/archive/replication_session.hpp"

namespace thalweg::archive {

// The replications of an archive. What runs is kept in the catalog and goes on after a restart. The archive's thread. Spec: archive-log 16.3.
class Replicator {
 public:
  static constexpr std::size_t kMax = 64;  // at once
  Replicator(log::FileSystem& files, const log::Clock& clock, RecordingCatalog& catalog, ActiveRecordings& active, const Settings& settings, EventSink events);

  // Takes up what the catalog has.
  void recover();
  void attach(client::Client& client) { client_ = &client; }
  // The client is gone: replications wait for the next one.
  void detach();
  // One turn; returns the bytes copied.
  [[nodiscard]] std::int64_t work();

  // Errors: kInvalidChannel, kInvalidArgument, kNotFound (`into` is not there), kInUse (it is replicated into already, or as many as may be run), kNoSpace, kIo.
  [[nodiscard]] Result<ReplicationView> start(ReplicationRequest request);
  // Errors: kNotFound when none of that number runs.
  [[nodiscard]] Result<void> stop(std::int64_t replication);
  // Those that run and the last ones that ended, by number.
  [[nodiscard]] std::vector<ReplicationView> views() const;
  [[nodiscard]] std::size_t active_count() const noexcept { return sessions_.size(); }

 private:
  [[nodiscard]] ReplicationSession::Place place() { return {files_, clock_, catalog_, active_, settings_}; }
  [[nodiscard]] Result<void> check(const ReplicationRequest& request) const;
  void look_at(const ReplicationSession& session, ReplicationState before, bool is_first_break) const;
  void forget_ended();
  void tell(Event::Level level, const char* name, const ReplicationView& view, const std::string& text) const;

  log::FileSystem& files_;
  const log::Clock& clock_;
  RecordingCatalog& catalog_;
  ActiveRecordings& active_;
  const Settings& settings_;
  EventSink events_;
  client::Client* client_{};
  std::vector<std::unique_ptr<ReplicationSession>> sessions_;
  std::deque<ReplicationView> ended_;
};

}  // namespace thalweg::archive
