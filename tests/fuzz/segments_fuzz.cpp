// Segments of the durable log whose bytes are anything: raw ones, and good ones that a failing disk changed in places that the input says.
#include <vector>

#include "controlplane/log/scan.hpp"
#include "controlplane/log/segment_format.hpp"
#include "tests/fuzz/input.hpp"

namespace thalweg::fuzz {
namespace {
using namespace log;

constexpr std::size_t kDataBytes = 8192;

// Memory aligned as a mapping is, ending at an unreadable page.
struct Data {
  GuardedMemory memory{kDataBytes};
  [[nodiscard]] std::span<std::byte> bytes() const { return memory.bytes(); }
};

void check_scan(std::span<std::byte> data, const ScanPoint& from) {
  const Scan scan = scan_segment(data, from, data.size());
  require(scan.end.offset <= data.size() && scan.end.offset >= from.offset, "the end lies in the data");
  require(scan.end.entry >= from.entry && scan.end.timestamp_ns >= from.timestamp_ns, "numbers and times do not fall");
  require(scan.end.offset + scan.torn_bytes <= data.size(), "what is torn lies in the data");
  if (scan.tail != TailKind::kTorn) return;
  std::fill(data.begin() + static_cast<std::ptrdiff_t>(scan.end.offset), data.end(), std::byte{0});
  const Scan again = scan_segment(data, from, data.size());
  require(again.tail == TailKind::kClean && again.end.offset == scan.end.offset && again.end.entry == scan.end.entry, "a repaired tail is clean and as long");
}

// A walk as a reader's: every record that is accepted lies in the data, and damage costs a bounded search.
void walk(std::span<const std::byte> data, ScanPoint point) {
  std::uint64_t budget = resync_budget(data.size());
  for (;;) {
    const std::uint64_t at = point.offset;
    const std::uint64_t entry = point.entry;
    const ParsedRecord parsed = next_record(data, point);
    if (parsed.is_valid()) {
      const RecordView view = view_of(data, at, parsed.header, 0);
      require(point.offset > at && point.offset <= data.size() && point.entry >= entry, "a walk gets on");
      require(view.key.size() + view.payload.size() <= data.size() - at, "an entry lies in the data");
      continue;
    }
    const Resync resync = find_next_record(data, point, budget);
    if (!resync.found) return;
    require(resync.found->offset >= point.offset && resync.found->entry >= point.entry, "a search goes forward");
    point = *resync.found;
  }
}

void write_records(Input& in, std::span<std::byte> data, ScanPoint point) {
  while (!in.is_empty() && in.choice(16) != 0) {
    const Bytes payload = in.short_slice();
    const std::uint64_t span = record_span(payload.size());
    if (point.offset + span > data.size()) return;
    std::byte* const at = data.data() + point.offset;
    if (in.choice(8) == 0) {
      publish_record(at, put_pad(at, static_cast<std::uint32_t>(span), point.entry, in.choice(3), point.timestamp_ns));
      point.entry += load_le<std::uint32_t>(at + offsetof(RecordHeader, original_length));
    } else {
      const auto length = static_cast<std::uint32_t>(payload.size());
      publish_record(at, put_record(at, {.entry = point.entry++, .timestamp_ns = point.timestamp_ns, .original_length = length}, {}, payload));
    }
    point.offset += span;
  }
}

}  // namespace

void run(Bytes input) {
  Input in{input};
  const Data data;
  const ScanPoint from{0, in.choice(4), in.choice(4)};
  if (in.flag()) {
    const Bytes raw = in.rest();
    std::copy_n(raw.begin(), std::min(raw.size(), kDataBytes), data.bytes().begin());
    static_cast<void>(decode_header(raw, "input"));
    static_cast<void>(decode_seal(raw, 0));
  } else {
    const Bytes program = in.long_slice();
    Input records{program};
    write_records(records, data.bytes(), from);
    while (!in.is_empty()) scribble(in, data.bytes(), 1);
  }
  walk(data.bytes(), from);
  check_scan(data.bytes(), from);
}

}  // namespace thalweg::fuzz
