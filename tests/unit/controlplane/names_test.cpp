#include <gtest/gtest.h>

#include <map>

#include "controlplane/conductor/name_service.hpp"
#include "controlplane/host/resolver.hpp"
#include "dataplane/base/units.hpp"
#include "dataplane/wire/resolution_frame.hpp"
#include "tests/unit/controlplane/fixture.hpp"

// Names in channels: whose word counts, what a running stream does when a name moves, and what others see of it.
namespace thalweg::conductor::testing {
namespace {

using shm::ClientError;
using shm::Response;
using shm::SystemCounter;

constexpr std::uint32_t kLocalhost = 0x7F000001;

// Another driver's resolver on a socket of its own.
class Peer {
 public:
  explicit Peer(std::uint32_t address) : socket_{std::move(*host::UdpSocket::open({address, 0}))} {}
  [[nodiscard]] const host::UdpSocket::Peer& bound() const { return socket_.bound(); }
  void tell(const names::Address& to, const std::string& name) { tell(to, name, names::Address::ipv4(bound().address, bound().port)); }
  void tell(const names::Address& to, const std::string& name, const names::Address& ours) {
    wire::ResolutionEntry entry;
    entry.is_self = true;
    entry.address_type = ours.type;
    entry.port = ours.port;
    std::copy(ours.bytes.begin(), ours.bytes.end(), entry.address);
    const std::size_t length = name.size();
    if (length > 512) return ADD_FAILURE() << "no name is that long", void();   // and the compiler knows it
    entry.name = std::as_bytes(std::span{name.data(), length});
    std::vector<std::byte> frame(wire::FrameHeader::kLength + entry.length());
    wire::build(frame.data() + wire::FrameHeader::kLength, entry);
    wire::put_header(frame.data(), static_cast<std::int32_t>(frame.size()), 0, wire::FrameType::kResolution);
    send(to, frame);
  }
  void send(const names::Address& to, const std::vector<std::byte>& datagram) { EXPECT_TRUE(socket_.send({to.to_ipv4(), to.port}, datagram)); }
  [[nodiscard]] std::optional<std::string> hear() {
    std::array<std::byte, 2048> buffer{};
    const auto received = socket_.receive(buffer);
    if (!received) return std::nullopt;
    std::string text;
    static_cast<void>(wire::for_each_resolution(std::span{buffer}.first(received->length), [&](const wire::ResolutionEntry& entry) {
      text += (entry.is_self ? "self " : "") + std::string{reinterpret_cast<const char*>(entry.name.data()), entry.name.size()};
    }));
    return text;
  }

 private:
  host::UdpSocket socket_;
};

class Names : public ConductorTest {
 protected:
  void SetUp() override {
    settings.names.name = "alpha";
    settings.names.interface_address = kLocalhost;
    settings.names.interface_port = 0;
  }
  void start_with_names() {
    start();
    world().resolve_host = [this](const std::string& host) -> Result<std::uint32_t> {
      asked.push_back(host);
      if (hosts.contains(host)) return hosts.at(host);
      return fail(ErrorCode::kUnknownHost, "Unable to resolve host=(" + host + "): nobody knows");
    };
  }
  [[nodiscard]] names::Address bound() { return world().names->gossip().options().bound; }
  [[nodiscard]] shm::EndpointSlot& only_endpoint() {
    EXPECT_EQ(world().endpoints.used().size(), 1U);
    return world().endpoints.slot(world().endpoints.used().front());
  }
  [[nodiscard]] shm::PublicationState& only_publication() { return registry().publications[world().publications.used().front()].observed.state; }
  void pass_seconds(int seconds) {
    for (int i = 0; i < seconds; ++i) advance(kSecond_ns);
  }
  std::map<std::string, std::uint32_t> hosts;  // the system's
  std::vector<std::string> asked;
};

// proves 6.2/10
TEST_F(Names, a_driver_that_told_its_name_is_found_without_asking_the_system) {
  start_with_names();
  Peer bravo{0x7F000002};
  bravo.tell(bound(), "bravo");
  advance(20 * kMillisecond_ns);
  add_publication("aeron:udp?endpoint=bravo:24325");
  EXPECT_EQ(response_types().back(), static_cast<std::int32_t>(Response::kPublicationReady));
  EXPECT_EQ(only_endpoint().desired.remote_address, 0x7F000002U);
  EXPECT_EQ(only_endpoint().desired.remote_port, 24325) << "the port is the channel's, not the resolver's";
  EXPECT_TRUE(asked.empty());
}

TEST_F(Names, a_driver_may_have_told_an_ipv6_address) {
  start_with_names();
  Peer bravo{0x7F000002};
  names::Address ipv6{.type = wire::ResolutionEntry::kIpv6, .port = 8050};
  const auto bytes = wire::parse_ipv6("2001:db8::7")->bytes;
  std::memcpy(ipv6.bytes.data(), bytes.data(), bytes.size());
  bravo.tell(bound(), "bravo", ipv6);
  advance(20 * kMillisecond_ns);
  add_publication("aeron:udp?endpoint=bravo:24325");
  EXPECT_EQ(response_types().back(), static_cast<std::int32_t>(Response::kPublicationReady));
  EXPECT_EQ(registry().addresses.format(only_endpoint().desired.remote_address), "2001:db8::7");
  EXPECT_TRUE(asked.empty());
}

TEST(Resolver, prefers_ipv4_and_enters_ipv6) {
  shm::AddressBook book;
  EXPECT_EQ(*host::resolve_host("10.0.0.1", book), 0x0A000001U);
  EXPECT_EQ(*host::resolve_host("::1", book), wire::kLoopbackIpv6);
  const auto other = host::resolve_host("2001:db8::1", book);
  ASSERT_TRUE(other);
  EXPECT_EQ(book.format(*other), "2001:db8::1");
  EXPECT_EQ(host::resolve_host("240.0.0.1", book).error().code, ErrorCode::kUnknownHost) << "it would pass for a handle";
}

TEST_F(Names, whoever_speaks_to_us_is_answered_with_our_name_and_those_we_know) {
  start_with_names();
  Peer bravo{0x7F000002};
  bravo.tell(bound(), "bravo");
  advance(20 * kMillisecond_ns);
  EXPECT_EQ(bravo.hear(), "self alpha");
  advance(2 * kSecond_ns);
  EXPECT_EQ(bravo.hear(), "self alpha");
  EXPECT_EQ(bravo.hear(), "bravo");
}

TEST_F(Names, bootstrap_neighbors_are_looked_up_and_spoken_to) {
  Peer bravo{0x7F000002};
  settings.names.bootstrap_neighbors = {"127.0.0.2:" + std::to_string(bravo.bound().port), "elsewhere:8050"};
  start_with_names();
  hosts["elsewhere"] = 0x7F000009;
  pass_seconds(11);  // asked for at once, before the test's network was there, and again after ten seconds
  EXPECT_EQ(bravo.hear(), "self alpha");
  const auto all = labels();
  ASSERT_EQ(all.size(), 4U);
  EXPECT_EQ(all[0], "Resolver neighbors: bound 127.0.0.1:" + std::to_string(bound().port));
  EXPECT_EQ(all[1], "Resolver cache entries: name=alpha");
  EXPECT_EQ(all[2], "Bootstrap neighbor: name=" + settings.names.bootstrap_neighbors[0] + " resolved=127.0.0.2:" + std::to_string(bravo.bound().port));
  EXPECT_EQ(all[3], "Bootstrap neighbor: name=elsewhere:8050 resolved=127.0.0.9:8050");
}

TEST_F(Names, counters_tell_how_many_are_known) {
  start_with_names();
  Peer bravo{0x7F000002}, charlie{0x7F000003};
  bravo.tell(bound(), "bravo");
  charlie.tell(bound(), "charlie");
  advance(20 * kMillisecond_ns);
  EXPECT_EQ(counters().counter(shm::kSystemCounterCount).get(), 2);
  EXPECT_EQ(counters().counter(shm::kSystemCounterCount + 1).get(), 2);
  advance(10 * kSecond_ns);
  EXPECT_EQ(counters().counter(shm::kSystemCounterCount).get(), 0) << "both are silent";
  EXPECT_EQ(label(static_cast<std::int32_t>(SystemCounter::kResolutionChanges)), "Resolution changes: driverName=alpha");
}

// proves 6.2/1
TEST_F(Names, rubbish_counts_as_invalid_packets) {
  start_with_names();
  Peer bravo{0x7F000002};
  bravo.send(bound(), std::vector<std::byte>(40));
  advance(20 * kMillisecond_ns);
  EXPECT_EQ(system(SystemCounter::kInvalidPackets), 1);
}

TEST_F(Names, a_taken_interface_is_an_error_at_start) {
  Peer other{kLocalhost};
  settings.names.interface_port = other.bound().port;
  auto opened = host::InstanceFiles::open(instance, now.now_ms, now.now_ns);
  ASSERT_TRUE(opened);
  host::Worker idle;
  const auto created = Conductor::create(settings, *opened, log_options, idle, now);
  ASSERT_FALSE(created);
  EXPECT_EQ(created.error().code, ErrorCode::kInUse);
}

// proves 6.2/10
TEST_F(Names, our_own_name_is_our_interface) {
  start_with_names();
  add_subscription("aeron:udp?endpoint=alpha:24325");
  EXPECT_EQ(only_endpoint().desired.local_address, kLocalhost);
}

// proves 5.12/1, 6.2/10
TEST_F(Names, hosts_that_no_driver_is_called_are_asked_of_the_system) {
  start_with_names();
  hosts["box"] = 0x0A000009;
  add_publication("aeron:udp?endpoint=box:24325|interface=box");
  EXPECT_EQ(response_types().back(), static_cast<std::int32_t>(Response::kPublicationReady));
  EXPECT_EQ(only_endpoint().desired.remote_address, 0x0A000009U);
  EXPECT_EQ(only_endpoint().desired.interface_address, 0x0A000009U);
  EXPECT_EQ(asked, std::vector<std::string>{"box"}) << "once for both";
}

// proves 5.12/1
TEST_F(Names, an_unknown_host_is_the_clients_error) {
  start_with_names();
  const std::int64_t id = add_publication("aeron:udp?endpoint=nobody:24325");
  EXPECT_NE(std::string{expect_error(id, ClientError::kUnknownHost).text}.find("nobody"), std::string::npos);
}

TEST_F(Names, a_system_that_takes_its_time_holds_up_nobody_else) {
  host::Worker slow;
  lookups = &slow;
  start_with_names();
  hosts["box"] = 0x0A000009;
  const std::int64_t late = add_publication("aeron:udp?endpoint=box:24325", 10, false, kClient);
  const std::int64_t early = add_publication("aeron:udp?endpoint=127.0.0.1:24326", 11, false, kOther);
  static_cast<void>(expect<shm::OnCounter>(Response::kCounterReady));
  EXPECT_EQ(expect<shm::OnPublicationReady>(Response::kPublicationReady).correlation_id, early);
  expect_nothing();
  EXPECT_TRUE(slow.run_one());
  run();
  static_cast<void>(expect<shm::OnCounter>(Response::kCounterReady));
  EXPECT_EQ(expect<shm::OnPublicationReady>(Response::kPublicationReady).correlation_id, late);
}

// ---- names that move (wire-protocol 5.12) ----

// proves 2.1/5, 5.12/2
TEST_F(Names, a_silent_publication_follows_its_name) {
  start_with_names();
  hosts["box"] = 0x0A000009;
  add_publication("aeron:udp?endpoint=box:24325");
  hosts["box"] = 0x0A00000A;
  pass_seconds(5);
  EXPECT_EQ(only_endpoint().desired.remote_address, 0x0A000009U);
  pass_seconds(2);
  EXPECT_EQ(only_endpoint().desired.remote_address, 0x0A00000AU);
  EXPECT_EQ(system(SystemCounter::kResolutionChanges), 1);
  pass_seconds(3);
  EXPECT_EQ(system(SystemCounter::kResolutionChanges), 1) << "the same address is no change";
}

// proves 5.12/2
TEST_F(Names, a_publication_that_is_heard_of_stays_where_it_is) {
  start_with_names();
  hosts["box"] = 0x0A000009;
  add_publication("aeron:udp?endpoint=box:24325");
  hosts["box"] = 0x0A00000A;
  for (int i = 0; i < 20; ++i) {
    only_publication().receivers[3].last_sm_ns = now.now_ns;
    advance(kSecond_ns);
  }
  EXPECT_EQ(only_endpoint().desired.remote_address, 0x0A000009U);
  EXPECT_EQ(asked.size(), 1U);
}

TEST_F(Names, a_publication_follows_a_driver_that_came_back_elsewhere) {
  start_with_names();
  std::optional<Peer> bravo{0x7F000002};
  bravo->tell(bound(), "bravo");
  advance(20 * kMillisecond_ns);
  add_publication("aeron:udp?endpoint=bravo:24325");
  bravo.emplace(0x7F000003);
  bravo->tell(bound(), "bravo");
  pass_seconds(7);
  EXPECT_EQ(only_endpoint().desired.remote_address, 0x7F000003U);
  EXPECT_TRUE(asked.empty());
}

// proves 5.12/2
TEST_F(Names, a_subscription_follows_the_name_of_its_control_address) {
  start_with_names();
  hosts["sender"] = 0x0A000009;
  add_subscription("aeron:udp?endpoint=127.0.0.1:24325|control=sender:24326");
  hosts["sender"] = 0x0A00000A;
  pass_seconds(7);
  EXPECT_EQ(only_endpoint().desired.remote_address, 0x0A00000AU);
  EXPECT_EQ(only_endpoint().desired.local_address, kLocalhost);
}

TEST_F(Names, a_name_that_is_gone_changes_nothing_and_is_reported) {
  start_with_names();
  hosts["box"] = 0x0A000009;
  add_publication("aeron:udp?endpoint=box:24325");
  hosts.clear();
  pass_seconds(10);
  EXPECT_EQ(only_endpoint().desired.remote_address, 0x0A000009U);
  EXPECT_NE(errors().find("box"), std::string::npos);
}

TEST_F(Names, a_name_that_becomes_a_group_is_not_followed) {
  start_with_names();
  hosts["box"] = 0x0A000009;
  add_publication("aeron:udp?endpoint=box:24325");
  hosts["box"] = 0xE0000101;
  pass_seconds(10);
  EXPECT_EQ(only_endpoint().desired.remote_address, 0x0A000009U);
}

TEST_F(Names, literal_addresses_are_never_looked_up) {
  start_with_names();
  add_publication("aeron:udp?endpoint=10.0.0.9:24325");
  pass_seconds(10);
  EXPECT_TRUE(asked.empty());
}

TEST_F(Names, re_resolution_can_be_switched_off) {
  settings.names.re_resolution_interval_ns = 0;
  start_with_names();
  hosts["box"] = 0x0A000009;
  add_publication("aeron:udp?endpoint=box:24325");
  hosts["box"] = 0x0A00000A;
  pass_seconds(20);
  EXPECT_EQ(only_endpoint().desired.remote_address, 0x0A000009U);
}

TEST_F(Names, a_control_plane_that_restarts_knows_where_a_stream_went) {
  start_with_names();
  hosts["box"] = 0x0A000009;
  add_publication("aeron:udp?endpoint=box:24325");
  hosts["box"] = 0x0A00000A;
  pass_seconds(7);
  const auto before = labels();
  crash_and_restart();
  world().resolve_host = [](const std::string&) -> Result<std::uint32_t> { return 0x0A00000BU; };
  EXPECT_EQ(only_endpoint().desired.remote_address, 0x0A00000AU);
  auto after = labels();
  EXPECT_EQ(std::count_if(after.begin(), after.end(), [](const std::string& text) { return text.starts_with("Resolver"); }), 2) << "no strays";
  EXPECT_EQ(after.size(), before.size());
  data_plane->become_active(now.now_ns);
  pass_seconds(7);
  EXPECT_EQ(only_endpoint().desired.remote_address, 0x0A00000BU);
}

}  // namespace
}  // namespace thalweg::conductor::testing
