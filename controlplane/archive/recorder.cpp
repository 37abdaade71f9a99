#include "controlplane/archive/recorder.hpp"

#include <algorithm>

#include "controlplane/log/segment.hpp"
#include "dataplane/base/units.hpp"
#include "dataplane/shm/channel_uri.hpp"

namespace thalweg::archive {
namespace {

constexpr std::int64_t kSpaceCheck_ns = kSecond_ns;

}  // namespace

std::string subscription_channel(const Wish& wish) {
  auto uri = shm::ChannelUri::parse(wish.channel);
  if (!uri) return wish.channel;
  if (wish.drops_when_slow) uri->set("tether", "false");
  const bool is_udp = uri->media() == shm::ChannelUri::Media::kUdp;
  return (wish.is_local && is_udp && !uri->is_spy() ? "aeron-spy:" : "") + uri->to_string();
}

Recorder::Recorder(log::FileSystem& files, const log::Clock& clock, RecordingCatalog& catalog, ActiveRecordings& active, const Settings& settings, EventSink events,
                   const Replayer* replayer)
    : files_{files}, clock_{clock}, catalog_{catalog}, active_{active}, settings_{settings}, events_{std::move(events)}, replayer_{replayer} {
  for (const Wish& wish : settings.wishes)
    if (auto added = add_wish(wish); !added) tell(Event::Level::kError, "recording_refused", -1, wish.name + ": " + added.error().message);
}

Recorder::~Recorder() { detach(); }

void Recorder::tell(Event::Level level, const char* name, std::int64_t recording, std::string text) const {
  if (events_) events_({level, name, recording, std::move(text)});
}

void Recorder::recover() {
  const auto recordings = catalog_.recordings();  // a copy: the loop changes them
  for (const auto& [id, recording] : recordings) {
    if (!recording.is_active()) continue;
    Recording ended = recording;
    ended.stop_ns = clock_.epoch_ns();
    auto log = log::FrameLog::open(files_, clock_, frames_path(settings_.directory, id), active_.log_options(recording));
    if (!log) {
      tell(Event::Level::kError, "recording_not_recovered", id, log.error().message);
      continue;
    }
    ended.start_position = (*log)->first_position();
    ended.stop_position = (*log)->position();
    for (const std::string& finding : (*log)->recovery().findings) tell(Event::Level::kWarn, "recording_repaired", id, finding);
    const bool is_empty = ended.start_position == *ended.stop_position;
    log->reset();
    if (auto put = catalog_.put(ended); !put) tell(Event::Level::kError, "archive_catalog", id, put.error().message);
    else if (is_empty) static_cast<void>(purge(id));  // killed before the first frame; what stays is found again
    else tell(Event::Level::kInfo, "recording_recovered", id, text_of(ended) + " ends at " + std::to_string(*ended.stop_position));
  }
}

void Recorder::attach(client::Client& client) {
  client_ = &client;
  for (const auto& interest : interests_) subscribe(*interest);
}

void Recorder::detach() {
  for (const auto& interest : interests_) end_all(*interest);
  client_ = nullptr;
}

void Recorder::subscribe(Interest& interest) {
  if (client_ == nullptr) return;
  interest.error.clear();
  interest.has_no_space = false;
  auto changed = have_images_changed_;
  const auto note = [changed](const std::shared_ptr<client::Image>&) { changed->store(true, std::memory_order_release); };
  auto wanted = client_->async_add_subscription(subscription_channel(interest.wish), interest.wish.stream_id, {note, note});
  if (wanted) interest.wanted = *wanted;
  else interest.error = wanted.error().message;
}

void Recorder::look_at_subscription(Interest& interest) {
  auto found = client_->find_subscription(*interest.wanted);
  if (found && !*found) return;
  interest.wanted.reset();
  have_images_changed_->store(true, std::memory_order_release);
  if (found) {
    interest.subscription = std::move(**found);
    return;
  }
  interest.error = found.error().message;
  tell(Event::Level::kError, "recording_refused", -1, interest.wish.channel + " stream " + std::to_string(interest.wish.stream_id) + ": " + interest.error);
}

std::int64_t Recorder::work() {
  if (client_ == nullptr) return 0;
  const bool have_changed = have_images_changed_->exchange(false, std::memory_order_acq_rel);
  std::int64_t bytes = 0;
  for (const auto& interest : interests_) {
    if (interest->wanted) look_at_subscription(*interest);
    if (have_changed && interest->subscription) look_at_images(*interest);
    bytes += record(*interest);
  }
  const std::int64_t now_ns = clock_.monotonic_ns();
  if (now_ns >= next_space_check_ns_) {
    next_space_check_ns_ = now_ns + kSpaceCheck_ns;
    retry_without_space();
  }
  if (now_ns >= next_retention_ns_) {
    next_retention_ns_ = now_ns + settings_.retention_interval_ns;
    retain();
  }
  return bytes;
}

bool Recorder::has_subscribed() const noexcept {
  return client_ != nullptr && std::none_of(interests_.begin(), interests_.end(), [](const auto& interest) { return interest->wanted.has_value(); });
}

void Recorder::look_at_images(Interest& interest) {
  const auto images = interest.subscription.images();
  std::erase_if(interest.discarded, [](const auto& image) { return image->is_closed(); });
  for (const auto& image : images) {
    const bool is_recorded = std::any_of(interest.sessions.begin(), interest.sessions.end(), [&](const auto& session) { return session->image() == image; });
    const bool is_discarded = std::find(interest.discarded.begin(), interest.discarded.end(), image) != interest.discarded.end();
    if (!is_recorded && !is_discarded) begin(interest, image);
  }
}

void Recorder::begin(Interest& interest, const std::shared_ptr<client::Image>& image) {
  auto session = begin_session(interest, image);
  if (session) {
    interest.sessions.push_back(std::move(*session));
    return;
  }
  interest.error = session.error().message;
  tell(Event::Level::kError, "recording_refused", -1, text_of(describe(interest, *image)) + ": " + interest.error);
  if (session.error().code == ErrorCode::kNoSpace) suspend(interest);
  else interest.discarded.push_back(image);
}

// Until there is space again nothing is subscribed to.
void Recorder::suspend(Interest& interest) {
  const std::string error = interest.error;
  end_all(interest);
  interest.error = error;
  interest.has_no_space = true;
}

Recording Recorder::describe(const Interest& interest, const client::Image& image) const {
  Recording recording;
  recording.start_ns = clock_.epoch_ns();
  recording.start_position = static_cast<std::uint64_t>(image.join_position());
  recording.stream = {image.session_id(), image.stream_id(), image.initial_term_id(), static_cast<std::uint32_t>(image.term_length()), static_cast<std::uint32_t>(image.mtu_length())};
  recording.segment_bytes = std::max<std::uint64_t>(settings_.segment_bytes, recording.stream.term_bytes);
  recording.name = interest.wish.name;
  recording.original_channel = interest.subscription.channel();
  recording.channel = stripped_channel(recording.original_channel);
  recording.source_identity = image.source_identity();
  return recording;
}

// The recording that ended exactly where this one begins, of the same stream, goes on; nullptr: none can. Spec: archive-log 16.3, extend.
std::shared_ptr<ActiveRecording> Recorder::extend(const Recording& recording) {
  if (recording.start_position == 0) return nullptr;
  for (const auto& [id, known] : catalog_.recordings()) {
    if (known.is_active() || known.state != RecordingState::kValid || *known.stop_position != recording.start_position) continue;
    if (known.stream != recording.stream || known.channel != recording.channel || known.name != recording.name) continue;
    auto extended = active_.extend(id);
    if (extended) return std::move(*extended);
    tell(Event::Level::kWarn, "recording_not_extended", id, extended.error().message);
  }
  return nullptr;
}

Result<std::unique_ptr<RecordingSession>> Recorder::begin_session(const Interest& interest, const std::shared_ptr<client::Image>& image) {
  if (auto allowed = active_.check_limits(); !allowed) return tl::unexpected{std::move(allowed.error())};
  Recording recording = describe(interest, *image);
  std::shared_ptr<ActiveRecording> active = extend(recording);
  if (active == nullptr) {
    auto created = active_.create(std::move(recording));
    if (!created) return tl::unexpected{std::move(created.error())};
    active = std::move(*created);
  }
  return std::make_unique<RecordingSession>(*client_, std::move(active), image);
}

std::int64_t Recorder::record(Interest& interest) {
  std::int64_t bytes = 0;
  for (const auto& image : interest.discarded) static_cast<void>(image->block_poll([](std::span<const std::byte>, std::int32_t, std::int32_t) {}, image->term_length()));
  for (std::size_t i = 0; i < interest.sessions.size();) {
    RecordingSession& session = *interest.sessions[i];
    const bool was_over = session.is_over();  // asked first: what comes behind it is nothing
    const auto worked = session.work(*client_);
    if (worked) bytes += *worked;
    const bool is_done = !worked || (was_over && *worked == 0);
    if (!is_done) {
      ++i;
      continue;
    }
    end(interest, session, worked ? nullptr : &worked.error());
    interest.sessions.erase(interest.sessions.begin() + static_cast<std::ptrdiff_t>(i));
    if (!worked && worked.error().code == ErrorCode::kNoSpace) {
      interest.error = worked.error().message;
      suspend(interest);
      break;
    }
  }
  return bytes;
}

void Recorder::end(Interest& interest, RecordingSession& session, const Error* error) {
  interest.discarded.push_back(session.image());
  ended_bytes_[session.active().recording.id] = session.active().log->file_bytes_used();
  active_.end(session.active(), error);
}

void Recorder::end_all(Interest& interest) {
  for (const auto& session : interest.sessions) end(interest, *session, nullptr);
  interest.sessions.clear();
  interest.discarded.clear();
  interest.subscription.close();
  interest.subscription = client::Subscription{};
  interest.wanted.reset();
}

// Declared streams and standing wishes begin again once there is room for more than a moment.
void Recorder::retry_without_space() {
  const auto is_waiting = [](const auto& interest) { return interest->has_no_space; };
  if (std::none_of(interests_.begin(), interests_.end(), is_waiting)) return;
  const auto space = files_.space(settings_.directory);
  if (!space || space->free_bytes < 2 * active_.low_space()) return;
  for (const auto& interest : interests_)
    if (interest->has_no_space) subscribe(*interest);
}

Result<std::uint32_t> Recorder::add_wish(Wish wish) {
  if (auto uri = shm::ChannelUri::parse(wish.channel); !uri) return tl::unexpected{std::move(uri.error())};
  const std::string channel = subscription_channel(wish);
  for (const auto& interest : interests_)
    if (interest->wish.stream_id == wish.stream_id && subscription_channel(interest->wish) == channel)
      return fail(ErrorCode::kInUse, channel + " stream " + std::to_string(wish.stream_id) + " is recorded already", "thalweg archive status shows it");
  interests_.push_back(std::make_unique<Interest>());
  interests_.back()->number = next_number_++;
  interests_.back()->wish = std::move(wish);
  subscribe(*interests_.back());
  return interests_.back()->number;
}

Result<void> Recorder::remove_wish(std::uint32_t number) {
  const auto found = std::find_if(interests_.begin(), interests_.end(), [number](const auto& interest) { return interest->number == number; });
  if (found == interests_.end()) return fail(ErrorCode::kNotFound, "no stream with the number " + std::to_string(number) + " is recorded", "thalweg archive status shows them");
  end_all(**found);
  interests_.erase(found);
  return {};
}

Result<void> Recorder::stop(std::int64_t recording) {
  for (const auto& interest : interests_) {
    const auto found = std::find_if(interest->sessions.begin(), interest->sessions.end(), [recording](const auto& s) { return s->active().recording.id == recording; });
    if (found == interest->sessions.end()) continue;
    end(*interest, **found, nullptr);
    interest->sessions.erase(found);
    return {};
  }
  return fail(ErrorCode::kNotFound, "recording " + std::to_string(recording) + " is not active", "thalweg archive list shows those that are");
}

Result<Recording> Recorder::ended_recording(std::int64_t id) const {
  if (active_.find(id) != nullptr) return fail(ErrorCode::kInUse, "recording " + std::to_string(id) + " is active", "stop it first: thalweg archive stop " + std::to_string(id));
  const Recording* const recording = catalog_.get(id);
  if (recording == nullptr) return fail(ErrorCode::kNotFound, "there is no recording " + std::to_string(id), "thalweg archive list shows them");
  if (is_replayed(id)) return fail(ErrorCode::kInUse, "recording " + std::to_string(id) + " is being replayed", "stop that first: thalweg archive stop-replay --recording " + std::to_string(id));
  return *recording;
}

Result<void> Recorder::truncate(std::int64_t id, std::uint64_t position) {
  auto recording = ended_recording(id);
  if (!recording) return tl::unexpected{std::move(recording.error())};
  auto log = log::FrameLog::open(files_, clock_, frames_path(settings_.directory, id), active_.log_options(*recording));
  if (!log) return tl::unexpected{std::move(log.error())};
  if (auto cut = (*log)->truncate(position); !cut) return cut;
  recording->stop_position = position;
  ended_bytes_.erase(id);
  return catalog_.put(*recording);
}

// The catalog first: files without a recording are left-overs, a recording without files would be damage.
Result<void> Recorder::purge(std::int64_t id) {
  auto recording = ended_recording(id);
  if (!recording) return tl::unexpected{std::move(recording.error())};
  recording->state = RecordingState::kDeleted;
  if (auto put = catalog_.put(*recording); !put) return put;
  ended_bytes_.erase(id);
  const std::string directory = frames_path(settings_.directory, id);
  const auto names = files_.list(directory);
  if (!names) return names.error().code == ErrorCode::kNotFound ? Result<void>{} : tl::unexpected{names.error()};
  for (const std::string& name : *names)
    if (auto removed = files_.remove(directory + "/" + name); !removed) return removed;
  tell(Event::Level::kInfo, "recording_purged", id, text_of(*recording));
  return files_.sync_directory(directory);
}

std::uint64_t Recorder::file_bytes_of(std::int64_t id) {
  const auto known = ended_bytes_.find(id);
  if (known != ended_bytes_.end()) return known->second;
  std::uint64_t bytes = 0;
  if (const auto listing = log::list_segments(files_, frames_path(settings_.directory, id)))
    for (const log::SegmentInfo& info : listing->segments) bytes += log::file_bytes(info.header);
  return ended_bytes_[id] = bytes;
}

void Recorder::retain() {
  for (const auto& interest : interests_)
    if (interest->wish.keep.age_max_ns != 0 || interest->wish.keep.bytes_max != 0) retain(*interest);
}

void Recorder::retain(const Interest& interest) {
  const Keep& keep = interest.wish.keep;
  const std::int64_t now_ns = clock_.epoch_ns();
  std::vector<std::int64_t> ended;  // oldest first
  std::uint64_t bytes = 0;
  for (const auto& [id, recording] : catalog_.recordings()) {
    if (recording.name != interest.wish.name || recording.name.empty() || recording.is_active()) continue;
    bytes += file_bytes_of(id);
    if (!is_replayed(id)) ended.push_back(id);
  }
  for (const auto& session : interest.sessions) bytes += session->active().log->file_bytes_used();
  for (const std::int64_t id : ended) {
    const bool is_old = keep.age_max_ns != 0 && now_ns - catalog_.get(id)->stop_ns.value_or(now_ns) > keep.age_max_ns;
    if (!is_old && (keep.bytes_max == 0 || bytes <= keep.bytes_max)) continue;
    bytes -= file_bytes_of(id);
    if (auto purged = purge(id); !purged) tell(Event::Level::kError, "retention_failed", id, purged.error().message);
  }
  const log::RetentionRules rules{.age_max_ns = keep.age_max_ns, .shard_bytes_max = interest.sessions.empty() ? 0 : keep.bytes_max / interest.sessions.size(), .segments_min = keep.segments_min};
  for (const auto& session : interest.sessions) {
    const std::int64_t id = session->active().recording.id;
    const auto replayed = replayer_ == nullptr ? std::nullopt : replayer_->lowest_position(id);
    const log::FrameLog::PositionRange pinned{replayed.value_or(UINT64_MAX), UINT64_MAX};
    const auto state = session->active().log->retention_state(std::span{&pinned, replayed ? 1U : 0U});
    const auto plans = log::plan_retention(std::span{&state, 1}, rules, {1, 1}, now_ns);
    if (plans.front().delete_count == 0) continue;
    const auto deleted = session->active().log->delete_oldest(plans.front().delete_count);
    session->active().recording.start_position = session->active().log->first_position();
    auto put = catalog_.put(session->active().recording);
    if (!deleted) tell(Event::Level::kError, "retention_failed", session->active().recording.id, deleted.error().message);
    else if (!put) tell(Event::Level::kError, "archive_catalog", session->active().recording.id, put.error().message);
  }
}

std::vector<Recorder::WishView> Recorder::wishes() const {
  std::vector<WishView> views;
  for (const auto& interest : interests_) {
    const char* const state = interest->has_no_space ? "no space" : !interest->error.empty() ? "failed" : interest->subscription ? "subscribed" : "waiting";
    views.push_back({interest->number, interest->wish, state, interest->error, interest->sessions.size()});
  }
  return views;
}

}  // namespace thalweg::archive
