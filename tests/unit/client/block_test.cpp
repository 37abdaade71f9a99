// Whole frames appended as they are: ExclusivePublication::offer_block(). Spec: archive-log 13, 16.1; client-protocol 7.5.
#include <array>

#include "tests/unit/client/fixture.hpp"

namespace thalweg::client::test {
namespace {

constexpr std::int32_t kTerm = 64 << 10;
constexpr std::int32_t kMtu = 1408;

// One frame of another stream, as a recording would have it.
std::vector<std::byte> frame_of(std::size_t payload, std::uint8_t flags = frame::kUnfragmented, std::int64_t reserved_value = 0) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(frame::aligned(static_cast<std::int32_t>(payload) + frame::kHeaderLength)));
  store_le(bytes.data(), static_cast<std::int32_t>(payload) + frame::kHeaderLength);
  store_le(bytes.data() + frame::kFlagsOffset, flags);
  store_le(bytes.data() + frame::kTypeOffset, frame::kTypeData);
  store_le(bytes.data() + frame::kTermOffsetOffset, 4096);
  store_le(bytes.data() + frame::kSessionIdOffset, 77);
  store_le(bytes.data() + frame::kStreamIdOffset, 78);
  store_le(bytes.data() + frame::kTermIdOffset, 79);
  store_le(bytes.data() + frame::kReservedValueOffset, reserved_value);
  for (std::size_t i = 0; i < payload; ++i) bytes[frame::kHeaderLength + i] = static_cast<std::byte>(i * 31 + payload);
  return bytes;
}

// Of padding, its header or all of it.
std::vector<std::byte> padding_of(std::int32_t length, bool is_header_alone = true) {
  auto bytes = frame_of(0);
  store_le(bytes.data(), length);
  store_le(bytes.data() + frame::kTypeOffset, frame::kTypePad);
  if (!is_header_alone) bytes.resize(static_cast<std::size_t>(frame::aligned(length)), std::byte{0xEE});
  return bytes;
}

std::vector<std::byte> block_of(std::initializer_list<std::vector<std::byte>> frames) {
  std::vector<std::byte> block;
  for (const auto& one : frames) block.insert(block.end(), one.begin(), one.end());
  return block;
}

class Blocks : public WithDriver {
 protected:
  void SetUp() override {
    start();
    p_ = exclusive_publication();
  }
  void subscribe() { s_ = subscription(); }
  struct Seen {
    std::vector<std::byte> payload;
    std::uint8_t flags;
    std::int32_t term_offset;
    std::int64_t reserved_value;
    bool operator==(const Seen&) const = default;
  };
  std::vector<Seen> take() {
    std::vector<Seen> seen;
    const auto note = [&](std::span<const std::byte> payload, const Header& h) {
      EXPECT_EQ(h.session_id(), p_.session_id());
      EXPECT_EQ(h.stream_id(), kStream);
      seen.push_back({{payload.begin(), payload.end()}, h.flags(), h.term_offset(), h.reserved_value()});
    };
    const auto image = s_.images().at(0);
    for (std::int64_t before = -1; before != image->position();) {  // a poll that steps over padding hands over nothing
      before = image->position();
      s_.poll(note, 100);
    }
    driver_->do_work();
    return seen;
  }
  static std::vector<std::byte> payload_of(const std::vector<std::byte>& frame_bytes, std::size_t length) {
    return {frame_bytes.begin() + frame::kHeaderLength, frame_bytes.begin() + frame::kHeaderLength + static_cast<std::ptrdiff_t>(length)};
  }
  ExclusivePublication p_;
  Subscription s_;
};

TEST_F(Blocks, without_a_subscriber_are_not_connected) {
  EXPECT_EQ(p_.offer_block(frame_of(5)).status(), OfferStatus::kNotConnected);
  p_.close();
  EXPECT_EQ(p_.offer_block(frame_of(5)).status(), OfferStatus::kClosed);
}

TEST_F(Blocks, keep_payload_flags_and_reserved_values_and_get_the_stream_s_own_numbers) {
  subscribe();
  ASSERT_TRUE(p_.offer(bytes_of("before")));
  const auto a = frame_of(100, 0x80, 1), b = frame_of(7, 0x00, 2), c = frame_of(0, 0x40, 3);
  const OfferResult result = p_.offer_block(block_of({a, b, c}));
  ASSERT_TRUE(result);
  EXPECT_EQ(result.position(), 64 + 160 + 64 + 32);
  EXPECT_EQ(p_.position(), result.position());
  ASSERT_TRUE(p_.offer(bytes_of("after")));
  const auto seen = take();
  ASSERT_EQ(seen.size(), 5U);
  EXPECT_EQ(seen[1], (Seen{payload_of(a, 100), 0x80, 64, 1}));
  EXPECT_EQ(seen[2], (Seen{payload_of(b, 7), 0x00, 224, 2}));
  EXPECT_EQ(seen[3], (Seen{{}, 0x40, 288, 3}));
  EXPECT_EQ(text_of(seen[4].payload), "after");
}

TEST_F(Blocks, with_padding_in_them_and_at_their_end_keep_every_position) {
  subscribe();
  const auto data = frame_of(32);
  ASSERT_TRUE(p_.offer_block(block_of({data, padding_of(200, false), data, padding_of(kTerm - 64 - 224 - 64)})));
  EXPECT_EQ(p_.position(), kTerm);
  const auto seen = take();
  ASSERT_EQ(seen.size(), 2U);
  EXPECT_EQ(seen[1].term_offset, 64 + 224);
  EXPECT_EQ(p_.offer_block(data).status(), OfferStatus::kAdminAction) << "the next term";
  EXPECT_EQ(p_.position(), kTerm);
  EXPECT_EQ(p_.offer_block(data).position(), kTerm + 64);
  EXPECT_EQ(take().size(), 1U);
}

TEST_F(Blocks, that_do_not_fit_into_the_rest_of_the_term_begin_the_next_one) {
  subscribe();
  ASSERT_TRUE(p_.offer_block(padding_of(kTerm - 64)));
  take();
  const auto two = block_of({frame_of(32), frame_of(32)});
  EXPECT_EQ(p_.offer_block(two).status(), OfferStatus::kAdminAction);
  EXPECT_EQ(p_.offer_block(two).position(), kTerm + 128);
  EXPECT_EQ(take().size(), 2U);
}

TEST_F(Blocks, are_held_back_like_messages_and_taken_whole) {
  subscribe();
  std::vector<std::byte> block;
  while (block.size() < 24 << 10) {
    const auto one = frame_of(992);
    block.insert(block.end(), one.begin(), one.end());
  }
  EXPECT_TRUE(p_.offer_block(block));
  EXPECT_TRUE(p_.offer_block(block)) << "it begins below the limit";
  EXPECT_EQ(p_.offer_block(block).status(), OfferStatus::kBackPressured);
  EXPECT_EQ(p_.position(), 48 << 10);
  EXPECT_EQ(take().size(), 48U);
  EXPECT_EQ(p_.offer_block(block).status(), OfferStatus::kAdminAction);
  EXPECT_TRUE(p_.offer_block(block));
}

TEST_F(Blocks, for_many_laps_lose_nothing) {
  subscribe();
  std::size_t sent = 0, received = 0;
  while (received < 3000) {
    const auto block = block_of({frame_of(sent % 1300), frame_of((sent + 1) % 1300), frame_of((sent + 2) % 1300)});
    const OfferResult result = p_.offer_block(block);
    ASSERT_TRUE(result || result.is_retryable());
    if (result) sent += 3;
    if (result.status() != OfferStatus::kBackPressured) continue;
    for (const Seen& one : take()) {
      const auto expected = frame_of(received % 1300);
      ASSERT_EQ(one.payload, payload_of(expected, received % 1300));
      ++received;
    }
  }
}

TEST_F(Blocks, that_are_no_run_of_whole_frames_are_refused_and_change_nothing) {
  subscribe();
  const auto good = frame_of(100);
  const auto with = [&](std::size_t at, auto value) {
    auto bad = good;
    store_le(bad.data() + at, value);
    return bad;
  };
  const std::vector<std::pair<const char*, std::vector<std::byte>>> cases{
      {"nothing", {}},
      {"half a header", {good.begin(), good.begin() + 16}},
      {"half a frame", {good.begin(), good.begin() + 64}},
      {"not aligned", {good.begin(), good.end() - 1}},
      {"no length", with(0, std::int32_t{0})},
      {"not committed", with(0, std::int32_t{-132})},
      {"shorter than a header", with(0, std::int32_t{31})},
      {"beyond the block", with(0, std::int32_t{161})},
      {"as long as can be", with(0, INT32_MAX)},
      {"another version", with(4, std::uint8_t{1})},
      {"a SETUP", with(frame::kTypeOffset, std::uint16_t{5})},
      {"longer than the MTU", frame_of(kMtu - frame::kHeaderLength + 1)},
      {"a bad second one", block_of({good, with(0, std::int32_t{0})})},
      {"padding longer than a term", padding_of(kTerm + 32)},
      {"data behind a header of padding", block_of({padding_of(1024), good})},
      {"longer than a term", std::vector<std::byte>(kTerm + 32)},
  };
  for (const auto& [name, block] : cases) EXPECT_EQ(p_.offer_block(block).status(), OfferStatus::kInvalidBlock) << name;
  EXPECT_EQ(p_.position(), 0);
  EXPECT_FALSE(p_.offer_block(cases.front().second).is_retryable());
  EXPECT_TRUE(p_.offer_block(frame_of(kMtu - frame::kHeaderLength)));
  EXPECT_EQ(take().size(), 1U);
}

// A recording's files and another image's log may change under the block.
TEST_F(Blocks, that_change_while_they_are_copied_never_leave_half_a_frame) {
  std::vector<std::byte> term(4096);
  auto block = block_of({frame_of(100), frame_of(100)});
  const std::int32_t span = detail::block_span(block, 1376, kTerm);
  ASSERT_EQ(span, 320);
  store_le(block.data() + 160, std::int32_t{4000});
  detail::write_block(term.data(), 64, span, 1376, {.session_id = 1, .stream_id = 2}, 3, block);
  EXPECT_EQ(load_le<std::int32_t>(term.data() + 64), 132);
  EXPECT_EQ(load_le<std::int32_t>(term.data() + 64 + 160), 160);
  EXPECT_EQ(load_le<std::uint16_t>(term.data() + 64 + 160 + frame::kTypeOffset), frame::kTypePad);
  EXPECT_EQ(load_le<std::int32_t>(term.data() + 64 + 320), 0);
}

TEST_F(Blocks, go_from_one_stream_to_another_byte_for_byte) {
  subscribe();
  auto copy = exclusive_publication(kChannel, kStream + 1);
  auto copies = subscription(kChannel, kStream + 1);
  std::vector<std::string> expected, received;
  for (int i = 0; i < 400; ++i) {
    const std::string message(static_cast<std::size_t>(i * 13 % 3000), static_cast<char>('a' + i % 26));
    OfferResult result = p_.offer(bytes_of(message));
    while (result.is_retryable()) result = p_.offer(bytes_of(message));
    ASSERT_TRUE(result);
    expected.push_back(message);
    s_.for_each_image([&](Image& image) {
      while (image.block_poll(
                 [&](std::span<const std::byte> frames, std::int32_t, std::int32_t) {
                   OfferResult relayed = copy.offer_block(frames);
                   while (relayed.is_retryable()) relayed = copy.offer_block(frames);
                   ASSERT_TRUE(relayed);
                 },
                 kTerm) > 0) {
      }
    });
    FragmentAssembler assembler{[&](std::span<const std::byte> bytes, const Header&) { received.push_back(text_of(bytes)); }};
    while (copies.poll(assembler, 100) > 0) {
    }
    driver_->do_work();
  }
  EXPECT_EQ(received, expected);
  EXPECT_EQ(copy.position(), p_.position());
}

}  // namespace
}  // namespace thalweg::client::test
