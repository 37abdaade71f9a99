#include "controlplane/log/record.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "controlplane/log/crc32c.hpp"
#include "controlplane/log/scan.hpp"
#include "dataplane/base/random.hpp"
#include "tests/unit/log/fixture.hpp"

namespace thalweg::log {
namespace {

std::uint32_t bitwise_crc(std::span<const std::byte> bytes) {
  std::uint32_t crc = ~0U;
  for (const std::byte byte : bytes) {
    crc ^= static_cast<std::uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1U) ^ ((crc & 1U) != 0 ? 0x82F63B78U : 0U);
  }
  return ~crc;
}

TEST(Crc32c, has_the_published_check_value) { EXPECT_EQ(crc32c(bytes_of("123456789")), 0xE3069283U); }

TEST(Crc32c, equals_the_bitwise_definition_at_every_length_and_alignment) {
  Random random{1};
  std::vector<std::byte> bytes(3 * 3072 + 64);
  for (auto& byte : bytes) byte = static_cast<std::byte>(random.next());
  for (std::size_t length = 0; length < bytes.size() - 8; length += length < 80 ? 1 : 517)
    for (const std::size_t start : {0U, 1U, 5U}) {
      const auto part = std::span<const std::byte>{bytes}.subspan(start, length);
      ASSERT_EQ(crc32c(part), bitwise_crc(part)) << start << " " << length;
    }
}

TEST(Crc32c, of_two_parts_is_that_of_the_whole) {
  EXPECT_EQ(crc32c(bytes_of("6789"), crc32c(bytes_of("12345"))), crc32c(bytes_of("123456789")));
}

// Data of a segment, built record by record.
struct Data {
  explicit Data(std::size_t bytes) : words(bytes / 8) {}
  std::byte* at(std::size_t offset) { return reinterpret_cast<std::byte*>(words.data()) + offset; }
  [[nodiscard]] std::span<const std::byte> bytes() const { return std::as_bytes(std::span{words}); }
  void add(std::string_view payload, std::uint64_t entry, std::int64_t time = 7) {
    publish_record(at(end), put_record(at(end), RecordHeader{.entry = entry, .timestamp_ns = time, .stream = 3, .type = -4, .original_length = static_cast<std::uint32_t>(payload.size())},
                                       {}, bytes_of(payload)));
    end += record_span(payload.size());
  }
  std::vector<std::uint64_t> words;
  std::size_t end{0};
};

TEST(Record, is_what_was_put) {
  Data data{4096};
  data.add("hello", 5);
  const ParsedRecord parsed = parse_record(data.bytes(), 0);
  ASSERT_TRUE(parsed.is_valid()) << to_string(parsed.fault);
  EXPECT_EQ(parsed.bytes, 48U);
  const RecordView view = view_of(data.bytes(), 0, parsed.header, 1000);
  EXPECT_EQ(text_of(view.payload), "hello");
  EXPECT_EQ(view.entry(), 5U);
  EXPECT_EQ(view.position, 1000U);
  EXPECT_EQ(view.header.stream, 3U);
  EXPECT_EQ(view.header.type, -4);
}

TEST(Record, has_a_key_in_front_of_its_payload) {
  Data data{4096};
  const RecordHeader header{.original_length = 8, .flags = record_flag::kHasKey, .key_length = 3};
  publish_record(data.at(0), put_record(data.at(0), header, bytes_of("key"), bytes_of("value")));
  const ParsedRecord parsed = parse_record(data.bytes(), 0);
  ASSERT_TRUE(parsed.is_valid());
  EXPECT_EQ(text_of(view_of(data.bytes(), 0, parsed.header, 0).key), "key");
  EXPECT_EQ(text_of(view_of(data.bytes(), 0, parsed.header, 0).payload), "value");
}

TEST(Record, without_payload_differs_from_unwritten_memory) {
  Data data{4096};
  EXPECT_EQ(parse_record(data.bytes(), 0).fault, RecordFault::kUnwritten);
  data.add("", 0, 0);
  const ParsedRecord parsed = parse_record(data.bytes(), 0);
  ASSERT_TRUE(parsed.is_valid());
  EXPECT_EQ(parsed.bytes, kRecordHeaderBytes);
}

TEST(Record, is_unwritten_until_its_word_is_published) {
  Data data{4096};
  const RecordWord word = put_record(data.at(0), RecordHeader{.original_length = 3}, {}, bytes_of("abc"));
  EXPECT_EQ(parse_record(data.bytes(), 0).fault, RecordFault::kUnwritten);
  publish_record(data.at(0), word);
  EXPECT_TRUE(parse_record(data.bytes(), 0).is_valid());
}

TEST(Record, with_any_bit_flipped_is_refused) {
  Data data{4096};
  data.add("payload", 5);
  for (std::size_t bit = 0; bit < (kRecordHeaderBytes + 7) * 8; ++bit) {
    *data.at(bit / 8) ^= static_cast<std::byte>(1U << (bit % 8));
    EXPECT_FALSE(parse_record(data.bytes(), 0).is_valid()) << "bit " << bit;
    *data.at(bit / 8) ^= static_cast<std::byte>(1U << (bit % 8));
  }
  EXPECT_TRUE(parse_record(data.bytes(), 0).is_valid());
}

TEST(Record, beyond_the_data_is_refused) {
  Data data{64};
  data.add("payload", 5);
  EXPECT_EQ(parse_record(data.bytes().first(40), 0).fault, RecordFault::kBounds);
  EXPECT_EQ(parse_record(data.bytes().first(39), 0).fault, RecordFault::kBounds);
  EXPECT_EQ(parse_record(data.bytes(), 64).fault, RecordFault::kBounds);
}

TEST(Pad, leads_to_the_next_record_and_stands_for_its_numbers) {
  Data data{4096};
  data.add("a", 10);
  publish_record(data.at(data.end), put_pad(data.at(data.end), 104, 11, 2, 7));
  data.end += 104;
  data.add("b", 13);
  ScanPoint point{0, 10, 0};
  EXPECT_TRUE(next_record(data.bytes(), point).is_valid());
  EXPECT_TRUE(is_pad(next_record(data.bytes(), point).header));
  EXPECT_EQ(point.entry, 13U);
  EXPECT_TRUE(next_record(data.bytes(), point).is_valid());
}

TEST(Scan, stops_at_zeros) {
  Data data{4096};
  data.add("a", 0);
  data.add("b", 1);
  const Scan scan = scan_segment(data.bytes(), {}, data.bytes().size());
  EXPECT_EQ(scan.tail, TailKind::kClean);
  EXPECT_EQ(scan.end.entry, 2U);
  EXPECT_EQ(scan.end.offset, data.end);
  EXPECT_EQ(scan.summary.record_count, 2U);
  EXPECT_EQ(scan.summary.payload_bytes, 2U);
  EXPECT_TRUE(may_have_stream(scan.summary.streams, 3));
  EXPECT_FALSE(may_have_stream(scan.summary.streams, 4));
}

TEST(Scan, tells_a_torn_tail_from_damage_in_the_middle) {
  Data data{4096};
  for (std::uint64_t entry = 0; entry < 3; ++entry) data.add("abcdefgh", entry);
  const std::size_t last = data.end - 48;
  *data.at(last + 42) ^= std::byte{1};
  Scan scan = scan_segment(data.bytes(), {}, data.bytes().size());
  EXPECT_EQ(scan.tail, TailKind::kTorn);
  EXPECT_EQ(scan.end.entry, 2U);
  EXPECT_EQ(scan.torn_bytes, 48U);
  *data.at(last + 42) ^= std::byte{1};
  *data.at(last - 48 + 42) ^= std::byte{1};
  scan = scan_segment(data.bytes(), {}, data.bytes().size());
  EXPECT_EQ(scan.tail, TailKind::kCorrupt);
  EXPECT_EQ(scan.end.entry, 3U);
  EXPECT_EQ(scan.lost_entries, 1U);
}

TEST(Scan, refuses_a_stale_record_with_another_number_or_an_older_time) {
  Data data{4096};
  data.add("a", 0, 50);
  data.add("b", 7, 50);
  EXPECT_EQ(scan_segment(data.bytes(), {}, data.bytes().size()).fault, RecordFault::kSequence);
  Data late{4096};
  late.add("a", 0, 50);
  late.add("b", 1, 49);
  EXPECT_EQ(scan_segment(late.bytes(), {}, late.bytes().size()).fault, RecordFault::kTime);
}

TEST(Resync, costs_no_more_than_its_budget) {
  Data data{64 << 10};
  for (std::size_t at = 0; at + kRecordHeaderBytes <= data.bytes().size(); at += 16)  // each second place claims a record to the end, only its checksum is wrong
    store_le<std::uint64_t>(data.at(at), 0x1'0000'0000U | (data.bytes().size() - at - kRecordHeaderBytes));
  std::uint64_t budget = 100'000;
  EXPECT_TRUE(find_next_record(data.bytes(), {}, budget).is_exhausted);
  const Scan scan = scan_segment(data.bytes(), {}, data.bytes().size());
  EXPECT_EQ(scan.tail, TailKind::kCorrupt) << "kept, because nobody knows";
  EXPECT_EQ(scan.end.offset, data.bytes().size());
}

TEST(SegmentHeader, of_a_newer_version_is_told_apart_from_damage) {
  SegmentHeader header{.segment_bytes = kSegmentBytesMin};
  Page page = encode(header);
  ASSERT_TRUE(decode_header(page, "f"));
  Page newer = page;
  newer[offsetof(SegmentHeader, version)] = std::byte{2};
  EXPECT_EQ(decode_header(newer, "f").error().code, ErrorCode::kVersion);
  for (std::size_t at = 0; at < kPageBytes; at += 3) {
    Page broken = page;
    broken[at] ^= std::byte{0x10};
    EXPECT_FALSE(decode_header(broken, "f")) << at;
  }
}

TEST(SegmentName, sorts_like_the_log_and_is_read_back) {
  EXPECT_EQ(segment_name(12), "segment-0000000012.tlg");
  EXPECT_EQ(parse_segment_name("segment-0000000012.tlg"), 12U);
  for (const char* name : {"segment-12.tlg", "segment-000000001x.tlg", "segment-0000000012.tlg.tmp", "segment-+000000012.tlg", ""})
    EXPECT_FALSE(parse_segment_name(name)) << name;
}

}  // namespace
}  // namespace thalweg::log
