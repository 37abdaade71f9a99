#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "dataplane/base/time.hpp"
#include "pmd/arrival.hpp"
#include "pmd/frame.hpp"
#include "tests/unit/pmd/eal_environment.hpp"

// Multicast on the loopback and kernel ports, against a socket of the kernel's: the "other process" on the host. All on the loopback interface.
namespace thalweg::pmd::test {
namespace {

constexpr std::uint32_t kLocalhost = 0x7F000001;
constexpr std::uint32_t kData = 0xE00A0B01;      // 224.10.11.1
constexpr std::uint32_t kControl = 0xE00A0B02;

// A member of a group as any program may be one.
class Member {
 public:
  Member(std::uint32_t group, std::uint16_t port) {
    auto opened = open_group_socket({.group = {group, port}, .interface_address = kLocalhost});
    EXPECT_TRUE(opened) << opened.error().message;
    if (opened) fd_ = std::move(*opened);
  }
  // The next datagram and its source; "" after two seconds, or at once if only what is there is wanted.
  [[nodiscard]] std::string receive(wire::UdpEndpoint* from = nullptr, int patience_ms = 2000) const {
    pollfd waiting{.fd = fd_.get(), .events = POLLIN, .revents = 0};
    if (::poll(&waiting, 1, patience_ms) != 1) return "";
    std::string text(2000, '\0');
    sockaddr_in address{};
    socklen_t length = sizeof address;
    const ssize_t got = ::recvfrom(fd_.get(), text.data(), text.size(), 0, reinterpret_cast<sockaddr*>(&address), &length);
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    if (from != nullptr) *from = {ntohl(address.sin_addr.s_addr), ntohs(address.sin_port)};
    return text;
  }
  void send(std::uint32_t group, std::uint16_t port, std::string_view text) const {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(group);
    to.sin_port = htons(port);
    EXPECT_EQ(::sendto(fd_.get(), text.data(), text.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof to), static_cast<ssize_t>(text.size()));
  }

 private:
  Fd fd_;
};

class Groups : public PortTest, public ::testing::WithParamInterface<shm::PortKind> {
 protected:
  void SetUp() override {
    PortTest::SetUp();
    PortOptions options;
    options.name = "p";
    options.kind = GetParam();
    port_ = make(options);
    udp_port_ = free_port();
  }
  void TearDown() override {
    port_.reset();
    PortTest::TearDown();
  }
  static std::uint16_t free_port() { return open_udp_socket({.local = {kLocalhost, 0}})->local.port; }
  void join(std::uint32_t group, bool wants_arrivals = false) {
    const auto joined = port_->join({.group = {group, udp_port_}, .interface_address = kLocalhost, .wants_arrivals = wants_arrivals});
    ASSERT_TRUE(joined) << joined.error().message;
  }
  wire::UdpEndpoint bind_sender() {
    const auto bound = port_->bind({.local = {kLocalhost, 0}, .remote = {kData, udp_port_}, .interface_address = kLocalhost});
    EXPECT_TRUE(bound) << (bound ? "" : bound.error().message);
    return bound.value_or(wire::UdpEndpoint{});
  }
  std::unique_ptr<Port> port_;
  std::uint16_t udp_port_{};
};

INSTANTIATE_TEST_SUITE_P(Ports, Groups, ::testing::Values(shm::PortKind::kLoopback, shm::PortKind::kKernel),
                         [](const auto& kind) { return std::string{kind.param == shm::PortKind::kLoopback ? "loopback" : "kernel"}; });

// proves 5.3/4, 5.3/5
TEST_P(Groups, other_processes_hear_what_is_sent_to_a_group) {
  const Member other{kData, udp_port_};
  const auto sender = bind_sender();
  ASSERT_TRUE(send(*port_, frame(sender, {kData, udp_port_}, "data")));
  wire::UdpEndpoint from;
  EXPECT_EQ(other.receive(&from), "data");
  EXPECT_EQ(from, sender);
}

TEST_P(Groups, a_member_hears_other_processes_and_knows_where_it_came_in) {
  join(kData);
  const Member other{kControl, udp_port_};
  other.send(kData, udp_port_, "hello");
  const auto received = receive(*port_, 1);
  ASSERT_EQ(received.size(), 1U);
  EXPECT_EQ(payload_of(received[0]), "hello");
  EXPECT_EQ(addresses_of(received[0]).destination, (wire::UdpEndpoint{kData, udp_port_}));
  EXPECT_EQ(read_interface(rte_pktmbuf_mtod(received[0], const std::byte*)), kLocalhost);
  rte_pktmbuf_free(received[0]);
}

// proves 5.11/4
TEST_P(Groups, a_member_that_wants_to_know_hears_when_the_kernel_had_it) {
  const Member other{kControl, udp_port_};
  join(kData);
  join(kData, true);   // they share a socket
  const std::int64_t before_ns = epoch_ns();
  other.send(kData, udp_port_, "hello");
  const auto received = receive(*port_, 1);
  ASSERT_EQ(received.size(), 1U);
  EXPECT_GE(arrival_of(*received[0]), before_ns);
  EXPECT_LE(arrival_of(*received[0]), epoch_ns());
  rte_pktmbuf_free(received[0]);
}

TEST_P(Groups, receivers_speak_to_the_control_group_from_the_groups_port) {
  join(kData);
  const Member sender{kControl, udp_port_};
  ASSERT_TRUE(send(*port_, frame({kLocalhost, udp_port_}, {kControl, udp_port_}, "status")));
  wire::UdpEndpoint from;
  EXPECT_EQ(sender.receive(&from), "status");
  EXPECT_EQ(from, (wire::UdpEndpoint{kLocalhost, udp_port_}));
}

TEST_P(Groups, a_group_is_heard_until_the_last_member_leaves) {
  const Member other{kControl, udp_port_};
  join(kData);
  join(kData);
  port_->leave({kData, udp_port_}, kLocalhost);
  other.send(kData, udp_port_, "one");
  EXPECT_EQ(receive_payloads(*port_, 1), std::vector<std::string>{"one"});
  port_->leave({kData, udp_port_}, kLocalhost);
  other.send(kData, udp_port_, "two");
  join(kControl);
  other.send(kControl, udp_port_, "three");
  EXPECT_EQ(receive_payloads(*port_, 1), std::vector<std::string>{"three"});
}

TEST_P(Groups, other_groups_on_the_same_udp_port_are_not_heard) {
  join(kControl);
  const Member other{kData, udp_port_};
  other.send(kData, udp_port_, "not ours");
  other.send(kControl, udp_port_, "ours");
  EXPECT_EQ(receive_payloads(*port_, 1), std::vector<std::string>{"ours"});
}

TEST_P(Groups, an_interface_that_is_not_there_is_named) {
  const auto joined = port_->join({.group = {kData, udp_port_}, .interface_address = 0xC6336401});
  ASSERT_FALSE(joined);
  EXPECT_EQ(joined.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(joined.error().message.find("198.51.100.1"), std::string::npos) << joined.error().message;
}

}  // namespace
}  // namespace thalweg::pmd::test
