#include "controlplane/log/record.hpp"

#include <atomic>
#include <cstring>

#include "controlplane/log/crc32c.hpp"
#include "controlplane/log/record_put.hpp"
#include "dataplane/base/assert.hpp"

namespace thalweg::log {
namespace {

constexpr std::size_t kCrcFrom = offsetof(RecordHeader, entry);

RecordFault check_fields(const RecordHeader& header) noexcept {
  if ((header.flags & ~record_flag::kKnown) != 0) return RecordFault::kFields;
  if (is_pad(header)) return RecordFault::kNone;
  if (header.codec > static_cast<std::uint8_t>(Codec::kZstd)) return RecordFault::kFields;
  const auto stored = static_cast<std::uint32_t>(header.length);
  if (header.key_length > stored || header.key_length > header.original_length) return RecordFault::kFields;
  if (((header.flags & record_flag::kHasKey) != 0) != (header.key_length != 0)) return RecordFault::kFields;
  if (header.codec == 0 && header.original_length != stored) return RecordFault::kFields;
  if (header.codec != 0 && header.original_length <= stored) return RecordFault::kFields;  // what does not get smaller is not compressed
  return RecordFault::kNone;
}

}  // namespace

const char* to_string(RecordFault fault) noexcept {
  switch (fault) {
    case RecordFault::kNone: return "none";
    case RecordFault::kUnwritten: return "unwritten";
    case RecordFault::kBounds: return "bounds";
    case RecordFault::kFields: return "fields";
    case RecordFault::kChecksum: return "checksum";
    case RecordFault::kSequence: return "sequence";
    case RecordFault::kTime: return "time";
    case RecordFault::kCodec: return "codec";
  }
  return "?";
}

ParsedRecord parse_record(std::span<const std::byte> data, std::uint64_t offset) noexcept {
  ParsedRecord parsed;
  const auto fault = [&](RecordFault what) {
    parsed.fault = what;
    return parsed;
  };
  if (offset >= data.size() || data.size() - offset < kRecordHeaderBytes) return fault(RecordFault::kBounds);
  const std::byte* const at = data.data() + offset;
  // Pairs with publish_record(). atomic_ref wants a mutable object; nothing is stored.
  auto& shared = *reinterpret_cast<RecordWord*>(const_cast<std::byte*>(at));
  const RecordWord word = std::atomic_ref{shared}.load(std::memory_order_acquire);
  if (word == 0) return fault(RecordFault::kUnwritten);
  std::memcpy(&parsed.header, at, kRecordHeaderBytes);
  parsed.header.length = static_cast<std::int32_t>(static_cast<std::uint32_t>(word));
  parsed.header.crc = static_cast<std::uint32_t>(word >> 32U);
  const RecordHeader& header = parsed.header;
  const auto room = data.size() - offset;
  const std::uint64_t bytes = is_pad(header) ? static_cast<std::uint64_t>(-static_cast<std::int64_t>(header.length))
                                             : record_span(static_cast<std::uint32_t>(header.length));
  const bool is_possible = bytes >= kRecordHeaderBytes && bytes % kRecordAlignment == 0 && bytes <= room;
  if (header.crc == 0) {
    if (is_pad(header) && is_possible) parsed.bytes = bytes;
    return fault(is_pad(header) && is_possible ? RecordFault::kUnwritten : RecordFault::kChecksum);
  }
  if (!is_possible) return fault(RecordFault::kBounds);
  if (const RecordFault fields = check_fields(header); fields != RecordFault::kNone) return fault(fields);
  const std::size_t covered = kRecordHeaderBytes - kCrcFrom + (is_pad(header) ? 0 : static_cast<std::uint32_t>(header.length));
  if (crc32c({at + kCrcFrom, covered}) != header.crc) return fault(RecordFault::kChecksum);
  parsed.bytes = bytes;
  return parsed;
}

RecordView view_of(std::span<const std::byte> data, std::uint64_t offset, const RecordHeader& header, std::uint64_t base_position) noexcept {
  RecordView view{.header = header, .key = {}, .payload = {}, .position = base_position + offset};
  if (is_pad(header)) return view;
  const auto stored = data.subspan(offset + kRecordHeaderBytes, static_cast<std::uint32_t>(header.length));
  view.key = stored.first(header.key_length);
  view.payload = stored.subspan(header.key_length);
  return view;
}

RecordWord put_record(std::byte* at, const RecordHeader& header, std::span<const std::byte> key, std::span<const std::byte> payload) noexcept {
  THALWEG_DCHECK(header.key_length == key.size());
  return put_record_inline(at, header, key, payload);
}

RecordWord put_pad(std::byte* at, std::uint32_t bytes, std::uint64_t entry, std::uint32_t entries, std::int64_t timestamp_ns) noexcept {
  const RecordHeader header{.entry = entry, .timestamp_ns = timestamp_ns, .original_length = entries};
  const RecordWord word = put_record_inline(at, header, {}, {});  // but for its length, a record without a payload
  return record_word(-static_cast<std::int32_t>(bytes), static_cast<std::uint32_t>(word >> 32U));
}

}  // namespace thalweg::log
