// stream why: each cause, from the registry and the counters as the two processes write them.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "tests/unit/cli/instance_fixture.hpp"

namespace thalweg::cli {
namespace {

class Why : public test::InstanceTest {
 protected:
  static constexpr std::uint32_t kEndpoint = 2;

  // The causes of the one stream with this id.
  nlohmann::json causes(std::int64_t id) {
    const test::Outcome outcome = here({"stream", "why", std::to_string(id), "--json"});
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    if (outcome.exit != 0) return {};
    const auto streams = outcome.json()["streams"];
    EXPECT_EQ(streams.size(), 1U);
    return streams[0]["causes"];
  }
  std::string kinds(std::int64_t id) {
    std::string all;
    for (const auto& cause : causes(id)) all += (all.empty() ? "" : " ") + cause["cause"].get<std::string>();
    return all;
  }
  std::string text(std::int64_t id) { return causes(id).at(0)["text"].get<std::string>(); }

  shm::EndpointSlot& add_endpoint(std::uint32_t index = kEndpoint) {
    shm::EndpointSlot& endpoint = registry_->endpoints[index];
    endpoint.desired.remote_address = 0x0A000002;
    endpoint.desired.remote_port = 40123;
    endpoint.desired.text = registry_.put_text("aeron:udp?endpoint=10.0.0.2:40123").value_or(shm::kNoSlot);
    activate(endpoint);
    return endpoint;
  }
  shm::PublicationSlot& add_publication() {
    shm::PublicationSlot& slot = add_stalled_publication();
    slot.desired.endpoint = kEndpoint;
    add_endpoint();
    return slot;
  }
  // Nobody has answered it yet.
  shm::PublicationSlot& add_lonely_publication() {
    shm::PublicationSlot& slot = add_publication();
    slot.observed.state.is_connected = 0;
    slot.observed.state.receiver_count = 0;
    slot.observed.state.receivers[0] = {};
    return slot;
  }
  shm::PublicationSlot& add_ipc() {
    shm::PublicationSlot& slot = add_stalled_publication();
    slot.desired.flags = shm::PublicationFlags::kIpc;
    slot.observed.state.publisher_limit = 12288;
    return slot;
  }
  shm::ImageSlot& add_image(std::int64_t id = 80) {
    shm::ImageSlot& image = registry_->images[3];
    image.desired.correlation_id = id;
    image.desired.session_id = -9;
    image.desired.stream_id = 1001;
    image.desired.endpoint = kEndpoint + 1;
    image.desired.source_address = 0x0A000002;
    image.desired.source_port = 5000;
    image.observed.state.lifecycle = shm::Lifecycle::kActive;
    image.observed.state.rebuild_position = 8192;
    image.observed.state.high_water = 8192;
    image.observed.state.last_packet_ns = monotonic_ns();
    add_endpoint(kEndpoint + 1).observed.receiver_id = 1;
    activate(image);
    return image;
  }
  std::int32_t add_subscriber(shm::LinkTarget target, std::uint32_t slot, std::int64_t position) {
    registry_->subscriptions[4].client_id = 99;
    shm::LinkSlot& link = registry_->links[11];
    link.desired.target = target;
    link.desired.target_slot = slot;
    link.desired.subscription = 4;
    link.desired.counter_id = add_counter(shm::counter_type::kSubscriberPosition, position, "sub-pos");
    activate(link);
    return link.desired.counter_id;
  }
};

TEST_F(Why, a_publication_waits_for_the_window_of_its_receiver) {
  add_publication().observed.state.receivers[0].last_position = 4096;
  const auto found = causes(77);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0]["cause"], "receiver_window");
  EXPECT_EQ(found[0]["whom"], "receiver 10.0.0.2:40123");
  EXPECT_EQ(found[0]["client_id"], nullptr);
  EXPECT_NE(found[0]["text"].get<std::string>().find("has room up to position 8192, and the sender is at 8192: 4KiB from 4096 on"), std::string::npos) << found[0]["text"];
}

TEST_F(Why, a_window_without_room_for_the_next_datagram_is_shut) {
  shm::PublicationSlot& slot = add_publication();
  slot.desired.mtu = 1408;
  slot.observed.state.sender_limit += 32;
  EXPECT_EQ(kinds(77), "receiver_window");
  slot.observed.state.sender_limit += 1408;
  EXPECT_EQ(kinds(77), "none");
}

TEST_F(Why, of_several_receivers_the_one_that_flow_control_waits_for_is_named) {
  shm::PublicationSlot& slot = add_publication();
  slot.observed.state.receivers[0].last_position = 4096;
  slot.observed.state.receivers[1] = {.receiver_id = 2, .last_position = 2048, .last_limit = 8000, .address = 0x0A000003, .port = 1, .is_live = 1};
  slot.observed.state.receivers[2] = {.receiver_id = 3, .last_limit = 4000, .address = 0x0A000004, .port = 1, .is_live = 0};
  EXPECT_EQ(causes(77)[0]["whom"], "receiver 10.0.0.2:40123") << "max: the one that lets it go farthest";
  slot.desired.flow_control = shm::FlowControl::kMin;
  EXPECT_EQ(causes(77)[0]["whom"], "receiver 10.0.0.3:1") << "min: the slowest that lives";
  slot.desired.flow_control = shm::FlowControl::kTagged;
  slot.observed.state.receivers[0].is_flow_controlling = 1;
  EXPECT_EQ(causes(77)[0]["whom"], "receiver 10.0.0.2:40123") << "tagged: the slowest with the tag";
}

TEST_F(Why, behind_a_receiver_of_our_own_stands_its_subscriber) {
  add_publication();
  add_image();
  const std::int32_t counter = add_subscriber(shm::LinkTarget::kImage, 3, 2048);
  const auto found = causes(77);
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[1]["cause"], "subscriber");
  EXPECT_EQ(found[1]["whom"], "subscriber " + std::to_string(counter));
  EXPECT_EQ(found[1]["client_id"], 99);
  EXPECT_EQ(kinds(80), "subscriber") << "and so it is told of the image";
}

TEST_F(Why, a_publication_that_nobody_answers_waits_for_a_receiver) {
  add_lonely_publication().observed.state.receivers[0].last_sm_ns = monotonic_ns();  // its beginning
  EXPECT_EQ(kinds(77), "no_receiver");
  EXPECT_NE(text(77).find("nobody answers at 10.0.0.2:40123"), std::string::npos) << text(77);
}

TEST_F(Why, a_receiver_that_fell_silent_is_named_with_the_time) {
  shm::PublicationSlot& slot = add_lonely_publication();
  slot.observed.state.receivers[0] = {.receiver_id = 1, .last_sm_ns = monotonic_ns() - 6 * kSecond_ns, .address = 0x0A000002, .port = 40123};
  EXPECT_EQ(kinds(77), "receiver_silent");
  EXPECT_NE(text(77).find("receiver 10.0.0.2:40123 was the last to send a status message, 6"), std::string::npos) << text(77);
}

TEST_F(Why, a_group_that_is_too_small_is_told_with_both_numbers) {
  shm::PublicationSlot& slot = add_publication();
  slot.observed.state.is_connected = 0;
  slot.observed.state.flow_receiver_count = 1;
  slot.desired.flow_control = shm::FlowControl::kTagged;
  slot.desired.flow_control_group_min_size = 3;
  EXPECT_EQ(kinds(77), "group_size");
  EXPECT_NE(text(77).find("wants 3 receivers with its group tag, and 1 of 1 count"), std::string::npos) << text(77);
}

TEST_F(Why, a_manual_publication_waits_for_destinations_and_for_their_names) {
  add_lonely_publication();
  registry_->endpoints[kEndpoint].desired.mode = shm::EndpointMode::kManual;
  EXPECT_EQ(kinds(77), "no_destination");
  shm::DestinationSlot& destination = registry_->destinations[0];
  destination.desired.kind = shm::DestinationKind::kSend;
  destination.desired.endpoint = kEndpoint;
  destination.desired.text = registry_.put_text("aeron:udp?endpoint=nobody.example:1").value_or(shm::kNoSlot);
  activate(destination);
  EXPECT_EQ(kinds(77), "name");
  EXPECT_EQ(causes(77)[0]["whom"], "aeron:udp?endpoint=nobody.example:1");
  destination.desired.remote_address = 0x0A000007;
  EXPECT_EQ(kinds(77), "no_receiver");
  registry_->endpoints[kEndpoint].desired.mode = shm::EndpointMode::kDynamic;
  EXPECT_NE(text(77).find("no subscriber has registered"), std::string::npos) << text(77);
}

TEST_F(Why, a_link_that_is_down_comes_first) {
  add_lonely_publication();
  registry_->ports[0].is_link_up.store(0);
  EXPECT_EQ(kinds(77), "link_down no_receiver");
  EXPECT_EQ(causes(77)[0]["whom"], "port a");
  EXPECT_EQ(text(77), "the link of port a (patch) is down");
}

TEST_F(Why, frames_that_waited_for_arp_in_vain_are_told_where_nobody_has_answered) {
  shm::PublicationSlot& slot = add_lonely_publication();
  registry_->lanes[0].counters[static_cast<std::size_t>(shm::LaneCounter::kDropUnresolved)] = 12;
  EXPECT_EQ(kinds(77), "arp no_receiver");
  EXPECT_NE(text(77).find("12 frames because their next hop did not answer ARP (drop_unresolved): is 10.0.0.2,"), std::string::npos) << text(77);
  registry_->endpoints[kEndpoint].observed.port_index = 2;
  EXPECT_EQ(kinds(77), "no_receiver") << "the kernel resolves for its port";
  registry_->endpoints[kEndpoint].observed.port_index = 0;
  slot.observed.state.receivers[0].address = 0x0A000002;
  EXPECT_EQ(kinds(77), "receiver_silent") << "it was reached before";
}

TEST_F(Why, an_endpoint_that_could_not_be_opened_says_so) {
  add_lonely_publication();
  shm::EndpointSlot::Seen& seen = registry_->endpoints[kEndpoint].observed;
  seen.state.store(shm::Observed::kFailed);
  std::strncpy(seen.error.text, "address in use", sizeof seen.error.text - 1);
  EXPECT_EQ(kinds(77), "endpoint no_receiver");
  EXPECT_NE(text(77).find("address in use"), std::string::npos);
}

TEST_F(Why, a_spy_holds_its_publication_up) {
  shm::PublicationSlot& slot = add_publication();
  slot.observed.state.publisher_limit = 12288;
  slot.observed.state.sender_position = slot.observed.state.sender_limit = 12288;
  const std::int32_t counter = add_subscriber(shm::LinkTarget::kPublication, 5, 1024);
  EXPECT_EQ(kinds(77), "spy");
  EXPECT_EQ(causes(77)[0]["whom"], "subscriber " + std::to_string(counter));
}

TEST_F(Why, a_sender_that_does_not_keep_up_is_its_lane) {
  shm::PublicationSlot& slot = add_publication();
  slot.observed.state.publisher_limit = 12288;
  slot.observed.state.sender_limit = 65536;
  slot.desired.lane = 1;
  EXPECT_EQ(kinds(77), "sender");
  EXPECT_EQ(causes(77)[0]["whom"], "lane 1");
}

TEST_F(Why, a_publication_that_may_go_on_waits_for_nothing) {
  add_publication().observed.state.sender_limit = 65536;
  EXPECT_EQ(kinds(77), "none");
  EXPECT_NE(text(77).find("may go on by 52KiB"), std::string::npos) << text(77);
}

TEST_F(Why, an_ipc_stream_waits_for_a_subscriber_or_for_the_slowest_of_them) {
  shm::PublicationSlot& slot = add_ipc();
  slot.observed.state.is_connected = 0;
  EXPECT_EQ(kinds(77), "no_subscriber");
  slot.observed.state.is_connected = 1;
  const std::int32_t counter = add_subscriber(shm::LinkTarget::kPublication, 5, 4096);
  const auto found = causes(77);
  EXPECT_EQ(found[0]["cause"], "subscriber");
  EXPECT_EQ(found[0]["whom"], "subscriber " + std::to_string(counter));
  EXPECT_NE(found[0]["text"].get<std::string>().find("of client 99 is 8KiB behind, at position 4096"), std::string::npos) << found[0]["text"];
}

TEST_F(Why, a_subscriber_is_told_with_the_process_that_has_its_log_mapped) {
  add_ipc();
  add_subscriber(shm::LinkTarget::kPublication, 5, 4096);
  std::filesystem::create_directory(directory_.path() + "/publications");
  const std::string path = shm::log_path(directory_.path(), shm::LogUse::kPublication, 77);
  ASSERT_TRUE(shm::MappedFile::create(path, {.length = 4096}));
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const auto log = shm::MappedFile::open(path, shm::MappedFile::Access::kReadWrite);
    static_cast<void>(!::write(ready[1], "x", 1));
    for (;;) ::pause();
  }
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  const auto found = causes(77);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ::close(ready[0]);
  ::close(ready[1]);
  EXPECT_EQ(found[0]["pids"], nlohmann::json::array({child}));
  EXPECT_NE(found[0]["text"].get<std::string>().find("of client 99, process " + std::to_string(child) + " is"), std::string::npos) << found[0]["text"];
}

TEST_F(Why, an_image_waits_for_what_was_lost_and_for_its_source) {
  shm::ImageSlot& image = add_image();
  add_subscriber(shm::LinkTarget::kImage, 3, 8192);
  EXPECT_EQ(kinds(80), "none");
  image.observed.state.gap_count = 1;
  image.observed.state.high_water = 16384;
  image.observed.state.gaps[0] = {.position = 8192, .length = 1408, .naks = 3};
  EXPECT_EQ(kinds(80), "loss");
  EXPECT_NE(text(80).find("missing at position 8192, asked for 3 times; 8KiB wait behind that"), std::string::npos) << text(80);
  image.observed.state.gap_count = 0;
  image.observed.state.last_packet_ns = monotonic_ns() - 3 * kSecond_ns;
  EXPECT_EQ(kinds(80), "source_silent");
  EXPECT_EQ(causes(80)[0]["whom"], "source 10.0.0.2:5000");
}

TEST_F(Why, a_stream_nobody_works_on_says_why) {
  shm::PublicationSlot& slot = add_publication();
  slot.observed.state.lifecycle = shm::Lifecycle::kLinger;
  EXPECT_EQ(kinds(77), "ending");
  slot.observed.ObservedHead::state.store(shm::Observed::kFailed);
  std::strncpy(slot.observed.error.text, "a bad frame", sizeof slot.observed.error.text - 1);
  EXPECT_EQ(text(77), "it failed: a bad frame");
  slot.desired.generation = 2;
  EXPECT_EQ(kinds(77), "starting");
  registry_->header.data_plane.state.store(shm::Observed::kNone);
  EXPECT_EQ(kinds(77), "data_plane");
}

TEST_F(Why, a_session_id_finds_the_publication_and_its_image) {
  add_publication();
  add_image();
  const test::Outcome outcome = here({"stream", "why", "-9", "--json"});
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_EQ(outcome.json()["streams"].size(), 2U);
  const test::Outcome text = here({"stream", "why", "77"});
  EXPECT_TRUE(text.out.starts_with("publication 77, session -9, stream 1001, active: aeron:udp?endpoint=10.0.0.2:40123\n  receiver 10.0.0.2:40123 has room")) << text.out;
  const test::Outcome none = here({"stream", "why", "12345"});
  EXPECT_EQ(none.exit, static_cast<int>(exit_of(ErrorCode::kNotFound)));
  EXPECT_NE(none.err.find("thalweg stream list"), std::string::npos);
}

TEST_F(Why, slots_and_counts_out_of_range_do_no_harm) {
  shm::PublicationSlot& slot = add_lonely_publication();
  slot.desired.endpoint = 0x7FFFFFFF;
  EXPECT_EQ(kinds(77), "no_receiver");
  shm::ImageSlot& image = add_image();
  image.desired.endpoint = 0x7FFFFFFF;
  add_subscriber(shm::LinkTarget::kImage, 3, 1);
  registry_->links[11].desired.target_slot = 3;
  registry_->links[12].desired.target_slot = 0x7FFFFFFF;
  registry_->links[12].desired.subscription = 4;
  activate(registry_->links[12]);
  EXPECT_EQ(kinds(80), "subscriber");
}

}  // namespace
}  // namespace thalweg::cli
