#include "controlplane/archive/replayer.hpp"

#include <pthread.h>

#include <algorithm>

namespace thalweg::archive {
namespace {

constexpr std::size_t kEndedMax = 64;               // that are remembered
constexpr std::uint64_t kTurnBytes = 1U << 20;      // of one replay, before the next one has its turn
constexpr auto kConnectTimeout = std::chrono::milliseconds{500};
constexpr auto kRestShort = std::chrono::microseconds{50};
constexpr auto kRestLong = std::chrono::milliseconds{1};
constexpr auto kRestAlone = std::chrono::milliseconds{500};  // without replays nothing can come but a wish, which wakes us
constexpr unsigned kShortRests = 200;

}  // namespace

Replayer::Replayer(log::FileSystem& files, const log::Clock& clock, const Settings& settings, EventSink events)
    : files_{files}, clock_{clock}, settings_{settings}, events_{std::move(events)} {
  thread_ = std::thread{[this] { run(); }};
  pthread_setname_np(thread_.native_handle(), "tw-replay");
}

Replayer::~Replayer() {
  {
    const std::lock_guard guard{mutex_};
    stop_ = true;
  }
  wanted_change_.notify_all();
  thread_.join();
}

void Replayer::tell(Event::Level level, const char* name, const ReplayView& view, const std::string& text) const {
  if (events_) events_({level, name, view.recording, "replay " + std::to_string(view.id) + " into " + view.channel + " stream " + std::to_string(view.stream_id) + " session " + std::to_string(view.session_id) + " " + text});
}

void Replayer::start(ReplayRequest request, Answer answer) {
  {
    const std::lock_guard guard{mutex_};
    wanted_.push_back({std::move(request), std::move(answer)});
  }
  wanted_change_.notify_all();
}

Result<void> Replayer::stop(std::int64_t replay) {
  {
    const std::lock_guard guard{mutex_};
    const bool is_there = std::any_of(active_.begin(), active_.end(), [replay](const ReplayView& view) { return view.id == replay; });
    if (!is_there) return fail(ErrorCode::kNotFound, "no replay " + std::to_string(replay) + " is running", "thalweg archive replays shows them");
    to_stop_.push_back(replay);
  }
  wanted_change_.notify_all();
  return {};
}

std::size_t Replayer::stop_all(std::optional<std::int64_t> recording) {
  std::size_t count = 0;
  {
    const std::lock_guard guard{mutex_};
    for (const ReplayView& view : active_) {
      if (recording && *recording != view.recording) continue;
      to_stop_.push_back(view.id);
      ++count;
    }
  }
  wanted_change_.notify_all();
  return count;
}

std::vector<ReplayView> Replayer::views() const {
  const std::lock_guard guard{mutex_};
  std::vector<ReplayView> views{ended_.begin(), ended_.end()};
  views.insert(views.end(), active_.begin(), active_.end());
  std::sort(views.begin(), views.end(), [](const ReplayView& a, const ReplayView& b) { return a.id < b.id; });
  return views;
}

std::size_t Replayer::active_count() const {
  const std::lock_guard guard{mutex_};
  return active_.size();
}

std::size_t Replayer::active_count(std::int64_t recording) const {
  const std::lock_guard guard{mutex_};
  return static_cast<std::size_t>(std::count_if(active_.begin(), active_.end(), [recording](const ReplayView& view) { return view.recording == recording; }));
}

std::optional<std::uint64_t> Replayer::lowest_position(std::int64_t recording) const {
  const std::lock_guard guard{mutex_};
  std::optional<std::uint64_t> lowest;
  for (const ReplayView& view : active_)
    if (view.recording == recording) lowest = std::min(lowest.value_or(UINT64_MAX), view.position);
  return lowest;
}

std::uint64_t Replayer::sent_bytes() const {
  const std::lock_guard guard{mutex_};
  return sent_bytes_;
}

void Replayer::run() {
  for (;;) {
    std::deque<Wanted> wanted;
    std::vector<std::int64_t> to_stop;
    bool is_last = false;
    {
      const std::lock_guard guard{mutex_};
      wanted.swap(wanted_);
      to_stop.swap(to_stop_);
      is_last = stop_;
    }
    for (Replay& replay : replays_)
      if (is_last || std::find(to_stop.begin(), to_stop.end(), replay.session->view().id) != to_stop.end()) replay.session->stop();
    for (Wanted& one : wanted) {
      if (is_last) one.answer(fail(ErrorCode::kClosed, "the archive is ending"));
      else begin(std::move(one));
    }
    if (client_ && client_->is_closed()) {
      for (Replay& replay : replays_) replay.session->fail_with("the media driver went away");
      client_.reset();
    }
    const std::uint64_t bytes = work();
    publish();
    if (is_last) break;
    rest(bytes > 0 || !wanted.empty());
  }
  client_.reset();
}

Result<void> Replayer::connect() {
  if (client_) return {};
  client::Context context;
  context.directory = settings_.instance_directory;
  context.client_name = "archive replay";
  context.connect_timeout = kConnectTimeout;
  context.idle_sleep = std::chrono::milliseconds{5};
  context.on_error = [this](const Error& error) {
    if (events_) events_({Event::Level::kWarn, "archive_client", -1, error.message});
  };
  auto client = client::Client::connect(std::move(context));
  if (!client) return tl::unexpected{std::move(client.error())};
  client_.emplace(std::move(*client));
  return {};
}

void Replayer::begin(Wanted wanted) {
  if (replays_.size() >= settings_.replays_max)
    return wanted.answer(fail(ErrorCode::kInUse, std::to_string(replays_.size()) + " replays are running, no more are allowed", "end one with thalweg archive stop-replay, or raise archive.max-replays"));
  if (auto connected = connect(); !connected) return wanted.answer(tl::unexpected{std::move(connected.error())});
  auto session = ReplaySession::start(files_, clock_, settings_.directory, *client_, next_id_, std::move(wanted.request), settings_.replay_connect_timeout_ns);
  if (!session) return wanted.answer(tl::unexpected{std::move(session.error())});
  ++next_id_;
  replays_.push_back({std::move(*session), std::move(wanted.answer)});
}

// Answers as soon as there is something to be answered, and tells of beginnings and ends.
void Replayer::look_at(Replay& replay) {
  const ReplayView& view = replay.session->view();
  if (replay.answer && (replay.session->has_publication() || view.is_over())) {
    const Answer answer = std::exchange(replay.answer, {});
    if (view.state == ReplayState::kFailed || view.state == ReplayState::kStopped) return answer(fail(ErrorCode::kGeneric, "recording " + std::to_string(view.recording) + ": " + (view.error.empty() ? "the replay was stopped" : view.error)));
    tell(Event::Level::kInfo, "replay_started", view, "from " + std::to_string(view.start_position));
    {
      const std::lock_guard guard{mutex_};
      active_.push_back(view);  // whoever was answered may stop it
    }
    answer(view);
  }
}

std::uint64_t Replayer::work() {
  std::uint64_t bytes = 0;
  for (Replay& replay : replays_) {
    if (client_) bytes += replay.session->work(*client_, kTurnBytes);
    look_at(replay);
  }
  sent_ += bytes;
  return bytes;
}

void Replayer::publish() {
  std::vector<ReplayView> active, ended;
  for (const Replay& replay : replays_) (replay.session->view().is_over() ? ended : active).push_back(replay.session->view());
  std::erase_if(replays_, [](const Replay& replay) { return replay.session->view().is_over(); });
  for (const ReplayView& view : ended) {
    const std::string where = "at " + std::to_string(view.position);
    if (view.state == ReplayState::kFailed) tell(Event::Level::kWarn, "replay_failed", view, where + ": " + view.error);
    else tell(Event::Level::kInfo, "replay_ended", view, where);
  }
  const std::lock_guard guard{mutex_};
  active_ = std::move(active);
  for (ReplayView& view : ended) ended_.push_back(std::move(view));
  while (ended_.size() > kEndedMax) ended_.pop_front();
  sent_bytes_ = sent_;
}

void Replayer::rest(bool has_worked) {
  if (has_worked) {
    idle_turns_ = 0;
    return;
  }
  const std::chrono::nanoseconds pause = replays_.empty() ? std::chrono::nanoseconds{kRestAlone} : ++idle_turns_ < kShortRests ? std::chrono::nanoseconds{kRestShort} : std::chrono::nanoseconds{kRestLong};
  std::unique_lock lock{mutex_};
  wanted_change_.wait_for(lock, pause, [this] { return stop_ || !wanted_.empty() || !to_stop_.empty(); });
}

}  // namespace thalweg::archive
