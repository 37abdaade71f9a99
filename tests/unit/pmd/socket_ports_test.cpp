#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <functional>

#include "dataplane/base/random.hpp"
#include "dataplane/base/time.hpp"
#include "pmd/arrival.hpp"
#include "tests/unit/pmd/eal_environment.hpp"

// Loopback and kernel port against real sockets of this process: the "other process" on the host.
namespace thalweg::pmd::test {
namespace {

constexpr std::uint32_t kLocalhost = 0x7F000001;
constexpr std::uint32_t kOther = 0x7F000102;  // 127.0.1.2

// A plain blocking UDP socket, as any program has one.
class Stranger {
 public:
  explicit Stranger(wire::UdpEndpoint local = {kLocalhost, 0}) {
    auto bound = open_udp_socket({.local = local, .is_receive = true});
    if (!bound) return;
    socket_ = std::move(*bound);
    is_bound_ = true;
  }
  [[nodiscard]] bool is_bound() const { return is_bound_; }
  [[nodiscard]] wire::UdpEndpoint local() const { return socket_.local; }
  void send(const wire::UdpEndpoint& to, std::string_view text) const {
    const sockaddr_in address = to_sockaddr(to);
    EXPECT_EQ(::sendto(socket_.fd.get(), text.data(), text.size(), 0, reinterpret_cast<const sockaddr*>(&address), sizeof address),
              static_cast<ssize_t>(text.size()));
  }
  // The next datagram and its source; "" after two seconds.
  [[nodiscard]] std::string receive(wire::UdpEndpoint* from = nullptr) const {
    pollfd waiting{.fd = socket_.fd.get(), .events = POLLIN, .revents = 0};
    if (::poll(&waiting, 1, 2000) != 1) return "";
    std::string text(70'000, '\0');
    sockaddr_in address{};
    socklen_t length = sizeof address;
    const ssize_t got = ::recvfrom(socket_.fd.get(), text.data(), text.size(), 0, reinterpret_cast<sockaddr*>(&address), &length);
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    if (from != nullptr) *from = {ntohl(address.sin_addr.s_addr), ntohs(address.sin_port)};
    return text;
  }

 private:
  static sockaddr_in to_sockaddr(const wire::UdpEndpoint& endpoint) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(endpoint.address);
    address.sin_port = htons(endpoint.port);
    return address;
  }
  BoundSocket socket_;
  bool is_bound_{};
};

PortOptions port_of(shm::PortKind kind, std::uint16_t queues = 1) {
  PortOptions options;
  options.name = kind == shm::PortKind::kKernel ? "kernel" : "loopback";
  options.kind = kind;
  options.queues = queues;
  return options;
}

class Loopback : public PortTest {
 protected:
  void SetUp() override {
    PortTest::SetUp();
    port_ = make(port_of(shm::PortKind::kLoopback));
  }
  void TearDown() override {
    port_.reset();
    PortTest::TearDown();
  }
  wire::UdpEndpoint bound(const Port::BindOptions& options) {
    const auto result = port_->bind(options);
    EXPECT_TRUE(result) << (result ? "" : result.error().message);
    return result.value_or(wire::UdpEndpoint{});
  }
  std::unique_ptr<Port> port_;
};

TEST_F(Loopback, frames_between_our_endpoints_stay_in_memory) {
  const auto a = bound({.local = {kLocalhost, 0}});
  const auto b = bound({.local = {kOther, 0}, .is_receive = true});
  rte_mbuf* const sent = frame(a, b, "ping");
  ASSERT_TRUE(send(*port_, sent));
  rte_mbuf* received[2];
  ASSERT_EQ(port_->rx_burst(0, received, 2), 1) << "no system call and no second turn is needed";
  EXPECT_EQ(received[0], sent);
  rte_pktmbuf_free(received[0]);
}

TEST_F(Loopback, another_program_is_reached_from_the_bound_address) {
  const Stranger stranger;
  const auto ours = bound({.local = {kLocalhost, 0}});
  ASSERT_TRUE(send(*port_, frame(ours, stranger.local(), "to the stranger")));
  wire::UdpEndpoint from;
  EXPECT_EQ(stranger.receive(&from), "to the stranger");
  EXPECT_EQ(from, ours);
}

TEST_F(Loopback, another_program_reaches_us_as_a_valid_udp_frame) {
  const Stranger stranger;
  const auto ours = bound({.local = {kOther, 0}, .is_receive = true});
  stranger.send(ours, "from the stranger");
  const auto received = receive(*port_, 1);
  ASSERT_EQ(received.size(), 1U);
  EXPECT_EQ(payload_of(received[0]), "from the stranger");
  EXPECT_EQ(addresses_of(received[0]).source, stranger.local());
  EXPECT_EQ(addresses_of(received[0]).destination, ours);
  const std::span<const std::byte> packet{rte_pktmbuf_mtod_offset(received[0], const std::byte*, wire::kEthernetHeaderLength),
                                          received[0]->data_len - wire::kEthernetHeaderLength};
  EXPECT_EQ(wire::Ipv4View::parse(packet).bad, wire::Ipv4View::Bad::kNone);
  rte_pktmbuf_free(received[0]);
}

TEST_F(Loopback, a_port_in_use_by_another_program_is_an_error_at_once) {
  const Stranger stranger;
  const auto refused = port_->bind({.local = stranger.local(), .is_receive = true});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInUse);
  EXPECT_NE(refused.error().hint.find("ss -ulnp"), std::string::npos);
}

TEST_F(Loopback, our_port_is_in_use_for_others_until_it_is_unbound) {
  const auto ours = bound({.local = {kLocalhost, 0}, .is_receive = true});
  EXPECT_FALSE(Stranger{ours}.is_bound());
  EXPECT_EQ(port_->bind({.local = ours}).error().code, ErrorCode::kInUse);
  port_->unbind(ours);
  EXPECT_TRUE(Stranger{ours}.is_bound());
  EXPECT_EQ(bound({.local = ours}), ours) << "and may be bound again";
}

TEST_F(Loopback, frames_to_an_unbound_endpoint_go_to_the_kernel_from_then_on) {
  const auto a = bound({.local = {kLocalhost, 0}});
  const auto b = bound({.local = {kLocalhost, 0}, .is_receive = true});
  port_->unbind(b);
  const Stranger successor{b};
  ASSERT_TRUE(successor.is_bound());
  ASSERT_TRUE(send(*port_, frame(a, b, "hello")));
  EXPECT_EQ(successor.receive(), "hello");
}

TEST_F(Loopback, many_binds_and_unbinds_leave_lookups_correct) {
  std::vector<wire::UdpEndpoint> live;
  thalweg::Random random{7};
  const auto source = bound({.local = {kLocalhost, 0}});
  for (int i = 0; i < 2000; ++i) {
    if (live.size() > 50 || (random.below(3) == 0 && !live.empty())) {
      const std::size_t victim = random.below(live.size());
      port_->unbind(live[victim]);
      live.erase(live.begin() + static_cast<std::ptrdiff_t>(victim));
    } else {
      live.push_back(bound({.local = {kLocalhost, 0}, .is_receive = true}));
    }
  }
  for (const auto& to : live) ASSERT_TRUE(send(*port_, frame(source, to, "x")));
  EXPECT_EQ(receive_payloads(*port_, live.size()).size(), live.size());
}

// proves 5.2/10
TEST_F(Loopback, a_connected_endpoint_hears_its_peer_only) {
  const auto peer = bound({.local = {kLocalhost, 0}, .is_receive = true});
  const auto other = bound({.local = {kLocalhost, 0}});
  const auto ours = bound({.local = {0, 0}, .remote = peer});
  EXPECT_EQ(ours.address, kLocalhost) << "what the kernel chooses for a wildcard connected to loopback";
  ASSERT_TRUE(send(*port_, frame(other, ours, "stranger")));
  ASSERT_TRUE(send(*port_, frame(peer, ours, "peer")));
  EXPECT_EQ(receive_payloads(*port_, 1), std::vector<std::string>{"peer"});
  EXPECT_EQ(port_->statistics().tx_errors, 1U);
}

TEST_F(Loopback, a_refused_datagram_does_not_cost_the_next_one) {
  wire::UdpEndpoint gone;
  {
    const Stranger stranger;
    gone = stranger.local();
  }
  const auto ours = bound({.local = {kLocalhost, 0}, .remote = gone});
  ASSERT_TRUE(send(*port_, frame(ours, gone, "refused")));  // answered by ICMP, reported on the next call
  const Stranger successor{gone};
  ASSERT_TRUE(send(*port_, frame(ours, gone, "accepted")));
  EXPECT_EQ(successor.receive(), "accepted");
}

TEST_F(Loopback, a_wildcard_subscription_is_reached_in_memory_and_answers_as_localhost) {
  const auto publication = bound({.local = {kLocalhost, 0}});
  const std::uint16_t number = publication.port == 40'555 ? 40'556 : 40'555;
  const auto wildcard = bound({.local = {0, number}, .is_receive = true});
  ASSERT_TRUE(send(*port_, frame(publication, {kOther, number}, "data")));
  EXPECT_EQ(receive_payloads(*port_, 1), std::vector<std::string>{"data"});
  ASSERT_TRUE(send(*port_, frame(wildcard, publication, "answer")));
  const auto answer = receive(*port_, 1);
  ASSERT_EQ(answer.size(), 1U);
  EXPECT_EQ(addresses_of(answer[0]).source, (wire::UdpEndpoint{kLocalhost, number}));
  const std::span<const std::byte> packet{rte_pktmbuf_mtod_offset(answer[0], const std::byte*, wire::kEthernetHeaderLength),
                                          answer[0]->data_len - wire::kEthernetHeaderLength};
  EXPECT_EQ(wire::Ipv4View::parse(packet).bad, wire::Ipv4View::Bad::kNone) << "the checksum follows the address";
  rte_pktmbuf_free(answer[0]);
  EXPECT_EQ(port_->bind({.local = {kLocalhost, number}}).error().code, ErrorCode::kInUse);
}

TEST_F(Loopback, a_wildcard_endpoint_reaches_other_programs_through_the_kernel_ports_socket) {
  const auto kernel = make(port_of(shm::PortKind::kKernel));
  const auto wildcard = kernel->bind({.local = {0, 0}, .is_receive = true});
  ASSERT_TRUE(wildcard);
  ASSERT_TRUE(port_->bind({.local = *wildcard, .is_receive = true})) << "the number the kernel port gave";
  const Stranger stranger;
  ASSERT_TRUE(send(*port_, frame(*wildcard, stranger.local(), "status")));
  wire::UdpEndpoint from;
  EXPECT_EQ(stranger.receive(&from), "status");
  EXPECT_EQ(from, (wire::UdpEndpoint{kLocalhost, wildcard->port}));
}

TEST_F(Loopback, what_is_no_datagram_of_ours_is_counted_and_freed) {
  rte_mbuf* const arp = frame({kLocalhost, 1}, {kOther, 2}, "x");
  store_be16(rte_pktmbuf_mtod(arp, std::byte*) + 12, wire::kEtherTypeArp);
  EXPECT_TRUE(send(*port_, arp));
  EXPECT_TRUE(send(*port_, frame({kLocalhost, 1}, {kOther, 2}, "from an address that nobody bound")));
  EXPECT_EQ(port_->statistics().tx_errors, 2U);
}

TEST_F(Loopback, addresses_of_others_are_refused) {
  EXPECT_EQ(port_->bind({.local = {0x0A000001, 1}}).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(port_->bind({.local = {0xE0000101, 1}}).error().code, ErrorCode::kInvalidArgument);
}

TEST_F(Loopback, a_full_ring_pushes_back) {
  const auto a = bound({.local = {kLocalhost, 0}});
  const auto b = bound({.local = {kLocalhost, 0}, .is_receive = true});
  std::size_t taken = 0;
  while (send(*port_, frame(a, b, "x"))) ++taken;
  EXPECT_EQ(taken, 1024U);
  EXPECT_EQ(receive_payloads(*port_, taken).size(), taken);
}

// Many streams at once: each receiver's window bounds its own frames, nothing bounds their sum.
TEST_F(Loopback, a_full_ring_leaves_half_of_the_buffers_to_everybody_else) {
  port_.reset();
  PortOptions options = port_of(shm::PortKind::kLoopback);
  options.ring_size = 32768;
  port_ = make(options);
  const auto receiver = bound({.local = {kLocalhost, 0}, .is_receive = true});
  const auto sender = bound({.local = {kLocalhost, 0}, .is_receive = false});
  std::uint32_t taken = 0;
  while (pool().in_use() < pool().count() && send(*port_, frame(sender, receiver, "x"))) ++taken;
  EXPECT_GE(taken, kBurstMax);
  EXPECT_LE(pool().in_use(), pool().count() / 2);
}

TEST_F(Loopback, a_datagram_longer_than_a_buffer_is_an_error_and_not_a_short_frame) {
  const Stranger stranger;
  const auto ours = bound({.local = {kLocalhost, 0}, .is_receive = true});
  stranger.send(ours, std::string(5000, 'x'));
  stranger.send(ours, "short");
  EXPECT_EQ(receive_payloads(*port_, 1), std::vector<std::string>{"short"});
  EXPECT_EQ(port_->statistics().rx_errors, 1U);
}

TEST_F(Loopback, a_mixed_burst_keeps_its_order_for_each_destination) {
  const Stranger stranger;
  const auto a = bound({.local = {kLocalhost, 0}});
  const auto b = bound({.local = {kLocalhost, 0}, .is_receive = true});
  std::vector<rte_mbuf*> burst;
  for (int i = 0; i < 30; ++i) burst.push_back(frame(a, i % 3 == 0 ? stranger.local() : b, std::to_string(i)));
  ASSERT_EQ(port_->tx_burst(0, burst.data(), 30), 30);
  const auto inside = receive_payloads(*port_, 20);
  for (int i = 0, in = 0; i < 30; ++i) {
    if (i % 3 == 0) {
      EXPECT_EQ(stranger.receive(), std::to_string(i));
    } else {
      EXPECT_EQ(inside.at(static_cast<std::size_t>(in++)), std::to_string(i));
    }
  }
}

TEST_F(Loopback, each_endpoint_is_heard_on_its_own_queue) {
  port_ = make(port_of(shm::PortKind::kLoopback, 2));
  const Stranger stranger;
  const auto a = bound({.local = {kLocalhost, 0}, .queue = 0});
  const auto b = bound({.local = {kLocalhost, 0}, .is_receive = true, .queue = 1});
  ASSERT_TRUE(send(*port_, frame(a, b, "memory"), 0));
  stranger.send(b, "socket");
  EXPECT_EQ(receive_payloads(*port_, 2, 1), (std::vector<std::string>{"memory", "socket"}));
}

class Kernel : public PortTest {
 protected:
  void SetUp() override {
    PortTest::SetUp();
    port_ = make(port_of(shm::PortKind::kKernel));
  }
  void TearDown() override {
    port_.reset();
    PortTest::TearDown();
  }
  std::unique_ptr<Port> port_;
};

TEST_F(Kernel, datagrams_go_out_and_come_in_with_real_addresses) {
  const Stranger stranger;
  const auto ours = port_->bind({.local = {kOther, 0}, .is_receive = true});
  ASSERT_TRUE(ours);
  ASSERT_TRUE(send(*port_, frame(*ours, stranger.local(), "out")));
  wire::UdpEndpoint from;
  EXPECT_EQ(stranger.receive(&from), "out");
  EXPECT_EQ(from, *ours);
  stranger.send(*ours, "in");
  const auto received = receive(*port_, 1);
  ASSERT_EQ(received.size(), 1U);
  EXPECT_EQ(payload_of(received[0]), "in");
  EXPECT_EQ(addresses_of(received[0]).source, stranger.local());
  rte_pktmbuf_free(received[0]);
}

// proves 5.11/4
TEST_F(Kernel, a_datagram_tells_when_the_kernel_had_it_if_its_socket_was_bound_so) {
  const Stranger stranger;
  const wire::UdpEndpoint locals[]{{kOther, 0}, {0, 0}};   // the wildcard's datagrams also say where they were sent to
  for (const wire::UdpEndpoint& local : locals) {
    const auto ours = port_->bind({.local = local, .is_receive = true, .wants_arrivals = true});
    ASSERT_TRUE(ours);
    const std::int64_t before_ns = epoch_ns();
    stranger.send({kOther, ours->port}, "hello");
    const auto received = receive(*port_, 1);
    ASSERT_EQ(received.size(), 1U);
    EXPECT_GE(arrival_of(*received[0]), before_ns);
    EXPECT_LE(arrival_of(*received[0]), epoch_ns());
    EXPECT_EQ(addresses_of(received[0]).destination, (wire::UdpEndpoint{kOther, ours->port}));
    rte_pktmbuf_free(received[0]);
    // Nobody else pays for it, the next user of this place in the table neither.
    port_->unbind(*ours);
    ASSERT_TRUE(port_->bind({.local = *ours, .is_receive = true}));
    stranger.send({kOther, ours->port}, "again");
    const auto plain = receive(*port_, 1);
    ASSERT_EQ(plain.size(), 1U);
    EXPECT_EQ(arrival_of(*plain[0]), 0);
    rte_pktmbuf_free(plain[0]);
  }
}

TEST_F(Kernel, a_wildcard_socket_tells_which_address_was_meant) {
  const auto ours = port_->bind({.local = {0, 0}, .is_receive = true});
  ASSERT_TRUE(ours);
  const Stranger stranger;
  stranger.send({kOther, ours->port}, "hello");
  const auto received = receive(*port_, 1);
  ASSERT_EQ(received.size(), 1U);
  EXPECT_EQ(addresses_of(received[0]).destination, (wire::UdpEndpoint{kOther, ours->port}));
  rte_pktmbuf_free(received[0]);
}

// proves 5.2/10
TEST_F(Kernel, a_connected_socket_knows_its_own_address_and_hears_its_peer_only) {
  const Stranger peer, other;
  const auto ours = port_->bind({.local = {0, 0}, .remote = peer.local()});
  ASSERT_TRUE(ours);
  EXPECT_EQ(ours->address, kLocalhost);
  other.send(*ours, "stranger");
  peer.send(*ours, "peer");
  EXPECT_EQ(receive_payloads(*port_, 1), std::vector<std::string>{"peer"});
  ASSERT_TRUE(send(*port_, frame(*ours, peer.local(), "reply")));
  EXPECT_EQ(peer.receive(), "reply");
}

TEST_F(Kernel, bursts_are_larger_than_one_system_call_takes) {
  const Stranger stranger;
  const auto ours = port_->bind({.local = {kLocalhost, 0}, .is_receive = true});
  ASSERT_TRUE(ours);
  for (int i = 0; i < 100; ++i) stranger.send(*ours, std::to_string(i));
  const auto payloads = receive_payloads(*port_, 100);
  ASSERT_EQ(payloads.size(), 100U);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(payloads[static_cast<std::size_t>(i)], std::to_string(i));
}

TEST_F(Kernel, chained_frames_are_gathered) {
  const Stranger stranger;
  const auto ours = port_->bind({.local = {kLocalhost, 0}});
  ASSERT_TRUE(ours);
  ASSERT_TRUE(port_->capabilities().has_multi_segment_tx);
  rte_mbuf* const head = frame(*ours, stranger.local(), "headtail");
  rte_mbuf* const tail = rte_pktmbuf_alloc(pool().get());
  head->data_len = static_cast<std::uint16_t>(head->data_len - 4);
  std::memcpy(rte_pktmbuf_mtod(tail, char*), "tail", 4);
  tail->data_len = 4;
  head->next = tail;
  head->nb_segs = 2;
  ASSERT_TRUE(send(*port_, head));
  EXPECT_EQ(stranger.receive(), "headtail");
}

// proves 5.13/2
TEST_F(Kernel, addresses_this_host_does_not_have_are_refused) {
  const auto refused = port_->bind({.local = {0xC6336401, 40000}});  // TEST-NET-2
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
}

// The kernel throws away what finds a socket's buffer full, and tells nobody but who asks.
void expect_overflows_counted(Port& port, const std::function<std::size_t(std::size_t)>& receive) {
  constexpr std::size_t kCount = 1000;
  const auto ours = port.bind({.local = {kLocalhost, 0}, .is_receive = true, .socket_rcvbuf = 4096});
  ASSERT_TRUE(ours);
  const Stranger stranger;
  for (std::size_t i = 0; i < kCount; ++i) stranger.send(*ours, "more than the buffer holds");
  const std::uint64_t missed = port.statistics().rx_missed;
  EXPECT_GT(missed, 0U);
  ASSERT_LT(missed, kCount);
  EXPECT_EQ(receive(kCount - missed), kCount - missed) << "the rest arrived";
  port.unbind(*ours);
  EXPECT_EQ(port.statistics().rx_missed, missed) << "it never goes backwards";
}

TEST_F(Kernel, what_a_full_socket_loses_is_counted) {
  expect_overflows_counted(*port_, [this](std::size_t count) { return receive_payloads(*port_, count).size(); });
}

TEST_F(Loopback, what_a_full_socket_loses_is_counted) {
  expect_overflows_counted(*port_, [this](std::size_t count) { return receive_payloads(*port_, count).size(); });
}

TEST_F(Kernel, sockets_are_asked_only_at_the_interval) {
  context().socket_interval = {.polls = 16, .time_ns = 20'000};
  port_ = make(port_of(shm::PortKind::kKernel));
  const auto ours = port_->bind({.local = {kLocalhost, 0}, .is_receive = true});
  ASSERT_TRUE(ours);
  const Stranger stranger;
  rte_mbuf* received[1];
  std::int64_t now_ns = 1'000'000;
  port_->turn(now_ns);
  EXPECT_EQ(port_->rx_burst(0, received, 1), 0) << "the first poll looks, and finds nothing";
  stranger.send(*ours, "waits");
  for (int poll = 1; poll < 16; ++poll) EXPECT_EQ(port_->rx_burst(0, received, 1), 0) << poll;
  EXPECT_EQ(port_->rx_burst(0, received, 1), 1) << "sixteen polls later";
  rte_pktmbuf_free(received[0]);
  EXPECT_EQ(port_->rx_burst(0, received, 1), 0) << "the socket is read to its end,";
  EXPECT_EQ(port_->rx_burst(0, received, 1), 0) << "and a look that found something is followed by another";
  stranger.send(*ours, "waits again");
  EXPECT_EQ(port_->rx_burst(0, received, 1), 0);
  port_->turn(now_ns += 20'000);
  EXPECT_EQ(port_->rx_burst(0, received, 1), 1) << "or twenty microseconds later";
  rte_pktmbuf_free(received[0]);
}

}  // namespace
}  // namespace thalweg::pmd::test
