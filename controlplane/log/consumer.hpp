#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "controlplane/log/entry_id.hpp"
#include "controlplane/log/group_table.hpp"
#include "controlplane/log/health.hpp"
#include "controlplane/log/reader.hpp"
#include "controlplane/log/sharding.hpp"
#include "dataplane/base/random.hpp"

namespace thalweg::log {

// Where a group begins in a shard that it has not seen before.
enum class GroupStart : std::uint8_t {
  kEarliest,  // with the oldest entry there
  kLatest,    // behind the newest durable one
};

struct ConsumerOptions {
  std::string group{"default"};           // 1 to 47 bytes
  std::vector<std::uint32_t> shards;      // empty: all that the log has, new ones too
  Assignment assignment;                  // of these, which are this member's; several members must not have the same shard, but with leases
  std::int64_t lease_ns{0};               // a shard is one member's at a time, as long as that one calls read() or maintain(); another one takes it over this long
                                          // after it stopped. The same for all members of the group; at most 10 min; 0: no leases
  std::size_t leases_max{0};              // shards that this member takes at most; 0: all that are free
  GroupStart start{GroupStart::kEarliest};
  OnCorrupt on_corrupt{OnCorrupt::kSkip}; // kFail: read() fails with what the reader says, until the offset is set behind it
  std::int64_t sync_interval_ns{1 * kSecond_ns};  // offsets survive a power failure within that time; 0: with each acknowledgement
  bool is_deduplicated{false};            // what mark_processed() was told of is not delivered again
  std::size_t nacked_max{10'000};         // entries of a shard that may be waiting for redelivery
  std::uint64_t lag_max{0};               // entries; health() warns above; 0 = never
};

// A message of a delivery. Valid until the consumer's next read().
struct Message {
  EntryId id;
  RecordHeader header;
  std::span<const std::byte> key;
  std::span<const std::byte> payload;    // decompressed
  std::uint32_t delivery{1};             // the how manieth time after a nack
};

// Entries that nobody can deliver: retention took them before the group came to them, or they are damaged.
struct Skipped {
  std::uint32_t shard{};
  ReadStatus why{ReadStatus::kGap};      // kGap or kCorrupt
  Lost lost;
};

struct Delivery {
  std::vector<Message> messages;         // those of a shard in order
  std::vector<Skipped> skipped;
  [[nodiscard]] bool is_empty() const noexcept { return messages.empty() && skipped.empty(); }
};

// What a consumer did since it was opened.
struct ConsumerCounters {
  std::uint64_t delivered{};
  std::uint64_t acknowledged{};
  std::uint64_t nacked{};
  std::uint64_t redelivered{};           // after a nack
  std::uint64_t filtered{};              // duplicates
  std::uint64_t gap_entries{};
  std::uint64_t corrupt_entries{};
  std::uint64_t skipping_acks{};         // ranges that began above the offset
  std::uint64_t clamped_offsets{};       // were above what is durable, after a crash
  std::uint64_t taken_back{};            // others set the group's offset, or removed it
  std::uint64_t leases_taken{};
  std::uint64_t leases_lost{};           // others took them over, this member being too late
};

// Where a group is in a shard.
struct GroupOffset {
  std::uint32_t shard{};
  std::uint64_t committed{};             // the next entry to deliver, were this consumer to die now
  std::uint64_t durable{};               // entries below it can be read
  std::uint64_t nacked{};                // waiting for redelivery
  [[nodiscard]] std::uint64_t lag() const noexcept { return durable > committed ? durable - committed : 0; }
};

// A member of a consumer group: reads the shards of a log, `root`/shard-NNNN, from the group's offsets on and moves these by acknowledging. Every
// message is delivered at least once: an offset never passes an entry that was nacked and not acknowledged. Offsets are in the shards' directories;
// what any member acknowledges there, all see at once, and retention too. One thread. Spec: archive-log 10.
class Consumer {
 public:
  // Errors: kInvalidArgument (group, assignment); kNotFound: no such log or shard, consumers make none; kNoSpace: too many groups; kVersion, kIo,
  // kPermission. `files` and `clock` outlive it.
  [[nodiscard]] static Result<std::unique_ptr<Consumer>> open(FileSystem& files, const Clock& clock, std::string root, const ConsumerOptions& options);
  // As close(), errors unseen.
  ~Consumer();
  Consumer(const Consumer&) = delete;
  Consumer& operator=(const Consumer&) = delete;

  // Up to `count` messages, from the group's offset on, the shards in another order each time. Moves no offset: what is not acknowledged comes again
  // with the next call. Errors: kIo; kNotFound when the group was removed.
  [[nodiscard]] Result<const Delivery*> read(std::size_t count);
  // Their offsets become the highest one + 1, of each shard; never back. Errors: kInvalidArgument, and nothing is acknowledged, for a shard that is
  // not this member's or an entry that is not durable; kInUse when another member has the shard's lease; kNotFound when the group was removed; kIo
  // (sync_interval_ns 0).
  [[nodiscard]] Result<void> ack(std::span<const EntryId> ids);
  [[nodiscard]] Result<void> ack(const EntryId& id) { return ack(std::span{&id, 1}); }
  // All of [from, to] of a shard. Errors: as ack(); kInvalidArgument for from > to or `to` above all that this consumer has read.
  [[nodiscard]] Result<void> ack_range(std::uint32_t shard, std::uint64_t from, std::uint64_t to);
  // They come again after `delay_ns`, also when higher ones are acknowledged; the group's offset stays below them until they are acknowledged themselves. A
  // successor of this consumer gets them at once, and those behind them again. Errors: as ack(); kInvalidArgument for what is acknowledged already;
  // kNoSpace when nacked_max are waiting.
  [[nodiscard]] Result<void> nack(std::span<const EntryId> ids, std::int64_t delay_ns);
  // For is_deduplicated: these were dealt with, whatever becomes of the offset. Forgotten 100 entries below it.
  void mark_processed(std::span<const EntryId> ids);

  // Entries between the offset and what is durable. Errors: kInvalidArgument for a shard that is not this member's.
  [[nodiscard]] Result<std::uint64_t> lag(std::uint32_t shard) const;
  [[nodiscard]] std::vector<GroupOffset> offsets() const;
  [[nodiscard]] std::vector<std::string> directories() const;  // of its shards
  [[nodiscard]] std::vector<std::uint32_t> held_shards() const;  // those that it reads now: all, or those of which it has the lease
  // Sets the offset of a shard; backwards too. Below 0: from the durable end, -1 is the last entry; beyond either end: that end. Forgets what was nacked or
  // marked. Errors: as lag(); kNotFound when the group was removed; kIo.
  [[nodiscard]] Result<void> reset_offset(std::uint32_t shard, std::int64_t entry);
  // The same for all shards: to the first entry that is not older; before the oldest; behind the newest.
  [[nodiscard]] Result<void> reset_to_time(std::int64_t timestamp_ns);
  [[nodiscard]] Result<void> seek_begin();
  [[nodiscard]] Result<void> seek_end();

  // Looks for new shards; true when there are any. Errors: as open().
  [[nodiscard]] Result<bool> discover();
  // Syncs offsets and renews leases when it is due. Call it every now and then. Errors: kIo; kNotFound when the group was removed.
  [[nodiscard]] Result<void> maintain();
  // Syncs offsets and ends; twice is no error. Errors: kIo.
  [[nodiscard]] Result<void> close();
  [[nodiscard]] const ConsumerCounters& counters() const noexcept { return counters_; }
  [[nodiscard]] Health health() const;

 private:
  struct Source;
  struct Nacked {
    std::int64_t due_ns{};
    std::uint32_t deliveries{1};  // so far
  };
  Consumer(FileSystem& files, const Clock& clock, std::string root, const ConsumerOptions& options);
  [[nodiscard]] Result<void> add_source(std::uint32_t shard);
  [[nodiscard]] Result<std::uint64_t> end_of(const std::string& directory, std::uint64_t entry) const;
  [[nodiscard]] Source* find(std::uint32_t shard) const noexcept;
  [[nodiscard]] Result<Source*> own(std::uint32_t shard) const;
  [[nodiscard]] Result<Source*> held(std::uint32_t shard) const;
  [[nodiscard]] Result<void> hold_leases();
  void lose(Source& source);
  [[nodiscard]] Result<void> follow(Source& source);
  [[nodiscard]] Result<void> read_nacked(Source& source, std::size_t count);
  [[nodiscard]] Result<void> read_source(Source& source, std::size_t count);
  void deliver(Source& source, const RecordView& record, std::uint32_t delivery);
  void skip(Source& source, const Read& read);
  [[nodiscard]] bool ack_plainly(const EntryId& id) noexcept;
  [[nodiscard]] Result<void> check_ids(std::span<const EntryId> ids) const;
  [[nodiscard]] Result<void> advance(Source& source, std::uint64_t to, std::uint64_t messages);
  [[nodiscard]] Result<void> set_offset(Source& source, std::uint64_t to);
  [[nodiscard]] Result<void> sync();

  FileSystem& files_;
  const Clock& clock_;
  const std::string root_;
  const ConsumerOptions options_;
  std::vector<std::unique_ptr<Source>> sources_;  // by shard, rising
  Source* last_{};                                // that something was acknowledged of; null: none, or closed
  Random random_;
  std::uint64_t member_id_{};                     // of leases
  Delivery delivery_;
  std::vector<std::byte> memory_;                 // of the keys and payloads of delivery_
  ConsumerCounters counters_;
  std::int64_t synced_ns_{};
  bool is_closed_{};
};

}  // namespace thalweg::log
