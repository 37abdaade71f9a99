#include "controlplane/log/catalog.hpp"

#include <algorithm>
#include <cstring>

#include "controlplane/log/crc32c.hpp"

namespace thalweg::log {
namespace {

struct CatalogHeader {
  std::uint64_t magic{};
  std::uint32_t version{};
  std::uint32_t shard{};
  std::uint64_t count{};
  std::uint32_t entry_bytes{};
  std::uint32_t crc{};  // over the header with 0 here, and the entries
};
static_assert(sizeof(CatalogHeader) == 32);
constexpr std::uint64_t kCatalogMagic = 0x31304154'41434C54U;  // "TLCATA01" as bytes

std::uint32_t checksum(CatalogHeader header, std::span<const std::byte> entries) noexcept {
  header.crc = 0;
  return crc32c(entries, crc32c(std::as_bytes(std::span{&header, 1})));
}

bool is_before(const CatalogEntry& entry, std::uint64_t ordinal) noexcept { return entry.ordinal < ordinal; }

// Whether it names exactly the segments that a directory has. States may be old: only the newest segment may lack its sums.
bool names_same(const Catalog& catalog, const std::vector<std::uint64_t>& ordinals) noexcept {
  const auto entries = catalog.entries();
  if (entries.size() != ordinals.size()) return false;
  for (std::size_t i = 0; i < ordinals.size(); ++i) {
    if (entries[i].ordinal != ordinals[i]) return false;
    if (entries[i].state == SegmentState::kActive && i + 1 != ordinals.size()) return false;
  }
  return true;
}

Result<CatalogEntry> entry_of_unsealed(FileSystem& files, const SegmentInfo& info) {
  CatalogEntry entry = catalog_entry(info);
  auto segment = Segment::open(files, info, OpenMode::kRead);
  if (!segment) return tl::unexpected{std::move(segment.error())};
  const auto end = (*segment)->content_end(0);
  if (!end) return tl::unexpected{end.error()};
  const Scan scan = scan_segment((*segment)->data(), {0, info.header.base_entry, info.header.base_timestamp_ns}, *end);
  entry.summary = scan.summary;
  entry.state = scan.corrupt_ranges > 0 ? SegmentState::kDamaged : SegmentState::kClosed;
  return entry;
}

}  // namespace

Result<void> Catalog::add(const CatalogEntry& entry) {
  if (get(entry.ordinal) != nullptr) return fail(ErrorCode::kInUse, "catalog: segment " + std::to_string(entry.ordinal) + " is there already");
  if (!entries_.empty() && entries_.back().ordinal > entry.ordinal)
    return fail(ErrorCode::kInvalidArgument, "catalog: segment " + std::to_string(entry.ordinal) + " is older than the newest, " + std::to_string(entries_.back().ordinal));
  entries_.push_back(entry);
  return {};
}

Result<void> Catalog::update(const CatalogEntry& entry) {
  const auto at = std::lower_bound(entries_.begin(), entries_.end(), entry.ordinal, is_before);
  if (at == entries_.end() || at->ordinal != entry.ordinal) return fail(ErrorCode::kNotFound, "catalog: no segment " + std::to_string(entry.ordinal));
  *at = entry;
  return {};
}

Result<void> Catalog::remove(std::uint64_t ordinal) {
  const auto at = std::lower_bound(entries_.begin(), entries_.end(), ordinal, is_before);
  if (at == entries_.end() || at->ordinal != ordinal) return fail(ErrorCode::kNotFound, "catalog: no segment " + std::to_string(ordinal));
  entries_.erase(at);
  return {};
}

const CatalogEntry* Catalog::get(std::uint64_t ordinal) const noexcept {
  const auto at = std::lower_bound(entries_.begin(), entries_.end(), ordinal, is_before);
  return at != entries_.end() && at->ordinal == ordinal ? &*at : nullptr;
}

std::vector<std::uint64_t> Catalog::find_time(std::int64_t from_ns, std::int64_t to_ns) const {
  std::vector<std::uint64_t> found;
  for (const CatalogEntry& entry : entries_) {
    const bool is_open = entry.state == SegmentState::kActive;
    const bool may_match = is_open ? entry.base_timestamp_ns <= to_ns
                                   : entry.summary.record_count > 0 && entry.summary.first_timestamp_ns <= to_ns && entry.summary.last_timestamp_ns >= from_ns;
    if (may_match) found.push_back(entry.ordinal);
  }
  return found;
}

std::vector<std::uint64_t> Catalog::find_stream(std::uint32_t stream) const {
  std::vector<std::uint64_t> found;
  for (const CatalogEntry& entry : entries_)
    if (entry.state == SegmentState::kActive || may_have_stream(entry.summary.streams, stream)) found.push_back(entry.ordinal);
  return found;
}

Catalog::Totals Catalog::totals() const noexcept {
  Totals totals;
  for (const CatalogEntry& entry : entries_) {
    ++totals.segments;
    totals.records += entry.summary.record_count;
    totals.payload_bytes += entry.summary.payload_bytes;
    totals.file_bytes += file_bytes(entry.kind, entry.segment_bytes);
  }
  return totals;
}

std::vector<std::byte> Catalog::encode(std::uint32_t shard) const {
  const std::span<const std::byte> entries = std::as_bytes(std::span{entries_});
  CatalogHeader header{.magic = kCatalogMagic, .version = kFormatVersion, .shard = shard, .count = entries_.size(), .entry_bytes = sizeof(CatalogEntry)};
  header.crc = checksum(header, entries);
  std::vector<std::byte> bytes(sizeof header + entries.size());
  std::memcpy(bytes.data(), &header, sizeof header);
  if (!entries.empty()) std::memcpy(bytes.data() + sizeof header, entries.data(), entries.size());
  return bytes;
}

Result<Catalog> Catalog::decode(std::span<const std::byte> bytes, std::string_view name) {
  const auto bad = [&](const char* what) { return fail(ErrorCode::kIo, std::string{name} + ": catalog: " + what); };
  CatalogHeader header;
  if (bytes.size() < sizeof header) return bad("file too short");
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.magic != kCatalogMagic) return bad("bad magic at offset 0");
  if (header.version > kFormatVersion) return fail(ErrorCode::kVersion, std::string{name} + ": catalog: format version " + std::to_string(header.version) + " is newer than this program");
  if (header.version == 0 || header.entry_bytes != sizeof(CatalogEntry)) return bad("impossible version or size of an entry at offset 8");
  const std::span<const std::byte> body = bytes.subspan(sizeof header);
  if (header.count != body.size() / sizeof(CatalogEntry) || body.size() % sizeof(CatalogEntry) != 0) return bad("count at offset 16 is not that of the entries in the file");
  if (header.crc != checksum(header, body)) return bad("wrong checksum at offset 28");
  Catalog catalog;
  catalog.entries_.resize(header.count);
  if (!body.empty()) std::memcpy(catalog.entries_.data(), body.data(), body.size());
  for (std::size_t i = 0; i < catalog.entries_.size(); ++i) {
    const CatalogEntry& entry = catalog.entries_[i];
    if (i > 0 && entry.ordinal <= catalog.entries_[i - 1].ordinal) return bad("ordinals that do not rise");
    if (entry.kind > SegmentKind::kFrames || entry.state > SegmentState::kDamaged) return bad("unknown kind or state");
  }
  return catalog;
}

CatalogEntry catalog_entry(const SegmentInfo& info) {
  const SegmentHeader& header = info.header;
  CatalogEntry entry{.ordinal = header.ordinal, .segment_bytes = header.segment_bytes, .base_position = header.base_position, .base_entry = header.base_entry,
                     .base_timestamp_ns = header.base_timestamp_ns, .created_ns = header.created_ns, .kind = header.kind};
  entry.summary.end_entry = header.base_entry;
  if (!info.seal) return entry;
  entry.state = SegmentState::kClosed;
  entry.closed_ns = info.seal->closed_ns;
  entry.summary = info.seal->summary;
  return entry;
}

Result<Catalog> read_catalog(FileSystem& files, const std::string& directory) {
  const auto names = files.list(directory);
  if (!names) return tl::unexpected{names.error()};
  std::vector<std::uint64_t> ordinals;
  for (const std::string& name : *names)
    if (const auto ordinal = parse_segment_name(name)) ordinals.push_back(*ordinal);
  const std::string path = directory + "/" + kCatalogName;
  if (const auto bytes = read_file(files, path, kCatalogBytesMax)) {
    auto catalog = Catalog::decode(*bytes, path);
    if (catalog && names_same(*catalog, ordinals)) return catalog;
    if (!catalog && catalog.error().code == ErrorCode::kVersion) return catalog;
  }
  auto listing = list_segments(files, directory);
  if (!listing) return tl::unexpected{std::move(listing.error())};
  Catalog catalog;
  for (std::size_t i = 0; i < listing->segments.size(); ++i) {
    const SegmentInfo& info = listing->segments[i];
    const bool is_read = !info.seal && i + 1 < listing->segments.size();
    auto entry = is_read ? entry_of_unsealed(files, info) : Result<CatalogEntry>{catalog_entry(info)};
    if (!entry && entry.error().code == ErrorCode::kNotFound) continue;  // removed just now
    if (!entry) return tl::unexpected{std::move(entry.error())};
    if (auto added = catalog.add(*entry); !added) return tl::unexpected{std::move(added.error())};
  }
  return catalog;
}

Result<void> save_catalog(FileSystem& files, const std::string& directory, std::uint32_t shard, const Catalog& catalog) {
  return replace_file(files, directory + "/" + kCatalogName, catalog.encode(shard));
}

}  // namespace thalweg::log
