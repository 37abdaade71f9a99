#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "controlplane/log/file_system.hpp"
#include "controlplane/log/scan.hpp"

namespace thalweg::log {

inline constexpr std::uint32_t kIndexIntervalDefault = 100;  // records
inline constexpr std::uint32_t kIndexNodesDefault = 10'000;  // a segment

// Where some of the records of a segment are, so that finding one does not read all before it. A help only: whatever it says is checked
// against the data, and it is made anew from them. One thread. Spec: archive-log 5.
class SparseIndex {
 public:
  struct Node {
    std::uint64_t entry{};
    std::uint64_t offset{};        // in the data
    std::int64_t timestamp_ns{};
    std::uint32_t stream{};
    std::uint32_t reserved{};
    [[nodiscard]] bool operator==(const Node&) const = default;
  };
  static_assert(sizeof(Node) == 32);

  // Every `interval`th record gets a node; 0 counts as 1. Beyond `nodes_max` (at least 2) every second node goes and the interval doubles.
  explicit SparseIndex(std::uint32_t interval = kIndexIntervalDefault, std::uint32_t nodes_max = kIndexNodesDefault);

  // The next record of the segment. Pads are none.
  void add(const RecordHeader& header, std::uint64_t offset) {
    ++record_count_;
    if (until_next_ > 0) {
      --until_next_;
      return;
    }
    add_node({header.entry, offset, header.timestamp_ns, header.stream, 0});
    until_next_ = interval_ - 1;
  }
  // For those who add many: how many records get no node before the next one that does, and counting that many or fewer of them.
  [[nodiscard]] std::uint32_t until_next_node() const noexcept { return until_next_; }
  void add_without_node(std::uint32_t count) noexcept {
    record_count_ += count;
    until_next_ -= count;
  }
  // The node with the greatest number <= `entry`; the first one when all are greater; nullopt when there is none.
  [[nodiscard]] std::optional<Node> find_entry(std::uint64_t entry) const noexcept;
  // The same by offset.
  [[nodiscard]] std::optional<Node> find_offset(std::uint64_t offset) const noexcept;
  // The last node older than `timestamp_ns`: the first record that is not older stands behind it, also when many are of the same time. The
  // first node when none is older; nullopt when there is none.
  [[nodiscard]] std::optional<Node> find_time(std::int64_t timestamp_ns) const noexcept;
  [[nodiscard]] const std::vector<Node>& nodes() const noexcept { return nodes_; }
  [[nodiscard]] std::uint32_t interval() const noexcept { return interval_; }
  [[nodiscard]] std::uint64_t record_count() const noexcept { return record_count_; }

  // The bytes of its file.
  [[nodiscard]] std::vector<std::byte> encode(std::uint64_t ordinal) const;
  // nullopt: no index of this segment, damaged, of another version, or with impossible nodes.
  [[nodiscard]] static std::optional<SparseIndex> decode(std::span<const std::byte> bytes, std::uint64_t ordinal, std::uint64_t segment_bytes);
  // From the records themselves.
  [[nodiscard]] static SparseIndex build(std::span<const std::byte> data, ScanPoint from, std::uint64_t content_end, std::uint32_t interval = kIndexIntervalDefault,
                                         std::uint32_t nodes_max = kIndexNodesDefault);

 private:
  void add_node(const Node& node);
  std::uint32_t interval_;
  std::uint32_t nodes_max_;
  std::uint64_t record_count_{0};
  std::uint32_t until_next_{0};  // records to the next node
  std::vector<Node> nodes_;
};

// Writes an index beside its segment, without a sync: a crash leaves the old one, the new one or one that decode() refuses. Errors: kNoSpace, kIo.
[[nodiscard]] Result<void> save_index(FileSystem& files, const std::string& directory, std::uint64_t ordinal, const SparseIndex& index);
// The index of a segment; nullopt: there is none that could be used.
[[nodiscard]] std::optional<SparseIndex> load_index(FileSystem& files, const std::string& directory, std::uint64_t ordinal, std::uint64_t segment_bytes);

// "index-0000000012.tlg".
[[nodiscard]] std::string index_name(std::uint64_t ordinal);
// nullopt: no index's name.
[[nodiscard]] std::optional<std::uint64_t> parse_index_name(std::string_view name) noexcept;

}  // namespace thalweg::log
