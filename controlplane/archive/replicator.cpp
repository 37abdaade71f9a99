#include "controlplane/archive/replicator.hpp"

#include <algorithm>

#include "dataplane/shm/channel_uri.hpp"

namespace thalweg::archive {
namespace {
constexpr std::size_t kEndedMax = 64;  // that are remembered

// As the catalog keeps it. Errors in it are the source's texts, which may be anything.
std::string text_of(const ReplicationView& view) { return describe(view).dump(-1, ' ', false, api::Json::error_handler_t::replace); }

}  // namespace

Replicator::Replicator(log::FileSystem& files, const log::Clock& clock, RecordingCatalog& catalog, ActiveRecordings& active, const Settings& settings, EventSink events)
    : files_{files}, clock_{clock}, catalog_{catalog}, active_{active}, settings_{settings}, events_{std::move(events)} {}

void Replicator::tell(Event::Level level, const char* name, const ReplicationView& view, const std::string& text) const {
  if (!events_) return;
  events_({level, name, view.recording.value_or(-1),
           "replication " + std::to_string(view.id) + " of recording " + std::to_string(view.request.source_recording) + " of " + view.request.source_channel + " " + text});
}

void Replicator::recover() {
  for (const auto& [id, text] : catalog_.replications()) {
    auto view = decode_replication(text);
    if (!view) {
      if (events_) events_({Event::Level::kError, "archive_catalog", -1, "replication " + std::to_string(id) + ": " + view.error().message});
      continue;
    }
    tell(Event::Level::kInfo, "replication_resumed", *view, "at " + std::to_string(view->verified_position));
    sessions_.push_back(std::make_unique<ReplicationSession>(place(), std::move(*view)));
  }
}

void Replicator::detach() {
  for (const auto& session : sessions_) session->detach();
  client_ = nullptr;
}

std::int64_t Replicator::work() {
  if (client_ == nullptr) return 0;
  std::int64_t bytes = 0;
  for (const auto& session : sessions_) {
    const ReplicationState state = session->view().state;
    const std::uint64_t breaks = session->view().breaks;
    bytes += session->work(*client_);
    if (session->view().state != state || session->view().breaks != breaks) look_at(*session, state, breaks == 0);
    if (session->has_news() && !session->view().is_over())
      if (auto put = catalog_.put_replication(session->view().id, text_of(session->view())); !put) tell(Event::Level::kError, "archive_catalog", session->view(), put.error().message);
  }
  forget_ended();
  return bytes;
}

// Tells of what has changed.
void Replicator::look_at(const ReplicationSession& session, ReplicationState before, bool is_first_break) const {
  const ReplicationView& view = session.view();
  const std::string where = "at " + std::to_string(view.position);
  switch (view.state) {
    case ReplicationState::kConnecting: return;
    case ReplicationState::kReplicating: return tell(Event::Level::kInfo, "replication_started", view, where);
    case ReplicationState::kWaiting:
      // Once for each break, not for each try.
      if (before != ReplicationState::kWaiting || is_first_break) tell(Event::Level::kWarn, "replication_waits", view, where + ": " + view.error);
      return;
    case ReplicationState::kDone: return tell(Event::Level::kInfo, "replication_done", view, where);
    case ReplicationState::kStopped: return tell(Event::Level::kInfo, "replication_stopped", view, where);
    case ReplicationState::kFailed: return tell(Event::Level::kError, "replication_failed", view, where + ": " + view.error);
  }
}

void Replicator::forget_ended() {
  for (auto session = sessions_.begin(); session != sessions_.end();) {
    const ReplicationView& view = (*session)->view();
    if (!view.is_over()) {
      ++session;
      continue;
    }
    if (auto removed = catalog_.remove_replication(view.id); !removed) tell(Event::Level::kError, "archive_catalog", view, removed.error().message);
    ended_.push_back(view);
    while (ended_.size() > kEndedMax) ended_.pop_front();
    session = sessions_.erase(session);
  }
}

Result<void> Replicator::check(const ReplicationRequest& request) const {
  if (sessions_.size() >= kMax) return fail(ErrorCode::kInUse, std::to_string(sessions_.size()) + " replications are running, no more are allowed", "end one with thalweg archive stop-replication");
  for (const std::string& channel : {request.source_channel, request.response_channel}) {
    auto uri = shm::ChannelUri::parse(channel);
    if (!uri) return tl::unexpected{std::move(uri.error())};
    if (uri->is_spy()) return fail(ErrorCode::kInvalidArgument, channel + ": a spy only listens", "leave out aeron-spy:");
  }
  if (!request.into) return {};
  if (catalog_.get(*request.into) == nullptr) return fail(ErrorCode::kNotFound, "there is no recording " + std::to_string(*request.into), "thalweg archive list shows them");
  for (const auto& session : sessions_)
    if (session->view().recording == request.into || session->view().request.into == request.into)
      return fail(ErrorCode::kInUse, "recording " + std::to_string(*request.into) + " is being replicated into", "thalweg archive replications shows it");
  return {};
}

Result<ReplicationView> Replicator::start(ReplicationRequest request) {
  if (auto right = check(request); !right) return tl::unexpected{std::move(right.error())};
  ReplicationView view;
  view.request = std::move(request);
  view.start_ns = clock_.epoch_ns();
  view.id = catalog_.next_replication_id();
  if (auto put = catalog_.put_replication(view.id, text_of(view)); !put) return tl::unexpected{std::move(put.error())};
  sessions_.push_back(std::make_unique<ReplicationSession>(place(), view));
  return view;
}

Result<void> Replicator::stop(std::int64_t replication) {
  for (const auto& session : sessions_) {
    if (session->view().id != replication) continue;
    session->stop();
    look_at(*session, ReplicationState::kReplicating, false);
    forget_ended();
    return {};
  }
  return fail(ErrorCode::kNotFound, "no replication " + std::to_string(replication) + " is running", "thalweg archive replications shows them");
}

std::vector<ReplicationView> Replicator::views() const {
  std::vector<ReplicationView> views{ended_.begin(), ended_.end()};
  for (const auto& session : sessions_) views.push_back(session->view());
  std::sort(views.begin(), views.end(), [](const ReplicationView& a, const ReplicationView& b) { return a.id < b.id; });
  return views;
}

}  // namespace thalweg::archive
