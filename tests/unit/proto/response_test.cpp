// Response channels as publications and images see them (wire-protocol 2.4, 5.9).
#include "tests/unit/proto/proto_fixture.hpp"

namespace thalweg::proto::test {
namespace {

using shm::PublicationFlags;

PublicationBench::Options response() { return {.flags = PublicationFlags::kSignalEos | PublicationFlags::kIsResponse}; }

// proves 5.9/2
TEST(Response, the_setups_of_a_request_ask_for_one) {
  PublicationBench bench{{.flags = PublicationFlags::kSignalEos | PublicationFlags::kHasResponse}};
  const auto sent = bench.send(0);
  ASSERT_EQ(sent.size(), 1U);
  EXPECT_EQ(wire::Setup::parse(sent[0])->flags, wire::flag::kSetupSendResponse);
  PublicationBench answers{response()};
  answers.publication.speak();
  EXPECT_EQ(wire::Setup::parse(answers.send(0).at(0))->flags, 0) << "the answer asks for nothing";
}

// proves 2.4/8, 5.9/7
TEST(Response, a_response_publication_says_nothing_before_it_was_asked_and_its_setup_keeps_the_timer) {
  PublicationBench bench{response()};
  bench.publisher.publish(100);
  for (std::int64_t t = 0; t <= 250 * kMs; t += kMs) ASSERT_EQ(bench.turn(t), Lines{}) << t / kMs;
  bench.publication.speak();                       // the lane knows now where to
  bench.elicit(251 * kMs);
  EXPECT_EQ(bench.turn(251 * kMs), Lines{}) << "the timer ran while nobody listened";
  Lines sent;
  for (std::int64_t t = 252 * kMs; t <= 310 * kMs; t += kMs) {
    for (const std::string& line : bench.turn(t)) sent.push_back(line);
  }
  EXPECT_EQ(sent, Lines{"setup@0"});
}

TEST(Response, a_stranger_does_not_make_it_speak) {
  PublicationBench bench{response()};
  bench.status(0, 0, kTerm / 2);
  EXPECT_EQ(bench.count(shm::LaneCounter::kStatusMessagesRejected), 1U);
  EXPECT_EQ(bench.state().has_initial_connection, 0);
  EXPECT_EQ(bench.state().sender_limit, 0);
  EXPECT_EQ(bench.turn(kMs), Lines{});
}

TEST(Response, a_restarted_one_that_had_nobody_is_mute_again) {
  PublicationBench bench{response()};
  bench.publication.speak();
  bench.connect();
  bench.publisher.publish(100);
  bench.send(kMs);
  bench.send(10 * kSecond_ns);                    // its receiver has gone silent
  ASSERT_EQ(bench.state().receiver_count, 0U);
  bench.publication = Publication{bench.context()};
  bench.publication.resume(kStart_ns + 11 * kSecond_ns);
  bench.publisher.publish(100);
  EXPECT_EQ(bench.turn(12 * kSecond_ns), Lines{});
  EXPECT_EQ(bench.state().has_initial_connection, 0) << "so that it is looked for again";
}

class Answered : public ::testing::Test {
 protected:
  Answered() {
    bench.slot->desired.correlation_id = 4711;
    publication->desired.flags = PublicationFlags::kIsResponse;
    publication->desired.response_correlation_id = 4711;
    publication->desired.session_id = 99;
    publication->desired.state = shm::Desired::kActive;
    bench.start();
  }
  // Frames at each millisecond of an interval.
  std::vector<Bytes> frames(std::int64_t from_ms, std::int64_t to_ms) {
    std::vector<Bytes> all;
    for (std::int64_t t = from_ms; t <= to_ms; ++t) {
      for (Bytes& d : bench.send(t * kMs)) all.push_back(std::move(d));
    }
    return all;
  }
  static std::vector<wire::FrameType> types(const std::vector<Bytes>& all) {
    std::vector<wire::FrameType> types;
    for (const Bytes& d : all) types.push_back(type_of(d));
    return types;
  }
  using Types = std::vector<wire::FrameType>;
  static constexpr auto kSm = wire::FrameType::kStatusMessage;
  static constexpr auto kRsp = wire::FrameType::kResponseSetup;

  ImageBench bench;
  std::unique_ptr<shm::PublicationSlot> publication{std::make_unique<shm::PublicationSlot>()};
};

// proves 5.9/5
TEST_F(Answered, an_image_names_its_answer_at_once_and_with_each_timer_driven_status_message) {
  bench.image.answer_with(publication.get(), kStart_ns + 10 * kMs);
  const auto first = frames(10, 10);
  ASSERT_EQ(types(first), (Types{kRsp, kSm}));
  const auto setup = wire::ResponseSetup::parse(first[0]);
  EXPECT_EQ(setup->session_id, kSession);
  EXPECT_EQ(setup->stream_id, kStream);
  EXPECT_EQ(setup->response_session_id, 99);
  EXPECT_EQ(types(frames(11, 450)), (Types{kRsp, kSm, kRsp, kSm}));
  EXPECT_EQ(bench.count(shm::LaneCounter::kResponseSetupsSent), 3U);
}

// proves 2.11/8, 5.9/5
TEST_F(Answered, the_first_receiver_of_the_answer_ends_it) {
  bench.image.answer_with(publication.get(), kStart_ns);
  ASSERT_EQ(types(frames(0, 0)), (Types{kRsp, kSm}));
  publication->observed.state.has_initial_connection = 1;
  EXPECT_EQ(types(frames(1, 450)), (Types{kSm, kSm}));
  publication->observed.state.has_initial_connection = 0;
  EXPECT_EQ(types(frames(451, 650)), (Types{kSm})) << "for good";
}

TEST_F(Answered, a_slot_that_went_to_another_stream_is_not_named) {
  bench.image.answer_with(publication.get(), kStart_ns);
  publication->desired.response_correlation_id = 4712;
  EXPECT_EQ(types(frames(0, 0)), (Types{kSm}));
  publication->desired.response_correlation_id = 4711;
  publication->desired.state = shm::Desired::kClosing;
  bench.image.answer_with(publication.get(), kStart_ns + kMs);
  EXPECT_EQ(types(frames(2, 2)), (Types{kSm}));
}

// proves 3.13/5
TEST_F(Answered, a_rejected_image_names_nothing) {
  bench.image.reject({});
  bench.image.answer_with(publication.get(), kStart_ns);
  EXPECT_EQ(types(frames(0, 0)), (Types{wire::FrameType::kError}));
}

}  // namespace
}  // namespace thalweg::proto::test
