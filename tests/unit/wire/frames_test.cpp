#include "dataplane/wire/frames.hpp"

#include <gtest/gtest.h>

#include <array>

#include "dataplane/wire/positions.hpp"
#include "tests/support/hex.hpp"

namespace thalweg::wire {
namespace {

using test::ByteVector;

template <typename Frame>
ByteVector built(const Frame& frame, std::size_t length) {
  ByteVector bytes(length);
  build(bytes.data(), frame);
  return bytes;
}

// proves 1.2/1, 1.3/1, 1.3/2, 1.3/4
TEST(FrameHeader, data_must_be_a_multiple_of_32_and_others_at_least_their_minimum) {
  const ByteVector data = built(DataHeader{.frame_length = 33}, 96);
  for (std::size_t length = 0; length <= data.size(); ++length) {
    EXPECT_EQ(FrameHeader::parse(std::span{data}.first(length)).has_value(), length >= 32 && length % 32 == 0) << length;
  }
  struct Minimum { std::uint16_t type; std::size_t bytes; };
  for (const Minimum m : {Minimum{0x02, 28}, {0x03, 36}, {0x04, 40}, {0x05, 40}, {0x06, 40}, {0x07, 22}, {0x0B, 20}}) {
    ByteVector bytes(64);
    put_header(bytes.data(), static_cast<std::int32_t>(m.bytes), 0, static_cast<FrameType>(m.type));
    EXPECT_FALSE(FrameHeader::parse(std::span{bytes}.first(m.bytes - 1))) << m.type;
    EXPECT_TRUE(FrameHeader::parse(std::span{bytes}.first(m.bytes))) << m.type;
    EXPECT_TRUE(FrameHeader::parse(bytes)) << "trailing bytes are ignored, type " << m.type;
    put_header(bytes.data(), 65, 0, static_cast<FrameType>(m.type));
    EXPECT_FALSE(FrameHeader::parse(bytes)) << "longer than the datagram, type " << m.type;
  }
}

// proves 1.2/2
TEST(FrameHeader, types_that_are_reserved_are_invalid) {
  ByteVector bytes(64);
  for (const unsigned type : {0x08U, 0x09U, 0x0AU, 0x0CU, 0x7FU, 0xFFFFU}) {
    put_header(bytes.data(), 32, 0, static_cast<FrameType>(type));
    EXPECT_FALSE(FrameHeader::parse(bytes)) << type;
  }
}

Setup good_setup() { return {.session_id = 1, .stream_id = 2, .initial_term_id = 3, .active_term_id = 4, .term_length = 65536, .mtu = 1408, .ttl = 7}; }
bool is_accepted(const Setup& s) { return Setup::parse(built(s, Setup::kLength)).has_value(); }

// proves 1.5/3, 1.5/4, 1.5/5, 1.12/2
TEST(SetupFrame, every_limit_of_its_validity_column_is_checked) {
  EXPECT_TRUE(is_accepted(good_setup()));
  struct Case { std::int32_t wire::Setup::* field; std::int32_t value; bool is_valid; };
  for (const Case& c : {Case{&wire::Setup::term_length, 32768, false}, {&wire::Setup::term_length, 65537, false}, {&wire::Setup::term_length, 1 << 30, true},
                        {&wire::Setup::term_length, -65536, false}, {&wire::Setup::term_length, 0, false}, {&wire::Setup::term_length, INT32_MIN, false},
                        {&wire::Setup::term_offset, -32, false}, {&wire::Setup::term_offset, 65504, true}, {&wire::Setup::term_offset, 65536, false},
                        {&wire::Setup::term_offset, 33, false}, {&wire::Setup::mtu, 0, false}, {&wire::Setup::mtu, 32, false}, {&wire::Setup::mtu, 64, true}, {&wire::Setup::mtu, 1400, false},
                        {&wire::Setup::mtu, 65504, true}, {&wire::Setup::mtu, 65536, false}, {&wire::Setup::mtu, -32, false}}) {
    wire::Setup s = good_setup();
    s.*(c.field) = c.value;
    EXPECT_EQ(is_accepted(s), c.is_valid) << c.value;
  }
}

// proves 1.13/4
TEST(SetupFrame, an_active_term_before_the_initial_one_has_no_position) {
  for (const auto& [initial, active, is_valid] : {std::tuple{3, 2, false}, {3, INT32_MIN + 2, true}, {3, INT32_MIN + 3, false}, {INT32_MAX, INT32_MIN, true}}) {
    wire::Setup s = good_setup();
    s.initial_term_id = initial;
    s.active_term_id = active;
    EXPECT_EQ(is_accepted(s), is_valid) << initial << ' ' << active;
  }
}

// proves 1.6/6
TEST(StatusMessage, a_group_tag_is_there_at_length_44_only) {
  ByteVector bytes = built(StatusMessage{.receiver_id = 9, .group_tag = -3}, 44);
  EXPECT_EQ(StatusMessage::parse(bytes)->group_tag, -3);
  store_le<std::int32_t>(bytes.data(), 40);
  EXPECT_FALSE(StatusMessage::parse(bytes)->group_tag);
  store_le<std::int32_t>(bytes.data(), 44);
  EXPECT_FALSE(StatusMessage::parse(std::span{bytes}.first(40))->group_tag);
}

// proves 1.6/2, 1.6/3
TEST(StatusMessage, position_and_window_must_fit_the_term) {
  const auto is_valid = [](std::int32_t offset, std::int32_t window) {
    return StatusMessage{.consumption_term_offset = offset, .window_length = window}.valid_for(65536);
  };
  EXPECT_TRUE(is_valid(0, 0));
  EXPECT_TRUE(is_valid(65504, 32768));
  EXPECT_FALSE(is_valid(65536, 0));
  EXPECT_FALSE(is_valid(-32, 0));
  EXPECT_FALSE(is_valid(16, 0));
  EXPECT_FALSE(is_valid(0, 32769));
  EXPECT_FALSE(is_valid(0, -1));
}

// proves 1.7/3, 1.7/4
TEST(Nak, gap_must_lie_inside_the_term) {
  const auto is_valid = [](std::int32_t offset, std::int32_t length) { return Nak{1, 2, 3, offset, length}.valid_for(65536); };
  EXPECT_TRUE(is_valid(0, 65536));
  EXPECT_TRUE(is_valid(65504, 32));
  EXPECT_FALSE(is_valid(65504, 64));
  EXPECT_FALSE(is_valid(32, INT32_MAX));
  EXPECT_FALSE(is_valid(-32, 32));
  EXPECT_FALSE(is_valid(1, 32));
  EXPECT_FALSE(is_valid(0, -1));
}

// proves 1.8/3
TEST(ErrorFrame, text_length_is_checked_against_frame_and_datagram) {
  const ByteVector text(8, std::byte{'x'});
  ErrorFrame e;
  e.group_tag = 5;
  e.text = text;
  ByteVector bytes = built(e, e.length());
  ASSERT_TRUE(ErrorFrame::parse(bytes));
  EXPECT_EQ(ErrorFrame::parse(bytes)->group_tag, 5);
  for (const std::int32_t n : {-1, INT32_MIN, 9, 1024, INT32_MAX}) {
    store_le(bytes.data() + 36, n);
    EXPECT_FALSE(ErrorFrame::parse(bytes)) << n;
  }
  store_le<std::int32_t>(bytes.data() + 36, 8);
  EXPECT_FALSE(ErrorFrame::parse(std::span{bytes}.first(47)));
}

// proves 6.1/5
TEST(ResolutionEntry, hostile_lengths_and_types_are_refused) {
  const ByteVector name(512, std::byte{'n'});
  ResolutionEntry e;
  e.address_type = ResolutionEntry::kIpv6;
  e.name = name;
  ByteVector bytes(e.length());
  build(bytes.data(), e);
  ASSERT_TRUE(ResolutionEntry::parse(bytes));
  EXPECT_EQ(ResolutionEntry::parse(bytes)->name.size(), 512U);
  EXPECT_FALSE(ResolutionEntry::parse(std::span{bytes}.first(bytes.size() - 1)));
  for (const std::int16_t n : {std::int16_t{0}, std::int16_t{-1}, std::int16_t{513}, std::int16_t{32767}}) {
    store_le(bytes.data() + 24, n);
    EXPECT_FALSE(ResolutionEntry::parse(bytes)) << n;
  }
  bytes[0] = std::byte{3};
  EXPECT_FALSE(ResolutionEntry::parse(bytes));
  for (std::size_t length = 0; length < 14; ++length) EXPECT_FALSE(ResolutionEntry::parse(std::span{bytes}.first(length)));
}

// proves 1.12/4, 1.13/1, 1.13/2, 1.13/3, 1.13/7, 1.13/8
TEST(Positions, term_ids_wrap_around) {
  constexpr std::int32_t kInitial = INT32_MAX;
  constexpr int kBits = position_bits(65536);
  static_assert(kBits == 16);
  static_assert(term_id_of(65536, kInitial, kBits) == INT32_MIN);
  static_assert(position_of(INT32_MIN, 64, kInitial, kBits) == 65536 + 64);
  static_assert(wrapping_sub(INT32_MIN, INT32_MAX) == 1);
  static_assert(term_offset_of(3 * 65536 + 96, kBits) == 96 && partition_of(3 * 65536 + 96, kBits) == 0 && partition_of(5 * 65536, kBits) == 2);
  static_assert(max_position(65536) == std::int64_t{65536} << 31);
  static_assert(max_message_length(65536) == 8192 && max_message_length(1 << 30) == 16 << 20);
  static_assert(longest_claim(65536, 1408) == 5 * 1408 + 1344 && longest_claim(65536, 64) == 256 * 64 && longest_claim(65536, 16384) == 16384);
  static_assert(longest_claim(65536, 8192 + 32) == 8192 + 32 && longest_claim(65536, 32) == 32);
  static_assert(align_frame(0) == 0 && align_frame(1) == 32 && align_frame(1408) == 1408);
  for (std::int64_t position = 0; position < 10 * 65536; position += 4096 + 32) {
    EXPECT_EQ(position_of(term_id_of(position, kInitial, kBits), term_offset_of(position, kBits), kInitial, kBits), position);
  }
}

}  // namespace
}  // namespace thalweg::wire
