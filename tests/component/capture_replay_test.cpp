// Recorded traffic of the reference driver against a whole appliance: what its peers sent is fed in at its recorded time, what its application
// did is done again, and what leaves the port must be what the recorded driver sent, frame for frame and by the same ways. proto_replay_test.cpp
// does this for single streams; here are the files in which addresses, several destinations or the conductor matter.
#include <gtest/gtest.h>
#include <rte_mbuf.h>

#include <map>
#include <set>

#include "pmd/backends/patch.hpp"
#include "tests/support/appliance.hpp"
#include "tests/support/recorded.hpp"
#include "tests/support/two_nodes.hpp"

namespace thalweg::test {
namespace {

using wire::FrameType;
using wire::UdpEndpoint;

constexpr std::uint32_t kPublisher = 0x0A4E0001, kFirstReceiver = 0x0A4E0002, kSecondReceiver = 0x0A4E0003;  // 10.78.0.1 to .3
constexpr std::uint32_t kPlainPublisher = 0x0A4D0001, kPlainReceiver = 0x0A4D0002;                           // 10.77.0.1 and .2

struct Datagram {
  std::int64_t time_ns{};
  UdpEndpoint from, to;
  ByteVector payload;
  [[nodiscard]] FrameType type() const { return wire::FrameHeader::of_valid(payload).type(); }
  [[nodiscard]] std::uint8_t flags() const { return wire::DataView{payload.data()}.flags(); }
  [[nodiscard]] bool is_heartbeat() const { return type() == FrameType::kData && wire::DataView{payload.data()}.frame_length() == 0; }
  [[nodiscard]] bool is_data() const { return type() == FrameType::kData && !is_heartbeat(); }
};
using Datagrams = std::vector<Datagram>;

std::optional<Datagram> udp_of(std::span<const std::byte> frame, std::int64_t time_ns) {
  const auto ethernet = wire::EthernetView::parse(frame);
  if (!ethernet || ethernet->type != wire::kEtherTypeIpv4) return std::nullopt;
  const auto ip = wire::Ipv4View::parse(frame.subspan(ethernet->header_length));
  if (ip.bad != wire::Ipv4View::Bad::kNone || ip.protocol != wire::kIpProtocolUdp) return std::nullopt;
  const auto udp = wire::UdpView::parse(ip.payload);
  if (!udp) return std::nullopt;
  return Datagram{time_ns, {ip.source, udp->source_port}, {ip.destination, udp->destination_port}, {udp->payload.begin(), udp->payload.end()}};
}

Datagrams read_datagrams(const char* file) {
  Datagrams all;
  for (const RecordedFrame& frame : read_pcap(data_path(file))) {
    if (auto datagram = udp_of(frame.bytes, frame.time_ns)) all.push_back(std::move(*datagram));
  }
  return all;
}

template <typename Predicate>
Datagrams those(const Datagrams& all, Predicate&& predicate) {
  Datagrams out;
  std::copy_if(all.begin(), all.end(), std::back_inserter(out), predicate);
  return out;
}
std::vector<std::string> payloads(const Datagrams& all) {
  std::vector<std::string> out;
  for (const Datagram& d : all) out.push_back(to_hex(d.payload));
  return out;
}
// One entry for any number of repeats in a row.
std::vector<std::string> distinct(const Datagrams& all) {
  std::vector<std::string> out = payloads(all);
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}
void expect_about_as_many(const Datagrams& ours, const Datagrams& theirs, const std::string& what) {
  EXPECT_NEAR(static_cast<double>(ours.size()), static_cast<double>(theirs.size()), 2.0) << what << ": their number depends on the phase of timers";
}

// An appliance with a recorded host's address. At the other end of its cable are all the others: they answer ARP, and say what was recorded.
class CaptureReplay : public ::testing::Test {
 protected:
  static constexpr std::int64_t kStart_ns = 1'000 * kSecond_ns;
  static constexpr std::int64_t kStep_ns = 20 * kMicrosecond_ns;
  static constexpr std::int64_t kLead_ns = 2 * kSecond_ns;  // before the first datagram

  ~CaptureReplay() override {
    client.reset();
    peers.reset();
  }
  void make(const char* file, std::uint32_t address) {
    host = address;
    recorded = read_datagrams(file);
    ASSERT_FALSE(recorded.empty());
    offset_ns = kStart_ns + kLead_ns - recorded.front().time_ns;
    for (Datagram& d : recorded) d.time_ns += offset_ns;
    Appliance::Options o;
    o.settings.streams.term_length = 64 << 10;
    o.settings.streams.linger_ns = kSecond_ns;  // as the recorded drivers had it
    o.settings.streams.image_liveness_timeout_ns = 2 * kSecond_ns;
    pmd::PortOptions cable;
    cable.kind = shm::PortKind::kPatch;
    cable.name = "peers";
    cable.peer = "host";
    auto port = pmd::PatchPort::create(cable, cables->patches);
    ASSERT_TRUE(port) << port.error().message;
    peers = std::move(*port);
    std::swap(cable.name, cable.peer);
    cable.address = address;
    cable.prefix_length = 24;
    o.ports = {cable};
    appliance = std::make_unique<Appliance>(std::move(o), cables, now_ns);
    client::Context context;
    context.directory = appliance->path();
    context.mode = client::ConductorMode::kInvoker;
    context.clock = {[this] { return now_ns; }, [this] { return epoch_ms_at(now_ns); }};
    context.idle = [this] { step(); };
    auto connected = client::Client::connect(std::move(context));
    ASSERT_TRUE(connected) << connected.error().message;
    client = std::make_unique<client::Client>(std::move(*connected));
  }

  // The peers' side of one moment: what is due by now goes in, what came out is kept.
  void step() {
    for (; next < recorded.size() && recorded[next].time_ns <= now_ns; ++next) {
      if (recorded[next].to.address == host) inject(recorded[next]);
    }
    appliance->step(now_ns);
    rte_mbuf* frames[pmd::kBurstMax];
    const std::uint16_t count = peers->rx_burst(0, frames, pmd::kBurstMax);
    for (std::uint16_t i = 0; i < count; ++i) {
      const std::span<const std::byte> frame{rte_pktmbuf_mtod(frames[i], const std::byte*), frames[i]->data_len};
      if (auto datagram = udp_of(frame, now_ns)) sent.push_back(std::move(*datagram));
      answer_arp(frame);
      rte_pktmbuf_free(frames[i]);
    }
    now_ns += kStep_ns;
  }
  template <typename EachStep>
  void run_until(std::int64_t end_ns, EachStep&& each_step) {
    while (now_ns < end_ns) {
      client->do_work();
      each_step();
      step();
    }
  }
  void run_until(std::int64_t end_ns) {
    run_until(end_ns, [] {});
  }
  [[nodiscard]] static wire::MacAddress mac_of(std::uint32_t address) { return {{2, 0, 0, 0, 0, static_cast<std::uint8_t>(address)}}; }
  void put(std::span<const std::byte> frame) {
    rte_mbuf* buffer = rte_pktmbuf_alloc(cables->pool);
    ASSERT_NE(buffer, nullptr);
    std::memcpy(rte_pktmbuf_append(buffer, static_cast<std::uint16_t>(frame.size())), frame.data(), frame.size());
    ASSERT_EQ(peers->tx_burst(0, &buffer, 1), 1U);
  }
  void inject(const Datagram& d) {
    // An ephemeral port that the recorded publication sent from is another one in ours.
    const std::uint16_t port = d.to.port == their_port && our_port() != 0 ? our_port() : d.to.port;
    const wire::UdpFrameTemplate header{{.source_mac = mac_of(d.from.address), .destination_mac = appliance->plane->port(0).mac(), .source = d.from, .destination = {d.to.address, port}, .vlan = {}}};
    ByteVector frame(std::max<std::size_t>(header.length() + d.payload.size(), 60));
    header.write(frame.data(), d.payload.size());
    std::memcpy(frame.data() + header.length(), d.payload.data(), d.payload.size());
    put(frame);
  }
  void answer_arp(std::span<const std::byte> frame) {
    const auto ethernet = wire::EthernetView::parse(frame);
    if (!ethernet || ethernet->type != wire::kEtherTypeArp) return;
    const auto arp = wire::ArpPacket::parse(frame.subspan(ethernet->header_length));
    if (!arp || arp->operation != wire::ArpPacket::kRequest || arp->target_ip == host) return;
    ByteVector reply(60);
    wire::build_ethernet(reply.data(), arp->sender_mac, mac_of(arp->target_ip), wire::kEtherTypeArp);
    wire::build(reply.data() + wire::kEthernetHeaderLength,
                wire::ArpPacket{wire::ArpPacket::kReply, mac_of(arp->target_ip), arp->target_ip, arp->sender_mac, arp->sender_ip});
    put(reply);
  }
  [[nodiscard]] std::uint16_t our_port() const { return sent.empty() ? 0 : sent.front().from.port; }
  [[nodiscard]] Datagrams recorded_of_host() const {
    return those(recorded, [this](const Datagram& d) { return d.from.address == host; });
  }
  [[nodiscard]] std::set<std::pair<std::uint32_t, std::uint16_t>> destinations(const Datagrams& all) const {
    std::set<std::pair<std::uint32_t, std::uint16_t>> out;
    for (const Datagram& d : all) out.insert({d.to.address, d.to.port});
    return out;
  }

  std::shared_ptr<pmd::PortContext> cables{std::make_shared<pmd::PortContext>()};
  std::int64_t now_ns{kStart_ns}, offset_ns{};
  std::uint32_t host{};
  std::uint16_t their_port{};  // of the recorded publication, where it is ephemeral
  Datagrams recorded, sent;
  std::size_t next{};
  std::unique_ptr<Appliance> appliance;
  std::unique_ptr<pmd::Port> peers;
  std::unique_ptr<client::Client> client;
};

// ---- publications ----

struct PublicationCase {
  const char* file;
  const char* channel;
  std::int32_t stream_id{};
  std::vector<const char*> destinations;  // of a manual one
};

class PublicationReplay : public CaptureReplay, public ::testing::WithParamInterface<PublicationCase> {
 protected:
  // Opens the recorded publication. Its first SETUP told nobody, as in the recording: the next one, 100 ms later, is the first recorded one.
  void open() {
    const auto first = std::find_if(recorded.begin(), recorded.end(), [](const Datagram& d) { return d.type() == FrameType::kSetup; });
    ASSERT_NE(first, recorded.end());
    const auto setup = *wire::Setup::parse(first->payload);
    if (!GetParam().destinations.empty()) their_port = first->from.port;
    run_until(first->time_ns - 100 * kMillisecond_ns - 10 * kStep_ns);
    const std::string identity = "|session-id=" + std::to_string(setup.session_id) + "|init-term-id=" + std::to_string(setup.initial_term_id) +
                                 "|term-id=" + std::to_string(setup.active_term_id) + "|term-offset=" + std::to_string(setup.term_offset) +
                                 "|term-length=" + std::to_string(setup.term_length) + "|mtu=" + std::to_string(setup.mtu);
    auto published = client->add_publication(GetParam().channel + identity, GetParam().stream_id);
    ASSERT_TRUE(published) << published.error().message;
    publication = std::move(*published);
    for (const char* destination : GetParam().destinations) ASSERT_TRUE(client->add_destination(publication, destination));
  }
  // The messages of the recorded application, at their times; it closed just before the first heartbeat that said so.
  void replay() {
    std::map<std::int32_t, const Datagram*> messages;  // by term offset: the first copy of each
    std::int64_t close_ns = INT64_MAX;
    for (const Datagram& d : recorded) {
      if (d.from.address != host) continue;
      if (d.is_data()) messages.emplace(wire::DataView{d.payload.data()}.term_offset(), &d);
      if (d.is_heartbeat() && (d.flags() & wire::flag::kEndOfStream) != 0) close_ns = std::min(close_ns, d.time_ns - kMillisecond_ns);
    }
    auto message = messages.begin();
    run_until(recorded.back().time_ns, [&] {
      for (; message != messages.end() && message->second->time_ns <= now_ns; ++message) {
        const wire::DataView frame{message->second->payload.data()};
        const auto length = static_cast<std::size_t>(frame.frame_length() - wire::kDataHeaderLength);
        ASSERT_TRUE(publication.offer({message->second->payload.data() + wire::kDataHeaderLength, length})) << "at " << message->first;
      }
      if (now_ns >= close_ns) publication = {};
    });
    EXPECT_EQ(message, messages.end());
  }

  client::Publication publication;
};

// proves 5.5/2, 5.5/5, 5.5/7, 9.1/1
TEST_P(PublicationReplay, sends_what_the_reference_driver_sent_to_each_of_its_destinations) {
  make(GetParam().file, kPublisher);
  ASSERT_NO_FATAL_FAILURE(open());
  ASSERT_NO_FATAL_FAILURE(replay());
  const Datagrams theirs = recorded_of_host();
  ASSERT_EQ(destinations(sent), destinations(theirs));
  for (const auto& [address, port] : destinations(theirs)) {
    SCOPED_TRACE("destination port " + std::to_string(port));
    const UdpEndpoint to{address, port};   // clang 14 cannot capture the parts
    const auto to_it = [&](const Datagrams& all, auto&& which) { return those(all, [&](const Datagram& d) { return d.to == to && which(d); }); };
    const auto is_data = [](const Datagram& d) { return d.is_data(); };
    const auto is_setup = [](const Datagram& d) { return d.type() == FrameType::kSetup; };
    const auto is_heartbeat = [](const Datagram& d) { return d.is_heartbeat(); };
    EXPECT_EQ(payloads(to_it(sent, is_data)), payloads(to_it(theirs, is_data)));
    EXPECT_EQ(payloads(to_it(sent, is_setup)), payloads(to_it(theirs, is_setup)));
    EXPECT_EQ(distinct(to_it(sent, is_heartbeat)), distinct(to_it(theirs, is_heartbeat)));
    expect_about_as_many(to_it(sent, is_heartbeat), to_it(theirs, is_heartbeat), "heartbeats");
  }
  for (const Datagram& d : sent) {
    EXPECT_EQ(d.from, (UdpEndpoint{host, their_port != 0 ? our_port() : theirs.front().from.port}));
    EXPECT_TRUE(d.type() == FrameType::kData || d.type() == FrameType::kSetup);
  }
}

std::string name_of_file(const std::string& file) {
  std::string name = file.substr(0, file.find('.'));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Captures, PublicationReplay,
                         ::testing::Values(PublicationCase{"11-mdc-dynamic.pcap", "aeron:udp?control=10.78.0.1:24111|control-mode=dynamic", 1011, {}},
                                           PublicationCase{"12-mdc-manual.pcap", "aeron:udp?control-mode=manual", 1012,
                                                           {"aeron:udp?endpoint=10.78.0.2:24122", "aeron:udp?endpoint=10.78.0.3:24123"}},
                                           PublicationCase{"18-mds-manual-subscription.pcap", "aeron:udp?control-mode=manual", 1018,
                                                           {"aeron:udp?endpoint=10.78.0.2:24182", "aeron:udp?endpoint=10.78.0.2:24183"}}),
                         [](const auto& param) { return name_of_file(param.param.file); });

// ---- subscriptions ----

struct SubscriptionCase {
  const char* file;
  std::uint32_t host{};
  const char* channel;
  std::int32_t stream_id{};
  std::vector<const char*> destinations;  // of a manual one
};

class SubscriptionReplay : public CaptureReplay, public ::testing::WithParamInterface<SubscriptionCase> {
 protected:
  static bool is_announcement(const Datagram& d) { return d.type() == FrameType::kStatusMessage && wire::StatusMessage::parse(d.payload)->session_id == 0; }
  static bool asks_for_setup(const Datagram& d) { return !is_announcement(d) && (d.flags() & wire::flag::kSmSendSetup) != 0; }
  static bool is_status(const Datagram& d) { return d.type() == FrameType::kStatusMessage && d.flags() == 0; }
  static bool is_end(const Datagram& d) { return d.type() == FrameType::kStatusMessage && d.flags() == wire::flag::kSmEndOfStream; }

  // A receiver that announces itself did so at once.
  void open() {
    const Datagrams theirs = recorded_of_host();
    const std::int64_t open_ns = !theirs.empty() && is_announcement(theirs.front()) ? theirs.front().time_ns : recorded.front().time_ns - 100 * kMillisecond_ns;
    run_until(open_ns - 10 * kStep_ns);
    auto subscribed = client->add_subscription(GetParam().channel, GetParam().stream_id);
    ASSERT_TRUE(subscribed) << subscribed.error().message;
    subscription = std::move(*subscribed);
    for (const char* destination : GetParam().destinations) ASSERT_TRUE(client->add_destination(subscription, destination));
  }
  void replay() {
    run_until(recorded.back().time_ns, [this] {
      subscription.poll([this](std::span<const std::byte> bytes, const client::Header&) { received.push_back(to_hex(bytes)); }, 20);
    });
  }
  // A receiver's id is random: ours is theirs from here on, and always the same.
  void map_receiver_id(const Datagrams& theirs) {
    const std::int64_t their_id = wire::StatusMessage::parse(theirs.front().payload)->receiver_id;
    const std::int64_t our_id = wire::StatusMessage::parse(sent.front().payload)->receiver_id;
    for (Datagram& d : sent) {
      ASSERT_EQ(d.type(), FrameType::kStatusMessage);
      wire::StatusMessage sm = *wire::StatusMessage::parse(d.payload);
      EXPECT_EQ(sm.receiver_id, our_id);
      sm.receiver_id = their_id;
      wire::build(d.payload.data(), sm);
    }
  }
  [[nodiscard]] std::vector<std::string> recorded_messages() const {
    std::map<std::int32_t, std::string> messages;
    for (const Datagram& d : recorded) {
      if (d.to.address != host || !d.is_data()) continue;
      const wire::DataView frame{d.payload.data()};
      const std::span<const std::byte> all{d.payload};
      messages[frame.term_offset()] = to_hex(all.subspan(wire::kDataHeaderLength, static_cast<std::size_t>(frame.frame_length()) - wire::kDataHeaderLength));
    }
    std::vector<std::string> out;
    for (auto& [offset, message] : messages) out.push_back(std::move(message));
    return out;
  }

  client::Subscription subscription;
  std::vector<std::string> received;
};

// proves 3.3/4, 5.6/3, 5.6/4, 9.1/1
TEST_P(SubscriptionReplay, answers_as_the_reference_driver_did_by_each_of_its_ways) {
  make(GetParam().file, GetParam().host);
  ASSERT_NO_FATAL_FAILURE(open());
  ASSERT_NO_FATAL_FAILURE(replay());
  EXPECT_EQ(received, recorded_messages());
  const Datagrams theirs = recorded_of_host();
  ASSERT_FALSE(sent.empty());
  ASSERT_NO_FATAL_FAILURE(map_receiver_id(theirs));
  std::set<std::uint16_t> our_ports, their_ports;
  for (const Datagram& d : sent) our_ports.insert(d.from.port);
  for (const Datagram& d : theirs) their_ports.insert(d.from.port);
  ASSERT_EQ(our_ports, their_ports);
  for (const std::uint16_t port : their_ports) {
    SCOPED_TRACE("from port " + std::to_string(port));
    const auto by_it = [port](const Datagrams& all, auto&& which) { return those(all, [&](const Datagram& d) { return d.from.port == port && which(d); }); };
    EXPECT_EQ(payloads(by_it(sent, is_announcement)), payloads(by_it(theirs, is_announcement))) << "once a second";
    EXPECT_EQ(payloads(by_it(sent, asks_for_setup)), payloads(by_it(theirs, asks_for_setup)));
    EXPECT_EQ(distinct(by_it(sent, is_status)), distinct(by_it(theirs, is_status)));
    EXPECT_EQ(distinct(by_it(sent, is_end)), distinct(by_it(theirs, is_end)));
    const auto of_the_image = [](const Datagram& d) { return is_status(d) || is_end(d); };
    expect_about_as_many(by_it(sent, of_the_image), by_it(theirs, of_the_image), "status messages");
  }
  EXPECT_EQ(destinations(sent), destinations(theirs));
}

const char* const kDynamicChannel[2] = {"aeron:udp?endpoint=10.78.0.2:24112|control=10.78.0.1:24111|control-mode=dynamic",
                                        "aeron:udp?endpoint=10.78.0.3:24113|control=10.78.0.1:24111|control-mode=dynamic"};
INSTANTIATE_TEST_SUITE_P(Captures, SubscriptionReplay,
                         ::testing::Values(SubscriptionCase{"11-mdc-dynamic.pcap", kFirstReceiver, kDynamicChannel[0], 1011, {}},
                                           SubscriptionCase{"11-mdc-dynamic.pcap", kSecondReceiver, kDynamicChannel[1], 1011, {}},
                                           SubscriptionCase{"12-mdc-manual.pcap", kFirstReceiver, "aeron:udp?endpoint=10.78.0.2:24122", 1012, {}},
                                           SubscriptionCase{"12-mdc-manual.pcap", kSecondReceiver, "aeron:udp?endpoint=10.78.0.3:24123", 1012, {}},
                                           SubscriptionCase{"18-mds-manual-subscription.pcap", kFirstReceiver, "aeron:udp?control-mode=manual", 1018,
                                                            {"aeron:udp?endpoint=10.78.0.2:24182", "aeron:udp?endpoint=10.78.0.2:24183"}}),
                         [](const auto& param) { return name_of_file(param.param.file) + "_" + std::to_string(param.param.host & 0xFF); });

// proves 3.4/2
TEST_F(CaptureReplay, a_setup_whose_mtu_is_beyond_the_window_is_refused_without_a_word) {
  make("15-setup-refused-mtu-over-window.pcap", kPlainReceiver);
  auto subscription = client->add_subscription("aeron:udp?endpoint=10.77.0.2:24151|so-rcvbuf=8k|rcv-wnd=4k", 1015);
  ASSERT_TRUE(subscription) << subscription.error().message;
  run_until(recorded.back().time_ns + 100 * kMillisecond_ns);
  EXPECT_TRUE(sent.empty());
  EXPECT_TRUE(subscription->images().empty());
  EXPECT_NE(appliance->errors().find("4096"), std::string::npos) << appliance->errors();
}

// proves 2.4/1
TEST_F(CaptureReplay, a_publication_that_nobody_listens_to_says_setup_and_nothing_else) {
  make("17-setup-without-receiver.pcap", kPlainPublisher);
  const auto setup = *wire::Setup::parse(recorded.front().payload);
  run_until(recorded.front().time_ns);
  auto publication = client->add_publication("aeron:udp?endpoint=10.77.0.2:24171|session-id=" + std::to_string(setup.session_id) + "|init-term-id=" +
                                                 std::to_string(setup.initial_term_id) + "|term-id=" + std::to_string(setup.active_term_id) + "|term-offset=0", 1017);
  ASSERT_TRUE(publication) << publication.error().message;
  run_until(recorded.back().time_ns + kMillisecond_ns);
  EXPECT_EQ(distinct(sent), distinct(recorded));
  expect_about_as_many(sent, recorded, "SETUPs");
}

}  // namespace
}  // namespace thalweg::test

int main(int argc, char** argv) { return thalweg::test::run_tests_with_eal(argc, argv); }
