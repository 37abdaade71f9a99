// Response channels: who is tied to whom (wire-protocol 5.9).
#include "dataplane/wire/frames.hpp"
#include "tests/unit/controlplane/fixture.hpp"

namespace thalweg::conductor::testing {
namespace {

using shm::ClientError;
using shm::PublicationFlags;
using shm::Response;

const std::string kRequests = "aeron:udp?endpoint=127.0.0.1:24401";
const std::string kAnswers = "aeron:udp?control-mode=response|control=127.0.0.1:24402";

class Responses : public ConductorTest {
 protected:
  void SetUp() override { start(); }
  static std::string correlated(const std::string& channel, std::int64_t id) { return channel + "|response-correlation-id=" + std::to_string(id); }
  shm::PublicationSlot& publication() { return registry().publications[world().publications.used().front()]; }
  shm::SubscriptionSlot& subscription() { return registry().subscriptions[world().subscriptions.used().front()]; }
  // The image of a request; `flags` of its SETUP.
  std::uint32_t request_image(std::uint8_t flags = wire::flag::kSetupSendResponse) {
    add_subscription(kRequests);
    const std::uint32_t setup = data_plane->request_image(world().endpoints.used().front(), 10, 7);
    registry().lanes[0].setups[setup].flags = flags;
    run();
    skip_all();
    return only_image();
  }
  // What a request's lane does when it hears a RSP_SETUP.
  void hear_response_setup(std::int32_t session_id) {
    const std::uint32_t index = world().publications.used().front();
    auto& observed = registry().publications[index].observed;
    observed.response_session_id = session_id;
    ++observed.response_setups;
    registry().lanes[0].to_control.ring({shm::SlotKind::kPublication, index});
    run();
  }
};

// proves 5.9/1
TEST_F(Responses, a_subscription_wants_nothing_before_it_is_told_who_answers) {
  const std::int64_t id = add_subscription(kAnswers);
  expect<shm::OnCounter>(Response::kCounterReady);
  EXPECT_EQ(expect<shm::OnSubscriptionReady>(Response::kSubscriptionReady).correlation_id, id);
  EXPECT_TRUE(world().interests.used().empty());
  ASSERT_EQ(world().endpoints.used().size(), 1U);
  const std::uint32_t endpoint = world().endpoints.used().front();
  EXPECT_EQ(registry().endpoints[endpoint].desired.local_port, 0) << "any port";
  EXPECT_EQ(registry().endpoints[endpoint].desired.remote_port, 24402);
  data_plane->request_image(endpoint, 10, 7);
  run();
  EXPECT_TRUE(world().images.used().empty()) << "no session is wanted";
  remove_subscription(id);
  EXPECT_TRUE(world().endpoints.used().empty() || registry().endpoints[endpoint].desired.state.load() == shm::Desired::kClosing);
}

// proves 5.9/2, 5.9/6
TEST_F(Responses, a_response_setup_binds_the_subscription_and_each_one_elicits) {
  const std::int64_t waiting = add_subscription(kAnswers, 11);
  add_publication(correlated(kRequests, waiting));
  skip_all();
  EXPECT_EQ(publication().desired.flags & (PublicationFlags::kHasResponse | PublicationFlags::kIsResponse), PublicationFlags::kHasResponse);
  hear_response_setup(4711);
  ASSERT_EQ(world().interests.used().size(), 1U);
  const auto& interest = registry().interests[world().interests.used().front()].desired;
  EXPECT_EQ(interest.stream_id, 11);
  EXPECT_EQ(interest.has_session, 1U);
  EXPECT_EQ(interest.session_id, 4711);
  EXPECT_EQ(interest.elicits, 1U);
  hear_response_setup(4711);
  EXPECT_EQ(interest.elicits, 2U);
  ASSERT_EQ(world().interests.used().size(), 1U);
  data_plane->request_image(subscription().endpoint, 11, 4711);
  run();
  EXPECT_EQ(expect<shm::OnAvailableImage>(Response::kAvailableImage).subscription_registration_id, waiting);
}

TEST_F(Responses, another_session_takes_the_place_of_the_one_before) {
  const std::int64_t waiting = add_subscription(kAnswers);
  add_publication(correlated(kRequests, waiting));
  hear_response_setup(1);
  hear_response_setup(2);
  ASSERT_EQ(world().interests.used().size(), 1U) << "the first is let go";
  EXPECT_EQ(registry().interests[world().interests.used().front()].desired.session_id, 2);
  EXPECT_EQ(subscription().session_id, 2);
}

TEST_F(Responses, a_bound_subscription_survives_a_restart_and_hears_of_it_no_twice) {
  const std::int64_t waiting = add_subscription(kAnswers);
  add_publication(correlated(kRequests, waiting));
  hear_response_setup(4711);
  skip_all();
  crash_and_restart();
  ASSERT_EQ(world().interests.used().size(), 1U);
  EXPECT_EQ(registry().interests[world().interests.used().front()].desired.elicits, 1U);
  hear_response_setup(4711);
  ASSERT_EQ(world().interests.used().size(), 1U);
  EXPECT_EQ(registry().interests[world().interests.used().front()].desired.elicits, 2U);
  remove_subscription(waiting);
  run();
  EXPECT_TRUE(world().interests.used().empty());
  EXPECT_EQ(world().endpoints.used().size(), 1U) << "the request's is left";
}

// proves 5.9/9
TEST_F(Responses, an_unbound_subscription_keeps_its_socket_over_a_restart) {
  add_subscription(kAnswers);
  crash_and_restart();
  ASSERT_EQ(world().endpoints.used().size(), 1U);
  EXPECT_EQ(registry().endpoints[world().endpoints.used().front()].desired.state.load(), shm::Desired::kActive);
}

// proves 5.9/3
TEST_F(Responses, a_response_publication_is_named_to_the_sender_of_its_image) {
  const std::uint32_t image = request_image();
  EXPECT_NE(registry().images[image].desired.flags & shm::ImageFlags::kHasResponse, 0U);
  EXPECT_EQ(registry().images[image].desired.response_publication.load(), shm::kNoSlot);
  const std::int64_t id = add_publication(correlated(kAnswers, registry().images[image].desired.correlation_id));
  EXPECT_EQ(expect<shm::OnPublicationReady>(Response::kPublicationReady).correlation_id, id);
  const std::uint32_t index = world().publications.used().front();
  EXPECT_EQ(registry().images[image].desired.response_publication.load(), index);
  const auto& wanted = registry().publications[index].desired;
  EXPECT_EQ(wanted.flags & (PublicationFlags::kHasResponse | PublicationFlags::kIsResponse | PublicationFlags::kGroup), PublicationFlags::kIsResponse);
  EXPECT_EQ(wanted.flow_control, shm::FlowControl::kMax);  // proves 5.9/8
  EXPECT_EQ(registry().endpoints[wanted.endpoint].desired.mode, shm::EndpointMode::kResponse);
  EXPECT_EQ(registry().endpoints[wanted.endpoint].desired.remote_port, 0);
  const shm::LogBuffer log = world().logs.buffer(wanted.log);
  EXPECT_EQ(log.load<std::int64_t>(shm::meta::kResponseCorrelationId), registry().images[image].desired.correlation_id);
  EXPECT_EQ(log.load<std::uint8_t>(shm::meta::kIsResponse), 1);
}

TEST_F(Responses, publications_that_answer_different_images_share_a_socket_and_nothing_else) {
  const std::uint32_t first = request_image();
  data_plane->request_image(registry().images[first].desired.endpoint, 10, 8);
  registry().lanes[0].setups[1].flags = wire::flag::kSetupSendResponse;
  run();
  ASSERT_EQ(world().images.used().size(), 2U);
  for (const std::uint32_t image : world().images.used()) add_publication(correlated(kAnswers, registry().images[image].desired.correlation_id));
  ASSERT_EQ(world().publications.used().size(), 2U);
  const auto& a = registry().publications[world().publications.used()[0]].desired;
  const auto& b = registry().publications[world().publications.used()[1]].desired;
  EXPECT_EQ(a.endpoint, b.endpoint);
  EXPECT_NE(a.session_id, b.session_id);
}

// proves 5.9/4
TEST_F(Responses, a_prototype_keeps_the_socket_and_answers_nobody) {
  add_publication(kAnswers + "|term-length=1m|response-correlation-id=prototype");
  expect<shm::OnCounter>(Response::kCounterReady);
  expect<shm::OnPublicationReady>(Response::kPublicationReady);
  EXPECT_EQ(publication().desired.term_length, 64 << 10);
  EXPECT_NE(publication().desired.flags & PublicationFlags::kIsResponse, 0U);
}

struct Refused {
  std::string channel;
  ClientError code;
  const char* phrase;
};
class RefusedResponses : public Responses, public ::testing::WithParamInterface<Refused> {};
TEST_P(RefusedResponses, say_why) {
  add_subscription("aeron:udp?endpoint=127.0.0.1:24403", 12);  // registration id 1 of this client, and no response subscription
  const std::int64_t plain = registry().subscriptions[world().subscriptions.used().front()].registration_id;
  std::string channel = GetParam().channel;
  if (const auto at = channel.find("PLAIN"); at != std::string::npos) channel.replace(at, 5, std::to_string(plain));
  skip_all();
  const std::int64_t id = add_publication(channel);
  EXPECT_NE(expect_error(id, GetParam().code).text.find(GetParam().phrase), std::string::npos) << channel;
  EXPECT_TRUE(world().publications.used().empty());
}
INSTANTIATE_TEST_SUITE_P(
    Publications, RefusedResponses,
    ::testing::Values(Refused{kRequests + "|response-correlation-id=4711", ClientError::kGeneric, "is no subscription"},  // proves 5.9/2
                      Refused{kRequests + "|response-correlation-id=PLAIN", ClientError::kGeneric, "without control-mode=response"},
                      Refused{kAnswers + "|response-correlation-id=4711", ClientError::kGeneric, "is no image"},          // proves 5.9/3
                      Refused{kAnswers, ClientError::kInvalidChannel, "needs a response-correlation-id"},                 // proves 5.9/4
                      Refused{kRequests + "|response-correlation-id=prototype", ClientError::kInvalidChannel, "needs control-mode=response"},
                      Refused{kRequests + "|response-correlation-id=-3", ClientError::kInvalidChannel, "response-correlation-id=-3"},
                      Refused{kRequests + "|response-correlation-id=x", ClientError::kInvalidChannel, "response-correlation-id"},
                      Refused{"aeron:ipc?response-correlation-id=4711", ClientError::kGeneric, "is no subscription"},
                      Refused{"aeron:ipc?response-correlation-id=PLAIN", ClientError::kGeneric, "without control-mode=response"},
                      Refused{"aeron:ipc?control-mode=response", ClientError::kInvalidChannel, "needs a response-correlation-id"},
                      Refused{"aeron:ipc?control-mode=response|response-correlation-id=4711", ClientError::kGeneric, "is no IPC image"}));

// proves 5.9/3
TEST_F(Responses, an_image_whose_sender_asked_for_nothing_cannot_be_answered) {
  const std::uint32_t image = request_image(0);
  const std::int64_t id = add_publication(correlated(kAnswers, registry().images[image].desired.correlation_id));
  EXPECT_NE(expect_error(id, ClientError::kGeneric).text.find("asked for no response"), std::string::npos);
}

class IpcResponses : public Responses {
 protected:
  static constexpr const char* kAnswersByIpc = "aeron:ipc?control-mode=response";
  // A requester: its subscription for answers and its publication.
  struct Requester {
    std::int64_t subscription;
    std::int64_t publication;
  };
  Requester a_requester() {
    const std::int64_t waiting = add_subscription(kAnswersByIpc, 11);
    const std::int64_t asks = add_publication("aeron:ipc?response-correlation-id=" + std::to_string(waiting), 10, true);
    skip_all();
    return {waiting, asks};
  }
  // A service answers the image of `request`. Returns the session of its publication.
  std::int32_t answer(std::int64_t request) {
    const std::int64_t id = add_publication(correlated(kAnswersByIpc, request), 11);
    const auto ready = expect<shm::OnPublicationReady>(Response::kPublicationReady);
    EXPECT_EQ(ready.correlation_id, id);
    return ready.session_id;
  }
};

TEST_F(IpcResponses, each_requester_hears_its_own_answers_and_no_others) {
  const Requester first = a_requester();
  const Requester second = a_requester();
  add_publication("aeron:ipc", 11);  // anybody else on the stream of the answers
  EXPECT_EQ(expect<shm::OnPublicationReady>(Response::kPublicationReady).stream_id, 11);
  for (const Requester& requester : {second, first}) {
    const std::int32_t session = answer(requester.publication);
    const auto image = expect<shm::OnAvailableImage>(Response::kAvailableImage);
    EXPECT_EQ(image.subscription_registration_id, requester.subscription);
    EXPECT_EQ(image.session_id, session);
  }
  run();
  expect_nothing();
}

TEST_F(IpcResponses, a_bound_subscription_knows_its_session_after_a_restart) {
  const Requester requester = a_requester();
  const std::int32_t session = answer(requester.publication);
  expect<shm::OnAvailableImage>(Response::kAvailableImage);
  crash_and_restart();
  skip_all();
  add_publication("aeron:ipc", 11);
  expect<shm::OnPublicationReady>(Response::kPublicationReady);
  expect_nothing();
  EXPECT_EQ(subscription().session_id, session);
}

TEST_F(IpcResponses, an_unbound_subscription_is_still_one_after_a_restart) {
  const Requester requester = a_requester();
  crash_and_restart();
  skip_all();
  add_publication("aeron:ipc", 11);
  expect<shm::OnPublicationReady>(Response::kPublicationReady);
  answer(requester.publication);
  EXPECT_EQ(expect<shm::OnAvailableImage>(Response::kAvailableImage).subscription_registration_id, requester.subscription);
}

TEST_F(IpcResponses, an_image_that_asked_for_nothing_and_a_subscription_on_the_network_are_refused) {
  const std::int64_t plain = add_publication("aeron:ipc");
  skip_all();
  const std::int64_t answers = add_publication(correlated(kAnswersByIpc, plain), 11);
  EXPECT_NE(expect_error(answers, ClientError::kGeneric).text.find("is no IPC image"), std::string::npos);
  const std::int64_t waiting = add_subscription(kAnswers);
  skip_all();
  const std::int64_t asks = add_publication("aeron:ipc?response-correlation-id=" + std::to_string(waiting));
  EXPECT_NE(expect_error(asks, ClientError::kGeneric).text.find("on another medium"), std::string::npos);
}

TEST_F(Responses, a_response_subscription_needs_a_control_address) {
  const std::int64_t id = add_subscription("aeron:udp?control-mode=response");
  EXPECT_NE(expect_error(id, ClientError::kInvalidChannel).text.find("needs the control address"), std::string::npos);
}

}  // namespace
}  // namespace thalweg::conductor::testing
