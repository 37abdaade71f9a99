#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/log/clock.hpp"
#include "controlplane/log/coordination.hpp"
#include "controlplane/log/options.hpp"
#include "controlplane/log/segment.hpp"

// What opening a shard for writing does first. Spec: archive-log 12.
namespace thalweg::log {

// What was found and done. Zeros after a clean close.
struct RecoveryReport {
  std::uint32_t segments{};             // after recovery
  std::uint32_t segments_scanned{};     // read record by record: those that the checkpoint or a seal does not vouch for
  std::uint64_t bytes_scanned{};
  std::uint64_t torn_bytes{};           // behind the last record of the newest segment, zeroed
  std::uint32_t corrupt_ranges{};       // damage with valid records behind it: kept, readers are told
  std::uint64_t lost_entries{};         // entry numbers inside corrupt ranges and between segments
  std::uint32_t segments_mended{};      // segments whose header was made anew from the records and the neighbours, or that were cut short
  std::uint32_t temporaries_removed{};
  bool is_coordination_rebuilt{};       // it was missing, or moved aside
  std::vector<std::string> set_aside;   // files that are named like a segment and are none: renamed to *.corrupt.<epoch_ns>
  std::vector<std::string> findings;    // one sentence each, with file and offset
};

// A segment as the writer knows it.
struct KnownSegment {
  SegmentInfo info;
  SegmentSummary summary;
  bool is_closed{};
  bool is_damaged{};  // as far as recovery read it, this time or an earlier one
};

// Steps that recovery of both kinds of segment takes; what they did is in `report`. Files that a crash left half made go. Errors: kIo, kPermission.
[[nodiscard]] Result<void> remove_temporaries(FileSystem& files, const SegmentListing& listing, RecoveryReport& report);
// A file that is named like a segment and is none gets another name. Returns that there is no segment. Errors: kIo, kPermission.
[[nodiscard]] Result<std::optional<SegmentInfo>> set_aside(FileSystem& files, const Clock& clock, const SegmentListing::Damaged& damaged, RecoveryReport& report);
// Puts segments whose header was not readable in their place in the list, as far as `rebuild(damaged)` gives one back.
template <typename Rebuild>
[[nodiscard]] Result<void> mend_headers(SegmentListing& listing, RecoveryReport& report, Rebuild&& rebuild) {
  for (const SegmentListing::Damaged& damaged : listing.damaged) {
    Result<std::optional<SegmentInfo>> rebuilt = rebuild(damaged);
    if (!rebuilt) return tl::unexpected{std::move(rebuilt.error())};
    if (!*rebuilt) continue;
    ++report.segments_mended;
    report.findings.push_back(damaged.error.message + ": mended");
    const auto place = std::find_if(listing.segments.begin(), listing.segments.end(), [&](const SegmentInfo& other) { return other.ordinal() > damaged.ordinal; });
    listing.segments.insert(place, std::move(**rebuilt));
  }
  return {};
}

struct Recovered {
  std::vector<KnownSegment> segments;   // in the order of the log; empty: a new shard
  std::shared_ptr<Segment> active;      // the newest, open for writing; null: there is none that may be appended to
  std::uint64_t counted_from{};         // offset in the active one from which on its summary counts
  ScanPoint tail;                       // where the next record goes in it, its number, and the lowest timestamp it may have
  RecoveryReport report;
};

// Brings a shard's directory into a state that can be appended to, and makes everything in it durable. Only for a process that is alone on the
// shard. Idempotent: stopped at any point and run again it ends in the same state. Reads no more than what the checkpoint in `coordination` and
// the seals do not vouch for. Errors: kVersion, kIo, kNoSpace, kPermission.
[[nodiscard]] Result<Recovered> recover_shard(FileSystem& files, const Clock& clock, const std::string& directory, Coordination& coordination);

}  // namespace thalweg::log
