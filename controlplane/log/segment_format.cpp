#include "controlplane/log/segment_format.hpp"

#include <bit>
#include <charconv>
#include <cstdio>
#include <cstring>

#include "controlplane/log/crc32c.hpp"

namespace thalweg::log {
namespace {

constexpr std::string_view kPrefix = "segment-";
constexpr std::string_view kSuffix = ".tlg";
constexpr std::size_t kDigits = 10;

template <typename T>
Page encode_page(T value) noexcept {
  Page page;
  std::memcpy(page.data(), &value, kPageBytes);
  store_le(page.data() + offsetof(T, crc), crc32c(std::span{page}.first(offsetof(T, crc))));
  return page;
}

// nullopt: the checksum is wrong.
template <typename T>
std::optional<T> decode_page(std::span<const std::byte> page) noexcept {
  if (page.size() < kPageBytes) return std::nullopt;
  T value;
  std::memcpy(&value, page.data(), kPageBytes);
  if (value.crc != crc32c(page.first(offsetof(T, crc)))) return std::nullopt;
  return value;
}

std::uint32_t stream_bit(std::uint32_t stream, std::uint32_t multiplier) noexcept { return ((stream + 1) * multiplier) >> 20U; }  // 12 bits
constexpr std::uint32_t kFirstHash = 0x9E3779B1U;
constexpr std::uint32_t kSecondHash = 0x85EBCA77U;

}  // namespace

void add_stream(StreamSet& set, std::uint32_t stream) noexcept {
  for (const std::uint32_t multiplier : {kFirstHash, kSecondHash}) {
    const std::uint32_t bit = stream_bit(stream, multiplier);
    set[bit / 64] |= 1ULL << (bit % 64);
  }
}

bool may_have_stream(const StreamSet& set, std::uint32_t stream) noexcept {
  for (const std::uint32_t multiplier : {kFirstHash, kSecondHash}) {
    const std::uint32_t bit = stream_bit(stream, multiplier);
    if ((set[bit / 64] >> (bit % 64) & 1U) == 0) return false;
  }
  return true;
}

void count_record(SegmentSummary& summary, const RecordHeader& header) noexcept {
  if (summary.record_count == 0) summary.first_timestamp_ns = header.timestamp_ns;
  ++summary.record_count;
  summary.payload_bytes += static_cast<std::uint32_t>(header.length);
  summary.original_bytes += header.original_length;
  summary.codecs |= 1U << header.codec;
  summary.last_timestamp_ns = header.timestamp_ns;
  add_stream(summary.streams, header.stream);
}

Page encode(SegmentHeader header) noexcept {
  header.magic = kSegmentMagic;
  header.version = kFormatVersion;
  return encode_page(header);
}

Page encode(SegmentSeal seal) noexcept {
  seal.magic = kSealMagic;
  return encode_page(seal);
}

Result<SegmentHeader> decode_header(std::span<const std::byte> page, std::string_view name) {
  const auto bad = [&](ErrorCode code, const char* what) { return fail(code, std::string{name} + ": " + what); };
  if (page.size() < kPageBytes) return bad(ErrorCode::kIo, "segment header: file too short");
  if (load_le<std::uint64_t>(page.data()) != kSegmentMagic) return bad(ErrorCode::kIo, "segment header: bad magic at offset 0");
  if (const auto version = load_le<std::uint32_t>(page.data() + offsetof(SegmentHeader, version)); version > kFormatVersion)
    return fail(ErrorCode::kVersion, std::string{name} + ": segment header: format version " + std::to_string(version) + ", this program knows up to " +
                                         std::to_string(kFormatVersion), "read it with the program that wrote it, or a newer one");
  const auto header = decode_page<SegmentHeader>(page);
  if (!header) return bad(ErrorCode::kIo, "segment header: wrong checksum at offset 4092");
  if (header->version == 0) return bad(ErrorCode::kIo, "segment header: format version 0 at offset 8");
  if (header->kind != SegmentKind::kRecords && header->kind != SegmentKind::kFrames) return bad(ErrorCode::kIo, "segment header: unknown kind at offset 12");
  if (!std::has_single_bit(header->segment_bytes) || header->segment_bytes < kSegmentBytesMin || header->segment_bytes > kSegmentBytesMax)
    return bad(ErrorCode::kIo, "segment header: impossible size at offset 16");
  if (header->base_position > INT64_MAX || header->base_entry > INT64_MAX) return bad(ErrorCode::kIo, "segment header: impossible base at offset 32");
  return *header;
}

bool is_made_ahead(std::span<const std::byte> page) noexcept {
  const auto header = decode_page<SegmentHeader>(page);
  return header && header->magic == kSegmentMagic && header->version != 0 && header->base_entry == kBaseNotKnown;
}

std::optional<SegmentSeal> decode_seal(std::span<const std::byte> page, std::uint64_t ordinal) noexcept {
  const auto seal = decode_page<SegmentSeal>(page);
  if (!seal || seal->magic != kSealMagic || seal->ordinal != ordinal || seal->summary.end_entry > INT64_MAX) return std::nullopt;
  return seal;
}

std::string segment_name(std::uint64_t ordinal) {
  char text[48];
  std::snprintf(text, sizeof text, "segment-%010llu.tlg", static_cast<unsigned long long>(ordinal));
  return text;
}

std::optional<std::uint64_t> parse_segment_name(std::string_view name) noexcept {
  if (name.size() != kPrefix.size() + kDigits + kSuffix.size() || !name.starts_with(kPrefix) || !name.ends_with(kSuffix)) return std::nullopt;
  const std::string_view digits = name.substr(kPrefix.size(), kDigits);
  std::uint64_t ordinal = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), ordinal);
  if (error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  return ordinal;
}

}  // namespace thalweg::log
