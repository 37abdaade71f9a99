#pragma once
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "controlplane/log/clock.hpp"
#include "controlplane/log/batch.hpp"
#include "controlplane/log/catalog.hpp"
#include "controlplane/log/coordination.hpp"
#include "controlplane/log/group_commit.hpp"
#include "controlplane/log/health.hpp"
#include "controlplane/log/index.hpp"
#include "controlplane/log/known_segments.hpp"
#include "controlplane/log/options.hpp"
#include "controlplane/log/recovery.hpp"
#include "controlplane/log/retained.hpp"
#include "controlplane/log/statistics.hpp"
#include "controlplane/log/wake_up.hpp"

namespace thalweg::log {

// What append() did.
struct Appended {
  std::uint64_t first_entry{};  // number of the first one; the others follow without a gap
  std::uint64_t count{};
  std::uint64_t end_position{}; // in the shard's log, behind the last one
  bool is_durable{};            // false: accepted; it survives the death of every process, not yet that of the machine
};

// An independent log in a directory of its own, opened for writing by this process alone. Any thread may call any function; appends are in the
// order in which they take the shard's mutex. Spec: archive-log 1 to 4, 8, 12.
class Shard final : public Retained {
 public:
  // Recovers the directory, or creates it. Errors: kInUse when a writer has it open, kInvalidArgument (options), those of recover_shard().
  // `files` and `clock` outlive the shard.
  [[nodiscard]] static Result<std::unique_ptr<Shard>> open(FileSystem& files, const Clock& clock, std::string directory, const ShardOptions& options);
  // As close(), errors unseen.
  ~Shard();
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;

  // Appends; by the policy kEveryBatch it returns when the entries are durable. Errors: kInvalidArgument for a payload or key that is too large
  // (nothing is appended), kNoSpace when a segment is needed and cannot be made (the log stays usable), kClosed after close(),
  // kIo after a sync failed: the log takes nothing more then, because nobody knows what the disk has.
  [[nodiscard]] Result<Appended> append(const Entry& entry);
  // The same for many, seen by readers all or none. Only a batch that no empty segment could take is split at a border of segments; when it cannot
  // get the next one, what went into those before is there, with its numbers. An empty one appends nothing and is no error.
  [[nodiscard]] Result<Appended> append(std::span<const Entry> batch);
  // Makes everything that was accepted before the call durable, and visible to readers of durable entries. Callers at the same time share
  // one flush. Errors: kIo, kClosed.
  [[nodiscard]] Result<void> sync();
  // Closes the active segment and starts a new one; an empty active segment stays. Errors: as append().
  [[nodiscard]] Result<void> rotate();
  // What has to happen without an append: periodic sync, closing of old segments, making the next segment and pages ready, and putting full segments
  // away. Call it every few ms to 100 ms; it does nothing when nothing is due. On a thread of its own no append waits for the disk; without it the
  // append that fills a segment does that work, and the others wait while the next one is made. Errors: as sync() and rotate().
  [[nodiscard]] Result<void> maintain();
  using EntryRange = log::EntryRange;
  // Retention; see Retained. Errors: also kClosed.
  [[nodiscard]] Result<RetentionShard> retention_state(std::optional<std::uint64_t> lowest_committed, std::span<const EntryRange> pinned = {}) override;
  [[nodiscard]] Result<std::uint64_t> delete_oldest(std::size_t count) override;
  void count_retention(const RetentionRun& run) override;
  // What this process did with the shard since it opened it; all processes since the beginning: read_statistics().
  [[nodiscard]] Statistics statistics() const;
  [[nodiscard]] Health health() const;
  // Syncs unless the policy is kNone or kExplicit, and ends: every later call fails. Twice is no error.
  [[nodiscard]] Result<void> close();
  // Has it notified when entries get durable by this object; WakeUp::watch() is for those of any process. `waiting` may end before the shard.
  void wake_up(const std::shared_ptr<WakeUp>& waiting) { wake_ups_.add(waiting); }

  [[nodiscard]] const std::string& directory() const noexcept { return directory_; }
  [[nodiscard]] const ShardOptions& options() const noexcept { return options_; }
  [[nodiscard]] const RecoveryReport& recovery() const noexcept { return report_; }
  [[nodiscard]] std::uint64_t next_entry() const;      // number of the next one
  [[nodiscard]] std::uint64_t first_entry() const;     // lowest number still there; == next_entry(): none
  [[nodiscard]] std::uint64_t end_position() const;    // in the shard's log, behind the last one
  [[nodiscard]] std::uint64_t durable_entry() const noexcept { return coordination_.durable_entry(); }  // numbers below are durable
  [[nodiscard]] std::size_t segment_count() const;
  // Stored bytes that an entry with its key may have: the smaller of payload_max_bytes and what an empty segment takes.
  [[nodiscard]] std::uint32_t entry_bytes_max() const noexcept { return entry_bytes_max_; }

 private:
  struct SyncWork;
  struct FullSegment {
    std::shared_ptr<Segment> segment;
    SegmentSummary summary;         // from counted_from on
    SparseIndex index;              // the same
    std::uint64_t counted_from{};
    std::int64_t closed_ns{};
  };
  Shard(FileSystem& files, const Clock& clock, std::string directory, const ShardOptions& options, std::unique_ptr<File> lock, Coordination coordination);
  [[nodiscard]] Result<void> start();
  [[nodiscard]] Result<void> check_open() const;
  [[nodiscard]] Result<Appended> append_stored(const StoredBatch& batch, std::uint64_t bytes, const Statistics* compression);
  [[nodiscard]] bool is_open() const noexcept { return !is_closed_ && !broken_; }
  void set_active(std::shared_ptr<Segment> segment);
  [[nodiscard]] Result<void> append_locked(std::unique_lock<std::mutex>& lock, const StoredBatch& batch, std::uint64_t bytes, Appended& appended);
  [[nodiscard]] Result<void> append_at_border(std::unique_lock<std::mutex>& lock, const StoredBatch& batch, std::uint64_t bytes);
  [[nodiscard]] Result<void> put_in_runs(std::unique_lock<std::mutex>& lock, const StoredBatch& batch);
  [[nodiscard]] Result<void> put_run(const StoredBatch& batch, std::uint64_t bytes, bool begins, bool ends);
  // Pages that are synced at once are written to the file: each store into a mapping of a page that a sync has cleaned is a fault, and one call
  // for many pages costs less. A few pages cost less as faults.
  [[nodiscard]] bool is_written_whole(std::uint64_t bytes) const noexcept {
    constexpr std::uint64_t kWrittenWholeMin = 16U << 10;
    return options_.sync == SyncPolicy::kEveryBatch && bytes >= kWrittenWholeMin;
  }
  // Not where each batch is synced: pages made ready are zeros to be written, and the next sync would write them.
  [[nodiscard]] bool is_prepared() const noexcept { return options_.sync != SyncPolicy::kEveryBatch; }
  [[nodiscard]] SegmentHeader next_header() const;
  [[nodiscard]] Result<void> rotate_locked(std::unique_lock<std::mutex>& lock);
  [[nodiscard]] Result<void> rotate_holding_locked();
  [[nodiscard]] Result<void> check_segment_count() const;
  [[nodiscard]] Result<void> prepare_next(std::unique_lock<std::mutex>& lock, std::uint64_t ready_bytes);
  [[nodiscard]] Result<void> begin_next_locked();
  void close_active_locked();
  [[nodiscard]] Result<void> put_away();
  void finish(FullSegment& full);
  [[nodiscard]] Result<void> sync_unsynced_beyond_limit();
  [[nodiscard]] Result<void> sync_alone(Segment& segment);
  [[nodiscard]] Result<void> keep_beginning(std::size_t deleted);
  [[nodiscard]] bool is_synced_on_rotation() const noexcept { return options_.sync != SyncPolicy::kNone && options_.sync != SyncPolicy::kExplicit; }
  void count_recovery() noexcept;
  void remember_damage();
  void save_catalog() noexcept;
  void publish_statistics_locked() noexcept;
  [[nodiscard]] bool is_sync_due_locked() const noexcept;
  [[nodiscard]] Result<void> make_durable(std::uint64_t entry);
  [[nodiscard]] SyncWork take_sync_work();
  [[nodiscard]] Result<void> sync_once();

  FileSystem& files_;
  const Clock& clock_;
  const std::string directory_;
  const ShardOptions options_;
  std::unique_ptr<File> lock_;
  Coordination coordination_;
  RecoveryReport report_;
  std::uint32_t entry_bytes_max_{};
  std::uint64_t writer_id_{};

  mutable std::mutex upkeep_mutex_;          // whoever seals, lists or deletes closed segments; taken before mutex_
  Removals removals_;                        // with it

  std::condition_variable prepared_;         // with mutex_: is_preparing_ ended
  mutable std::mutex mutex_;                 // all below, up to the next mutex
  std::vector<KnownSegment> segments_;       // the active one is the last
  std::shared_ptr<Segment> active_;
  std::span<std::byte> data_;                // of the active one
  std::uint64_t base_position_{};            // the same
  ScanPoint tail_;                           // in the active one
  SegmentSummary summary_;                   // of the active one, from counted_from_ on
  SparseIndex index_;                        // the same
  std::uint64_t counted_from_{};
  std::vector<std::byte> staging_;           // of a run that is written whole
  std::vector<std::shared_ptr<Segment>> unsynced_;  // closed ones with data that no sync has covered
  std::uint64_t appended_bytes_{};           // since the last sync was begun
  std::uint64_t synced_entry_{};             // tail's number when the last sync was begun
  std::int64_t last_sync_ns_{};              // monotonic, of that
  std::uint64_t prepared_to_{};              // offset in the active one up to which pages are ready
  std::shared_ptr<Segment> next_;            // made ahead, without a name yet
  std::uint64_t next_prepared_to_{};         // offset in it, as prepared_to_
  bool is_preparing_{};                      // it is being made
  std::vector<FullSegment> full_;            // closed, and not put away yet
  bool is_put_away_due_{};                   // by who appends: maintain() is not on time
  bool is_directory_unsynced_{};             // there are names in it that no sync has covered
  Statistics statistics_;
  std::optional<StatisticsPage> statistics_page_;
  bool is_closed_{};
  std::optional<Error> broken_;              // why nothing more is taken

  GroupCommit commit_;
  WakeUps wake_ups_{directory_};
};

}  // namespace thalweg::log
