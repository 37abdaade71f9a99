#include "tests/unit/proto/proto_fixture.hpp"

// wire-protocol 3.2, 3.3, 3.12.
namespace thalweg::proto::test {
namespace {

using Decision = Dispatcher::Decision;
constexpr std::int32_t kA = 10, kB = -11, kInitialTermId = 7;

class Dispatching : public ::testing::Test {
 protected:
  Dispatch data(std::int32_t session, std::int64_t t = 0, bool eos = false) { return d.on_data(kStream, session, eos, kStart_ns + t).what; }
  Dispatch setup(std::int32_t session, std::int64_t t = 0, std::int32_t initial_term_id = kInitialTermId) { return d.on_setup(kStream, session, initial_term_id, kStart_ns + t).what; }
  Dispatcher d{64};
};

// proves 3.2/1
TEST_F(Dispatching, a_stream_nobody_wants_is_ignored) {
  EXPECT_FALSE(d.has_interest());
  EXPECT_EQ(data(kA), Dispatch::kIgnore);
  EXPECT_EQ(setup(kA), Dispatch::kIgnore);
  d.add_interest(kStream + 1, false, 0);
  EXPECT_EQ(data(kA), Dispatch::kIgnore);
  EXPECT_EQ(d.session_state(kStream, kA), SessionState::kNoInterest);
}

// proves 3.2/4, 3.3/6
TEST_F(Dispatching, data_of_an_unknown_session_elicits_a_setup_once_per_second) {
  d.add_interest(kStream, false, 0);
  EXPECT_EQ(data(kA), Dispatch::kElicitSetup);
  EXPECT_EQ(data(kA, 10 * kMs), Dispatch::kIgnore);
  d.tick(kStart_ns + kSecond_ns);
  EXPECT_EQ(data(kA, kSecond_ns), Dispatch::kIgnore);
  d.tick(kStart_ns + kSecond_ns + 1);
  EXPECT_EQ(data(kA, kSecond_ns + 1), Dispatch::kElicitSetup);
}

// proves 3.2/3
TEST_F(Dispatching, data_that_ends_a_stream_elicits_nothing) {
  d.add_interest(kStream, false, 0);
  EXPECT_EQ(data(kA, 0, true), Dispatch::kIgnore);
  EXPECT_EQ(d.session_state(kStream, kA), SessionState::kUnknown);
}

// proves 3.2/5, 3.2/9, 3.2/10
TEST_F(Dispatching, a_setup_asks_for_an_image_once_whether_it_was_elicited_or_not) {
  d.add_interest(kStream, false, 0);
  EXPECT_EQ(setup(kA), Dispatch::kCreateImage);
  EXPECT_EQ(setup(kA), Dispatch::kIgnore);
  EXPECT_EQ(data(kA), Dispatch::kIgnore);
  EXPECT_EQ(data(kB), Dispatch::kElicitSetup);
  EXPECT_EQ(setup(kB), Dispatch::kCreateImage);
  d.tick(kStart_ns + 5 * kSecond_ns);
  EXPECT_EQ(d.session_state(kStream, kB), SessionState::kInitInProgress) << "not a pending setup any more";
}

// proves 3.4/5
TEST_F(Dispatching, a_refused_image_is_asked_for_again_by_the_next_setup) {
  d.add_interest(kStream, false, 0);
  setup(kA);
  d.image_refused(kStream, kA);
  EXPECT_EQ(setup(kA), Dispatch::kCreateImage);
}

// proves 3.2/2, 3.2/8
TEST_F(Dispatching, a_live_image_gets_data_and_setups) {
  d.add_interest(kStream, false, 0);
  setup(kA);
  d.image_live(kStream, kA, 42);
  for (const Decision decision : {d.on_data(kStream, kA, false, 0), d.on_data(kStream, kA, true, 0), d.on_setup(kStream, kA, kInitialTermId, 0), d.find(kStream, kA)}) {
    EXPECT_EQ(decision.what, Dispatch::kImage);
    EXPECT_EQ(decision.image, 42U);
  }
  EXPECT_EQ(d.find(kStream, kB).what, Dispatch::kIgnore);
  EXPECT_EQ(d.find(kStream + 1, kA).what, Dispatch::kIgnore);
}

// proves 3.12/3, 3.12/4
TEST_F(Dispatching, an_image_that_ended_leaves_nothing_behind_but_its_last_heartbeats_do_not_bring_it_back) {
  d.add_interest(kStream, false, 0);
  d.image_live(kStream, kA, 1);
  d.image_removed(kStream, kA, 1, true, false);
  EXPECT_EQ(data(kA, 0, true), Dispatch::kIgnore);
  EXPECT_EQ(data(kA), Dispatch::kElicitSetup);
}

// proves 3.2/10, 3.2/14, 3.12/1, 3.12/2
TEST_F(Dispatching, an_image_that_timed_out_comes_back_only_with_rejoin) {
  d.add_interest(kStream, false, 0);
  d.image_live(kStream, kA, 1);
  d.image_live(kStream, kB, 2);
  d.image_removed(kStream, kA, 1, false, true);
  d.image_removed(kStream, kB, 2, false, false);
  EXPECT_EQ(data(kA), Dispatch::kElicitSetup);
  EXPECT_EQ(data(kB), Dispatch::kIgnore);
  EXPECT_EQ(setup(kB), Dispatch::kIgnore);
  EXPECT_EQ(d.session_state(kStream, kB), SessionState::kCoolDown);
  d.add_interest(kStream, false, 0);
  EXPECT_EQ(data(kB), Dispatch::kIgnore) << "another subscription does not end a cool-down";
  d.remove_interest(kStream, false, 0);
  d.remove_interest(kStream, false, 0);
  d.add_interest(kStream, false, 0);
  EXPECT_EQ(data(kB), Dispatch::kElicitSetup) << "the end of all interest does";
}

// proves 3.2/6, 3.2/13
TEST_F(Dispatching, a_session_interest_wants_that_session_only) {
  d.add_interest(kStream, true, kA);
  EXPECT_EQ(data(kB), Dispatch::kIgnore);
  EXPECT_EQ(data(kA), Dispatch::kElicitSetup);
  d.add_interest(kStream, true, kB);
  EXPECT_EQ(data(kB), Dispatch::kElicitSetup);
}

TEST_F(Dispatching, interests_are_counted_and_the_last_to_go_takes_its_images_along) {
  d.add_interest(kStream, false, 0);
  d.add_interest(kStream, false, 0);
  d.add_interest(kStream, true, kB);
  d.image_live(kStream, kA, 1);
  d.image_live(kStream, kB, 2);
  d.remove_interest(kStream, false, 0);
  EXPECT_EQ(data(kA), Dispatch::kImage);
  d.remove_interest(kStream, false, 0);
  EXPECT_EQ(data(kA), Dispatch::kIgnore);
  EXPECT_EQ(data(kB), Dispatch::kImage) << "still wanted by name";
  d.remove_interest(kStream, true, kB);
  EXPECT_EQ(data(kB), Dispatch::kIgnore);
  EXPECT_FALSE(d.has_interest());
  d.remove_interest(kStream, true, kB);  // one too many does no harm
}

TEST_F(Dispatching, removing_an_old_image_leaves_its_successor_alone) {
  d.add_interest(kStream, false, 0);
  d.image_live(kStream, kA, 1);
  d.image_live(kStream, kA, 2);
  d.image_removed(kStream, kA, 1, false, false);
  EXPECT_EQ(d.find(kStream, kA).image, 2U);
}

// proves 3.2/7
TEST_F(Dispatching, a_stream_has_no_more_images_than_its_session_limit) {
  d = Dispatcher{64, 2};
  d.add_interest(kStream, false, 0);
  d.add_interest(kStream + 1, false, 0);
  EXPECT_EQ(setup(kA), Dispatch::kCreateImage);
  EXPECT_EQ(setup(kB), Dispatch::kCreateImage);
  d.image_live(kStream, kA, 1);
  EXPECT_EQ(data(12), Dispatch::kElicitSetup);
  EXPECT_EQ(setup(12), Dispatch::kSessionLimit) << "one is live, one is being made";
  EXPECT_EQ(setup(13), Dispatch::kSessionLimit);
  EXPECT_EQ(setup(kA), Dispatch::kImage) << "those that are there go on";
  EXPECT_EQ(d.on_setup(kStream + 1, 12, kInitialTermId, kStart_ns).what, Dispatch::kCreateImage) << "another stream";
  d.image_refused(kStream, kB);
  EXPECT_EQ(setup(12), Dispatch::kCreateImage) << "there is room again";
  d.image_live(kStream, 12, 2);
  EXPECT_EQ(setup(13), Dispatch::kSessionLimit);
  d.image_removed(kStream, kA, 1, true, true);
  EXPECT_EQ(setup(13), Dispatch::kCreateImage);
}

TEST_F(Dispatching, images_that_nobody_wants_any_more_and_cool_downs_do_not_count_for_the_session_limit) {
  d = Dispatcher{64, 2};
  d.add_interest(kStream, true, kA);
  d.add_interest(kStream, true, kB);
  d.image_live(kStream, kA, 1);
  d.image_live(kStream, kB, 2);
  d.remove_interest(kStream, true, kA);
  d.add_interest(kStream, false, 0);
  EXPECT_EQ(setup(12), Dispatch::kCreateImage);
  EXPECT_EQ(setup(13), Dispatch::kSessionLimit);
  d.image_removed(kStream, kB, 2, false, false);
  EXPECT_EQ(d.session_state(kStream, kB), SessionState::kCoolDown);
  EXPECT_EQ(setup(13), Dispatch::kCreateImage);
  d.image_live(kStream, 12, 3);
  d.image_live(kStream, 12, 4);  // its successor: one image, not two
  d.image_removed(kStream, 12, 3, true, true);
  EXPECT_EQ(setup(14), Dispatch::kSessionLimit);
  d.image_removed(kStream, 12, 4, true, true);
  EXPECT_EQ(setup(14), Dispatch::kCreateImage);
}

TEST_F(Dispatching, a_flood_of_sessions_fills_the_table_and_no_more) {
  d.add_interest(kStream, false, 0);
  for (std::int32_t s = 0; s < 64; ++s) EXPECT_EQ(data(s), Dispatch::kElicitSetup);
  EXPECT_EQ(data(64), Dispatch::kFull);
  EXPECT_EQ(setup(65), Dispatch::kCreateImage) << "a SETUP is worth more than sessions that datagrams name";
  for (std::int32_t s = 0; s < 63; ++s) EXPECT_EQ(data(s), Dispatch::kElicitSetup);
  EXPECT_EQ(data(64), Dispatch::kFull);
  d.tick(kStart_ns + kSecond_ns + 1);
  for (std::int32_t s = 100; s < 163; ++s) EXPECT_EQ(setup(s), Dispatch::kCreateImage);
  EXPECT_EQ(setup(163), Dispatch::kFull);
}

// proves 3.2/6
TEST_F(Dispatching, unwanted_sessions_take_no_room) {
  d.add_interest(kStream, true, kA);
  for (std::int32_t s = 100; s < 1000; ++s) EXPECT_EQ(data(s), Dispatch::kIgnore);
  EXPECT_EQ(data(kA), Dispatch::kElicitSetup);
}

// The other side of an A/B stream may be seconds behind, or back from the dead.
TEST_F(Dispatching, what_a_late_side_brings_of_a_stream_that_has_ended_does_not_bring_it_back) {
  d.add_interest(kStream, false, 0);
  setup(kA);
  d.image_live(kStream, kA, 1);
  d.stream_ended(kStream, kA, 2, kInitialTermId, kStart_ns + 10 * kSecond_ns);
  EXPECT_EQ(data(kA), Dispatch::kImage) << "another image has the session";
  d.stream_ended(kStream, kA, 1, kInitialTermId, kStart_ns + 10 * kSecond_ns);
  EXPECT_EQ(d.session_state(kStream, kA), SessionState::kEnded);
  d.tick(kStart_ns + 10 * kSecond_ns);
  EXPECT_EQ(data(kA, 10 * kSecond_ns), Dispatch::kLateSide);
  EXPECT_EQ(data(kA, 10 * kSecond_ns, true), Dispatch::kLateSide);
  EXPECT_EQ(setup(kA, 10 * kSecond_ns), Dispatch::kLateSide);
  EXPECT_EQ(data(kB), Dispatch::kElicitSetup) << "another session";
  d.tick(kStart_ns + 10 * kSecond_ns + 1);
  EXPECT_EQ(data(kA, 11 * kSecond_ns), Dispatch::kElicitSetup) << "it is not deaf to the session for ever";
}

TEST_F(Dispatching, a_stream_that_begins_anew_under_its_old_session_is_no_late_side) {
  d = Dispatcher{64, 1};
  d.add_interest(kStream, false, 0);
  d.image_live(kStream, kA, 1);
  d.stream_ended(kStream, kA, 1, kInitialTermId, kStart_ns + 10 * kSecond_ns);
  EXPECT_EQ(setup(kB), Dispatch::kCreateImage) << "what has ended is no image any more";
  d.image_refused(kStream, kB);
  EXPECT_EQ(setup(kA, kSecond_ns, kInitialTermId + 1), Dispatch::kCreateImage);
  EXPECT_EQ(setup(kB), Dispatch::kSessionLimit);
  d.image_live(kStream, kA, 2);
  d.tick(kStart_ns + 11 * kSecond_ns);
  EXPECT_EQ(data(kA, 11 * kSecond_ns), Dispatch::kImage);
}

TEST_F(Dispatching, streams_that_have_ended_make_room_when_the_table_is_full) {
  d.add_interest(kStream, false, 0);
  for (std::int32_t s = 0; s < 64; ++s) {
    ASSERT_TRUE(d.image_live(kStream, s, 1));
    if (s >= 8) d.stream_ended(kStream, s, 1, kInitialTermId, kStart_ns + 10 * kSecond_ns);
  }
  EXPECT_EQ(data(20), Dispatch::kLateSide);
  EXPECT_EQ(setup(100), Dispatch::kCreateImage);
  EXPECT_EQ(data(7), Dispatch::kImage);
  d.stream_ended(kStream, 7, 1, kInitialTermId, kStart_ns + 10 * kSecond_ns);
  d.remove_interest(kStream, false, 0);
  d.add_interest(kStream, false, 0);
  EXPECT_EQ(data(7), Dispatch::kElicitSetup) << "a new subscriber has heard nothing of it";
}

TEST(DispatcherTable, agrees_with_a_map_under_random_use) {
  Dispatcher d{256};
  for (std::int32_t stream = 0; stream < 4; ++stream) d.add_interest(stream, false, 0);
  std::vector<std::uint32_t> model(1024, 0);  // 4 streams x 256 sessions: image number, 0 none
  std::uint64_t x = 99;
  std::size_t live = 0;
  for (std::uint32_t step = 1; step < 200'000; ++step) {
    x = x * 6364136223846793005U + 1442695040888963407U;
    const auto key = static_cast<std::size_t>(x >> 40) % 1024;
    const auto stream = static_cast<std::int32_t>(key / 256);
    const auto session = static_cast<std::int32_t>(key % 256) * 7919;
    const Decision found = d.find(stream, session);
    ASSERT_EQ(found.what == Dispatch::kImage, model[key] != 0);
    if (model[key] != 0) {
      ASSERT_EQ(found.image, model[key]);
      d.image_removed(stream, session, model[key], true, false);
      model[key] = 0;
      --live;
    } else if (live < 256) {
      ASSERT_TRUE(d.image_live(stream, session, step));
      model[key] = step;
      ++live;
    } else {
      ASSERT_FALSE(d.image_live(stream, session, step));
    }
  }
}

}  // namespace
}  // namespace thalweg::proto::test
