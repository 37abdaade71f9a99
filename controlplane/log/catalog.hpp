#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "controlplane/log/segment.hpp"

namespace thalweg::log {

inline constexpr const char* kCatalogName = "catalog.tlg";
inline constexpr std::uint64_t kCatalogBytesMax = 64U << 20;  // of the file: 100,000 segments

enum class SegmentState : std::uint32_t {
  kActive,    // the newest: its sums are not known yet
  kClosed,
  kDamaged,   // closed, and recovery found damage in it
};

// What is known of a segment without opening it.
struct CatalogEntry {
  std::uint64_t ordinal{};
  std::uint64_t segment_bytes{};
  std::uint64_t base_position{};
  std::uint64_t base_entry{};
  std::int64_t base_timestamp_ns{};
  std::int64_t created_ns{};
  std::int64_t closed_ns{};          // 0: active
  SegmentKind kind{SegmentKind::kRecords};
  SegmentState state{SegmentState::kActive};
  SegmentSummary summary;            // of an active one: nothing but end_entry == base_entry
  [[nodiscard]] bool operator==(const CatalogEntry&) const = default;
};
static_assert(sizeof(CatalogEntry) == 64 + sizeof(SegmentSummary));

// The segments of a shard, the oldest first. A help only: the segments' names, headers and seals are the truth, and it is made anew from them
// whenever it is missing, damaged or names others than the directory does. One thread. Spec: archive-log 6.
class Catalog {
 public:
  // Errors: kInUse when its ordinal is there; kInvalidArgument when it is below that of the newest.
  [[nodiscard]] Result<void> add(const CatalogEntry& entry);
  // Replaces the entry of the same ordinal. Errors: kNotFound.
  [[nodiscard]] Result<void> update(const CatalogEntry& entry);
  // Errors: kNotFound.
  [[nodiscard]] Result<void> remove(std::uint64_t ordinal);
  // nullptr: none. Valid until the next change.
  [[nodiscard]] const CatalogEntry* get(std::uint64_t ordinal) const noexcept;
  [[nodiscard]] std::span<const CatalogEntry> entries() const noexcept { return entries_; }
  // Ordinals of all segments that may hold an entry of [from_ns, to_ns]: each is looked at, so that times need be in no order.
  [[nodiscard]] std::vector<std::uint64_t> find_time(std::int64_t from_ns, std::int64_t to_ns) const;
  // Ordinals of all segments that may hold an entry of the stream; an active one always may.
  [[nodiscard]] std::vector<std::uint64_t> find_stream(std::uint32_t stream) const;
  struct Totals {
    std::uint64_t segments{};
    std::uint64_t records{};        // of closed segments
    std::uint64_t payload_bytes{};  // the same, as stored
    std::uint64_t file_bytes{};
  };
  [[nodiscard]] Totals totals() const noexcept;

  // The bytes of its file.
  [[nodiscard]] std::vector<std::byte> encode(std::uint32_t shard) const;
  // Errors: kVersion, and kIo naming what is wrong: too short, magic, checksum, a count that the file cannot hold, ordinals that do not rise.
  [[nodiscard]] static Result<Catalog> decode(std::span<const std::byte> bytes, std::string_view name);

 private:
  std::vector<CatalogEntry> entries_;
};

// What the first pages of a segment say about it.
[[nodiscard]] CatalogEntry catalog_entry(const SegmentInfo& info);

// The catalog of a directory, in any process, changing nothing: its file when that names the segments which are there, otherwise from headers,
// seals and, where a segment has no seal and is not the newest, its records. Errors: kNotFound (no such directory), kVersion, kIo.
[[nodiscard]] Result<Catalog> read_catalog(FileSystem& files, const std::string& directory);
// Writes the file, without a sync: a crash leaves an old one, the new one or one that is not believed. Errors: kNoSpace, kIo.
[[nodiscard]] Result<void> save_catalog(FileSystem& files, const std::string& directory, std::uint32_t shard, const Catalog& catalog);

}  // namespace thalweg::log
