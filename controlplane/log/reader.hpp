#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/log/compression.hpp"
#include "controlplane/log/coordination.hpp"
#include "controlplane/log/index.hpp"
#include "controlplane/log/segment.hpp"

namespace thalweg::log {

// What a reader does behind damage, after it reported it. Spec: archive-log 12.4.
enum class OnCorrupt : std::uint8_t {
  kNextSegment,  // leaves the rest of the segment
  kSkip,         // goes on with the next valid record, found by its checksum
  kFail,         // every later call fails with kIo
};

struct ReaderOptions {
  std::uint64_t from_entry{0};
  bool is_uncommitted{false};    // entries that are accepted and not durable, too
  OnCorrupt on_corrupt{OnCorrupt::kNextSegment};
  bool is_decompressed{true};    // payloads that are stored compressed are delivered as they were appended, out of a buffer of the reader
  std::uint32_t payload_max_bytes{kPayloadMaxHard};  // what a record says it has beyond that, decompressed, counts as damage
};

enum class ReadStatus : std::uint8_t {
  kRecord,   // `record`
  kEnd,      // nothing more for now
  kGap,      // `lost`: segments that retention or somebody's hand removed
  kCorrupt,  // `lost`: damaged bytes
};

// What a reader cannot deliver.
struct Lost {
  std::uint64_t from_entry{};
  std::uint64_t to_entry{};     // the number of the first one behind; equal to from_entry when only bytes are lost, or nobody knows the numbers yet
  std::string path;             // of the segment with the damage; empty in a gap
  std::uint64_t offset{};       // in that file
  std::uint64_t bytes{};
  RecordFault fault{RecordFault::kNone};
};

struct Read {
  ReadStatus status{ReadStatus::kEnd};
  RecordView record;            // valid until the reader's next call
  Lost lost;
};

// Reads a shard from an entry on and follows it as it grows, in any process; without copies: what is not compressed lies in the mapped segment. Changes
// nothing in the directory. One thread. Spec: archive-log 9, 12.4, 13.
class Reader {
 public:
  // As long as there is no readable coordination page everything that is valid is taken for durable. Errors: kNotFound (no such directory), kVersion, kIo.
  [[nodiscard]] static Result<Reader> open(FileSystem& files, std::string directory, const ReaderOptions& options = {});

  // The next record or event. Records come in the order of their numbers, none twice, none left out without an event. Errors: kIo.
  [[nodiscard]] Result<Read> next();
  // Goes to an entry. Below the lowest one: the next call reports the gap. At or above the end: kEnd until it is there. Damage before the entry is
  // passed over, damage that hides it is what next() reports. Errors: kIo.
  [[nodiscard]] Result<void> seek(std::uint64_t entry);
  // Goes to the first entry that is not older than this; to the end when there is none. Where damage may hide it, to the damage. Errors: kIo.
  [[nodiscard]] Result<void> seek_time(std::int64_t timestamp_ns);
  // Goes to the entry at a position in the shard's log (RecordView::position, Appended::end_position). Errors: kInvalidArgument when no record
  // starts there; kIo.
  [[nodiscard]] Result<void> seek_position(std::uint64_t position);
  // Where the reader is now, for going back there without a search. Errors of return_to(): as seek().
  struct Bookmark {
    std::optional<std::uint64_t> ordinal;  // of the segment
    ScanPoint point;
  };
  [[nodiscard]] Bookmark bookmark() const noexcept { return {segment_ ? std::optional{segment_->header().ordinal} : std::nullopt, point_}; }
  [[nodiscard]] Result<void> return_to(const Bookmark& mark);
  [[nodiscard]] std::uint64_t next_entry() const noexcept { return point_.entry; }  // what next() looks for
  // Numbers below it may be read now. The largest number when there is no coordination page.
  [[nodiscard]] std::uint64_t limit() const noexcept { return options_.is_uncommitted || !coordination_ ? UINT64_MAX : coordination_->durable_entry(); }
  [[nodiscard]] bool has_limit() const noexcept { return coordination_.has_value(); }
  [[nodiscard]] std::uint64_t first_entry() const noexcept;  // lowest number there; UINT64_MAX: there is no segment

 private:
  Reader(FileSystem& files, std::string directory, const ReaderOptions& options) : files_{&files}, directory_{std::move(directory)}, options_{options} {}
  [[nodiscard]] Result<void> find_coordination();
  [[nodiscard]] Result<void> list_again();
  [[nodiscard]] Result<bool> list_if_changed();
  [[nodiscard]] Result<void> enter(std::size_t index);
  template <typename Seek>
  [[nodiscard]] Result<void> on_current_list(Seek seek);
  [[nodiscard]] Result<void> seek_in_list(std::uint64_t entry);
  [[nodiscard]] Result<void> seek_time_in_list(std::int64_t timestamp_ns);
  [[nodiscard]] Result<void> seek_position_in_list(std::uint64_t position);
  template <typename IsBefore, typename MayGoTo>
  bool scan_while(IsBefore is_before, MayGoTo may_go_to);
  [[nodiscard]] bool is_end_of_data(const ParsedRecord& parsed) const noexcept;
  void start_at(const SparseIndex::Node& node);
  [[nodiscard]] SparseIndex index_of_current();
  [[nodiscard]] Result<std::optional<Read>> step();
  [[nodiscard]] Result<std::optional<Read>> deliver(std::uint64_t at, const RecordHeader& header);
  [[nodiscard]] Result<std::optional<Read>> on_fault(const ParsedRecord& parsed);
  [[nodiscard]] Result<std::optional<Read>> next_segment(RecordFault fault);
  [[nodiscard]] Result<std::optional<Read>> damaged(RecordFault fault);
  [[nodiscard]] bool is_written_now() const noexcept;
  [[nodiscard]] bool is_durable(std::uint64_t entry) const noexcept;
  [[nodiscard]] bool has_next_segment() const noexcept { return index_ + 1 < segments_.size(); }

  FileSystem* files_;
  std::string directory_;
  ReaderOptions options_;
  std::optional<Coordination> coordination_;
  std::uint64_t change_count_{};
  std::vector<SegmentInfo> segments_;
  std::size_t index_{};               // of the current one
  std::shared_ptr<Segment> segment_;  // current; null: none yet
  ScanPoint point_;
  bool is_segment_over_{};            // damaged, and the rest is left out: waits for the next one
  std::vector<std::byte> decompressed_;
  std::optional<Error> broken_;
};

}  // namespace thalweg::log
