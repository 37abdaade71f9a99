// The small files of the durable log, and compressed data, whose bytes are anything, or good ones with changes.
#include "controlplane/log/catalog.hpp"
#include "controlplane/log/compression.hpp"
#include "controlplane/log/crc32c.hpp"
#include "controlplane/log/group_table.hpp"
#include "controlplane/log/index.hpp"
#include "tests/fuzz/input.hpp"

namespace thalweg::fuzz {
namespace {
using namespace log;

constexpr std::uint64_t kLimit = 64U << 10;

void check_catalog(Bytes bytes) {
  const auto catalog = Catalog::decode(bytes, "input");
  if (!catalog) return;
  require(catalog->entries().size() * sizeof(CatalogEntry) < bytes.size(), "a catalog has no more entries than its file holds");
  for (const CatalogEntry& entry : catalog->entries()) require(catalog->get(entry.ordinal) == &entry, "each ordinal is there once");
  static_cast<void>(catalog->find_time(0, 1));
  static_cast<void>(catalog->find_stream(1));
  static_cast<void>(catalog->totals());
}

void check_index(Bytes bytes) {
  const auto index = SparseIndex::decode(bytes, 0, kSegmentBytesMin);
  if (!index) return;
  for (const auto& node : index->nodes()) require(node.offset < kSegmentBytesMin && index->find_entry(node.entry) == node, "a node lies in the data and is found");
}

void check_decompression(Input& in, Bytes bytes) {
  const auto codec = static_cast<Codec>(in.choice(4));
  const auto original = in.take<std::uint32_t>();
  std::vector<std::byte> into;
  const auto done = decompress(codec, bytes, original, kLimit, into);
  require(into.size() <= kLimit, "nothing is allocated beyond the limit");
  require(!done || into.size() == original, "what is decompressed has the size that was asked for");
  if (const auto unpacked = unpack(bytes, kLimit)) require(unpacked->size() <= kLimit, "nothing unpacks beyond the limit");
}

void check_groups(Bytes bytes) {
  const auto groups = decode_groups(bytes, "input");
  if (!groups) return;
  require(groups->size() <= kGroupsMax, "no more groups than slots");
  for (const GroupInfo& group : *groups) require(validate_group_name(group.name).has_value(), "a group has a possible name");
}

std::vector<std::byte> some_groups() {
  GroupFile file{.magic = kGroupsMagic, .version = kFormatVersion, .slot_count = kGroupsMax};
  for (std::size_t i = 0; i < 3; ++i) {
    GroupSlot& slot = file.slots[i];
    std::memcpy(slot.name, "group", 5);
    slot.name_crc = crc32c(std::as_bytes(std::span{slot.name}));
    slot.state = 1;
  }
  const auto bytes = std::as_bytes(std::span{&file, 1});
  return {bytes.begin(), bytes.end()};
}

// Good bytes of each kind, with changes that the input makes in them.
void check_changed(Input& in) {
  const unsigned kind = in.choice(5);
  const Bytes original = in.short_slice();
  std::vector<std::byte> bytes;
  if (kind == 0) {
    Catalog catalog;
    for (std::uint64_t i = 0; i <= in.choice(4); ++i) static_cast<void>(catalog.add({.ordinal = i}));
    bytes = catalog.encode(0);
  } else if (kind == 1) {
    SparseIndex index{1};
    for (std::uint64_t i = 0; i <= in.choice(9); ++i) index.add({.entry = i}, 48 * i);
    bytes = index.encode(0);
  } else if (kind == 4) {
    bytes = some_groups();
  } else {
    bytes = pack(static_cast<Codec>(kind - 1), 0, original);
    const auto back = unpack(bytes);
    require(back && std::equal(back->begin(), back->end(), original.begin(), original.end()), "what was packed unpacks");
  }
  while (!in.is_empty()) scribble(in, bytes, 1);
  if (kind == 0) check_catalog(bytes);
  else if (kind == 1) check_index(bytes);
  else if (kind == 4) check_groups(bytes);
  else static_cast<void>(unpack(bytes, kLimit));
}

}  // namespace

void run(Bytes input) {
  Input in{input};
  if (in.flag()) return check_changed(in);
  const auto what = in.choice(3);
  if (what == 2) {
    const Bytes bytes = in.long_slice();
    return check_decompression(in, bytes);
  }
  const GuardedMemory memory{in.rest()};
  check_groups(memory.bytes());
  if (what == 0) check_catalog(memory.bytes());
  else check_index(memory.bytes());
}

}  // namespace thalweg::fuzz
