#include "controlplane/log/consumer.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>

namespace thalweg::log {
namespace {
constexpr std::uint64_t kProcessedKept = 100;  // numbers below the offset

// Of another one in each consumer, those of this process and moment too. Not 0.
std::uint64_t new_member_id(const Clock& clock) noexcept {
  static std::atomic<std::uint64_t> made{0};
  Random random{static_cast<std::uint64_t>(clock.epoch_ns()) ^ static_cast<std::uint64_t>(::getpid()) << 32U ^ ++made * 0x9E3779B97F4A7C15ULL};
  return random.next() | 1U;
}
}

struct Consumer::Source {
  std::uint32_t shard{};
  GroupTable table;
  GroupMember group;
  Reader reader;
  std::uint64_t position{};       // everything below is acknowledged, or in `nacked`
  Reader::Bookmark mark;          // of `position`, when the reader has been there
  std::uint64_t read_to{};        // number behind the highest one delivered
  std::map<std::uint64_t, Nacked> nacked;
  std::set<std::uint64_t> processed;
  std::uint64_t uncounted{};      // acknowledged, and not yet in the table
  bool is_dirty{};                // its offset was moved and not synced
  bool is_held{true};             // false: another member may have it, by its lease
  std::int64_t renewed_ns{};      // monotonic: when the lease was asked for last

  // Entries below may be delivered and acknowledged.
  [[nodiscard]] std::uint64_t limit() const noexcept { return reader.has_limit() ? reader.limit() : read_to; }
  [[nodiscard]] std::uint64_t committable() const noexcept { return nacked.empty() ? position : std::min(position, nacked.begin()->first); }
};

Consumer::Consumer(FileSystem& files, const Clock& clock, std::string root, const ConsumerOptions& options)
    : files_{files}, clock_{clock}, root_{std::move(root)}, options_{options}, random_{static_cast<std::uint64_t>(clock.epoch_ns()) ^ static_cast<std::uint64_t>(::getpid()) << 32U},
      member_id_{new_member_id(clock)}, synced_ns_{clock.monotonic_ns()} {}

Consumer::~Consumer() { static_cast<void>(close()); }  // a destructor has nobody to tell

Result<std::unique_ptr<Consumer>> Consumer::open(FileSystem& files, const Clock& clock, std::string root, const ConsumerOptions& options) {
  if (auto valid = validate_group_name(options.group); !valid) return tl::unexpected{std::move(valid.error())};
  if (auto valid = validate(options.assignment); !valid) return tl::unexpected{std::move(valid.error())};
  if (options.sync_interval_ns < 0) return fail(ErrorCode::kInvalidArgument, "consumer: a sync interval below 0");
  if (options.lease_ns < 0 || options.lease_ns > kLeaseMax_ns) return fail(ErrorCode::kInvalidArgument, "consumer: a lease of 0 to 10 minutes is possible");
  std::unique_ptr<Consumer> consumer{new Consumer{files, clock, std::move(root), options}};
  if (auto discovered = consumer->discover(); !discovered) return tl::unexpected{std::move(discovered.error())};
  return consumer;
}

Result<bool> Consumer::discover() {
  const auto there = list_shards(files_, root_);
  if (!there) return tl::unexpected{there.error()};
  for (const std::uint32_t shard : options_.shards)
    if (std::find(there->begin(), there->end(), shard) == there->end()) return fail(ErrorCode::kNotFound, root_ + ": no " + shard_directory_name(shard), "consumers make no shards; a writer has to");
  bool is_any_new = false;
  for (const std::uint32_t shard : *there) {
    const bool is_wanted = options_.shards.empty() || std::find(options_.shards.begin(), options_.shards.end(), shard) != options_.shards.end();
    if (!is_wanted || !options_.assignment.has(shard) || find(shard) != nullptr) continue;
    if (auto added = add_source(shard); !added) return tl::unexpected{std::move(added.error())};
    is_any_new = true;
  }
  return is_any_new;
}

Result<void> Consumer::add_source(std::uint32_t shard) {
  const std::string directory = root_ + "/" + shard_directory_name(shard);
  auto reader = Reader::open(files_, directory, {.on_corrupt = options_.on_corrupt});
  if (!reader) return tl::unexpected{std::move(reader.error())};
  auto table = GroupTable::open(files_, clock_, directory);
  if (!table) return tl::unexpected{std::move(table.error())};
  const std::uint64_t limit = reader->has_limit() ? reader->limit() : 0;
  const std::uint64_t earliest = std::min(reader->first_entry(), limit);
  auto group = table->join(options_.group, options_.start == GroupStart::kEarliest ? earliest : limit);
  if (!group) return tl::unexpected{std::move(group.error())};
  if (reader->has_limit() && group->committed() > limit) {
    const auto end = end_of(directory, group->committed());
    if (!end) return tl::unexpected{end.error()};
    if (group->committed() > *end) {  // the disk lost entries that it was told of
      ++counters_.clamped_offsets;
      if (auto set = group->set(*end, clock_.epoch_ns()); !set) return set;
    }
  }
  const std::uint64_t position = group->committed();
  std::unique_ptr<Source> source{new Source{.shard = shard, .table = std::move(*table), .group = std::move(*group), .reader = std::move(*reader), .position = position, .mark = {}, .read_to = position,
                                            .nacked = {}, .processed = {}}};
  if (auto found = source->reader.seek(position); !found) return found;
  source->mark = source->reader.bookmark();
  source->is_held = options_.lease_ns == 0;
  source->renewed_ns = clock_.monotonic_ns() - options_.lease_ns;
  const auto place = std::lower_bound(sources_.begin(), sources_.end(), shard, [](const auto& known, std::uint32_t number) { return known->shard < number; });
  sources_.insert(place, std::move(source));
  return {};
}

// How far the entries of a shard reach, but no further than `entry`. What is durable does not tell: after a power failure the coordination page may be
// old until a writer has recovered the shard.
Result<std::uint64_t> Consumer::end_of(const std::string& directory, std::uint64_t entry) const {
  auto reader = Reader::open(files_, directory, {.from_entry = entry, .is_uncommitted = true});
  if (!reader) return tl::unexpected{std::move(reader.error())};
  return std::min(entry, reader->next_entry());
}

Consumer::Source* Consumer::find(std::uint32_t shard) const noexcept {
  const auto at = std::lower_bound(sources_.begin(), sources_.end(), shard, [](const auto& known, std::uint32_t number) { return known->shard < number; });
  return at != sources_.end() && (*at)->shard == shard ? at->get() : nullptr;
}

Result<Consumer::Source*> Consumer::own(std::uint32_t shard) const {
  if (is_closed_) return fail(ErrorCode::kClosed, root_ + ": the consumer is closed");
  if (Source* const source = find(shard)) return source;
  return fail(ErrorCode::kInvalidArgument, root_ + ": shard " + std::to_string(shard) + " is not one of this consumer's", "look at its shards and its assignment");
}

Result<Consumer::Source*> Consumer::held(std::uint32_t shard) const {
  auto source = own(shard);
  if (!source || (*source)->is_held) return source;
  return fail(ErrorCode::kInUse, root_ + ": another member of group '" + options_.group + "' has the lease of shard " + std::to_string(shard), "read on: what it does not deal with comes when the lease is over");
}

// Takes leases that are free, and renews those it has, each every third of its time. What another one took over meanwhile is forgotten here.
Result<void> Consumer::hold_leases() {
  if (options_.lease_ns == 0) return {};
  const std::int64_t now_ns = clock_.monotonic_ns();
  auto count = static_cast<std::size_t>(std::count_if(sources_.begin(), sources_.end(), [](const auto& source) { return source->is_held; }));
  for (const auto& source : sources_) {
    if (now_ns - source->renewed_ns < options_.lease_ns / 3) continue;
    if (!source->is_held && options_.leases_max != 0 && count >= options_.leases_max) continue;
    source->renewed_ns = now_ns;
    const auto taken = source->group.take_lease(member_id_, now_ns, options_.lease_ns);
    if (!taken) return tl::unexpected{taken.error()};
    if (*taken && !source->is_held) {
      source->nacked.clear();
      source->processed.clear();
      source->position = source->read_to = source->group.committed();
      source->is_held = true;
      ++count;
      ++counters_.leases_taken;
    } else if (!*taken && source->is_held) {
      lose(*source);
      --count;
    }
  }
  return {};
}

void Consumer::lose(Source& source) {
  source.is_held = false;
  source.nacked.clear();
  source.processed.clear();
  last_ = nullptr;
  ++counters_.leases_lost;
}

// Takes over what others did with the group's offset.
Result<void> Consumer::follow(Source& source) {
  const auto was_set = source.group.refresh();
  if (!was_set) return tl::unexpected{was_set.error()};
  const std::uint64_t committed = source.group.committed();
  if (*was_set) {
    ++counters_.taken_back;
    source.nacked.clear();
    source.processed.clear();
    source.position = source.read_to = committed;
    if (options_.lease_ns != 0 && source.is_held && !source.group.has_lease(member_id_)) lose(source);
  }
  if (committed > source.position) source.position = committed;
  return {};
}

Result<const Delivery*> Consumer::read(std::size_t count) {
  if (is_closed_) return fail(ErrorCode::kClosed, root_ + ": the consumer is closed");
  delivery_.messages.clear();
  delivery_.skipped.clear();
  memory_.clear();
  if (auto held = hold_leases(); !held) return tl::unexpected{std::move(held.error())};
  std::vector<Source*> order;
  for (const auto& source : sources_)
    if (source->is_held) order.push_back(source.get());
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random_.below(i)]);
  for (Source* const source : order) {
    if (auto followed = follow(*source); !followed) return tl::unexpected{std::move(followed.error())};
    if (!source->is_held) continue;
    if (auto done = read_nacked(*source, count); !done) return tl::unexpected{std::move(done.error())};
    if (auto done = read_source(*source, count); !done) return tl::unexpected{std::move(done.error())};
  }
  // What was noted as offsets while the memory grew.
  std::size_t at = 0;
  for (Message& message : delivery_.messages) {
    const std::span<const std::byte> key = std::span{memory_}.subspan(at, message.key.size());
    message.payload = std::span{memory_}.subspan(at + key.size(), message.payload.size());
    message.key = key;
    at += key.size() + message.payload.size();
  }
  counters_.delivered += delivery_.messages.size();
  return &delivery_;
}

// Those below the position that are due again; the others come in their turn.
Result<void> Consumer::read_nacked(Source& source, std::size_t count) {
  if (source.nacked.empty()) return {};
  const std::int64_t now_ns = clock_.monotonic_ns();
  for (auto next = source.nacked.begin(); next != source.nacked.end() && next->first < source.position && delivery_.messages.size() < count;) {
    const auto at = next++;
    if (at->second.due_ns > now_ns) continue;
    if (auto found = source.reader.seek(at->first); !found) return found;
    const auto read = source.reader.next();
    if (!read) return tl::unexpected{read.error()};
    if (read->status == ReadStatus::kRecord && read->record.entry() == at->first) {
      deliver(source, read->record, ++at->second.deliveries);
      ++counters_.redelivered;
    } else if (read->status != ReadStatus::kEnd) {  // gone meanwhile: nobody can acknowledge it
      skip(source, *read);
      source.nacked.erase(at);
    }
  }
  return {};
}

Result<void> Consumer::read_source(Source& source, std::size_t count) {
  if (delivery_.messages.size() >= count) return {};
  Reader& reader = source.reader;
  if (reader.next_entry() != source.position)
    if (auto found = source.mark.point.entry == source.position ? reader.return_to(source.mark) : reader.seek(source.position); !found) return found;
  source.mark = reader.bookmark();
  const std::int64_t now_ns = source.nacked.empty() ? 0 : clock_.monotonic_ns();
  bool is_all_skipped = true;  // so far: the position may follow
  while (delivery_.messages.size() < count) {
    const auto read = reader.next();
    if (!read) return tl::unexpected{read.error()};
    if (read->status == ReadStatus::kEnd) return {};
    if (read->status == ReadStatus::kCorrupt && options_.on_corrupt == OnCorrupt::kFail) {
      if (!delivery_.is_empty()) return {};  // what is before it first
      continue;                              // the reader has the error
    }
    if (read->status != ReadStatus::kRecord) {
      skip(source, *read);
      if (is_all_skipped && read->lost.to_entry > source.position) {
        source.position = read->lost.to_entry;
        source.mark = reader.bookmark();
      }
      continue;
    }
    is_all_skipped = false;
    const std::uint64_t entry = read->record.entry();
    if (options_.is_deduplicated && source.processed.contains(entry)) {
      ++counters_.filtered;
      source.read_to = std::max(source.read_to, entry + 1);
      continue;
    }
    std::uint32_t delivery = 1;
    if (const auto waiting = source.nacked.find(entry); waiting != source.nacked.end()) {
      if (waiting->second.due_ns > now_ns) continue;
      delivery = ++waiting->second.deliveries;
      ++counters_.redelivered;
    }
    deliver(source, read->record, delivery);
  }
  return {};
}

void Consumer::deliver(Source& source, const RecordView& record, std::uint32_t delivery) {
  memory_.insert(memory_.end(), record.key.begin(), record.key.end());
  memory_.insert(memory_.end(), record.payload.begin(), record.payload.end());
  delivery_.messages.push_back({{source.shard, record.entry()}, record.header, record.key, record.payload, delivery});  // read() moves the spans into memory_
  source.read_to = std::max(source.read_to, record.entry() + 1);
}

void Consumer::skip(Source& source, const Read& read) {
  (read.status == ReadStatus::kGap ? counters_.gap_entries : counters_.corrupt_entries) += read.lost.to_entry - read.lost.from_entry;
  delivery_.skipped.push_back({source.shard, read.status, read.lost});
}

Result<void> Consumer::check_ids(std::span<const EntryId> ids) const {
  const Source* source = nullptr;
  std::uint64_t limit = 0;
  for (const EntryId& id : ids) {
    if (source == nullptr || source->shard != id.shard) {
      const auto found = held(id.shard);
      if (!found) return tl::unexpected{found.error()};
      source = *found;
      limit = source->limit();
    }
    if (id.entry >= limit) return fail(ErrorCode::kInvalidArgument, "entry " + to_string(id) + " is not there: the shard's entries end at " + std::to_string(limit));
  }
  return {};
}

// One entry of the shard that was acknowledged last, with nothing waiting for redelivery and nothing marked: no more than the step in the group's
// slot. false: it is not that, or somebody set the offset meanwhile; ack() sees what it is.
bool Consumer::ack_plainly(const EntryId& id) noexcept {
  Source* const source = last_;
  if (source == nullptr || source->shard != id.shard || !source->nacked.empty() || !source->processed.empty() || options_.sync_interval_ns == 0) return false;
  if (id.entry >= source->limit()) return false;
  source->position = std::max(source->position, id.entry + 1);
  if (!source->group.commit(source->position)) return false;
  ++source->uncounted;
  source->is_dirty = true;
  ++counters_.acknowledged;
  return true;
}

Result<void> Consumer::ack(std::span<const EntryId> ids) {
  if (ids.size() == 1 && ack_plainly(ids.front())) return {};
  if (auto checked = check_ids(ids); !checked) return checked;
  for (std::size_t i = 0; i < ids.size();) {
    Source& source = *find(ids[i].shard);
    const std::size_t first = i;
    std::uint64_t end = 0;
    const bool has_nacked = !source.nacked.empty();
    for (; i < ids.size() && ids[i].shard == source.shard; ++i) {
      end = std::max(end, ids[i].entry + 1);
      if (has_nacked) source.nacked.erase(ids[i].entry);
    }
    if (auto advanced = advance(source, end, i - first); !advanced) return advanced;
    last_ = source.is_held ? &source : nullptr;
  }
  return options_.sync_interval_ns == 0 && !ids.empty() ? sync() : Result<void>{};
}

Result<void> Consumer::ack_range(std::uint32_t shard, std::uint64_t from, std::uint64_t to) {
  const auto found = held(shard);
  if (!found) return tl::unexpected{found.error()};
  Source& source = **found;
  const std::string range = "entries " + std::to_string(from) + " to " + std::to_string(to) + " of shard " + std::to_string(shard);
  if (from > to) return fail(ErrorCode::kInvalidArgument, range + ": the first one is behind the last one");
  if (to >= source.read_to) return fail(ErrorCode::kInvalidArgument, range + ": this consumer has read no further than " + std::to_string(source.read_to));
  if (from > source.group.committed()) ++counters_.skipping_acks;
  source.nacked.erase(source.nacked.lower_bound(from), source.nacked.upper_bound(to));
  if (auto advanced = advance(source, to + 1, to - from + 1); !advanced) return advanced;
  return options_.sync_interval_ns == 0 ? sync() : Result<void>{};
}

// Everything below `to` but what is nacked is dealt with.
Result<void> Consumer::advance(Source& source, std::uint64_t to, std::uint64_t messages) {
  source.position = std::max(source.position, to);
  if (!source.group.commit(source.committable())) {
    // Somebody set the offset meanwhile: that counts, and this acknowledgement does not.
    return follow(source);
  }
  source.uncounted += messages;
  source.is_dirty = true;
  counters_.acknowledged += messages;
  if (!source.processed.empty()) {
    const std::uint64_t committed = source.committable();
    source.processed.erase(source.processed.begin(), source.processed.lower_bound(committed > kProcessedKept ? committed - kProcessedKept : 0));
  }
  return {};
}

Result<void> Consumer::nack(std::span<const EntryId> ids, std::int64_t delay_ns) {
  if (auto checked = check_ids(ids); !checked) return checked;
  for (const EntryId& id : ids) {
    const Source& source = *find(id.shard);
    if (id.entry < source.committable()) return fail(ErrorCode::kInvalidArgument, "entry " + to_string(id) + " was acknowledged", "reset the offset to read it again");
    if (source.nacked.size() + ids.size() > options_.nacked_max) return fail(ErrorCode::kNoSpace, root_ + ": " + std::to_string(source.nacked.size()) + " entries wait for redelivery, no more may (nacked_max)");
  }
  const std::int64_t due_ns = clock_.monotonic_ns() + std::max<std::int64_t>(delay_ns, 0);
  for (const EntryId& id : ids) find(id.shard)->nacked[id.entry].due_ns = due_ns;
  counters_.nacked += ids.size();
  return {};
}

void Consumer::mark_processed(std::span<const EntryId> ids) {
  if (!options_.is_deduplicated) return;
  for (const EntryId& id : ids)
    if (Source* const source = find(id.shard)) source->processed.insert(id.entry);
}

Result<std::uint64_t> Consumer::lag(std::uint32_t shard) const {
  const auto source = own(shard);
  if (!source) return tl::unexpected{source.error()};
  return GroupOffset{shard, (*source)->group.committed(), (*source)->limit(), 0}.lag();
}

std::vector<GroupOffset> Consumer::offsets() const {
  std::vector<GroupOffset> offsets;
  for (const auto& source : sources_) offsets.push_back({source->shard, source->group.committed(), source->limit(), source->nacked.size()});
  return offsets;
}

std::vector<std::string> Consumer::directories() const {
  std::vector<std::string> directories;
  for (const auto& source : sources_) directories.push_back(root_ + "/" + shard_directory_name(source->shard));
  return directories;
}

std::vector<std::uint32_t> Consumer::held_shards() const {
  std::vector<std::uint32_t> shards;
  for (const auto& source : sources_)
    if (source->is_held) shards.push_back(source->shard);
  return shards;
}

Result<void> Consumer::set_offset(Source& source, std::uint64_t to) {
  if (auto set = source.group.set(to, clock_.epoch_ns()); !set) return set;
  source.nacked.clear();
  source.processed.clear();
  source.position = source.read_to = to;
  source.is_dirty = true;
  return {};
}

Result<void> Consumer::reset_offset(std::uint32_t shard, std::int64_t entry) {
  const auto source = held(shard);
  if (!source) return tl::unexpected{source.error()};
  const std::uint64_t limit = (*source)->limit();
  const auto distance = entry < 0 ? 0 - static_cast<std::uint64_t>(entry) : 0;
  const std::uint64_t to = entry < 0 ? limit - std::min(limit, distance) : std::min(limit, static_cast<std::uint64_t>(entry));
  if (auto set = set_offset(**source, to); !set) return set;
  return sync();
}

Result<void> Consumer::reset_to_time(std::int64_t timestamp_ns) {
  if (is_closed_) return fail(ErrorCode::kClosed, root_ + ": the consumer is closed");
  for (const auto& source : sources_) {
    if (!source->is_held) continue;
    if (auto found = source->reader.seek_time(timestamp_ns); !found) return found;
    if (auto set = set_offset(*source, std::min(source->limit(), source->reader.next_entry())); !set) return set;
  }
  return sync();
}

Result<void> Consumer::seek_begin() {
  if (is_closed_) return fail(ErrorCode::kClosed, root_ + ": the consumer is closed");
  for (const auto& source : sources_) {
    if (!source->is_held) continue;
    if (auto listed = source->reader.seek(0); !listed) return listed;  // the list of segments may be old
    if (auto set = set_offset(*source, std::min(source->limit(), source->reader.first_entry())); !set) return set;
  }
  return sync();
}

Result<void> Consumer::seek_end() {
  if (is_closed_) return fail(ErrorCode::kClosed, root_ + ": the consumer is closed");
  for (const auto& source : sources_) {
    if (!source->is_held) continue;
    if (auto set = set_offset(*source, source->limit()); !set) return set;
  }
  return sync();
}

Result<void> Consumer::sync() {
  synced_ns_ = clock_.monotonic_ns();
  Result<void> result;
  for (const auto& source : sources_) {
    if (!source->is_dirty) continue;
    if (source->uncounted > 0) source->group.count_acknowledged(std::exchange(source->uncounted, 0), clock_.epoch_ns());
    source->is_dirty = false;
    auto synced = source->table.sync();
    if (synced) continue;
    source->is_dirty = true;
    if (result) result = std::move(synced);
  }
  return result;
}

Result<void> Consumer::maintain() {
  if (is_closed_) return fail(ErrorCode::kClosed, root_ + ": the consumer is closed");
  if (auto held = hold_leases(); !held) return held;
  if (clock_.monotonic_ns() - synced_ns_ < options_.sync_interval_ns) return {};
  return sync();
}

Result<void> Consumer::close() {
  if (is_closed_) return {};
  is_closed_ = true;
  last_ = nullptr;
  auto synced = sync();
  for (const auto& source : sources_)
    if (source->is_held && options_.lease_ns != 0) source->group.give_lease_back(member_id_);
  return synced;
}

Health Consumer::health() const {
  Health health;
  const auto problem = [&](std::string what, std::string advice) { health.add(HealthStatus::kDegraded, std::move(what), std::move(advice)); };
  const std::string group = "consumer group '" + options_.group + "': ";
  if (sources_.empty()) problem(group + "no shards", "the log has none for this member yet; look at its shards and its assignment");
  for (const GroupOffset& offset : offsets()) {
    const std::string where = group + root_ + "/" + shard_directory_name(offset.shard) + ": ";
    if (options_.lag_max != 0 && offset.lag() > options_.lag_max)
      problem(where + std::to_string(offset.lag()) + " entries behind, more than " + std::to_string(options_.lag_max), "let more members share the shards, or look for a message that fails again and again");
    if (offset.nacked * 2 > options_.nacked_max)
      problem(where + std::to_string(offset.nacked) + " entries wait for redelivery", "acknowledge them, or move them to dead letters: the offset cannot pass them");
  }
  if (counters_.gap_entries > 0) problem(group + std::to_string(counters_.gap_entries) + " entries were removed before they were delivered", "let retention keep what is not consumed, or read faster");
  if (counters_.corrupt_entries > 0) problem(group + std::to_string(counters_.corrupt_entries) + " entries are damaged", "the disk lost them; copy them from a replica if there is one");
  return health;
}

}  // namespace thalweg::log
