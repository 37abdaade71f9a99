#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "controlplane/log/browse.hpp"
#include "controlplane/log/clock.hpp"
#include "controlplane/log/reader.hpp"

// A stretch of a shard handed over again: from any place to any other, forwards or backwards, some of its records only, as fast as possible or in the time in
// which it was appended. Spec: archive-log 13. Streams of frames have controlplane/archive/replay.hpp.
namespace thalweg::log {

enum class ReplayPlace : std::uint8_t {
  kEarliest,
  kLatest,    // behind the last record; backwards: with it
  kEntry,
  kTime,      // the first record that is not older; backwards: the last one that is not newer
  kPosition,  // in the shard's log; a record must begin there
};

struct ReplayOptions {
  ReplayPlace from{ReplayPlace::kEarliest};
  std::uint64_t from_entry{};                // of kEntry
  std::int64_t from_ns{};                    // of kTime
  std::uint64_t from_position{};             // of kPosition
  bool is_clamped{};                         // a place that retention took is the lowest one there is; otherwise that is reported as a gap
  // Whatever comes first ends it. Forwards records below, backwards records at or above to_entry and to_position; to_ns is of the last time in any case.
  std::optional<std::uint64_t> to_entry;
  std::optional<std::uint64_t> to_position;
  std::optional<std::int64_t> to_ns;
  std::optional<std::uint64_t> count_max;    // records handed over
  bool is_followed{};                        // goes on with what is appended; otherwise it ends where the shard ended when it began
  bool is_backward{};
  std::optional<std::uint32_t> stream;       // absent: all
  std::optional<std::int32_t> type;
  double speed{0};                           // 1: with the pauses between appends; 2: half of them; 0: none
  std::uint64_t records_per_second{0};       // at most; 0: no limit
  bool is_uncommitted{};
  OnCorrupt on_corrupt{OnCorrupt::kNextSegment};
};
// Errors: kInvalidArgument.
[[nodiscard]] Result<void> validate(const ReplayOptions& options);

enum class ReplayStatus : std::uint8_t {
  kRecord,   // `record`
  kGap,      // `lost`: retention took it
  kCorrupt,  // `lost`: damaged
  kWait,     // the next record is due in `wait_ns`
  kEnd,      // is_followed: nothing more for now
  kOver,     // and stays so
};
struct ReplayStep {
  ReplayStatus status{ReplayStatus::kOver};
  RecordView record;       // valid until the next call
  Lost lost;
  std::int64_t wait_ns{};
};

// One thread. Never waits.
class RecordReplay {
 public:
  // Errors: those of validate(); kInvalidArgument when the place is behind the end or no record begins there; those of Reader::open(). `files` and `clock` outlive it.
  [[nodiscard]] static Result<RecordReplay> open(FileSystem& files, const Clock& clock, std::string directory, const ReplayOptions& options);
  // Errors: kIo.
  [[nodiscard]] Result<ReplayStep> next();
  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }  // records handed over

 private:
  RecordReplay(const Clock& clock, const ReplayOptions& options, Reader reader) : clock_{&clock}, options_{options}, reader_{std::move(reader)} {}
  [[nodiscard]] Result<void> go_to_start();
  [[nodiscard]] Result<void> turn_back(FileSystem& files, const std::string& directory);
  [[nodiscard]] Result<ReplayStep> read();
  [[nodiscard]] Result<ReplayStep> read_backward();
  [[nodiscard]] bool is_wanted(const RecordHeader& header) const noexcept;
  [[nodiscard]] bool is_beyond(const RecordHeader& header, std::uint64_t position) const noexcept;
  [[nodiscard]] std::int64_t due_ns(const RecordHeader& header) noexcept;

  const Clock* clock_;
  ReplayOptions options_;
  Reader reader_;
  std::optional<BackwardReader> backward_;
  std::uint64_t end_entry_{UINT64_MAX};       // of the shard when it began
  std::optional<ReplayStep> pending_;         // a record that is not due yet
  std::optional<std::int64_t> begun_ns_;      // monotonic: when the first record was handed over
  std::int64_t first_ns_{};                   // its time
  std::int64_t not_before_ns_{};              // monotonic, by records_per_second
  std::uint64_t count_{0};
  bool is_over_{};
};

// Hands every record and event to `handler` until that returns false or the replay is over; waits in between on the calling thread. Returns how many records
// were handed over. Errors: as RecordReplay.
[[nodiscard]] Result<std::uint64_t> replay(FileSystem& files, const Clock& clock, const std::string& directory, const ReplayOptions& options,
                                           const std::function<bool(const ReplayStep&)>& handler);

}  // namespace thalweg::log
