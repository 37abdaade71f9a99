// The reference bytes of wire-protocol 9.4: each is built by our builder and read by our view.
#include <gtest/gtest.h>

#include <functional>

#include "dataplane/wire/frames.hpp"
#include "tests/support/hex.hpp"

namespace thalweg::wire {
namespace {

using test::ByteVector;
using test::from_hex;
using test::to_bytes;
using test::to_hex;

constexpr std::int32_t kSession = 0x11223344;
constexpr std::int32_t kStream = 1001;
constexpr std::int32_t kTerm = -7;
constexpr std::int64_t kReceiver = 0x0102030405060708;

template <typename Frame>
ByteVector built(const Frame& frame, std::size_t length) {
  ByteVector bytes(length);
  build(bytes.data(), frame);
  return bytes;
}

DataHeader data_header(std::int32_t length, std::int32_t offset) {
  return {.frame_length = length, .term_offset = offset, .session_id = kSession, .stream_id = kStream, .term_id = kTerm};
}

ByteVector hello() {
  ByteVector bytes = built(data_header(37, 0), 64);
  const ByteVector text = to_bytes("hello");
  std::copy(text.begin(), text.end(), bytes.begin() + kDataHeaderLength);
  return bytes;
}

ByteVector pad() {
  DataHeader header = data_header(4096, 61440);
  header.type = FrameType::kPad;
  return built(header, 32);
}

ByteVector resolution() {
  const ByteVector name = to_bytes("alpha");
  ResolutionEntry entry;
  entry.is_self = true;
  entry.port = 8050;
  entry.address[0] = std::byte{10};
  entry.address[3] = std::byte{1};
  entry.name = name;
  ByteVector bytes(FrameHeader::kLength + entry.length());
  put_header(bytes.data(), static_cast<std::int32_t>(bytes.size()), 0, FrameType::kResolution);
  build(bytes.data() + FrameHeader::kLength, entry);
  return bytes;
}

ByteVector error_frame() {
  const ByteVector text = to_bytes("bad");
  ErrorFrame e;
  e.session_id = kSession;
  e.stream_id = kStream;
  e.receiver_id = kReceiver;
  e.code = 13;
  e.text = text;
  return built(e, e.length());
}

StatusMessage status(std::optional<std::int64_t> tag) {
  return {.session_id = kSession, .stream_id = kStream, .consumption_term_id = kTerm, .window_length = 32768, .receiver_id = kReceiver, .group_tag = tag};
}

ByteVector setup() {
  return built(Setup{.session_id = kSession, .stream_id = kStream, .initial_term_id = kTerm, .active_term_id = kTerm, .term_length = 65536, .mtu = 1408}, 40);
}

struct Reference {
  const char* name;
  const char* hex;
  FrameType type;
  std::function<ByteVector()> build;
};
void PrintTo(const Reference& r, std::ostream* out) { *out << r.name; }

class ReferenceBytes : public testing::TestWithParam<Reference> {};

// proves 1.1/1, 1.1/2, 1.1/5, 1.2/4, 1.4/1, 1.4/8, 1.7/1, 1.8/1, 1.8/5, 1.10/1, 6.1/1, 6.1/2, 6.1/4, 9.4/1
TEST_P(ReferenceBytes, are_what_our_builder_writes) { EXPECT_EQ(to_hex(GetParam().build()), to_hex(from_hex(GetParam().hex))); }

// proves 1.1/5, 1.2/1, 9.4/1
TEST_P(ReferenceBytes, are_a_valid_datagram_of_their_type) {
  const ByteVector bytes = from_hex(GetParam().hex);
  const auto header = FrameHeader::parse(bytes);
  ASSERT_TRUE(header);
  EXPECT_EQ(header->type(), GetParam().type);
}

// proves 1.1/3, 1.1/4, 1.3/1
TEST_P(ReferenceBytes, are_invalid_when_cut_below_the_minimum_or_with_another_version) {
  ByteVector bytes = from_hex(GetParam().hex);
  for (std::size_t length = 0; length < 20; ++length) EXPECT_FALSE(FrameHeader::parse(std::span{bytes}.first(length))) << length;
  bytes[4] = std::byte{1};
  EXPECT_FALSE(FrameHeader::parse(bytes));
  bytes[4] = std::byte{0};
  bytes[3] = std::byte{0x80};
  EXPECT_FALSE(FrameHeader::parse(bytes));
}

INSTANTIATE_TEST_SUITE_P(
    Spec, ReferenceBytes,
    testing::Values(
        Reference{"setup", "28000000 00000500 00000000 44332211 e9030000 f9ffffff f9ffffff 00000100 80050000 00000000", FrameType::kSetup, setup},
        Reference{"heartbeat", "00000000 00c00100 80050000 44332211 e9030000 f9ffffff 00000000 00000000", FrameType::kData,
                  [] { return built(data_header(0, 1408), 32); }},
        Reference{"data",
                  "25000000 00c00100 00000000 44332211 e9030000 f9ffffff 00000000 00000000 68656c6c 6f000000 00000000 00000000 00000000 00000000 "
                  "00000000 00000000",
                  FrameType::kData, hello},
        Reference{"pad", "00100000 00c00000 00f00000 44332211 e9030000 f9ffffff 00000000 00000000", FrameType::kPad, pad},
        Reference{"sm", "24000000 00000300 44332211 e9030000 f9ffffff 00000000 00800000 08070605 04030201", FrameType::kStatusMessage,
                  [] { return built(status({}), 36); }},
        Reference{"sm_with_group_tag", "2c000000 00000300 44332211 e9030000 f9ffffff 00000000 00800000 08070605 04030201 05000000 00000000",
                  FrameType::kStatusMessage, [] { return built(status(5), 44); }},
        Reference{"sm_eliciting_setup", "24000000 00800300 44332211 e9030000 00000000 00000000 00000000 08070605 04030201",
                  FrameType::kStatusMessage,
                  [] {
                    return built(StatusMessage{.flags = flag::kSmSendSetup, .session_id = kSession, .stream_id = kStream, .receiver_id = kReceiver}, 36);
                  }},
        Reference{"nak", "1c000000 00000200 44332211 e9030000 f9ffffff 80050000 000b0000", FrameType::kNak,
                  [] { return built(Nak{kSession, kStream, kTerm, 1408, 2816}, 28); }},
        Reference{"rttm", "28000000 00800600 44332211 e9030000 40420f00 00000000 00000000 00000000 08070605 04030201",
                  FrameType::kRttMeasurement, [] { return built(RttMeasurement{true, kSession, kStream, 1000000, 0, kReceiver}, 40); }},
        Reference{"err", "2b000000 00000400 44332211 e9030000 08070605 04030201 ffffffff ffffffff 0d000000 03000000 626164", FrameType::kError,
                  error_frame},
        Reference{"rsp_setup", "14000000 00000b00 44332211 e9030000 88776655", FrameType::kResponseSetup,
                  [] { return built(ResponseSetup{kSession, kStream, 0x55667788}, 20); }},
        Reference{"res", "20000000 00000700 0180721f 00000000 0a000001 0500616c 70686100 00000000", FrameType::kResolution, resolution}),
    [](const auto& test_case) { return std::string{test_case.param.name}; });

// The dumps above have zeros and equal values beside each other. Here every field has a value of its own: its offset's number.
template <typename Word>
Word word_at(const ByteVector& bytes, std::size_t at) { return load_le<Word>(bytes.data() + at); }

// proves 1.5/1
TEST(Layout, of_a_setup) {
  const ByteVector b = built(wire::Setup{.flags = 0xC0, .term_offset = 8, .session_id = 12, .stream_id = 16, .initial_term_id = 20, .active_term_id = 24,
                                   .term_length = 28, .mtu = 32, .ttl = 36}, 40);
  for (std::size_t at = 8; at < 40; at += 4) EXPECT_EQ(word_at<std::int32_t>(b, at), static_cast<std::int32_t>(at));
  EXPECT_EQ(b[5], std::byte{0xC0});
  const auto valid = wire::Setup::parse(built(wire::Setup{.term_offset = 32, .session_id = 12, .stream_id = 16, .initial_term_id = 20, .active_term_id = 24,
                                              .term_length = 65536, .mtu = 1408, .ttl = 36}, 40));
  ASSERT_TRUE(valid);
  EXPECT_EQ(valid->initial_term_id, 20);
  EXPECT_EQ(valid->active_term_id, 24);
  EXPECT_EQ(valid->ttl, 36);
}

// proves 1.6/1
TEST(Layout, of_a_status_message) {
  const ByteVector b = built(StatusMessage{.session_id = 8, .stream_id = 12, .consumption_term_id = 16, .consumption_term_offset = 20,
                                           .window_length = 24, .receiver_id = 28, .group_tag = 36}, 44);
  for (std::size_t at = 8; at < 28; at += 4) EXPECT_EQ(word_at<std::int32_t>(b, at), static_cast<std::int32_t>(at));
  EXPECT_EQ(word_at<std::int64_t>(b, 28), 28);
  EXPECT_EQ(word_at<std::int64_t>(b, 36), 36);
  const auto sm = StatusMessage::parse(b);
  ASSERT_TRUE(sm);
  EXPECT_EQ(sm->consumption_term_offset, 20);
  EXPECT_EQ(sm->window_length, 24);
}

// proves 1.9/1
TEST(Layout, of_an_rttm) {
  const ByteVector b = built(RttMeasurement{false, 8, 12, 16, 24, 32}, 40);
  EXPECT_EQ(word_at<std::int32_t>(b, 8), 8);
  EXPECT_EQ(word_at<std::int32_t>(b, 12), 12);
  for (std::size_t at = 16; at < 40; at += 8) EXPECT_EQ(word_at<std::int64_t>(b, at), static_cast<std::int64_t>(at));
  EXPECT_EQ(RttMeasurement::parse(b)->reception_delta_ns, 24);
}

// proves 1.8/1
TEST(Layout, of_an_err_with_a_group_tag) {
  ErrorFrame e;
  e.session_id = 8;
  e.stream_id = 12;
  e.receiver_id = 16;
  e.group_tag = 24;
  e.code = 32;
  const ByteVector b = built(e, 40);
  EXPECT_EQ(word_at<std::int64_t>(b, 16), 16);
  EXPECT_EQ(word_at<std::int64_t>(b, 24), 24);
  EXPECT_EQ(word_at<std::int32_t>(b, 32), 32);
  EXPECT_EQ(b[5], std::byte{0x08});
  EXPECT_EQ(ErrorFrame::parse(b)->group_tag, 24);
}

// proves 1.4/1
TEST(Layout, of_a_data_header) {
  const ByteVector b = built(DataHeader{.frame_length = 32, .term_offset = 8, .session_id = 12, .stream_id = 16, .term_id = 20, .reserved_value = 24}, 32);
  for (std::size_t at = 8; at < 24; at += 4) EXPECT_EQ(word_at<std::int32_t>(b, at), static_cast<std::int32_t>(at));
  EXPECT_EQ(word_at<std::int64_t>(b, 24), 24);
  EXPECT_EQ(DataView{b.data()}.reserved_value(), 24);
  EXPECT_EQ(DataView{b.data()}.term_id(), 20);
}

// proves 6.1/3
TEST(Layout, of_an_ipv6_entry) {
  const ByteVector name = to_bytes("six");
  ResolutionEntry e;
  e.address_type = ResolutionEntry::kIpv6;
  e.port = 0x1234;
  for (std::size_t n = 0; n < 16; ++n) e.address[n] = static_cast<std::byte>(n + 1);
  e.name = name;
  ByteVector b(e.length());
  build(b.data(), e);
  EXPECT_EQ(to_hex(b), to_hex(from_hex("02003412 00000000 01020304 05060708 090a0b0c 0d0e0f10 03007369 78000000")));
  const auto read = ResolutionEntry::parse(b);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->address[15], std::byte{16});
  EXPECT_EQ(read->name.size(), 3U);
}

}  // namespace
}  // namespace thalweg::wire
