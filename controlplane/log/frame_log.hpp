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
#include "controlplane/log/coordination.hpp"
#include "controlplane/log/frame_format.hpp"
#include "controlplane/log/known_segments.hpp"
#include "controlplane/log/options.hpp"
#include "controlplane/log/recovery.hpp"
#include "controlplane/log/retention.hpp"

namespace thalweg::log {

// One recorded stream. Out-of-range values are errors, see validate().
struct FrameLogOptions {
  std::int64_t log_id{};                      // recording id, stored in every file
  FrameStream stream;
  std::uint64_t segment_bytes{128U << 20};    // data of a segment: a power of two, one term or more, at most 1 GiB
  std::uint64_t start_position{};             // of the first byte, a multiple of 32; counts for a new log only
  SyncPolicy sync{SyncPolicy::kPeriodic};     // kEveryEntries means nothing here
  std::int64_t sync_interval_ns{1 * kSecond_ns};
  std::uint64_t sync_every_bytes{1U << 20};
  std::uint64_t prepare_bytes{16U << 20};     // pages ahead of the tail that maintain() has ready, so that append() takes no page fault
};
// Errors: kInvalidArgument naming the value and its range.
[[nodiscard]] Result<void> validate(const FrameLogOptions& options);

// A stream's frames, one behind the other at their positions, in segments of kind kFrames; opened for writing by this process alone. Entry numbers
// of files shared with record segments are positions here. One thread appends; every other function may be called by any thread. Spec:
// archive-log 2 to 4, 7, 12, 16.1.
class FrameLog {
 public:
  // Recovers the directory, or creates it. Errors: kInUse when a writer has it open, kInvalidArgument (options, or those of another stream are
  // there), kVersion, kIo, kNoSpace, kPermission.
  [[nodiscard]] static Result<std::unique_ptr<FrameLog>> open(FileSystem& files, const Clock& clock, std::string directory, const FrameLogOptions& options);
  // As close(), errors unseen.
  ~FrameLog();
  FrameLog(const FrameLog&) = delete;
  FrameLog& operator=(const FrameLog&) = delete;

  // Makes sure that the next append() needs no new segment, so that a full disk shows before frames are taken from their stream. Errors: kNoSpace,
  // and those of append() that do not depend on the frames. The thread that appends.
  [[nodiscard]] Result<void> make_room();
  // Appends whole frames of one term, the next ones of the stream; of padding, which may only be the last, the header is enough. Returns the position
  // behind them. Errors: kInvalidArgument when they are not that (nothing is appended), kNoSpace when a segment is needed and cannot be made, kClosed;
  // kIo after a sync failed: nothing more is taken then; kIo when recovery found damage in the page of the tail, whose checksum the frames would
  // share: nothing is taken until it was cut off with truncate(). The thread that appends.
  [[nodiscard]] Result<std::uint64_t> append(std::span<const std::byte> frames);
  // Makes everything that was accepted before the call durable. Errors: kIo, kClosed.
  [[nodiscard]] Result<void> sync();
  // What time drives: periodic sync, the next segment, pages made ready. Every few ms to 100 ms, on a thread that may wait for the disk. Errors: as sync().
  [[nodiscard]] Result<void> maintain();
  // Syncs unless the policy is kNone or kExplicit, and ends: every later call fails. Twice is no error.
  [[nodiscard]] Result<void> close();

  // What plan_retention() asks for. Closed segments that a range of positions in `pinned` touches are marked.
  struct PositionRange {
    std::uint64_t from{};
    std::uint64_t to{};
  };
  [[nodiscard]] RetentionShard retention_state(std::span<const PositionRange> pinned = {}) const;
  // Deletes the oldest `count` closed segments. Returns the bytes given back. Errors: kIo, kPermission, kClosed; tried again with the next call.
  [[nodiscard]] Result<std::uint64_t> delete_oldest(std::size_t count);
  // Cuts everything from `position` on. Errors: kInvalidArgument when no frame begins there; kIo, kClosed: nothing more is taken then. Nobody may
  // read behind it at the time.
  [[nodiscard]] Result<void> truncate(std::uint64_t position);

  [[nodiscard]] const std::string& directory() const noexcept { return directory_; }
  [[nodiscard]] const FrameLogOptions& options() const noexcept { return options_; }
  [[nodiscard]] const RecoveryReport& recovery() const noexcept { return report_; }
  [[nodiscard]] std::uint64_t first_position() const;   // lowest one that is there
  [[nodiscard]] std::uint64_t position() const;         // behind the last frame
  [[nodiscard]] std::uint64_t durable_position() const noexcept { return coordination_.durable_entry(); }
  [[nodiscard]] std::size_t segment_count() const;
  [[nodiscard]] std::uint64_t file_bytes_used() const;  // of all segments

 private:
  FrameLog(FileSystem& files, const Clock& clock, std::string directory, const FrameLogOptions& options, std::unique_ptr<File> lock, Coordination coordination);
  [[nodiscard]] Result<void> start();
  [[nodiscard]] Result<void> check_open() const;
  [[nodiscard]] Result<void> check_appendable() const;
  [[nodiscard]] Result<std::uint64_t> check_frames(std::uint64_t offset, std::uint64_t given);
  void mark(std::uint64_t from, std::uint64_t to, std::int64_t now_ns) noexcept;
  void note_frame(std::uint64_t offset, std::uint64_t span) noexcept;
  [[nodiscard]] SegmentHeader next_header() const;
  [[nodiscard]] Result<void> start_next_segment(std::unique_lock<std::mutex>& lock);
  [[nodiscard]] Result<void> close_active_locked();
  [[nodiscard]] Result<void> make_durable(std::uint64_t position);
  [[nodiscard]] bool is_sync_due_locked() const noexcept;
  [[nodiscard]] bool is_synced_on_rotation() const noexcept { return options_.sync != SyncPolicy::kNone && options_.sync != SyncPolicy::kExplicit; }
  [[nodiscard]] Result<void> prepare(std::unique_lock<std::mutex>& lock);
  [[nodiscard]] Result<void> cut(std::uint64_t position);
  void set_active(std::shared_ptr<Segment> segment, std::uint64_t tail);
  void publish_tail_locked() noexcept;
  void save_catalog_locked() noexcept;
  void save_old_catalog() noexcept;

  FileSystem& files_;
  const Clock& clock_;
  const std::string directory_;
  const FrameLogOptions options_;
  std::unique_ptr<File> lock_;
  Coordination coordination_;
  RecoveryReport report_;
  std::uint64_t writer_id_{};

  std::mutex upkeep_mutex_;                  // whoever lists or deletes closed segments; taken before the others
  Removals removals_;                        // with it
  std::mutex sync_mutex_;                    // one flush at a time; taken before mutex_
  std::condition_variable prepared_;         // with mutex_: is_preparing_ ended
  mutable std::mutex mutex_;                 // all below
  std::vector<KnownSegment> segments_;       // the active one is the last
  std::shared_ptr<Segment> active_;
  FrameData data_;                           // of the active one
  std::uint64_t tail_{};                     // offset in it
  SegmentSummary summary_;                   // of it
  bool is_tail_damaged_{};                   // its page was no longer what had been written when it was opened
  bool is_summary_partial_{};                // recovery began in its middle: it is counted at the end
  std::shared_ptr<Segment> next_;            // made ahead, without a name yet
  bool is_preparing_{};                      // it is being made
  std::vector<std::shared_ptr<Segment>> unsynced_;  // closed ones with data that no sync has covered
  std::int64_t last_ns_{};                   // time of the last append
  std::uint64_t synced_position_{};          // tail when the last sync was begun
  std::int64_t last_sync_ns_{};              // monotonic, of that
  std::uint64_t prepared_to_{};              // offset in the active one
  bool is_directory_unsynced_{};             // there are names in it that no sync has covered
  bool is_catalog_old_{};
  bool is_closed_{};
  std::optional<Error> broken_;
};

// Data and marks of an open frame segment.
[[nodiscard]] FrameData frame_data(const Segment& segment) noexcept;

}  // namespace thalweg::log
