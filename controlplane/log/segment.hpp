#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/log/file_system.hpp"
#include "controlplane/log/scan.hpp"
#include "controlplane/log/segment_format.hpp"

// Segment files of a shard's directory: finding, opening and creating them. Spec: archive-log 2, 3.
namespace thalweg::log {

// What the first two pages of a segment say.
struct SegmentInfo {
  std::string path;
  SegmentHeader header;
  std::optional<SegmentSeal> seal;  // nullopt: active, or not closed cleanly
  [[nodiscard]] std::uint64_t ordinal() const noexcept { return header.ordinal; }
  [[nodiscard]] std::uint64_t end_position() const noexcept { return header.base_position + header.segment_bytes; }
};

// The names of a directory, sorted out.
struct SegmentListing {
  struct Damaged {
    std::string path;
    std::uint64_t ordinal{};  // as named
    Error error;
  };
  std::vector<SegmentInfo> segments;      // in the order of the log
  std::vector<Damaged> damaged;           // named like a segment, but the header is not readable
  std::vector<std::string> temporaries;   // paths of what a crash left half made
};
// Reads the first pages of all segments. Changes nothing. Errors: kNotFound (no directory), kIo; kVersion when a newer version wrote one of them.
[[nodiscard]] Result<SegmentListing> list_segments(FileSystem& files, const std::string& directory);

// One of them. Errors: kNotFound, kVersion, kIo.
[[nodiscard]] Result<SegmentInfo> read_segment_info(FileSystem& files, const std::string& directory, std::uint64_t ordinal);
// Where a segment is made before it gets its name.
[[nodiscard]] std::string temporary_path(const std::string& directory, std::uint64_t ordinal);

// An open, mapped segment. Reading threads share it.
class Segment {
 public:
  // Errors: kNotFound; kIo when the file is shorter than its header says.
  [[nodiscard]] static Result<std::shared_ptr<Segment>> open(FileSystem& files, SegmentInfo info, OpenMode mode);
  // Makes a segment under a temporary name: allocated, header written and synced. Nothing refers to it before publish(). Errors: kNoSpace, kIo;
  // what was made is removed then.
  [[nodiscard]] static Result<std::shared_ptr<Segment>> create(FileSystem& files, const std::string& directory, const SegmentHeader& header);
  // One that create() made before, in any process, still without its name; not used by anybody. Errors: kNotFound; kIo when it is only half made or not
  // what `header` asks for (number, size).
  [[nodiscard]] static Result<std::shared_ptr<Segment>> open_temporary(FileSystem& files, const std::string& directory, const SegmentHeader& header);
  [[nodiscard]] bool is_published() const noexcept { return is_published_; }
  // Gives a created one its name, and makes the name durable. On an error the temporary file is removed.
  [[nodiscard]] Result<void> publish(FileSystem& files);
  // The same with another header than it was created with, and nothing synced: no more than two short system calls. Until the file and its directory were
  // synced it may have no name after a power failure, or the header it was created with. Precondition: not published, of the same size.
  [[nodiscard]] Result<void> publish_unsynced(FileSystem& files, const SegmentHeader& header);
  // Writes and syncs a header. Errors: kIo.
  [[nodiscard]] Result<void> set_header(const SegmentHeader& header);

  [[nodiscard]] const SegmentInfo& info() const noexcept { return info_; }
  [[nodiscard]] const SegmentHeader& header() const noexcept { return info_.header; }
  [[nodiscard]] std::span<std::byte> data() const noexcept { return mapping_->bytes().subspan(kDataOffset, header().segment_bytes); }
  // What lies behind the data: marks and sync points of frames.
  [[nodiscard]] std::span<std::byte> table() const noexcept { return mapping_->bytes().subspan(kDataOffset + header().segment_bytes); }
  [[nodiscard]] File& file() const noexcept { return *file_; }
  [[nodiscard]] Mapping& mapping() const noexcept { return *mapping_; }
  // Offset in the data behind the last byte that may be something else than zero. Errors: kIo.
  [[nodiscard]] Result<std::uint64_t> content_end(std::uint64_t from);
  // Writes the seal; not synced. Errors: kIo, kNoSpace.
  [[nodiscard]] Result<void> seal(const SegmentSummary& summary, bool is_data_synced, std::int64_t closed_ns);
  // Takes the seal away, durably: what it vouched for may be changed afterwards. Errors: kIo.
  [[nodiscard]] Result<void> unseal();

 private:
  Segment(SegmentInfo info, std::unique_ptr<File> file, std::unique_ptr<Mapping> mapping)
      : info_{std::move(info)}, file_{std::move(file)}, mapping_{std::move(mapping)} {}
  SegmentInfo info_;
  std::unique_ptr<File> file_;
  std::unique_ptr<Mapping> mapping_;
  bool is_published_{true};
};

}  // namespace thalweg::log
