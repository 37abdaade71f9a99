#include "controlplane/archive/archive.hpp"

#include <pthread.h>

#include <algorithm>

#include "controlplane/archive/archive_verbs.hpp"

namespace thalweg::archive {
namespace {

constexpr auto kConnectTimeout = std::chrono::milliseconds{200};
constexpr std::int64_t kConnectPause_ns = 50 * kMillisecond_ns;
constexpr auto kDiskInterval = std::chrono::milliseconds{10};
// Idle turns get longer: a stream of any rate is taken in blocks, an idle archive costs next to nothing. The longest one must stay well below the time in
// which a fast stream fills its window.
constexpr auto kRestShort = std::chrono::microseconds{50};
constexpr auto kRestLong = std::chrono::milliseconds{1};
constexpr auto kRestAlone = std::chrono::milliseconds{50};  // without a client nothing can come
constexpr unsigned kShortRests = 200;

}  // namespace

Archive::Archive(Settings settings, EventSink events) : settings_{std::move(settings)}, events_{std::move(events)}, files_{log::make_file_system()} {}

Result<std::unique_ptr<Archive>> Archive::start(Settings settings, EventSink events) {
  std::unique_ptr<Archive> archive{new Archive{std::move(settings), std::move(events)}};
  const std::string& directory = archive->settings_.directory;
  if (auto made = archive->files_->create_directory(directory); !made) return tl::unexpected{std::move(made.error())};
  auto catalog = RecordingCatalog::open(*archive->files_, archive->clock_, directory);
  if (!catalog) return tl::unexpected{std::move(catalog.error())};
  archive->catalog_ = std::move(*catalog);
  for (const std::string& finding : archive->catalog_->findings()) archive->tell(Event::Level::kWarn, "archive_catalog", finding);
  archive->active_ = std::make_unique<ActiveRecordings>(*archive->files_, archive->clock_, *archive->catalog_, archive->settings_, archive->events_);
  archive->replayer_ = std::make_unique<Replayer>(*archive->files_, archive->clock_, archive->settings_, archive->events_);
  archive->recorder_ = std::make_unique<Recorder>(*archive->files_, archive->clock_, *archive->catalog_, *archive->active_, archive->settings_, archive->events_,
                                                  archive->replayer_.get());
  archive->replicator_ =
      std::make_unique<Replicator>(*archive->files_, archive->clock_, *archive->catalog_, *archive->active_, archive->settings_, archive->events_);
  archive->checksums_.emplace(*archive->files_, directory);
  archive->control_ = std::make_unique<ControlService>(archive->settings_, archive->events_);
  archive->hands_.run = [raw = archive.get()](const std::string& verb, const api::Json& args, const ControlService::Answer& answer) {
    World here = raw->world();
    run_verb(here, {verb, args}, answer);
  };
  archive->hands_.list = [raw = archive.get()](const ControlService::Message& request) { return list(raw->world(), request); };
  archive->thread_ = std::thread{[raw = archive.get()] { raw->run(); }};
  pthread_setname_np(archive->thread_.native_handle(), "tw-archive");
  archive->disk_thread_ = std::thread{[raw = archive.get()] { raw->run_disk(); }};
  pthread_setname_np(archive->disk_thread_.native_handle(), "tw-archive-disk");
  return archive;
}

Archive::~Archive() {
  {
    const std::lock_guard guard{mutex_};
    stop_ = true;
  }
  wanted_.notify_all();
  disk_wanted_.notify_all();
  if (thread_.joinable()) thread_.join();
  if (disk_thread_.joinable()) disk_thread_.join();
}

void Archive::tell(Event::Level level, const char* name, std::string text) const {
  if (events_) events_({level, name, -1, std::move(text)});
}

void Archive::post(std::function<void(World&)> task) {
  {
    const std::lock_guard guard{mutex_};
    tasks_.push_back(std::move(task));
  }
  wanted_.notify_all();
}

std::size_t Archive::task_count() const {
  const std::lock_guard guard{mutex_};
  return tasks_.size();
}

void Archive::run() {
  recorder_->recover();
  replicator_->recover();
  for (;;) {
    bool has_worked = run_tasks();
    if (!client_) connect();
    if (client_ && client_->is_closed()) {
      tell(Event::Level::kWarn, "archive_disconnected", "the media driver went away");
      recorder_->detach();
      replicator_->detach();
      control_->detach();
      client_.reset();
    }
    if (client_) has_worked = recorder_->work() > 0 || has_worked;
    if (client_ && !is_ready() && recorder_->has_subscribed()) {
      is_ready_.store(true, std::memory_order_release);
      tell(Event::Level::kInfo, "archive_ready", settings_.directory);
    }
    if (client_) has_worked = replicator_->work() > 0 || has_worked;
    if (client_) has_worked = control_->work(hands_) > 0 || has_worked;
    rest(has_worked);
    const std::lock_guard guard{mutex_};
    if (stop_) break;
  }
  recorder_->detach();
  replicator_->detach();
  control_->detach();
  client_.reset();
}

// The driver may start after us: it lives in this very process.
void Archive::connect() {
  const std::int64_t now_ns = clock_.monotonic_ns();
  if (now_ns < next_connect_ns_) return;
  next_connect_ns_ = now_ns + kConnectPause_ns;
  client::Context context;
  context.directory = settings_.instance_directory;
  context.client_name = "archive";
  context.connect_timeout = kConnectTimeout;
  context.idle_sleep = std::chrono::milliseconds{5};  // an image must not wait long for its subscriber
  context.on_error = [this](const Error& error) { tell(Event::Level::kWarn, "archive_client", error.message); };
  auto client = client::Client::connect(std::move(context));
  if (!client) return;
  client_.emplace(std::move(*client));
  recorder_->attach(*client_);
  replicator_->attach(*client_);
  control_->attach(*client_);
}

bool Archive::run_tasks() {
  std::vector<std::function<void(World&)>> tasks;
  {
    const std::lock_guard guard{mutex_};
    tasks.swap(tasks_);
  }
  World here = world();
  for (const auto& task : tasks) task(here);
  return !tasks.empty();
}

Archive::World Archive::world() { return {*recorder_, *catalog_, *active_, *replayer_, *replicator_, *checksums_, *files_, settings_, client_.has_value()}; }

void Archive::rest(bool has_worked) {
  if (has_worked) {
    idle_turns_ = 0;
    return;
  }
  const bool is_short = client_ && ++idle_turns_ < kShortRests;
  std::unique_lock lock{mutex_};
  wanted_.wait_for(lock, !client_ ? std::chrono::nanoseconds{kRestAlone} : is_short ? std::chrono::nanoseconds{kRestShort} : std::chrono::nanoseconds{kRestLong},
                   [this] { return stop_ || !tasks_.empty(); });
}

void Archive::run_disk() {
  std::string last_error;
  for (;;) {
    for (const auto& log : active_->logs()) {
      auto done = log->maintain();
      if (done || done.error().code == ErrorCode::kClosed || done.error().message == last_error) continue;
      last_error = done.error().message;
      tell(Event::Level::kError, "recording_disk", last_error);
    }
    std::unique_lock lock{mutex_};
    if (disk_wanted_.wait_for(lock, kDiskInterval, [this] { return stop_; })) return;
  }
}

}  // namespace thalweg::archive
