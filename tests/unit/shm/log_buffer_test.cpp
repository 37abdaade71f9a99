#include "dataplane/shm/log_buffer.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "dataplane/shm/log_growth.hpp"
#include "dataplane/wire/frames.hpp"
#include "tests/support/hex.hpp"
#include "tests/support/shared_memory.hpp"

namespace thalweg::shm {
namespace {

constexpr std::int32_t kTerm = 65536;
constexpr std::int32_t kInitial = 5;

// The lane asks for the next partition and looks at the end of this one before the limit gets there, however long the terms are.
TEST(LogGrowth, is_asked_for_within_the_partition_that_ends) {
  for (std::int64_t term = 64 << 10; term <= 1 << 30; term *= 2) {
    EXPECT_EQ(LogGrowth::threshold(term, term), term / 8 * 5) << term;
    EXPECT_EQ(LogGrowth::threshold(7 * term, term), 7 * term - term / 8 * 3) << term;
    EXPECT_EQ(LogGrowth::threshold(LogGrowth::kAll, term), LogGrowth::kAll);
  }
}

class Log : public testing::Test {
 protected:
  void init(std::int32_t initial, std::int32_t start, std::int32_t offset) {
    init_log_metadata(log_, {.initial_term_id = initial, .start_term_id = start, .start_term_offset = offset, .session_id = 11, .stream_id = 12,
                             .mtu = 1408, .term_length = kTerm, .page_size = 4096});
  }
  void set_tail(int partition, std::int32_t term_id, std::int64_t offset) {
    log_.store<std::int64_t>(meta::kTails + 8 * static_cast<std::size_t>(partition), pack_tail(term_id, 0) + offset);
  }
  void write_length(std::int64_t position, std::int32_t length) { frame_length_release(log_.at(position), length); }
  [[nodiscard]] wire::DataView frame(std::int64_t position) const { return wire::DataView{log_.at(position)}; }
  [[nodiscard]] bool is_zero(std::int64_t from, std::int64_t to) const {
    return std::all_of(log_.at(from), log_.at(from) + (to - from), [](std::byte b) { return b == std::byte{}; });
  }

  test::SharedMemory memory_{log_file_length(kTerm, 4096)};
  LogBuffer log_{memory_.data(), log_file_length(kTerm, 4096), kTerm};
};

// proves 1.12/3
TEST(LogFile, length_is_three_terms_and_the_metadata_rounded_up_to_pages) {
  static_assert(log_file_length(65536, 4096) == 200704);
  static_assert(log_file_length(4 << 20, 2 << 20) == 14 << 20);
  static_assert(log_file_length(1 << 30, 4096) == 3ULL * (1 << 30) + 4096);
  std::vector<std::byte> file(2 << 20);
  const LogBuffer log{file.data(), file.size(), 65536};
  EXPECT_EQ(log.metadata(), file.data() + file.size() - 4096) << "found from the end, whatever the page size";
}

TEST(RawTail, packs_signed_term_ids_and_clamps_offsets_that_ran_over) {
  static_assert(tail_term_id(pack_tail(-7, 96)) == -7 && tail_offset(pack_tail(-7, 96), kTerm) == 96);
  static_assert(tail_term_id(pack_tail(std::numeric_limits<std::int32_t>::min(), 0)) == std::numeric_limits<std::int32_t>::min());
  static_assert(tail_offset(pack_tail(1, kTerm) + 64, kTerm) == kTerm);
  static_assert(tail_offset(pack_tail(1, -1), kTerm) == kTerm);
}

TEST_F(Log, tails_of_a_stream_that_starts_late_name_the_terms_of_one_lap_ago) {
  init(5, 7, 64);
  EXPECT_EQ(log_.active_term_count(), 2);
  EXPECT_EQ(log_.raw_tail(0), pack_tail(5, 0));
  EXPECT_EQ(log_.raw_tail(1), pack_tail(6, 0));
  EXPECT_EQ(log_.raw_tail(2), pack_tail(7, 64));
  EXPECT_EQ(producer_position(log_, 5), 2 * kTerm + 64);
}

TEST_F(Log, term_ids_wrap_at_their_ends) {
  constexpr std::int32_t kMax = std::numeric_limits<std::int32_t>::max();
  constexpr std::int32_t kMin = std::numeric_limits<std::int32_t>::min();
  init(kMax, kMin, 0);  // second term of the stream
  EXPECT_EQ(log_.active_term_count(), 1);
  EXPECT_EQ(log_.raw_tail(1), pack_tail(kMin, 0));
  EXPECT_EQ(log_.raw_tail(2), pack_tail(kMax - 1, 0));
  EXPECT_EQ(log_.raw_tail(0), pack_tail(kMax, 0));
  EXPECT_EQ(producer_position(log_, kMax), kTerm);
  EXPECT_TRUE(rotate_log(log_, 1, kMin));
  EXPECT_EQ(log_.raw_tail(2), pack_tail(kMin + 1, 0));
}

// proves 1.4/14
TEST_F(Log, default_header_is_the_template_of_7_4) {
  init_log_metadata(log_, {.initial_term_id = 1964104431, .start_term_id = 1964104431, .session_id = 1146854850, .stream_id = 31, .term_length = kTerm});
  EXPECT_EQ(test::to_hex({log_.metadata() + meta::kDefaultHeader, 32}), "00000000 00c00100 00000000 c29d5b44 1f000000 efda1175 00000000 00000000");
}

TEST_F(Log, image_metadata_has_no_tails_and_none_of_a_publications_own_fields) {
  init_log_metadata(log_, {.type = LogType::kImage, .correlation_id = 9, .initial_term_id = 77, .start_term_id = 79, .start_term_offset = 64,
                           .term_length = kTerm, .publication_window = 5, .receiver_window = 131072, .max_resend = 3, .linger_ns = 4,
                           .rejoin = true, .reliable = true, .signal_eos = true, .spies_simulate_connection = true, .tether = true});
  for (int i = 0; i < 3; ++i) EXPECT_EQ(log_.raw_tail(i), 0);
  EXPECT_EQ(log_.active_term_count(), 0);
  EXPECT_EQ(log_.load<std::int64_t>(meta::kEndOfStreamPosition), std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(log_.load<std::int32_t>(meta::kPublicationWindowLength), 0);
  EXPECT_EQ(log_.load<std::int32_t>(meta::kReceiverWindowLength), 131072);
  for (const std::size_t at : {meta::kEntityTag, meta::kResponseCorrelationId, meta::kLinger_ns}) EXPECT_EQ(log_.load<std::int64_t>(at), 0);
  EXPECT_EQ(log_.load<std::uint8_t>(meta::kTether), 1);
  EXPECT_EQ(log_.load<std::uint8_t>(meta::kSignalEos), 0);
  EXPECT_EQ(log_.load<std::uint8_t>(meta::kType), 2);
}

TEST_F(Log, producer_position_is_clamped_whatever_clients_write) {
  init(kInitial, kInitial, 0);
  set_tail(0, kInitial, kTerm + 4096);
  EXPECT_EQ(producer_position(log_, kInitial), kTerm) << "claims that failed run over the end";
  set_tail(0, kInitial - 1, 0);
  EXPECT_EQ(producer_position(log_, kInitial), 0) << "a term before the stream";
  for (const std::int32_t count : {-1, std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max()}) {
    log_.store<std::int32_t>(meta::kActiveTermCount, count);
    EXPECT_GE(producer_position(log_, kInitial), 0);
  }
}

TEST_F(Log, rotation_moves_the_next_tail_and_the_count_once) {
  init(kInitial, kInitial, 0);
  EXPECT_TRUE(rotate_log(log_, 0, kInitial));
  EXPECT_FALSE(rotate_log(log_, 0, kInitial)) << "somebody else was faster";
  EXPECT_EQ(log_.active_term_count(), 1);
  EXPECT_EQ(log_.raw_tail(1), pack_tail(kInitial + 1, 0));
  EXPECT_EQ(log_.raw_tail(2), pack_tail(kInitial - 1, 0));
  set_tail(1, kInitial + 1, 640);
  EXPECT_FALSE(rotate_log(log_, 0, kInitial));
  EXPECT_EQ(log_.raw_tail(1), pack_tail(kInitial + 1, 640)) << "a tail in use is never set back";
}

TEST_F(Log, cleaning_zeroes_the_range_and_nothing_else) {
  std::memset(log_.base(), 0xAA, 3 * kTerm);
  clean_log(log_, kTerm + 64, kTerm + 4096);
  EXPECT_TRUE(is_zero(kTerm + 64, kTerm + 4096));
  EXPECT_EQ(*log_.at(kTerm + 63), std::byte{0xAA});
  EXPECT_EQ(*log_.at(kTerm + 4096), std::byte{0xAA});
  clean_log(log_, 2 * kTerm, 2 * kTerm);
  EXPECT_EQ(*log_.at(2 * kTerm), std::byte{0xAA}) << "an empty range";
  clean_log(log_, 3 * kTerm + kTerm - 32, 4 * kTerm);
  EXPECT_EQ(*log_.at(kTerm - 33), std::byte{0xAA});
  EXPECT_TRUE(is_zero(kTerm - 32, kTerm)) << "the fourth term lies in the first partition";
  EXPECT_EQ(*log_.at(kTerm), std::byte{0xAA});
}

class Unblock : public Log {
 protected:
  void SetUp() override { init(kInitial, kInitial, 0); }
};

TEST_F(Unblock, claim_with_a_negative_length_becomes_padding_of_that_length) {
  set_tail(0, kInitial, 256);
  write_length(0, 128);
  write_length(128, -100);
  EXPECT_FALSE(unblock_log(log_, 0, kInitial)) << "a committed frame blocks nobody";
  ASSERT_TRUE(unblock_log(log_, 128, kInitial));
  EXPECT_EQ(test::to_hex({log_.at(128), 32}), "64000000 00c00000 80000000 0b000000 0c000000 05000000 00000000 00000000");
  EXPECT_EQ(log_.active_term_count(), 0);
}

TEST_F(Unblock, claim_without_a_length_is_padded_up_to_the_next_frame) {
  set_tail(0, kInitial, 1024);
  write_length(640, -200);
  ASSERT_TRUE(unblock_log(log_, 64, kInitial));
  EXPECT_EQ(frame(64).frame_length(), 640 - 64);
  EXPECT_EQ(frame(64).type(), wire::FrameType::kPad);
  EXPECT_EQ(frame(64).term_offset(), 64);
  EXPECT_EQ(frame(64).term_id(), kInitial);
}

TEST_F(Unblock, claim_with_nothing_behind_it_cannot_be_measured) {
  set_tail(0, kInitial, 1024);
  EXPECT_FALSE(unblock_log(log_, 64, kInitial));
  EXPECT_FALSE(unblock_log(log_, 1024, kInitial)) << "nothing is claimed there";
  EXPECT_FALSE(unblock_log(log_, 2048, kInitial));
  EXPECT_TRUE(is_zero(0, kTerm));
}

TEST_F(Unblock, claim_with_nothing_behind_it_ends_at_the_tail_once_no_producer_is_left) {
  set_tail(0, kInitial, 1024);
  ASSERT_TRUE(unblock_log(log_, 64, kInitial, false));
  EXPECT_EQ(frame(64).frame_length(), 1024 - 64);
  EXPECT_EQ(frame(64).type(), wire::FrameType::kPad);
}

TEST_F(Unblock, claim_that_reaches_the_end_of_the_term_is_padded_and_the_log_rotates) {
  set_tail(0, kInitial, kTerm + 96);
  ASSERT_TRUE(unblock_log(log_, kTerm - 128, kInitial));
  EXPECT_EQ(frame(kTerm - 128).frame_length(), 128);
  EXPECT_EQ(log_.active_term_count(), 1);
  EXPECT_EQ(log_.raw_tail(1), pack_tail(kInitial + 1, 0));
}

TEST_F(Unblock, publisher_that_died_between_padding_and_rotating_is_rotated_for) {
  set_tail(0, kInitial, kTerm);
  ASSERT_TRUE(unblock_log(log_, kTerm, kInitial));
  EXPECT_EQ(log_.active_term_count(), 1);
  EXPECT_EQ(log_.raw_tail(1), pack_tail(kInitial + 1, 0));
  EXPECT_EQ(producer_position(log_, kInitial), kTerm);
}

TEST_F(Unblock, hostile_lengths_tails_and_counts_stay_inside_the_term) {
  for (const std::int32_t length : {-1, -31, -(kTerm + 1), std::numeric_limits<std::int32_t>::min()}) {
    write_length(kTerm - 64, length);
    set_tail(0, kInitial, kTerm - 32);
    ASSERT_TRUE(unblock_log(log_, kTerm - 64, kInitial));
    EXPECT_GE(frame(kTerm - 64).frame_length(), 32);
    EXPECT_LE(frame(kTerm - 64).frame_length(), 64);
  }
  clean_log(log_, 0, kTerm);
  set_tail(0, kInitial + 3, 4096);
  EXPECT_FALSE(unblock_log(log_, 0, kInitial)) << "the tail is of another term";
  set_tail(0, kInitial, 0xFFFFFFFF);
  log_.store<std::int32_t>(meta::kActiveTermCount, -5);
  EXPECT_TRUE(unblock_log(log_, 32, kInitial));
  EXPECT_EQ(frame(32).frame_length(), kTerm - 32);
  set_tail(0, kInitial, 77);  // not a multiple of 32
  clean_log(log_, 0, kTerm);
  EXPECT_FALSE(unblock_log(log_, 0, kInitial));
}

}  // namespace
}  // namespace thalweg::shm
