#include "controlplane/log/replay.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "controlplane/log/wake_up.hpp"

namespace thalweg::log {
namespace {

constexpr std::int64_t kPollInterval_ns = 100 * kMillisecond_ns;  // where nobody wakes who follows a shard

ReplayStep step_of(const Read& read) {
  const ReplayStatus status = read.status == ReadStatus::kRecord ? ReplayStatus::kRecord : read.status == ReadStatus::kGap ? ReplayStatus::kGap : ReplayStatus::kCorrupt;
  return {.status = status, .record = read.record, .lost = read.lost, .wait_ns = 0};
}

}  // namespace

Result<void> validate(const ReplayOptions& options) {
  const auto bad = [](const std::string& what) { return fail(ErrorCode::kInvalidArgument, "replay: " + what); };
  if (!std::isfinite(options.speed) || options.speed < 0) return bad("a speed of 0 or more is needed");
  if (options.is_backward && options.is_followed) return bad("nothing is appended in front of the first record: it cannot go backwards and follow");
  const bool is_entry = options.from == ReplayPlace::kEntry && options.to_entry;
  const bool is_time = options.from == ReplayPlace::kTime && options.to_ns;
  const bool is_position = options.from == ReplayPlace::kPosition && options.to_position;
  const auto is_wrong = [&](auto from, auto to) { return options.is_backward ? from < to : to < from; };
  if (is_entry && is_wrong(options.from_entry, *options.to_entry)) return bad("it would end before it begins, from entry " + std::to_string(options.from_entry) + " to " + std::to_string(*options.to_entry));
  if (is_time && is_wrong(options.from_ns, *options.to_ns)) return bad("it would end before it begins, from time " + std::to_string(options.from_ns) + " to " + std::to_string(*options.to_ns));
  if (is_position && is_wrong(options.from_position, *options.to_position))
    return bad("it would end before it begins, from position " + std::to_string(options.from_position) + " to " + std::to_string(*options.to_position));
  return {};
}

Result<RecordReplay> RecordReplay::open(FileSystem& files, const Clock& clock, std::string directory, const ReplayOptions& options) {
  if (auto valid = validate(options); !valid) return tl::unexpected{std::move(valid.error())};
  auto reader = Reader::open(files, directory, {.from_entry = UINT64_MAX, .is_uncommitted = options.is_uncommitted, .on_corrupt = options.on_corrupt});
  if (!reader) return tl::unexpected{std::move(reader.error())};
  RecordReplay replay{clock, options, std::move(*reader)};
  const bool is_empty = replay.reader_.first_entry() == UINT64_MAX;
  replay.end_entry_ = is_empty ? 0 : std::min(replay.reader_.next_entry(), replay.reader_.limit());
  if (auto found = replay.go_to_start(); !found) return tl::unexpected{std::move(found.error())};
  if (options.is_backward)
    if (auto turned = replay.turn_back(files, directory); !turned) return tl::unexpected{std::move(turned.error())};
  return replay;
}

Result<void> RecordReplay::go_to_start() {
  const std::uint64_t first = std::min(reader_.first_entry(), end_entry_);
  switch (options_.from) {
    case ReplayPlace::kEarliest: return reader_.seek(first);
    case ReplayPlace::kLatest: return reader_.seek(end_entry_);
    case ReplayPlace::kEntry:
      if (options_.from_entry > end_entry_)
        return fail(ErrorCode::kInvalidArgument, "replay: entry " + std::to_string(options_.from_entry) + " is not there: the shard's entries end at " + std::to_string(end_entry_));
      return reader_.seek(options_.is_clamped ? std::max(options_.from_entry, first) : options_.from_entry);
    case ReplayPlace::kTime: return reader_.seek_time(options_.is_backward && options_.from_ns < INT64_MAX ? options_.from_ns + 1 : options_.from_ns);
    case ReplayPlace::kPosition: return reader_.seek_position(options_.from_position);
  }
  return {};
}

// The reader stands where a replay forwards would begin.
Result<void> RecordReplay::turn_back(FileSystem& files, const std::string& directory) {
  const bool is_inclusive = options_.from == ReplayPlace::kEntry || options_.from == ReplayPlace::kPosition;
  const std::uint64_t before = std::min(reader_.next_entry() + (is_inclusive ? 1U : 0U), end_entry_);
  is_over_ = before == 0 || options_.from == ReplayPlace::kEarliest;
  auto backward = BackwardReader::open(files, directory, {.from_entry = before, .is_uncommitted = options_.is_uncommitted, .on_corrupt = options_.on_corrupt});
  if (!backward) return tl::unexpected{std::move(backward.error())};
  backward_.emplace(std::move(*backward));
  return {};
}

bool RecordReplay::is_wanted(const RecordHeader& header) const noexcept {
  return (!options_.stream || header.stream == *options_.stream) && (!options_.type || header.type == *options_.type);
}

bool RecordReplay::is_beyond(const RecordHeader& header, std::uint64_t position) const noexcept {
  if (options_.is_backward)
    return (options_.to_entry && header.entry < *options_.to_entry) || (options_.to_position && position < *options_.to_position) || (options_.to_ns && header.timestamp_ns < *options_.to_ns);
  if (!options_.is_followed && header.entry >= end_entry_) return true;
  return (options_.to_entry && header.entry >= *options_.to_entry) || (options_.to_position && position >= *options_.to_position) || (options_.to_ns && header.timestamp_ns > *options_.to_ns);
}

Result<ReplayStep> RecordReplay::read_backward() {
  const auto found = backward_->previous();
  if (!found) return tl::unexpected{found.error()};
  const Browsed& seen = **found;
  if (seen.status == ReadStatus::kEnd) return ReplayStep{};
  return step_of(Read{.status = seen.status, .record = {.header = seen.header, .key = seen.key, .payload = seen.payload, .position = seen.position}, .lost = seen.lost});
}

Result<ReplayStep> RecordReplay::read() {
  if (options_.is_backward) return read_backward();
  const bool is_at_end = reader_.next_entry() >= std::min(options_.is_followed ? UINT64_MAX : end_entry_, options_.to_entry.value_or(UINT64_MAX));
  if (is_at_end) return ReplayStep{};
  const auto found = reader_.next();
  if (!found) return tl::unexpected{found.error()};
  if (found->status != ReadStatus::kEnd) return step_of(*found);
  return ReplayStep{.status = options_.is_followed ? ReplayStatus::kEnd : ReplayStatus::kOver, .record = {}, .lost = {}, .wait_ns = 0};
}

// When the record may be handed over; the first one at once.
std::int64_t RecordReplay::due_ns(const RecordHeader& header) noexcept {
  const std::int64_t now_ns = clock_->monotonic_ns();
  if (!begun_ns_) {
    begun_ns_ = now_ns;
    first_ns_ = header.timestamp_ns;
  }
  std::int64_t due = options_.records_per_second != 0 ? not_before_ns_ : now_ns;
  if (options_.speed > 0) {
    const double apart_ns = std::abs(static_cast<double>(header.timestamp_ns) - static_cast<double>(first_ns_)) / options_.speed;
    due = std::max(due, *begun_ns_ + static_cast<std::int64_t>(std::min(apart_ns, 9e18)));
  }
  return due;
}

Result<ReplayStep> RecordReplay::next() {
  ReplayStep step;
  if (is_over_ || (options_.count_max && count_ >= *options_.count_max)) return step;
  for (;;) {
    if (pending_) {
      step = *std::exchange(pending_, std::nullopt);
    } else {
      auto found = read();
      if (!found) return found;
      step = std::move(*found);
    }
    if (step.status != ReplayStatus::kRecord) {
      is_over_ = step.status == ReplayStatus::kOver;
      return step;
    }
    if (is_beyond(step.record.header, step.record.position)) {
      is_over_ = true;
      return ReplayStep{};
    }
    if (is_wanted(step.record.header)) break;
  }
  const std::int64_t now_ns = clock_->monotonic_ns();
  const std::int64_t due = options_.speed > 0 || options_.records_per_second != 0 ? due_ns(step.record.header) : now_ns;
  if (due > now_ns) {
    pending_ = std::move(step);
    return ReplayStep{.status = ReplayStatus::kWait, .record = {}, .lost = {}, .wait_ns = due - now_ns};
  }
  if (options_.records_per_second != 0) not_before_ns_ = std::max(not_before_ns_, now_ns) + kSecond_ns / static_cast<std::int64_t>(std::min<std::uint64_t>(options_.records_per_second, kSecond_ns));
  ++count_;
  return step;
}

Result<std::uint64_t> replay(FileSystem& files, const Clock& clock, const std::string& directory, const ReplayOptions& options, const std::function<bool(const ReplayStep&)>& handler) {
  auto running = RecordReplay::open(files, clock, directory, options);
  if (!running) return tl::unexpected{std::move(running.error())};
  auto wake_up = WakeUp::make();
  if (!wake_up) return tl::unexpected{std::move(wake_up.error())};
  static_cast<void>((*wake_up)->watch(directory));  // without a watch it looks from time to time
  for (;;) {
    const auto step = running->next();
    if (!step) return tl::unexpected{step.error()};
    switch (step->status) {
      case ReplayStatus::kOver: return running->count();
      case ReplayStatus::kWait: (*wake_up)->wait(step->wait_ns); break;
      case ReplayStatus::kEnd: (*wake_up)->wait(kPollInterval_ns); break;
      case ReplayStatus::kRecord:
      case ReplayStatus::kGap:
      case ReplayStatus::kCorrupt:
        if (!handler(*step)) return running->count();
        break;
    }
  }
}

}  // namespace thalweg::log
