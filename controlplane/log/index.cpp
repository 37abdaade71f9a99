#include "controlplane/log/index.hpp"

#include <algorithm>
#include <cstring>

#include "controlplane/log/crc32c.hpp"

namespace thalweg::log {
namespace {

struct IndexHeader {
  std::uint64_t magic{};
  std::uint32_t version{};
  std::uint32_t interval{};
  std::uint64_t ordinal{};
  std::uint64_t record_count{};
  std::uint32_t node_count{};
  std::uint32_t crc{};  // over the header with 0 here, and the nodes
};
static_assert(sizeof(IndexHeader) == 40);
constexpr std::uint64_t kIndexMagic = 0x313058444E494C54U;  // "TLINDX01" as bytes

std::uint32_t checksum(IndexHeader header, std::span<const std::byte> nodes) noexcept {
  header.crc = 0;
  return crc32c(nodes, crc32c(std::as_bytes(std::span{&header, 1})));
}

bool are_possible(const std::vector<SparseIndex::Node>& nodes, std::uint64_t segment_bytes) noexcept {
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].offset % kRecordAlignment != 0 || nodes[i].offset >= segment_bytes) return false;
    if (i > 0 && (nodes[i].offset <= nodes[i - 1].offset || nodes[i].entry <= nodes[i - 1].entry || nodes[i].timestamp_ns < nodes[i - 1].timestamp_ns)) return false;
  }
  return true;
}

// The last node for which `is_before` holds, else the first.
template <typename IsBefore>
std::optional<SparseIndex::Node> last_before(const std::vector<SparseIndex::Node>& nodes, IsBefore is_before) noexcept {
  if (nodes.empty()) return std::nullopt;
  const auto behind = std::partition_point(nodes.begin(), nodes.end(), is_before);
  return behind == nodes.begin() ? nodes.front() : *std::prev(behind);
}

}  // namespace

SparseIndex::SparseIndex(std::uint32_t interval, std::uint32_t nodes_max) : interval_{std::max(interval, 1U)}, nodes_max_{std::max(nodes_max, 2U)} {}

void SparseIndex::add_node(const Node& node) {
  nodes_.push_back(node);
  if (nodes_.size() <= nodes_max_) return;
  const Node newest = nodes_.back();
  std::size_t kept = 0;
  for (std::size_t i = 0; i < nodes_.size(); i += 2) nodes_[kept++] = nodes_[i];
  nodes_.resize(kept);
  if (nodes_.back() != newest) nodes_.push_back(newest);
  interval_ *= 2;
}

std::optional<SparseIndex::Node> SparseIndex::find_entry(std::uint64_t entry) const noexcept {
  return last_before(nodes_, [entry](const Node& node) { return node.entry <= entry; });
}

std::optional<SparseIndex::Node> SparseIndex::find_offset(std::uint64_t offset) const noexcept {
  return last_before(nodes_, [offset](const Node& node) { return node.offset <= offset; });
}

std::optional<SparseIndex::Node> SparseIndex::find_time(std::int64_t timestamp_ns) const noexcept {
  return last_before(nodes_, [timestamp_ns](const Node& node) { return node.timestamp_ns < timestamp_ns; });
}

std::vector<std::byte> SparseIndex::encode(std::uint64_t ordinal) const {
  const std::span<const std::byte> nodes = std::as_bytes(std::span{nodes_});
  IndexHeader header{.magic = kIndexMagic, .version = kFormatVersion, .interval = interval_, .ordinal = ordinal, .record_count = record_count_,
                     .node_count = static_cast<std::uint32_t>(nodes_.size())};
  header.crc = checksum(header, nodes);
  std::vector<std::byte> bytes(sizeof header + nodes.size());
  std::memcpy(bytes.data(), &header, sizeof header);
  if (!nodes.empty()) std::memcpy(bytes.data() + sizeof header, nodes.data(), nodes.size());
  return bytes;
}

std::optional<SparseIndex> SparseIndex::decode(std::span<const std::byte> bytes, std::uint64_t ordinal, std::uint64_t segment_bytes) {
  IndexHeader header;
  if (bytes.size() < sizeof header) return std::nullopt;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.magic != kIndexMagic || header.version != kFormatVersion || header.ordinal != ordinal || header.interval == 0) return std::nullopt;
  const std::span<const std::byte> nodes = bytes.subspan(sizeof header);
  if (nodes.size() != header.node_count * sizeof(Node) || header.crc != checksum(header, nodes)) return std::nullopt;
  SparseIndex index{header.interval, std::max(header.node_count, kIndexNodesDefault)};
  index.record_count_ = header.record_count;
  index.nodes_.resize(header.node_count);
  if (!nodes.empty()) std::memcpy(index.nodes_.data(), nodes.data(), nodes.size());
  if (!are_possible(index.nodes_, segment_bytes)) return std::nullopt;
  return index;
}

SparseIndex SparseIndex::build(std::span<const std::byte> data, ScanPoint from, std::uint64_t content_end, std::uint32_t interval, std::uint32_t nodes_max) {
  SparseIndex index{interval, nodes_max};
  std::uint64_t budget = resync_budget(data.size());
  while (from.offset < content_end) {
    const std::uint64_t at = from.offset;
    const ParsedRecord parsed = next_record(data, from);
    if (parsed.is_valid()) {
      if (!is_pad(parsed.header)) index.add(parsed.header, at);
      continue;
    }
    const Resync resync = find_next_record(data.first(std::min<std::uint64_t>(content_end, data.size())), from, budget);
    if (!resync.found) break;
    from = *resync.found;
  }
  return index;
}

Result<void> save_index(FileSystem& files, const std::string& directory, std::uint64_t ordinal, const SparseIndex& index) {
  return replace_file(files, directory + "/" + index_name(ordinal), index.encode(ordinal));
}

std::optional<SparseIndex> load_index(FileSystem& files, const std::string& directory, std::uint64_t ordinal, std::uint64_t segment_bytes) {
  constexpr std::uint64_t kLimit = 1U << 20;  // far beyond kIndexNodesDefault nodes
  const auto bytes = read_file(files, directory + "/" + index_name(ordinal), kLimit);
  if (!bytes) return std::nullopt;
  return SparseIndex::decode(*bytes, ordinal, segment_bytes);
}

std::string index_name(std::uint64_t ordinal) {
  std::string name = segment_name(ordinal);
  return name.replace(0, std::string_view{"segment"}.size(), "index");
}

std::optional<std::uint64_t> parse_index_name(std::string_view name) noexcept {
  constexpr std::string_view kIndex = "index-";
  if (!name.starts_with(kIndex) || name.size() > 64) return std::nullopt;
  const auto ordinal = parse_segment_name("segment-" + std::string{name.substr(kIndex.size())});
  return ordinal;
}

}  // namespace thalweg::log
