// Subscriptions, the images they get, and the links between them (client-protocol 6.5, 8.5 to 8.7).
#include <algorithm>
#include <filesystem>
#include <set>

#include "dataplane/shm/log_buffer.hpp"
#include "dataplane/wire/frames.hpp"
#include "tests/unit/controlplane/fixture.hpp"

namespace thalweg::conductor::testing {
namespace {

using shm::ClientError;
using shm::Response;

const std::string kUdp = "aeron:udp?endpoint=127.0.0.1:24325";

class Subscriptions : public ConductorTest {
 protected:
  void SetUp() override { start(); }
  std::uint32_t receive_endpoint() { return world().endpoints.used().front(); }
  // A SETUP that makes an image; everything it broadcasts stays to be expected.
  void set_up(std::int32_t session_id = 7, std::int32_t stream_id = 10) {
    data_plane->request_image(receive_endpoint(), stream_id, session_id);
    run();
  }
  void expect_ready(std::int64_t id) { EXPECT_EQ(expect<shm::OnSubscriptionReady>(Response::kSubscriptionReady).correlation_id, id); }
};

TEST_F(Subscriptions, a_network_subscription_is_ready_with_its_channel_status) {
  const std::int64_t id = add_subscription(kUdp);
  expect<shm::OnCounter>(Response::kCounterReady);
  const auto ready = expect<shm::OnSubscriptionReady>(Response::kSubscriptionReady);
  EXPECT_EQ(ready.correlation_id, id);
  EXPECT_EQ(label(ready.channel_status_counter_id), "rcv-channel: " + kUdp + " 127.0.0.1:24325");
  EXPECT_EQ(counters().counter(ready.channel_status_counter_id).get(), shm::channel_status::kActive);
  EXPECT_EQ(labels()[1], "rcv-local-sockaddr: " + std::to_string(ready.channel_status_counter_id) + " 127.0.0.1:24325");
  expect_nothing();
}

TEST_F(Subscriptions, ready_waits_for_the_endpoint_and_the_interest) {
  data_plane->answers_endpoints = false;
  const std::int64_t id = add_subscription(kUdp);
  expect_nothing();
  data_plane->answers_endpoints = true;
  registry().header.control_to_steward.ring({shm::SlotKind::kEndpoint, receive_endpoint()});
  run();
  expect<shm::OnCounter>(Response::kCounterReady);
  expect_ready(id);
}

TEST_F(Subscriptions, the_steward_s_refusal_says_why_and_leaves_nothing_behind) {
  data_plane->endpoint_error = shm::SlotError{.code = static_cast<std::int32_t>(ClientError::kChannelEndpointError), .text = "127.0.0.1:24325 is in use"};
  const std::int64_t id = add_subscription(kUdp);
  // Clients read code 4 as a failure of an existing channel and its id as that of a counter.
  EXPECT_EQ(expect_error(id, ClientError::kGeneric).text, "127.0.0.1:24325 is in use");
  run();
  EXPECT_TRUE(world().endpoints.used().empty());
  EXPECT_TRUE(world().clients.used().empty());
  EXPECT_TRUE(labels().empty());
}

TEST_F(Subscriptions, ipc_and_spy_subscriptions_have_no_channel_status) {
  add_subscription("aeron:ipc");
  expect<shm::OnCounter>(Response::kCounterReady);
  EXPECT_EQ(expect<shm::OnSubscriptionReady>(Response::kSubscriptionReady).channel_status_counter_id, -1);
  add_subscription("aeron-spy:" + kUdp);
  EXPECT_EQ(expect<shm::OnSubscriptionReady>(Response::kSubscriptionReady).channel_status_counter_id, -1);
  expect_nothing();
}

// proves 3.4/8
TEST_F(Subscriptions, a_setup_becomes_an_image_with_log_counters_and_a_position_for_each_subscription) {
  const std::int64_t one = add_subscription(kUdp);
  const std::int64_t two = add_subscription(kUdp, 10, kOther);
  add_subscription(kUdp, 11);
  skip_all();
  data_plane->join_position = 0;
  set_up(7);
  const auto first = expect<shm::OnAvailableImage>(Response::kAvailableImage);
  const auto second = expect<shm::OnAvailableImage>(Response::kAvailableImage);
  expect_nothing();
  EXPECT_EQ(first.subscription_registration_id, one);
  EXPECT_EQ(second.subscription_registration_id, two);
  EXPECT_EQ(first.correlation_id, second.correlation_id);
  EXPECT_NE(first.subscriber_position_counter_id, second.subscriber_position_counter_id);
  EXPECT_EQ(first.session_id, 7);
  EXPECT_EQ(first.source_identity, "127.0.0.1:55555");
  EXPECT_EQ(first.log_path, settings.directory + "/images/" + std::to_string(first.correlation_id) + ".logbuffer");
  EXPECT_TRUE(std::filesystem::exists(first.log_path));
  const std::string tail = ": " + std::to_string(first.correlation_id) + " 7 10 " + kUdp;
  for (const char* name : {"rcv-hwm", "rcv-pos", "rcv-naks-sent"}) {
    const auto all = labels();
    EXPECT_NE(std::find(all.begin(), all.end(), name + tail), all.end()) << name;
  }
  EXPECT_EQ(label(first.subscriber_position_counter_id), "sub-pos: " + std::to_string(one) + " 7 10 " + kUdp + " @0");
  const auto view = counters().find(first.subscriber_position_counter_id);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->registration_id, one);
  EXPECT_EQ(view->reference_id, first.correlation_id);
  EXPECT_EQ(view->owner_id, kClient);
  EXPECT_EQ(registry().lanes[0].setups[0].state.load(), shm::SetupState::kFree) << "the lane has its setup slot back";
}

TEST_F(Subscriptions, the_image_is_told_only_after_the_lane_chose_the_join_position) {
  add_subscription(kUdp);
  skip_all();
  data_plane->answers_links = false;
  set_up();
  expect_nothing();
  data_plane->answers_links = true;
  data_plane->join_position = 4096;
  registry().header.control_to_steward.ring({shm::SlotKind::kLink, world().links.used().front()});
  run();
  const auto image = expect<shm::OnAvailableImage>(Response::kAvailableImage);
  EXPECT_EQ(counters().counter(image.subscriber_position_counter_id).get(), 4096);
}

// proves 3.4/4, 5.13/6
TEST_F(Subscriptions, a_setup_that_nobody_wants_or_that_is_broken_is_refused) {
  add_subscription(kUdp + "|session-id=5");
  skip_all();
  const auto refused = [&](std::uint32_t setup) {
    run();
    EXPECT_EQ(world().images.used().size(), 0U);
    EXPECT_EQ(registry().lanes[0].setups[setup].state.load(), shm::SetupState::kFree);
    expect_nothing();
  };
  refused(data_plane->request_image(receive_endpoint(), 10, 6));         // another session
  refused(data_plane->request_image(receive_endpoint(), 11, 5));         // another stream
  refused(data_plane->request_image(receive_endpoint(), 10, 5, 1000));   // no power of two
  refused(data_plane->request_image(4000, 10, 5));                       // no such endpoint
  refused(data_plane->request_image(0xFFFFFFFF, 10, 5));
  EXPECT_NE(errors().find("impossible term length"), std::string::npos) << errors();
}

TEST_F(Subscriptions, setups_of_any_content_neither_crash_nor_allocate) {
  add_subscription(kUdp);
  skip_all();
  Random random{3};
  for (int round = 0; round < 2000; ++round) {
    auto& setup = registry().lanes[0].setups[0];
    std::byte* const fields = reinterpret_cast<std::byte*>(&setup) + sizeof setup.state;
    for (std::size_t i = 0; i + sizeof setup.state < sizeof setup; ++i) fields[i] = static_cast<std::byte>(random.next());
    if (round % 2 == 0) {
      setup.endpoint = receive_endpoint();
      setup.endpoint_generation = world().endpoints.slot(receive_endpoint()).desired.generation;
      setup.stream_id = 10;
    }
    setup.state.store(shm::SetupState::kRequested);
    registry().lanes[0].to_control.ring({shm::SlotKind::kSetup, 0});
    run();
  }
  EXPECT_EQ(world().images.used().size(), 0U);
}

// proves 3.4/2
TEST_F(Subscriptions, an_mtu_beyond_the_receiver_window_refuses_the_image) {
  add_subscription(kUdp + "|rcv-wnd=4k");
  skip_all();
  auto& setup = registry().lanes[0].setups[data_plane->request_image(receive_endpoint(), 10, 7)];
  setup.mtu = 8192;
  run();
  EXPECT_TRUE(world().images.used().empty());
  EXPECT_NE(errors().find("mtu 8192"), std::string::npos) << errors();
}

TEST_F(Subscriptions, a_late_subscription_joins_the_images_that_are_there) {
  add_subscription(kUdp);
  set_up();
  skip_all();
  const std::int64_t late = add_subscription(kUdp);
  expect_ready(late);
  EXPECT_EQ(expect<shm::OnAvailableImage>(Response::kAvailableImage).subscription_registration_id, late);
  expect_nothing();
}

// Its last subscriber left: the lane feeds it no more, and its end comes with the lane's next look at its timers.
TEST_F(Subscriptions, a_late_subscription_does_not_join_an_image_that_everybody_left) {
  const std::int64_t id = add_subscription(kUdp);
  set_up();
  skip_all();
  remove_subscription(id);
  skip_all();
  const std::int64_t late = add_subscription(kUdp);
  expect_ready(late);
  expect_nothing();
  data_plane->finish_image(only_image());
  run();
  set_up();
  EXPECT_EQ(expect<shm::OnAvailableImage>(Response::kAvailableImage).subscription_registration_id, late);
}

// proves 3.11/10
TEST_F(Subscriptions, a_removed_subscription_gets_no_unavailable_image_and_its_position_is_freed) {
  const std::int64_t id = add_subscription(kUdp);
  const std::int64_t other = add_subscription(kUdp, 10, kOther);
  set_up();
  skip_all();
  const std::int64_t removal = remove_subscription(id);
  EXPECT_EQ(expect<shm::OnOperationSuccess>(Response::kOperationSuccess).correlation_id, removal);
  expect_nothing();
  EXPECT_EQ(world().links.used().size(), 1U);
  remove_subscription(other, kOther);
  skip_all();
  EXPECT_TRUE(world().links.used().empty());
  EXPECT_TRUE(world().interests.used().empty());
  EXPECT_EQ(world().endpoints.used().size(), 1U) << "the image still stands on it";
  data_plane->finish_image(only_image());
  run();
  EXPECT_TRUE(world().images.used().empty());
  EXPECT_TRUE(world().endpoints.used().empty());
  EXPECT_TRUE(std::filesystem::is_empty(settings.directory + "/images"));
}

// proves 3.11/7
TEST_F(Subscriptions, an_image_that_ends_is_told_once_and_lives_on_until_the_lane_lets_go) {
  const std::int64_t id = add_subscription(kUdp);
  set_up();
  const std::uint32_t image = only_image();
  skip_all();
  data_plane->make_unavailable(image);
  run();
  const auto end = expect<shm::OnUnavailableImage>(Response::kUnavailableImage);
  EXPECT_EQ(end.subscription_registration_id, id);
  EXPECT_EQ(end.channel, kUdp);
  EXPECT_EQ(end.stream_id, 10);
  EXPECT_FALSE(std::filesystem::is_empty(settings.directory + "/images")) << "subscribers may still read";
  // It takes no new subscribers any more.
  const std::int64_t late = add_subscription(kUdp);
  expect_ready(late);
  data_plane->make_unavailable(image);
  tick();
  expect_nothing();
  data_plane->finish_image(image);
  run();
  expect_nothing();
  EXPECT_TRUE(std::filesystem::is_empty(settings.directory + "/images"));
  EXPECT_TRUE(world().links.used().empty());
  // The next SETUP of the session makes a new image.
  set_up();
  EXPECT_EQ(response_types().size(), 2U);
}

TEST_F(Subscriptions, a_lane_that_refuses_an_image_ends_it_cleanly) {
  add_subscription(kUdp);
  skip_all();
  data_plane->answers_images = false;
  set_up();
  auto& slot = registry().images[only_image()];
  slot.observed.generation = slot.desired.generation;
  slot.observed.error.code = 11;
  slot.observed.ObservedHead::state.store(shm::Observed::kFailed);
  registry().lanes[0].to_control.ring({shm::SlotKind::kImage, only_image()});
  data_plane->answers_images = true;
  run();
  EXPECT_TRUE(world().images.used().empty());
  EXPECT_TRUE(world().links.used().empty());
}

TEST_F(Subscriptions, a_quarantined_image_keeps_its_stream_away_as_long_as_somebody_subscribes) {
  const std::int64_t id = add_subscription(kUdp);
  skip_all();
  set_up();
  run();
  skip_all();
  const std::uint32_t index = only_image();
  auto& slot = registry().images[index];
  for (std::uint32_t i = 0; i < shm::kCrashesMax; ++i) slot.observed.crashes.add(slot.desired.generation);
  std::strcpy(slot.observed.error.text, "quarantined: it crashed us");
  slot.observed.ObservedHead::state.store(shm::Observed::kFailed);
  data_plane->ring_all();
  run();
  EXPECT_EQ(expect<shm::OnUnavailableImage>(Response::kUnavailableImage).correlation_id, slot.desired.correlation_id);
  EXPECT_NE(errors().find("quarantined"), std::string::npos) << errors();
  set_up();
  EXPECT_EQ(only_image(), index) << "its next SETUP brings nothing back";
  expect_nothing();
  set_up(8);
  EXPECT_EQ(world().images.used().size(), 2U) << "other sessions are served";
  skip_all();
  remove_subscription(id);
  tick();
  EXPECT_FALSE(world().images.is_used(index)) << "nobody is left who would want it";
}

TEST_F(Subscriptions, an_image_that_gave_up_a_gap_is_reported_once) {
  add_subscription(kUdp + "|nak-max=7");
  set_up();
  const std::uint32_t image = world().images.used().front();
  EXPECT_EQ(registry().images[image].desired.nak_max, 7);
  registry().images[image].observed.state.is_given_up = 1;
  for (int i = 0; i < 2; ++i) {
    data_plane->ring_all();
    run();
  }
  const std::string text = "image ended: a gap stayed open after 7 NAKs (nak-max): session=7 stream=10 ";
  const std::size_t at = errors().find(text);
  ASSERT_NE(at, std::string::npos) << errors();
  EXPECT_EQ(errors().find(text, at + 1), std::string::npos);
}

// Each distinct error has a place in the error log, which is never freed.
TEST_F(Subscriptions, forged_setups_do_not_fill_the_error_log) {
  add_subscription(kUdp + "|rcv-wnd=64");
  skip_all();
  const auto errors_with = [this](std::string_view part) {
    std::size_t count = 0;
    const std::string all = errors();
    for (std::size_t at = all.find(part); at != std::string::npos; at = all.find(part, at + 1)) ++count;
    return count;
  };
  std::int32_t session_id = 100;
  for (std::int32_t mtu = 96; mtu <= 8192; mtu += 32) {
    registry().lanes[0].setups[data_plane->request_image(receive_endpoint(), 10, ++session_id)].mtu = mtu;
    run();
  }
  EXPECT_EQ(errors_with("image refused: mtu 96,"), 1U) << "the first are told with their numbers";
  EXPECT_EQ(errors_with("image refused: mtu"), World::kPeerErrorsMax + 1) << errors();
  EXPECT_EQ(errors_with("image refused: mtu ..., receiver window 64 "), 1U) << errors();
}

// proves 3.8/9
TEST_F(Subscriptions, are_a_groups_when_the_sender_says_so_unless_the_channel_says_otherwise) {
  std::int32_t session_id = 7;
  for (const auto& [text, is_group] : {std::pair{"", true}, {"|group=infer", true}, {"|group=false", false}}) {
    ++session_id;
    const std::int64_t id = add_subscription(kUdp + text);
    const std::uint32_t setup = data_plane->request_image(receive_endpoint(), 10, session_id);
    registry().lanes[0].setups[setup].flags = wire::flag::kSetupGroup;
    run();
    const auto& used = world().images.used();
    const auto has_session = [&](std::uint32_t i) { return registry().images[i].desired.session_id == session_id; };
    const auto image = std::find_if(used.begin(), used.end(), has_session);
    ASSERT_NE(image, used.end());
    EXPECT_EQ((registry().images[*image].desired.flags & shm::ImageFlags::kGroup) != 0, is_group) << text;
    remove_subscription(id);
    run();
  }
}

// proves 4.5/5
TEST_F(Subscriptions, carry_the_group_tag_of_their_channel_else_the_drivers) {
  conductor->world().settings.streams.receiver_group_tag = 5;
  add_subscription(kUdp);
  run();
  EXPECT_EQ(registry().endpoints[receive_endpoint()].desired.group_tag, 5);
  add_subscription("aeron:udp?endpoint=127.0.0.1:24326|gtag=6");
  run();
  std::set<std::int64_t> tags;
  for (const std::uint32_t endpoint : world().endpoints.used()) tags.insert(registry().endpoints[endpoint].desired.group_tag);
  EXPECT_EQ(tags, (std::set<std::int64_t>{5, 6}));
}

TEST_F(Subscriptions, congestion_control_reaches_the_lane) {
  add_subscription(kUdp + "|cc=aimd");
  set_up();
  const auto& wanted = registry().images[world().images.used().front()].desired;
  EXPECT_EQ(wanted.congestion_control, shm::CongestionControl::kAimd);
  EXPECT_EQ(wanted.window_length, 16 << 20);
}

// proves 3.13/1
TEST_F(Subscriptions, reject_reaches_the_lane_once_and_unknown_images_are_an_error) {
  add_subscription(kUdp);
  set_up();
  const std::uint32_t image = only_image();
  skip_all();
  shm::RejectImage reject;
  reject.client_id = kClient;
  reject.correlation_id = next_id();
  reject.image_correlation_id = registry().images[image].desired.correlation_id;
  reject.reason = "no thanks";
  send(shm::Command::kRejectImage, reject);
  run();
  expect<shm::OnOperationSuccess>(Response::kOperationSuccess);
  EXPECT_EQ(registry().images[image].desired.is_rejected.load(), 1U);
  EXPECT_EQ(files().registry.text(registry().images[image].desired.reject_text), "no thanks");
  EXPECT_EQ(system(shm::SystemCounter::kImagesRejected), 1);
  reject.image_correlation_id = 4711;
  send(shm::Command::kRejectImage, reject);
  run();
  expect_error(reject.correlation_id, ClientError::kGeneric);
  const std::string long_reason(1024, 'x');
  reject.reason = long_reason;
  send(shm::Command::kRejectImage, reject);
  run();
  expect_error(reject.correlation_id, ClientError::kGeneric);
}

// proves 5.8/4
TEST_F(Subscriptions, a_rejected_ipc_image_cools_down_and_is_linked_again) {
  const std::int64_t publication = add_publication("aeron:ipc");
  const std::int64_t subscription = add_subscription("aeron:ipc");
  skip_all();
  shm::RejectImage reject;
  reject.client_id = kClient;
  reject.correlation_id = next_id();
  reject.image_correlation_id = publication;
  reject.reason = "not now";
  send(shm::Command::kRejectImage, reject);
  run();
  const auto error = expect<shm::OnPublicationError>(Response::kPublicationError);
  EXPECT_EQ(error.registration_id, publication);
  EXPECT_EQ(error.code, static_cast<std::int32_t>(ClientError::kImageRejected));
  EXPECT_EQ(error.text, "not now");
  EXPECT_EQ(expect<shm::OnUnavailableImage>(Response::kUnavailableImage).subscription_registration_id, subscription);
  expect<shm::OnOperationSuccess>(Response::kOperationSuccess);
  add_subscription("aeron:ipc");
  expect<shm::OnSubscriptionReady>(Response::kSubscriptionReady);
  expect_nothing();
  for (int i = 0; i < 8; ++i) {  // keeps the client alive meanwhile
    shm::ClientCommand keepalive;
    keepalive.client_id = kClient;
    send(shm::Command::kClientKeepalive, keepalive);
    advance(1'100 * kMillisecond_ns);
    expect_nothing();
  }
  advance(2'000 * kMillisecond_ns);
  EXPECT_EQ(response_types(), (std::vector<std::int32_t>{0x0F02, 0x0F02}));
}

TEST_F(Subscriptions, ipc_links_follow_stream_and_session) {
  const std::int64_t publication = add_publication("aeron:ipc?session-id=5");
  skip_all();
  add_subscription("aeron:ipc", 11);
  add_subscription("aeron:ipc?session-id=6");
  EXPECT_EQ(response_types(), (std::vector<std::int32_t>{0x0F07, 0x0F07}));
  const std::int64_t matching = add_subscription("aeron:ipc?session-id=5");
  expect_ready(matching);
  const auto image = expect<shm::OnAvailableImage>(Response::kAvailableImage);
  EXPECT_EQ(image.correlation_id, publication);
  EXPECT_EQ(image.source_identity, "aeron:ipc");
  EXPECT_EQ(image.session_id, 5);
}

TEST_F(Subscriptions, the_end_of_an_ipc_publication_is_told_to_each_subscription) {
  const std::int64_t publication = add_publication("aeron:ipc");
  add_subscription("aeron:ipc");
  add_subscription("aeron:ipc");
  skip_all();
  const std::uint32_t index = world().publications.used().front();
  remove_publication(publication);
  expect<shm::OnOperationSuccess>(Response::kOperationSuccess);
  expect_nothing();
  data_plane->end_publication(index);
  run();
  for (int i = 0; i < 2; ++i) {
    const auto end = expect<shm::OnUnavailableImage>(Response::kUnavailableImage);
    EXPECT_EQ(end.correlation_id, publication);
    EXPECT_EQ(end.channel, "aeron:ipc");
  }
  data_plane->finish_publication(index);
  run();
  expect_nothing();
  EXPECT_TRUE(world().publications.used().empty());
  EXPECT_TRUE(world().links.used().empty());
}

// proves 5.7/1, 5.7/4
TEST_F(Subscriptions, spies_link_by_canonical_channel_and_learn_of_the_end) {
  const std::int64_t spy = add_subscription("aeron-spy:" + kUdp);
  add_subscription("aeron-spy:aeron:udp?endpoint=127.0.0.1:9");
  skip_all();
  add_publication(kUdp);
  expect<shm::OnPublicationReady>(Response::kPublicationReady);
  const auto image = expect<shm::OnAvailableImage>(Response::kAvailableImage);
  EXPECT_EQ(image.subscription_registration_id, spy);
  EXPECT_EQ(image.source_identity, "aeron:ipc");
  expect_nothing();
  const std::uint32_t index = world().publications.used().front();
  remove_publication(image.correlation_id);
  skip_all();
  data_plane->end_publication(index);
  run();
  EXPECT_EQ(expect<shm::OnUnavailableImage>(Response::kUnavailableImage).channel, "aeron-spy:" + kUdp);
}

// proves 5.7/6
TEST_F(Subscriptions, spies_link_by_tag_whatever_their_address_and_session) {
  const std::int64_t by_tag = add_subscription("aeron-spy:aeron:udp?tags=7");
  const std::int64_t elsewhere = add_subscription("aeron-spy:aeron:udp?endpoint=127.0.0.1:9|tags=7|session-id=4711");
  add_subscription("aeron-spy:aeron:udp?tags=8");
  add_subscription("aeron-spy:aeron:udp?tags=7", 11);
  skip_all();
  add_publication(kUdp + "|tags=7");
  expect<shm::OnPublicationReady>(Response::kPublicationReady);
  std::set<std::int64_t> told;
  for (int i = 0; i < 2; ++i) told.insert(expect<shm::OnAvailableImage>(Response::kAvailableImage).subscription_registration_id);
  EXPECT_EQ(told, (std::set{by_tag, elsewhere}));
  expect_nothing();
  const std::int64_t late = add_subscription("aeron-spy:aeron:udp?tags=7");
  expect<shm::OnSubscriptionReady>(Response::kSubscriptionReady);
  EXPECT_EQ(expect<shm::OnAvailableImage>(Response::kAvailableImage).subscription_registration_id, late);
  crash_and_restart();
  expect_nothing();
  EXPECT_EQ(world().links.used().size(), 3U) << "a successor sees it the same way";
}

// proves 5.7/6
TEST_F(Subscriptions, a_negative_tag_is_none_to_a_spy) {
  add_subscription("aeron-spy:aeron:udp?endpoint=127.0.0.1:9|tags=-1");
  skip_all();
  add_publication(kUdp + "|tags=-1");
  expect<shm::OnPublicationReady>(Response::kPublicationReady);
  expect_nothing();
}

// proves 5.7/1
TEST_F(Subscriptions, a_publication_found_by_its_tag_has_its_endpoint_s_address_for_spies) {
  add_publication(kUdp + "|tags=7");
  add_publication("aeron:udp?tags=7", 11);
  skip_all();
  const std::int64_t spy = add_subscription("aeron-spy:" + kUdp, 11);
  expect_ready(spy);
  EXPECT_EQ(expect<shm::OnAvailableImage>(Response::kAvailableImage).subscription_registration_id, spy);
}

// proves 3.14/12
TEST_F(Subscriptions, an_untethered_subscription_leaves_and_comes_back_alone) {
  add_publication("aeron:ipc");
  const std::int64_t id = add_subscription("aeron:ipc?tether=false");
  add_subscription("aeron:ipc");
  skip_all();
  std::uint32_t untethered = shm::kNoSlot;
  for (const std::uint32_t link : world().links.used()) {
    if (registry().links[link].desired.is_tethered == 0) untethered = link;
  }
  ASSERT_NE(untethered, shm::kNoSlot);
  data_plane->set_tether(untethered, shm::Tether::kLinger);
  run();
  const auto left = expect<shm::OnUnavailableImage>(Response::kUnavailableImage);
  EXPECT_EQ(left.subscription_registration_id, id);
  EXPECT_EQ(left.channel, "aeron:ipc");
  data_plane->set_tether(untethered, shm::Tether::kResting);
  run();
  expect_nothing();
  data_plane->set_tether(untethered, shm::Tether::kActive);
  run();
  const auto back = expect<shm::OnAvailableImage>(Response::kAvailableImage);
  EXPECT_EQ(back.correlation_id, left.correlation_id);
  EXPECT_EQ(back.subscriber_position_counter_id, registry().links[untethered].desired.counter_id);
  const auto is_position = [](const auto& label) { return label.find("sub-pos") != std::string::npos; };
  const auto before = labels();
  data_plane->set_tether(untethered, shm::Tether::kClosed);
  run();
  expect<shm::OnUnavailableImage>(Response::kUnavailableImage);
  EXPECT_EQ(world().links.used().size(), 1U);
  EXPECT_EQ(std::count_if(before.begin(), before.end(), is_position), 2);
  const auto after = labels();
  EXPECT_EQ(std::count_if(after.begin(), after.end(), is_position), 1) << "its counter is free again";
}

TEST_F(Subscriptions, a_lane_may_leave_and_come_back_between_two_looks) {
  add_publication("aeron:ipc");
  const std::int64_t id = add_subscription("aeron:ipc?tether=false");
  skip_all();
  const std::uint32_t link = world().links.used().front();
  auto& observed = registry().links[link].observed;
  observed.tether_changes += 3;  // linger, resting, active again
  observed.tether.store(shm::Tether::kActive);
  registry().lanes[0].to_control.ring({shm::SlotKind::kLink, link});
  run();
  // Its position is another: a client that read on as if nothing had happened would miss messages without knowing.
  EXPECT_EQ(expect<shm::OnUnavailableImage>(Response::kUnavailableImage).subscription_registration_id, id);
  EXPECT_EQ(expect<shm::OnAvailableImage>(Response::kAvailableImage).subscription_registration_id, id);
  expect_nothing();
}

// proves 5.13/27
TEST_F(Subscriptions, spies_and_ipc_subscribers_rest_as_their_publication_says_and_images_as_their_subscription) {
  add_publication("aeron:ipc?untethered-window-limit-timeout=7s|untethered-linger-timeout=8s|untethered-resting-timeout=9s");
  add_subscription("aeron:ipc?tether=false|untethered-window-limit-timeout=2s");
  add_subscription(kUdp + "|tether=false|rejoin=false|untethered-window-limit-timeout=2s|untethered-resting-timeout=4s");
  set_up();
  ASSERT_EQ(world().links.used().size(), 2U);
  for (const std::uint32_t index : world().links.used()) {
    const auto& link = registry().links[index].desired;
    const bool is_image = link.target == shm::LinkTarget::kImage;
    EXPECT_EQ(link.is_tethered, 0U);
    EXPECT_EQ(link.is_rejoin, is_image ? 0U : 1U);
    EXPECT_EQ(link.window_limit_timeout_ns, (is_image ? 2 : 7) * kSecond_ns);
    EXPECT_EQ(link.linger_timeout_ns, (is_image ? 2 : 8) * kSecond_ns);
    EXPECT_EQ(link.resting_timeout_ns, (is_image ? 4 : 9) * kSecond_ns);
  }
}

TEST_F(Subscriptions, removing_an_unknown_one_is_error_2_and_creates_no_client) {
  const std::int64_t id = remove_subscription(4711);
  EXPECT_NE(expect_error(id, ClientError::kUnknownSubscription).text.find("registration_id=4711"), std::string::npos);
  EXPECT_TRUE(world().clients.used().empty());
}

struct Conflict {
  const char* first;
  const char* second;
  const char* phrase;
};
class Conflicts : public Subscriptions, public ::testing::WithParamInterface<Conflict> {};
// proves 5.13/21
TEST_P(Conflicts, options_that_cannot_both_hold_are_refused) {
  add_subscription(kUdp + GetParam().first);
  skip_all();
  const std::int64_t id = add_subscription(kUdp + GetParam().second);
  EXPECT_NE(expect_error(id, ClientError::kInvalidChannel).text.find(GetParam().phrase), std::string::npos);
  run();
  EXPECT_EQ(world().subscriptions.used().size(), 1U);
}
INSTANTIATE_TEST_SUITE_P(Options, Conflicts,
                         ::testing::Values(Conflict{"", "|reliable=false", "option conflicts with existing subscription: reliable"},
                                           Conflict{"|rejoin=false", "", "option conflicts with existing subscription: rejoin"},
                                           Conflict{"", "|so-rcvbuf=256k", "so-rcvbuf"}));  // proves 5.13/18

TEST_F(Subscriptions, what_is_not_supported_yet_says_so) {
  for (const char* channel : {"aeron:udp?endpoint=127.0.0.1:40123|interface={eth0}"}) {
    const std::int64_t id = add_subscription(channel);
    expect_error(id, ClientError::kNotSupported);
  }
  for (const char* channel : {"", "aeron:", "aeron:udp", "aeron:tcp?endpoint=a:1", "aeron:udp?endpoint", "aeron:udp?endpoint=", "aeron:udp?endpoint=127.0.0.1:99999",
                              "aeron-spy:", "aeron-spy:aeron:ipc", "aeron:udp?endpoint=127.0.0.1:1|session-id=x", "aeron:udp?endpoint=127.0.0.1:1|rcv-wnd=-5"}) {
    const std::int64_t id = add_subscription(channel);
    const auto error = expect<shm::OnError>(Response::kError);
    EXPECT_EQ(error.offending_correlation_id, id) << channel;
    EXPECT_FALSE(error.text.empty());
  }
  expect_nothing();
  EXPECT_TRUE(world().subscriptions.used().empty());
}

TEST_F(Subscriptions, losses_are_written_to_the_loss_report_once_per_image) {
  add_subscription(kUdp);
  set_up(7);
  skip_all();
  auto& state = registry().images[only_image()].observed.state;
  state.gaps_seen = 3;
  state.bytes_lost = 4224;
  tick();
  state.gaps_seen = 4;
  state.bytes_lost = 5632;
  tick();
  std::vector<shm::LossReportEntry> entries;
  shm::read_loss_report({files().loss_report.data(), files().loss_report.length()},
                        [](void* context, const shm::LossReportEntry& entry) { static_cast<std::vector<shm::LossReportEntry>*>(context)->push_back(entry); }, &entries);
  ASSERT_EQ(entries.size(), 1U);
  EXPECT_EQ(entries[0].observation_count, 4);
  EXPECT_EQ(entries[0].bytes_lost, 5632);
  EXPECT_EQ(entries[0].session_id, 7);
  EXPECT_EQ(entries[0].channel, kUdp);
  EXPECT_EQ(entries[0].source, "127.0.0.1:55555");
}

}  // namespace
}  // namespace thalweg::conductor::testing
