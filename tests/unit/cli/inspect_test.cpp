// stream list, stat, top, drops, errors, loss, route get against an instance directory as the two processes write it.
#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "dataplane/client/error_code.hpp"
#include "tests/unit/cli/instance_fixture.hpp"

namespace thalweg::cli {
namespace {

using test::Outcome;
using test::thalweg;
class Inspect : public test::InstanceTest {};

TEST_F(Inspect, a_stalled_publication_is_listed_with_who_holds_it) {
  add_stalled_publication();
  const Outcome json = here({"stream", "list", "--json"});
  ASSERT_EQ(json.exit, 0) << json.err;
  const auto streams = json.json()["streams"];
  ASSERT_EQ(streams.size(), 1U);
  EXPECT_EQ(streams[0]["kind"], "publication");
  EXPECT_EQ(streams[0]["session_id"], -9);
  EXPECT_EQ(streams[0]["state"], "active");
  EXPECT_EQ(streams[0]["is_connected"], true);
  EXPECT_EQ(streams[0]["position"], 12288);
  EXPECT_EQ(streams[0]["backlog_bytes"], 4096);
  EXPECT_EQ(streams[0]["held_by"], "receiver 10.0.0.2:40123");
  EXPECT_EQ(streams[0]["channel"], "aeron:udp?endpoint=10.0.0.2:40123");
  const Outcome table = here({"stream", "list"});
  EXPECT_NE(table.out.find("HELD BY"), std::string::npos);
  EXPECT_NE(table.out.find("4KiB"), std::string::npos) << table.out;
}

TEST_F(Inspect, an_image_is_listed_with_its_source_and_its_slowest_subscriber) {
  shm::ImageSlot& image = registry_->images[3];
  image.desired.correlation_id = 80;
  image.desired.session_id = 7;
  image.desired.stream_id = 1001;
  image.desired.endpoint = 2;
  image.desired.source_address = 0x0A000002;
  image.desired.source_port = 5000;
  registry_->endpoints[2].desired.text = registry_.put_text("aeron:udp?endpoint=10.0.0.1:40123").value_or(shm::kNoSlot);
  image.observed.state.lifecycle = shm::Lifecycle::kActive;
  image.observed.state.rebuild_position = 10'000;
  image.observed.state.high_water = 10'000;
  activate(image);
  registry_->subscriptions[4].client_id = 99;
  for (const std::int64_t position : {9'000, 4'000}) {
    shm::LinkSlot& link = registry_->links[static_cast<std::size_t>(position)];
    link.desired.target = shm::LinkTarget::kImage;
    link.desired.target_slot = 3;
    link.desired.subscription = 4;
    link.desired.counter_id = add_counter(shm::counter_type::kSubscriberPosition, position, "sub-pos");
    activate(link);
  }
  const auto stream = here({"stream", "list", "--json"}).json()["streams"][0];
  EXPECT_EQ(stream["kind"], "image");
  EXPECT_EQ(stream["channel"], "aeron:udp?endpoint=10.0.0.1:40123");
  EXPECT_EQ(stream["source"], "10.0.0.2:5000");
  EXPECT_EQ(stream["consumers"], 2);
  EXPECT_EQ(stream["backlog_bytes"], 6'000);
  EXPECT_EQ(stream["held_by"], "subscriber 1 of client 99");
}

TEST_F(Inspect, streams_are_filtered_and_an_empty_list_says_so) {
  add_stalled_publication();
  EXPECT_EQ(here({"stream", "list", "--stream", "1002"}).out, "no streams\n");
  EXPECT_EQ(here({"stream", "list", "--session", "-9", "--json"}).json()["streams"].size(), 1U);
  EXPECT_EQ(here({"stream", "list", "--backlogged", "--json"}).json()["streams"].size(), 1U);
}

TEST(Output, a_round_on_a_terminal_cuts_what_is_too_long_for_a_line) {
  std::ostringstream out;
  std::ostringstream err;
  Output terminal{out, err, {.is_json = false, .has_colour = false, .is_terminal = true}};
  terminal.begin_round();
  terminal.line("long");
  terminal.flush();
  EXPECT_EQ(out.str(), "\x1b[H\x1b[2J\x1b[?7llong\n\x1b[?7h");
  terminal.line("after it");
  terminal.flush();
  EXPECT_EQ(out.str().find("\x1b[?7h"), out.str().rfind("\x1b[?7h")) << "once";
}

TEST(Output, errors_that_only_clients_meet_have_names_of_their_own) {
  EXPECT_EQ(name_of(client::client_error::kUnknownSubscription), "unknown_subscription");
  EXPECT_EQ(name_of(client::client_error::kClientTimeout), "client_timeout");
  EXPECT_EQ(name_of(client::client_error::kServiceTimeout), "service_timeout");
  std::set<std::string_view> names;
  for (const int code : {102, 103, 104, 105, 107, 113, 114, 120, 121}) names.insert(name_of(ErrorCode{code}));
  EXPECT_EQ(names.size(), 9U);
  EXPECT_FALSE(names.contains("generic"));
}

TEST_F(Inspect, a_stream_the_data_plane_crashed_on_is_quarantined) {
  shm::PublicationSlot& slot = add_stalled_publication();
  slot.observed.ObservedHead::state.store(shm::Observed::kFailed);
  EXPECT_EQ(here({"stream", "list", "--json"}).json()["streams"][0]["state"], "failed");
  for (std::uint32_t i = 0; i < shm::kCrashesMax; ++i) slot.observed.crashes.add(slot.desired.generation);
  EXPECT_EQ(here({"stream", "list", "--json"}).json()["streams"][0]["state"], "quarantined");
}

TEST_F(Inspect, a_slot_nobody_has_answered_yet_is_waiting) {
  shm::PublicationSlot& slot = add_stalled_publication();
  slot.desired.generation = 2;
  EXPECT_EQ(here({"stream", "list", "--json"}).json()["streams"][0]["state"], "waiting");
}

TEST_F(Inspect, text_slots_and_counts_out_of_range_do_no_harm) {
  shm::PublicationSlot& slot = add_stalled_publication();
  slot.desired.text = 0x7FFFFFFF;
  slot.desired.pub_pos_id = 0x7FFFFFFF;
  registry_->header.lane_count = 0xFFFFFFFF;
  registry_->header.port_count = 0xFFFFFFFF;
  EXPECT_EQ(here({"stream", "list", "--json"}).exit, 0);
  EXPECT_EQ(here({"drops", "--all", "--by-lane", "--json"}).exit, 0);
  EXPECT_EQ(here({"top", "--count", "1", "--interval", "1ms", "--json"}).exit, 0);
}

TEST_F(Inspect, counters_are_found_by_word_type_and_value) {
  add_counter(shm::counter_type::kPublisherPosition, 5, "pub-pos: one");
  add_counter(shm::counter_type::kSubscriberPosition, 0, "sub-pos: one");
  EXPECT_EQ(here({"stat", "--json"}).json()["counters"].size(), 2U);
  EXPECT_EQ(here({"stat", "--nonzero", "--json"}).json()["counters"].size(), 1U);
  const auto found = here({"stat", "SUB-", "--json"}).json();
  ASSERT_EQ(found["counters"].size(), 1U);
  EXPECT_EQ(found["counters"][0]["label"], "sub-pos: one");
  EXPECT_EQ(here({"stat", "--type", "12", "--json"}).json()["counters"][0]["value"], 5);
}

TEST_F(Inspect, labels_of_clients_cannot_reach_the_terminal_with_control_characters) {
  add_counter(1005, 1, "evil \x1b[2J label");
  EXPECT_EQ(here({"stat"}).out.find('\x1b'), std::string::npos);
}

TEST_F(Inspect, drops_are_told_in_words_summed_or_by_lane) {
  const auto index = static_cast<std::size_t>(shm::LaneCounter::kDropNoInterest);
  registry_->lanes[0].counters[index] = 2;
  registry_->lanes[1].counters[index] = 3;
  registry_->ports[0].rx_missed.store(4);
  const auto sum = here({"drops", "--json"}).json();
  ASSERT_EQ(sum["drops"].size(), 1U);
  EXPECT_EQ(sum["drops"][0]["name"], "drop_no_interest");
  EXPECT_EQ(sum["drops"][0]["count"], 5);
  ASSERT_EQ(sum["port_drops"].size(), 1U);
  EXPECT_EQ(sum["port_drops"][0]["port"], "a");
  EXPECT_EQ(sum["port_drops"][0]["name"], "rx_missed");
  const auto by_lane = here({"drops", "--by-lane", "--json"}).json()["drops"];
  ASSERT_EQ(by_lane.size(), 2U);
  EXPECT_EQ(by_lane[1]["lane"], 1);
  EXPECT_EQ(by_lane[1]["count"], 3);
  EXPECT_NE(here({"drops"}).out.find("no subscription wants the stream"), std::string::npos);
}

TEST_F(Inspect, an_instance_that_dropped_nothing_says_so) {
  EXPECT_EQ(here({"drops"}).out, "no lane dropped anything\n\nno port dropped anything\n");
  EXPECT_GT(here({"drops", "--all", "--json"}).json()["drops"].size(), 10U);
}

TEST_F(Inspect, each_distinct_error_is_shown_once) {
  shm::DistinctErrorLog log{cnc_.error_log()};
  ASSERT_TRUE(log.record(1, "cannot bind 10.0.0.9:1", 1'000));
  ASSERT_TRUE(log.record(1, "cannot bind 10.0.0.9:1", 2'000));
  const auto errors = here({"errors", "--json"}).json()["errors"];
  ASSERT_EQ(errors.size(), 1U);
  EXPECT_EQ(errors[0]["count"], 2);
  EXPECT_EQ(errors[0]["first_ms"], 1'000);
  EXPECT_EQ(errors[0]["last_ms"], 2'000);
  EXPECT_NE(here({"errors"}).out.find("1970-01-01T00:00:02.000Z"), std::string::npos);
}

TEST_F(Inspect, loss_is_read_from_the_report) {
  auto file = shm::MappedFile::create(directory_.file("loss-report.dat"), {.length = 65536});
  ASSERT_TRUE(file);
  shm::LossReport report{{file->data(), file->length()}};
  static_cast<void>(report.create_entry(1408, 5'000, 7, 1001, "aeron:udp?endpoint=10.0.0.1:40123", "10.0.0.2:5000"));
  const auto losses = here({"loss", "--json"}).json()["losses"];
  ASSERT_EQ(losses.size(), 1U);
  EXPECT_EQ(losses[0]["bytes_lost"], 1408);
  EXPECT_EQ(losses[0]["source"], "10.0.0.2:5000");
}

TEST_F(Inspect, top_looks_once_when_no_terminal_is_there) {
  registry_->lanes[0].ticks_busy.store(10);
  registry_->header.data_plane.starts.store(2);
  const Outcome once = here({"top", "--interval", "1ms"});
  EXPECT_EQ(once.exit, 0);
  EXPECT_NE(once.out.find("runs as process 4712, start 2"), std::string::npos) << once.out;
  EXPECT_EQ(once.out.find("instance", once.out.find("instance") + 1), std::string::npos);
  const auto document = here({"top", "--interval", "1ms", "--json"}).json();
  EXPECT_EQ(document["data_plane"]["starts"], 2);
  EXPECT_EQ(document["lanes"].size(), 2U);
  EXPECT_EQ(document["lanes"][1]["cpu"], 3);
  EXPECT_EQ(document["ports"][0]["port"], "a");
  EXPECT_EQ(document["ports"][0]["is_link_up"], true);
}

TEST_F(Inspect, top_repeats_as_often_as_asked) {
  const Outcome twice = here({"top", "--interval", "1ms", "--count", "2", "--json"});
  EXPECT_EQ(std::count(twice.out.begin(), twice.out.end(), '\n'), 2) << "one document a line";
}

TEST_F(Inspect, a_dead_instance_still_tells_its_last_figures) {
  add_stalled_publication();
  beat(60'000);
  const Outcome outcome = here({"stream", "list"});
  EXPECT_EQ(outcome.exit, 0);
  EXPECT_NE(outcome.err.find("does not run; these are its last figures"), std::string::npos);
  EXPECT_NE(outcome.out.find("1001"), std::string::npos);
}

TEST_F(Inspect, figures_of_an_instance_without_registry_are_those_of_a_stock_driver) {
  add_counter(0, 5, "Bytes sent");
  std::filesystem::remove(directory_.file("registry.dat"));
  EXPECT_EQ(here({"stat", "--json"}).json()["counters"][0]["value"], 5);
  const Outcome refused = here({"drops"});
  EXPECT_EQ(refused.exit, 1);
  EXPECT_NE(refused.err.find("another media driver"), std::string::npos) << refused.err;
}

TEST_F(Inspect, a_registry_of_another_version_names_both) {
  const int fd = ::open(directory_.file("registry.dat").c_str(), O_WRONLY);
  const std::uint32_t version = 99;
  ASSERT_EQ(::pwrite(fd, &version, sizeof version, 8), 4);
  ::close(fd);
  const Outcome outcome = here({"drops", "--json"});
  EXPECT_EQ(outcome.exit, 3) << "nothing that this program could read";
  const auto error = nlohmann::json::parse(outcome.err)["error"];
  EXPECT_EQ(error["code"], "version");
  EXPECT_NE(error["message"].get<std::string>().find("99"), std::string::npos);
  EXPECT_NE(error["message"].get<std::string>().find(std::to_string(shm::kRegistryVersion)), std::string::npos);
  EXPECT_FALSE(error["hint"].get<std::string>().empty());
}

TEST_F(Inspect, route_get_asks_the_running_instance) {
  const auto routes = here({"route", "get", "aeron:udp?endpoint=10.0.0.2:40123", "--json"}).json()["routes"];
  ASSERT_EQ(routes.size(), 2U);
  EXPECT_EQ(routes[0]["role"], "publication");
  EXPECT_EQ(routes[0]["port"], "a");
  EXPECT_EQ(routes[0]["source"], "10.0.0.1");
  EXPECT_EQ(routes[0]["why"], "longest matching subnet: 10.0.0.1/24");
  EXPECT_EQ(routes[1]["port"], "kernel") << "10.0.0.2 is somebody else's";
}

TEST_F(Inspect, route_get_knows_the_routes_of_the_running_instance) {
  registry_->ports[0].routes[0] = {0x0A090000, 16, 0x0A000007};
  registry_->ports[0].route_count = 1;
  const auto routes = here({"route", "get", "aeron:udp?endpoint=10.9.1.2:40123", "--json"}).json()["routes"];
  ASSERT_EQ(routes.size(), 2U);
  EXPECT_EQ(routes[0]["port"], "a");
  EXPECT_EQ(routes[0]["next_hop"], "10.0.0.7");
  EXPECT_EQ(routes[0]["why"], "longest matching route: 10.9.0.0/16 via 10.0.0.7 of port a");
}

TEST_F(Inspect, route_get_knows_the_ipv6_side_of_a_port) {
  const auto enter = [this](const char* text) { return registry_->addresses.enter({*wire::parse_ipv6(text), 0}, shm::AddressBook::By::kNamed, 1); };
  auto& port = registry_->ports[0];
  port.address6 = enter("2001:db8::1");
  port.prefix_length6 = 64;
  port.gateway6 = enter("fe80::fe");
  port.routes[0] = {enter("2001:db8:9::"), 48, enter("2001:db8::7")};
  port.route_count = 1;
  const auto first = [this](const std::string& address) { return here({"route", "get", "aeron:udp?endpoint=[" + address + "]:40123", "--json"}).json()["routes"][0]; };
  const auto near = first("2001:db8::2");
  EXPECT_EQ(near["port"], "a");
  EXPECT_EQ(near["source"], "2001:db8::1");
  EXPECT_EQ(near["why"], "longest matching subnet: 2001:db8::1/64");
  EXPECT_EQ(first("2001:db8:9::2")["next_hop"], "2001:db8::7");
  EXPECT_EQ(first("2001:db8:9::2")["why"], "longest matching route: 2001:db8:9::/48 via 2001:db8::7 of port a");
  EXPECT_EQ(first("2001:db9::2")["next_hop"], "fe80::fe");
  EXPECT_EQ(first("2001:db9::2")["why"], "gateway fe80::fe of port a");
}

TEST_F(Inspect, route_get_shows_every_port_that_listens_on_the_wildcard) {
  const auto routes = here({"route", "get", "aeron:udp?endpoint=0.0.0.0:40123", "--json"}).json()["routes"];
  EXPECT_EQ(routes.size(), 4U) << "one to send, three to receive";
}

TEST_F(Inspect, route_get_ends_with_4_when_nothing_reaches_the_address) {
  registry_->header.port_count = 1;  // no kernel port
  const Outcome outcome = here({"route", "get", "aeron:udp?endpoint=192.168.1.1:40123"});
  EXPECT_EQ(outcome.exit, 4);
  EXPECT_NE(outcome.out.find("add a gateway or a route"), std::string::npos) << outcome.out;
}

TEST(Offline, no_instance_is_exit_3_with_a_hint_in_both_forms) {
  for (const char* verb : {"stat", "drops", "errors", "loss", "top"}) {
    const Outcome outcome = thalweg({verb, "--directory", "/nonexistent/instance", "--json"});
    EXPECT_EQ(outcome.exit, 3) << verb;
    const auto error = nlohmann::json::parse(outcome.err)["error"];
    EXPECT_EQ(error["code"], "unreachable") << verb;
    EXPECT_NE(error["hint"].get<std::string>().find("thalweg up"), std::string::npos) << verb;
    EXPECT_EQ(outcome.out, "") << verb;
  }
  EXPECT_NE(thalweg({"stat", "--directory", "/nonexistent/instance"}).err.find("hint: start one"), std::string::npos);
}

TEST(Offline, route_get_can_answer_for_the_built_in_configuration) {
  const Outcome outcome = thalweg({"route", "get", "aeron:udp?endpoint=127.0.0.1:40123", "--config", "", "--json"});
  EXPECT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_EQ(outcome.json()["routes"][0]["port"], "loopback");
}

TEST(Offline, route_get_names_what_is_wrong_with_a_channel) {
  EXPECT_EQ(thalweg({"route", "get", "aeron:tcp?endpoint=1.2.3.4:5"}).exit, 2);
  const Outcome outcome = thalweg({"route", "get", "aeron:udp?endpoint=10.0.0.1:5|interface=10.0.0.0/99", "-c", ""});
  EXPECT_EQ(outcome.exit, 2);
  EXPECT_NE(outcome.err.find("0 to 32"), std::string::npos) << outcome.err;
}

TEST(Usage, a_misspelt_verb_gets_a_caret_and_a_suggestion) {
  const Outcome outcome = thalweg({"steam", "list"});
  EXPECT_EQ(outcome.exit, 2);
  EXPECT_NE(outcome.err.find("did you mean 'stream'?"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("^"), std::string::npos);
}

}  // namespace
}  // namespace thalweg::cli
