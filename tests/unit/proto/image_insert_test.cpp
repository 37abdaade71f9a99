#include "tests/unit/proto/proto_fixture.hpp"

// wire-protocol 3.4, 3.5, 3.10; client-protocol 7.7.
namespace thalweg::proto::test {
namespace {

using shm::LaneCounter;

bool has_frame(ImageBench& i, std::int64_t position, std::int32_t length) {
  return shm::frame_length_acquire(i.log.view().at(position)) == length;
}

TEST(Insert, puts_a_datagram_into_the_log_as_it_came) {
  ImageBench i;
  const Bytes d = join({data_frame({7, 0}, 64, 1), data_frame({7, 96}, 40, 2)});
  EXPECT_EQ(i.insert(d), Insert::kInserted);
  EXPECT_EQ(std::memcmp(i.log.view().at(0), d.data(), d.size()), 0);
  EXPECT_EQ(i.state().high_water, 96 + 96);
  EXPECT_EQ(i.state().rebuild_position, 192);
  EXPECT_EQ(i.state().insert_begin, i.state().insert_end);
  EXPECT_EQ(i.count(LaneCounter::kDataFramesReceived), 1U);
}

TEST(Insert, copies_datagrams_of_every_size) {
  std::int64_t position = 0;
  ImageBench i{{.term_length = 1 << 20}};
  for (std::int32_t length = 32; length <= 4096; length += 32) {
    const Bytes d = data_frame(i.at(position), length - 32, static_cast<std::uint8_t>(length / 32));
    ASSERT_EQ(i.insert(d), Insert::kInserted);
    ASSERT_EQ(std::memcmp(i.log.view().at(position), d.data(), d.size()), 0) << length;
    position += length;
  }
  EXPECT_EQ(i.state().rebuild_position, position);
}

// proves 1.13/1, 3.4/6, 3.4/7
TEST(Insert, an_image_may_join_in_the_middle_of_a_stream_with_wrapped_term_ids) {
  ImageBench i{{.initial_term_id = std::numeric_limits<std::int32_t>::max(), .join_position = 2 * kTerm + 640}};
  EXPECT_EQ(i.at(2 * kTerm + 640).term_id, std::numeric_limits<std::int32_t>::min() + 1);
  EXPECT_EQ(i.data(2 * kTerm + 640), Insert::kInserted);
  EXPECT_EQ(i.state().rebuild_position, 2 * kTerm + 736);
  const auto sm = wire::StatusMessage::parse(i.send(0).at(0));
  EXPECT_EQ(sm->consumption_term_id, std::numeric_limits<std::int32_t>::min() + 1);
  EXPECT_EQ(sm->consumption_term_offset, 640);
}

// proves 1.4/5, 1.13/6, 3.5/6
TEST(Insert, a_padding_header_stands_for_its_whole_length) {
  ImageBench i{{.join_position = kTerm - 1024}};
  EXPECT_EQ(i.insert(pad_frame({7, kTerm - 1024}, 1024)), Insert::kInserted);
  EXPECT_EQ(i.state().rebuild_position, kTerm);
  EXPECT_TRUE(i.log.is_zero(kTerm - 1024 + 32, kTerm)) << "only the header is written";
  EXPECT_EQ(i.data(kTerm), Insert::kInserted);
}

// proves 1.4/6, 3.5/4
TEST(Insert, padding_may_end_a_datagram_of_data_frames) {
  ImageBench i{{.join_position = kTerm - 1024}};
  EXPECT_EQ(i.insert(join({data_frame({7, kTerm - 1024}, 96), pad_frame({7, kTerm - 896}, 896)})), Insert::kInserted);
  EXPECT_EQ(i.state().rebuild_position, kTerm);
}

// proves 1.4/7
TEST(Insert, padding_of_32_bytes_is_like_an_empty_frame) {
  ImageBench i;
  EXPECT_EQ(i.insert(join({pad_frame({7, 0}, 32), data_frame({7, 32}, 32)})), Insert::kInserted);
  EXPECT_EQ(i.state().rebuild_position, 96);
}

TEST(Insert, what_follows_a_padding_header_in_its_datagram_is_not_copied) {
  ImageBench i;
  EXPECT_EQ(i.insert(join({pad_frame({7, 0}, 128), data_frame({7, 32}, 32)})), Insert::kInserted);
  EXPECT_EQ(i.state().rebuild_position, 128);
  EXPECT_TRUE(i.log.is_zero(32, 128));
}

// proves 1.13/4
TEST(Insert, a_term_older_than_the_first_is_dropped) {
  ImageBench i;
  EXPECT_EQ(i.insert(data_frame({6, 0}, 32)), Insert::kStaleTerm);
  EXPECT_EQ(i.count(LaneCounter::kDropStaleTerm), 1U);
}

struct Malformed { const char* what; Bytes datagram; };
Bytes with(Bytes d, std::size_t at, std::int32_t value) {
  store_le(d.data() + at, value);
  return d;
}
class MalformedDatagram : public ::testing::TestWithParam<Malformed> {};
// proves 3.5/5
TEST_P(MalformedDatagram, is_dropped_whole_and_counted) {
  ImageBench i;
  EXPECT_EQ(i.insert(GetParam().datagram), Insert::kInvalid);
  EXPECT_EQ(i.count(LaneCounter::kDropInvalidFrame), 1U);
  EXPECT_TRUE(i.log.is_zero(0, kTerm));
  EXPECT_EQ(i.state().high_water, 0);
}
INSTANTIATE_TEST_SUITE_P(
    Rules, MalformedDatagram,
    ::testing::Values(Malformed{"offset not aligned", data_frame({7, 16}, 32)}, Malformed{"offset beyond the term", data_frame({7, kTerm}, 32)},  // proves 3.5/2
                      Malformed{"offset negative", data_frame({7, -32}, 32)},  // proves 3.5/2
                      Malformed{"second frame of length 0", join({data_frame({7, 0}, 32), heartbeat({7, 64})})},  // proves 3.5/3
                      Malformed{"length below a header", with(data_frame({7, 0}, 0), 0, 31)},  // proves 3.5/3
                      Malformed{"data longer than the datagram", with(data_frame({7, 0}, 32), 0, 96)},  // proves 3.5/4
                      Malformed{"data shorter than the datagram", with(data_frame({7, 0}, 32), 0, 32)},  // proves 3.5/4
                      Malformed{"second frame of another type", join({data_frame({7, 0}, 32), with(data_frame({7, 64}, 32), 4, 0x0002C000)})},  // proves 3.5/3
                      Malformed{"second frame at another offset", join({data_frame({7, 0}, 32), data_frame({7, 128}, 32)})},  // proves 3.5/3
                      Malformed{"second frame of another term", join({data_frame({7, 0}, 32), data_frame({8, 64}, 32)})},  // proves 1.2/3
                      Malformed{"second frame of another session", join({data_frame({7, 0}, 32), with(data_frame({7, 64}, 32), 12, 78)})},
                      Malformed{"frame across the end of the term", data_frame({7, kTerm - 32}, 32)},  // proves 3.5/3
                      Malformed{"padding across the end of the term", pad_frame({7, kTerm - 32}, 64)}),  // proves 3.5/3
    [](const auto& param) {
      std::string name = param.param.what;
      std::replace(name.begin(), name.end(), ' ', '_');
      return name;
    });

// ---- windows ----

// proves 3.5/7
TEST(Insert, overrun_begins_half_a_term_beyond_the_last_status_message) {
  ImageBench i;
  EXPECT_EQ(i.data(kTerm / 2 - 96), Insert::kInserted) << "ends exactly at the limit";
  EXPECT_EQ(i.data(kTerm / 2 - 64), Insert::kOverrun);
  EXPECT_EQ(i.beat(kTerm / 2), Insert::kHeartbeat);
  EXPECT_EQ(i.count(LaneCounter::kOverRuns), 1U);
}

// A sender may go past its limit by a PAD (1.15). A receiver that refuses what it then says or sends stands still: it has nothing left to
// consume, so its window does not move.
TEST(Insert, heartbeat_of_a_sender_that_a_pad_carried_past_the_window_is_taken) {
  ImageBench i;
  const std::int32_t longest = wire::longest_claim(kTerm, 1408);
  EXPECT_EQ(i.beat(kTerm / 2 + longest), Insert::kHeartbeat);
  EXPECT_EQ(i.state().high_water, kTerm / 2 + longest) << "what was lost before the PAD is missed";
  EXPECT_EQ(i.beat(kTerm / 2 + longest + 32), Insert::kOverrun);
}

// proves 3.5/6, 3.5/7
TEST(Insert, of_a_pad_only_the_header_counts_against_the_window) {
  const std::int64_t begin = kTerm / 4;  // the window ends at 3/4 of the term
  const std::int64_t edge = begin + kTerm / 2;
  const std::int32_t longest = wire::longest_claim(kTerm, 1408);
  ImageBench i{{.join_position = begin}};
  const auto pad_at = [&](std::int64_t position, std::int32_t length) { return pad_frame(i.at(position), length); };
  EXPECT_EQ(i.insert(pad_at(edge, 32)), Insert::kOverrun);
  EXPECT_EQ(i.insert(pad_at(edge - 32, longest + 64)), Insert::kOverrun) << "longer than any PAD there can be";
  EXPECT_EQ(i.insert(join({data_frame(i.at(edge - 160), 96), pad_at(edge - 32, longest + 32)})), Insert::kInserted);
  EXPECT_EQ(i.state().high_water, edge + longest);
}

// proves 3.5/10, 3.5/11, 3.9/2
TEST(Insert, underrun_lies_below_the_last_status_message) {
  ImageBench i{{.join_position = 3 * kTerm + 4096}};
  const std::int64_t activity = i.state().last_packet_ns;
  EXPECT_EQ(i.data(3 * kTerm + 4096 - 96, 96, kMs), Insert::kUnderrun);
  EXPECT_EQ(i.state().last_packet_ns, activity) << "no sign of life for the image";
  EXPECT_EQ(i.state().connections[0].last_activity_ns, kStart_ns + kMs) << "but for the connection";
  EXPECT_EQ(i.data(2 * kTerm, 96, 2 * kMs), Insert::kUnderrun);
  EXPECT_EQ(i.state().connections[0].last_activity_ns, kStart_ns + kMs) << "too far back even for that";
  EXPECT_EQ(i.count(LaneCounter::kUnderRuns), 2U);
}

// proves 3.5/8, 3.5/9
TEST(Insert, heartbeats_are_taken_from_one_term_below_the_last_status_message) {
  ImageBench i{{.join_position = 3 * kTerm}};
  EXPECT_EQ(i.beat(2 * kTerm, kMs), Insert::kHeartbeat);
  EXPECT_EQ(i.state().last_packet_ns, kStart_ns + kMs);
  EXPECT_EQ(i.beat(2 * kTerm - 32, 2 * kMs), Insert::kUnderrun);
  EXPECT_EQ(i.state().last_packet_ns, kStart_ns + kMs);
  EXPECT_EQ(i.count(LaneCounter::kHeartbeatsReceived), 1U);
}

// proves 3.5/8, 3.6/3
TEST(Insert, a_heartbeat_moves_the_high_water_mark_and_shows_lost_data_at_the_tail) {
  ImageBench i;
  i.beat(4096);
  EXPECT_EQ(i.state().high_water, 4096);
  EXPECT_EQ(i.state().rebuild_position, 0);
  EXPECT_TRUE(i.image.has_gap());
  i.beat(1024);
  EXPECT_EQ(i.state().high_water, 4096) << "never falls";
}

// ---- duplicates and overlaps ----

// proves 3.5/12
TEST(Insert, the_first_writer_of_a_slot_wins) {
  ImageBench i;
  i.data(0, 96, 0, 1);
  EXPECT_EQ(i.data(0, 96, 0, 2), Insert::kInserted);
  EXPECT_EQ(load_le<std::uint8_t>(i.log.view().at(32)), 1);
  i.data(192, 96, 0, 3);
  EXPECT_EQ(i.data(192, 96, 0, 4), Insert::kInserted);
  EXPECT_EQ(load_le<std::uint8_t>(i.log.view().at(192 + 32)), 3) << "also above a gap";
  EXPECT_EQ(i.state().rebuild_position, 96);
  EXPECT_EQ(i.state().high_water, 288);
}

// proves 3.5/14
TEST(Insert, a_datagram_that_begins_in_a_gap_may_overlap_what_is_there) {
  ImageBench i;
  i.data(96);
  i.insert(join({data_frame({7, 0}, 64), data_frame({7, 96}, 64), data_frame({7, 192}, 64)}));
  EXPECT_EQ(i.state().rebuild_position, 288);
  EXPECT_TRUE(has_frame(i, 192, 96));
}

// proves 3.5/15
TEST(Insert, a_datagram_whose_first_slot_is_filled_is_discarded_whole) {
  ImageBench i;
  i.data(0);
  i.data(288);
  i.insert(join({data_frame({7, 0}, 64), data_frame({7, 96}, 64)}));
  EXPECT_EQ(i.state().rebuild_position, 96);
  EXPECT_TRUE(has_frame(i, 96, 0));
}

TEST(Insert, filling_the_middle_of_a_gap_leaves_two) {
  ImageBench i;
  i.data(960);
  i.data(480);
  EXPECT_EQ(i.state().gap_count, 2);
  EXPECT_EQ(i.state().gaps[0].position, 0);
  EXPECT_EQ(i.state().gaps[0].length, 480);
  EXPECT_EQ(i.state().gaps[1].position, 576);
  EXPECT_EQ(i.state().gaps[1].length, 384);
  i.data(0, 480);
  EXPECT_EQ(i.state().rebuild_position, 576);
  i.data(576, 384);
  EXPECT_EQ(i.state().rebuild_position, 1056);
  EXPECT_FALSE(i.image.has_gap());
}

// proves 3.8/2
TEST(Insert, a_gap_never_crosses_a_term) {
  ImageBench i{{.join_position = kTerm - 1024}};
  i.data(kTerm + 1024);
  ASSERT_EQ(i.state().gap_count, 2);
  EXPECT_EQ(i.state().gaps[0].length, 1024);
  EXPECT_EQ(i.state().gaps[1].position, kTerm);
}

TEST(Insert, what_lies_behind_a_wide_gap_waits_until_the_gap_was_zeroed_in_steps) {
  constexpr std::int32_t term = 1 << 20;
  ImageBench i{{.term_length = term, .is_dirty = true}};
  EXPECT_EQ(i.data(3 * kCleanBytesPerTurn), Insert::kTooFar);
  EXPECT_EQ(i.count(LaneCounter::kDropBehindGap), 1U);
  EXPECT_EQ(i.count(LaneCounter::kDataFramesReceived), 0U) << "a datagram ends in one place";
  EXPECT_EQ(i.state().high_water, kCleanBytesPerTurn);
  EXPECT_EQ(i.state().announced, 3 * kCleanBytesPerTurn + 96);
  EXPECT_TRUE(i.image.has_gap());
  EXPECT_EQ(i.image.next_deadline_ns(), 0);
  for (int turn = 2; turn <= 3; ++turn) {
    i.send(0);
    EXPECT_EQ(i.state().high_water, turn * kCleanBytesPerTurn);
    EXPECT_TRUE(i.ends_and_gaps_are_zero());
  }
  i.send(0);
  EXPECT_EQ(i.state().high_water, 3 * kCleanBytesPerTurn + 96) << "the datagram that was not taken is a gap too";
  EXPECT_EQ(i.state().gap_count, 1);
  EXPECT_EQ(i.data(3 * kCleanBytesPerTurn), Insert::kInserted);
  EXPECT_EQ(i.count(LaneCounter::kDropBehindGap), 1U);
  EXPECT_EQ(i.count(LaneCounter::kDataFramesReceived), 1U);
  EXPECT_TRUE(i.ends_and_gaps_are_zero());
}

TEST(Insert, a_heartbeat_beyond_a_wide_gap_is_followed_in_steps) {
  constexpr std::int32_t term = 1 << 20;
  ImageBench i{{.term_length = term, .join_position = term - 4096, .is_dirty = true}};
  i.beat(term + 2 * kCleanBytesPerTurn);
  i.beat(term + 2 * kCleanBytesPerTurn, 0, 0xE0);
  EXPECT_TRUE(i.state().is_end_of_stream);
  EXPECT_FALSE(i.tick(0)) << "not complete: most of the gap is not even known";
  while (i.state().high_water < i.state().announced) i.send(0);
  EXPECT_EQ(i.state().high_water, term + 2 * kCleanBytesPerTurn);
  EXPECT_TRUE(i.ends_and_gaps_are_zero());
}

TEST(Insert, the_word_behind_the_last_frame_is_zero_also_in_the_next_term) {
  ImageBench i{{.join_position = kTerm - 1024, .is_dirty = true}};
  i.data(kTerm - 1024, 1024);
  EXPECT_TRUE(i.ends_and_gaps_are_zero());
  ImageBench padded{{.join_position = kTerm - 1024, .is_dirty = true}};
  padded.insert(pad_frame({7, kTerm - 1024}, 1024));
  EXPECT_TRUE(padded.ends_and_gaps_are_zero());
}

TEST(Insert, a_late_frame_leaves_what_follows_it_alone) {
  ImageBench i{{.is_dirty = true}};
  i.data(192);
  i.data(0);
  i.data(96);
  EXPECT_EQ(i.state().rebuild_position, 288);
  EXPECT_TRUE(i.ends_and_gaps_are_zero());
}

// The gap list against the log itself, under loss, reordering and duplication, with far more gaps open than the list holds.
class RandomOrder : public ::testing::TestWithParam<std::uint64_t> {};
// proves 3.6/2, 3.8/1
TEST_P(RandomOrder, the_rebuild_position_is_always_what_the_log_shows) {
  constexpr std::int32_t term = 256 << 10;
  ImageBench i{{.term_length = term, .join_position = term - 32 * 1024, .is_dirty = true}};
  std::uint64_t x = GetParam();
  const auto random = [&](std::uint64_t bound) {
    x = x * 6364136223846793005U + 1442695040888963407U;
    return (x >> 33) % bound;
  };
  struct Piece { std::int64_t position; std::int32_t length; };
  std::vector<Piece> pieces;
  std::int64_t end = term - 32 * 1024;
  while (end < term + 64 * 1024) {
    const auto room = static_cast<std::int32_t>(term - (end & (term - 1)));
    const std::int32_t length = std::min(room, static_cast<std::int32_t>(32 * (1 + random(20))));
    pieces.push_back({end, length});
    end += length;
  }
  const std::size_t total = pieces.size();
  for (std::size_t step = 0; step < total * 60 && i.state().rebuild_position < end; ++step) {
    const Piece& piece = pieces[random(total)];
    const Insert insert = i.data(piece.position, piece.length);
    ASSERT_TRUE(insert == Insert::kInserted || insert == Insert::kTooFar);
    if (random(50) == 0) i.beat(pieces[random(total)].position);
    i.send(static_cast<std::int64_t>(step) * kUs);
    std::int64_t shown = i.state().join_position;  // contiguous frames, read from the log
    while (shown < i.state().high_water) {
      const std::int32_t length = shm::frame_length_acquire(i.log.view().at(shown));
      if (length == 0) break;
      shown += wire::align_frame(length);
    }
    ASSERT_EQ(i.state().rebuild_position, shown) << "seed " << GetParam() << " step " << step;
    ASSERT_TRUE(i.ends_and_gaps_are_zero()) << "seed " << GetParam() << " step " << step;
  }
  EXPECT_EQ(i.state().rebuild_position, end);
  EXPECT_EQ(i.state().gap_count, 0);
}
INSTANTIATE_TEST_SUITE_P(Seeds, RandomOrder, ::testing::Values(1, 2, 3, 4, 5, 6, 7, 8));

// ---- end of stream ----

// proves 3.10/1, 3.10/2
TEST(EndOfStream, is_taken_from_a_heartbeat_and_stored_in_the_log) {
  ImageBench i;
  i.data(0);
  i.beat(96, 0, 0xE0);
  EXPECT_TRUE(i.state().is_end_of_stream);
  EXPECT_FALSE(i.state().is_revoked);
  EXPECT_EQ(i.log.view().load<std::int64_t>(shm::meta::kEndOfStreamPosition), 96);
  EXPECT_EQ(i.log.view().load<std::uint8_t>(shm::meta::kIsPublicationRevoked), 0);
}

// proves 3.10/3
TEST(EndOfStream, a_revoked_one_marks_the_log_revoked) {
  ImageBench i;
  i.beat(0, 0, 0xF0);
  EXPECT_TRUE(i.state().is_revoked);
  EXPECT_EQ(i.log.view().load<std::uint8_t>(shm::meta::kIsPublicationRevoked), 1);
}

// proves 3.10/4
TEST(EndOfStream, on_a_data_frame_is_not_interpreted) {
  ImageBench i;
  i.insert(data_frame({7, 0}, 64, 0, 0xE0));
  EXPECT_FALSE(i.state().is_end_of_stream);
}

// proves 3.10/1, 3.10/2
TEST(EndOfStream, needs_every_connection_and_takes_the_highest_position) {
  ImageBench i;
  i.image.on_setup(1, {1, 1}, kStart_ns);
  i.beat(128, 0, 0xE0);
  EXPECT_FALSE(i.state().is_end_of_stream);
  i.insert(heartbeat({7, 64}, 0xE0), 0, 1);
  EXPECT_TRUE(i.state().is_end_of_stream);
  EXPECT_EQ(i.state().end_of_stream_position, 128);
}

// ---- restart ----

TEST(Restart, a_half_copied_range_is_zeroed_and_asked_for_again) {
  ImageBench i;
  i.data(0);
  i.data(96);
  // A crash in the middle of a copy of 192 bytes at 192: the header is there, the length even, the state does not know.
  auto& s = i.slot->observed.state;
  s.insert_begin = 192;
  s.insert_end = 384;
  std::memset(i.log.view().at(192), 0x55, 100);
  Image again{i.context()};
  again.resume(kStart_ns + kSecond_ns);
  EXPECT_TRUE(i.log.is_zero(192, 384));
  EXPECT_EQ(i.state().rebuild_position, 192);
  EXPECT_EQ(again.insert(data_frame({7, 192}, 64), 0, kStart_ns + kSecond_ns), Insert::kInserted);
  EXPECT_EQ(i.state().rebuild_position, 288);
}

TEST(Restart, gaps_are_learned_from_the_log) {
  ImageBench i;
  i.data(0);
  i.data(192);
  i.data(480);
  auto& s = i.slot->observed.state;
  std::memset(static_cast<void*>(s.gaps), 0x77, sizeof s.gaps);
  s.gap_count = 31;
  Image again{i.context()};
  again.resume(kStart_ns);
  ASSERT_EQ(s.gap_count, 2);
  EXPECT_EQ(s.gaps[0].position, 96);
  EXPECT_EQ(s.gaps[0].length, 96);
  EXPECT_EQ(s.gaps[1].position, 288);
  EXPECT_EQ(s.gaps[1].length, 192);
}

TEST(Restart, mad_frame_lengths_in_the_log_do_not_lead_out_of_it) {
  ImageBench i{{.join_position = kTerm - 1024}};
  i.beat(kTerm + 4096);
  store_le(i.log.view().at(kTerm - 1024), std::numeric_limits<std::int32_t>::max());
  Image again{i.context()};
  again.resume(kStart_ns);
  EXPECT_EQ(i.state().gaps[0].position, kTerm) << "a length counts for its term at the most";
}

// proves 3.4/9
TEST(Subscribers, a_late_one_joins_at_the_slowest_position) {
  ImageBench i;
  i.data(0, 960);
  EXPECT_EQ(i.image.join_position({0, 0, 0}), 960);
  EXPECT_EQ(i.image.join_position({320, 960, 2}), 320);
  EXPECT_EQ(i.image.join_position({-5, 960, 2}), 0) << "clamped";
  EXPECT_EQ(i.image.join_position({1 << 30, 1 << 30, 1}), 960);
}

}  // namespace
}  // namespace thalweg::proto::test
