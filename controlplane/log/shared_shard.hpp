#pragma once
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "controlplane/log/group_commit.hpp"
#include "controlplane/log/reservation.hpp"
#include "controlplane/log/shard.hpp"

namespace thalweg::log {

class FileLock;

// A shard that several processes append to at once, up to kWriterSlots of them; the same files as those of a Shard, and readers cannot tell. Any
// thread may call any function; the threads of one object append one after the other, processes do not wait for each other. A process that dies
// at any instruction takes no more with it than what it had not finished: its numbers do not exist then. A process must not fork and append on
// both sides. Spec: archive-log 8.1, 8.2.
class SharedShard final : public Retained {
 public:
  // Recovers the directory when nobody has it open, or joins those who have. Errors: kInUse when a Shard has it open or all slots are taken,
  // kInvalidArgument (options), kTimeout when another process is opening it and does not get on; those of recover_shard().
  // `files` and `clock` outlive it. Options of segments, payloads, syncs and compression count; those of all writers should be the same.
  [[nodiscard]] static Result<std::unique_ptr<SharedShard>> open(FileSystem& files, const Clock& clock, std::string directory, const ShardOptions& options);
  // As close(), errors unseen.
  ~SharedShard();
  SharedShard(const SharedShard&) = delete;
  SharedShard& operator=(const SharedShard&) = delete;

  // As Shard::append(). A batch that no empty segment takes is refused (kInvalidArgument): others would come in between. kTimeout: a live writer
  // does not get on and the segment cannot be closed before it does.
  [[nodiscard]] Result<Appended> append(const Entry& entry);
  [[nodiscard]] Result<Appended> append(std::span<const Entry> batch);
  // Makes everything that any process had accepted before the call durable. Fills what dead writers left. Errors: kClosed, kTimeout; kIo, also when it was
  // another process whose sync failed.
  [[nodiscard]] Result<void> sync();
  // Closes the active segment and starts a new one; an empty one stays. Errors: as append().
  [[nodiscard]] Result<void> rotate();
  // Periodic sync, closing of old segments, making the next one, putting full ones away, and filling of what dead writers left, so that readers get on.
  // Call it as Shard::maintain(). Errors: as sync() and rotate().
  [[nodiscard]] Result<void> maintain();
  // Retention; see Retained. One process at a time deletes: for the others it is done then, without any bytes.
  [[nodiscard]] Result<RetentionShard> retention_state(std::optional<std::uint64_t> lowest_committed, std::span<const EntryRange> pinned = {}) override;
  [[nodiscard]] Result<std::uint64_t> delete_oldest(std::size_t count) override;
  void count_retention(const RetentionRun& run) override;
  [[nodiscard]] Health health();
  // As Shard::wake_up(): of what this process makes durable.
  void wake_up(const std::shared_ptr<WakeUp>& waiting) { wake_ups_.add(waiting); }
  // Syncs as Shard::close(), and gives the slot back.
  [[nodiscard]] Result<void> close();

  [[nodiscard]] const RecoveryReport& recovery() const noexcept { return report_; }  // zeros when it joined others
  [[nodiscard]] std::uint64_t next_entry();                        // by all processes, now
  [[nodiscard]] std::uint64_t durable_entry() const noexcept { return coordination_.durable_entry(); }
  [[nodiscard]] std::uint32_t slot() const noexcept { return slot_; }
  [[nodiscard]] Statistics statistics() const;                     // of this process
  [[nodiscard]] std::uint32_t entry_bytes_max() const noexcept { return entry_bytes_max_; }

 private:
  SharedShard(FileSystem& files, const Clock& clock, std::string directory, const ShardOptions& options, std::unique_ptr<File> lock, Coordination coordination);
  // Opening.
  [[nodiscard]] Result<void> join();
  [[nodiscard]] Result<void> claim_slot();
  [[nodiscard]] Result<bool> is_alone() const;
  [[nodiscard]] Result<void> recover();
  // Appending.
  [[nodiscard]] Result<std::uint64_t> check(std::span<const Entry> batch) const;
  [[nodiscard]] Result<void> check_open() const;
  [[nodiscard]] Result<Appended> append_locked(const StoredBatch& batch, std::uint64_t bytes);
  [[nodiscard]] Result<Reservation> reserve_locked(const StoredBatch& batch, std::uint64_t bytes);
  void fill(const Reservation& mine, const StoredBatch& batch);
  [[nodiscard]] bool is_at_active(const TailPlace& seen) const noexcept;
  [[nodiscard]] Result<void> follow_locked();
  // Rotation and repair, under the rotation lock.
  [[nodiscard]] Result<void> rotate_locked(std::uint64_t full_ordinal);
  [[nodiscard]] Result<void> start_next_segment(std::uint64_t old_ordinal, const FileLock& rotation);
  [[nodiscard]] Result<std::shared_ptr<Segment>> prepare_next(const SegmentHeader& before);
  [[nodiscard]] Result<std::shared_ptr<Segment>> make_temporary(const SegmentHeader& before);
  [[nodiscard]] Result<void> prepare_ahead();
  [[nodiscard]] TailPlace close_tail(const Segment& old);
  [[nodiscard]] Result<void> put_away();
  void seal_closed();
  void seal_and_list(SegmentListing& listing, Statistics& counted);
  void seal(SegmentInfo& info, Statistics& counted);
  [[nodiscard]] Result<bool> is_dead(std::uint32_t slot) const;
  [[nodiscard]] Result<void> wait_until_filled(std::uint64_t position, const FileLock* rotation);
  [[nodiscard]] Result<void> fill_holes(const FileLock* rotation);  // nullptr: takes it
  // Syncing.
  [[nodiscard]] Result<DurablePoint> snapshot_locked();
  [[nodiscard]] Result<void> make_durable(std::uint64_t entry);
  [[nodiscard]] Result<void> make_position_durable(std::uint64_t position);  // a full segment with the pad at its end, too
  [[nodiscard]] Result<void> sync_once();
  [[nodiscard]] Result<void> sync_segments(const std::shared_ptr<Segment>& active, const DurablePoint& until);
  [[nodiscard]] bool is_sync_due_locked(std::size_t entries) noexcept;
  [[nodiscard]] bool is_synced_on_rotation() const noexcept { return options_.sync != SyncPolicy::kNone && options_.sync != SyncPolicy::kExplicit; }
  void publish_statistics_locked();
  [[nodiscard]] Result<void> keep_beginning(std::uint64_t ordinal);
  [[nodiscard]] Result<void> remove_segments(std::span<const SegmentInfo> segments, std::uint64_t& bytes);

  FileSystem& files_;
  const Clock& clock_;
  const std::string directory_;
  const ShardOptions options_;
  std::unique_ptr<File> lock_;
  Coordination coordination_;
  Reservations reservations_;
  RecoveryReport report_;
  std::uint32_t slot_{kWriterSlots};         // none
  bool is_joined_{};                         // the slot is ours, and nothing in it is another's
  std::uint32_t entry_bytes_max_{};
  std::uint64_t writer_id_{};

  // Taken in this order: mutex_, then the rotation lock with rotation_mutex_, then the prepare lock with prepare_mutex_. The seal lock is alone. A sync holds none.
  mutable std::mutex mutex_;                 // all below, up to the next mutex
  std::shared_ptr<Segment> active_;          // as far as this process knows
  std::int64_t clock_ns_{};                  // of the batch at work
  std::uint64_t entries_since_sync_{};       // of this process
  std::uint64_t bytes_since_sync_{};
  std::int64_t last_sync_ns_{};
  std::vector<SegmentInfo> deletable_;       // what retention_state() said last
  Statistics statistics_;
  std::optional<StatisticsPage> statistics_page_;
  bool is_closed_{};
  bool is_put_away_due_{};                   // this process started a segment, and did nothing more for the full one
  bool is_maintained_{};                     // maintain() was called since this process started one
  std::optional<std::uint64_t> prepared_behind_;  // ordinal of the segment behind which the next one is there
  std::optional<Error> broken_;

  std::mutex rotation_mutex_;
  std::mutex prepare_mutex_;                 // with the prepare lock
  std::mutex seal_mutex_;                    // with the seal lock
  std::atomic<std::uint64_t> holes_filled_{};

  GroupCommit commit_;
  WakeUps wake_ups_{directory_};
};

}  // namespace thalweg::log
