// Many destinations on a port that sends chained buffers (design: fan-out without a copy of the payload for each): the kernel port, and real
// sockets of this host at the other end.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <rte_mbuf.h>
#include <sys/socket.h>
#include <unistd.h>

#include <set>

#include "dataplane/core/fan_out.hpp"
#include "tests/support/appliance.hpp"
#include "tests/support/two_nodes.hpp"

namespace thalweg::test {
namespace {

constexpr std::int32_t kStream = 1001;
constexpr std::uint32_t kLocalhost = 0x7F000001;
using Payload = std::vector<std::byte>;

// A receiver: what the kernel delivers to a socket of its own.
class Destination {
 public:
  Destination() : fd_{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)} {
    struct sockaddr_in address = endpoint(0);
    EXPECT_EQ(::bind(fd_, reinterpret_cast<const struct sockaddr*>(&address), sizeof address), 0);
    socklen_t length = sizeof address;
    EXPECT_EQ(::getsockname(fd_, reinterpret_cast<struct sockaddr*>(&address), &length), 0);
    port_ = ntohs(address.sin_port);
  }
  ~Destination() { ::close(fd_); }
  Destination(const Destination&) = delete;
  Destination& operator=(const Destination&) = delete;

  [[nodiscard]] std::uint16_t port() const { return port_; }
  // What has come; nothing is waited for.
  void read() {
    Payload datagram(65'536);
    struct sockaddr_in from {};
    socklen_t length = sizeof from;
    for (ssize_t n = 0; (n = ::recvfrom(fd_, datagram.data(), datagram.size(), MSG_DONTWAIT, reinterpret_cast<struct sockaddr*>(&from), &length)) > 0;) {
      source_ = from;
      const Payload taken{datagram.begin(), datagram.begin() + n};
      const auto type = wire::FrameHeader::of_valid(taken).type();
      if (type == wire::FrameType::kSetup) setup = wire::Setup::parse(taken);
      if (type == wire::FrameType::kData && wire::DataView{taken.data()}.frame_length() != 0) data.insert(data.end(), taken.begin(), taken.end());
    }
  }
  // It has room for all that is sent, from the beginning on.
  void answer(std::int64_t receiver_id) {
    std::byte frame[wire::StatusMessage::kLength];
    wire::build(frame, wire::StatusMessage{.session_id = setup->session_id, .stream_id = setup->stream_id, .consumption_term_id = setup->active_term_id,
                                           .window_length = 32 << 10, .receiver_id = receiver_id});
    EXPECT_EQ(::sendto(fd_, frame, sizeof frame, 0, reinterpret_cast<const struct sockaddr*>(&source_), sizeof source_), static_cast<ssize_t>(sizeof frame));
  }

  std::optional<wire::Setup> setup;
  Payload data;

 private:
  static struct sockaddr_in endpoint(std::uint16_t port) {
    struct sockaddr_in address {};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(kLocalhost);
    return address;
  }
  int fd_;
  std::uint16_t port_{};
  struct sockaddr_in source_ {};
};

// Looks at what the lane hands to the port.
struct Sent {
  std::size_t whole{}, chained{};
  std::set<const void*> bodies;  // payloads that chains of one burst refer to
};
class WatchedPort final : public pmd::Port {
 public:
  WatchedPort(std::unique_ptr<pmd::Port> inner, Sent& sent) : inner_{std::move(inner)}, sent_{sent} {}
  std::uint16_t rx_burst(std::uint16_t queue, rte_mbuf** frames, std::uint16_t count) noexcept override { return inner_->rx_burst(queue, frames, count); }
  std::uint16_t tx_burst(std::uint16_t queue, rte_mbuf** frames, std::uint16_t count) noexcept override {
    for (std::uint16_t i = 0; i < count; ++i) {
      if (frames[i]->nb_segs == 1) {
        ++sent_.whole;
      } else {
        ++sent_.chained;
        sent_.bodies.insert(rte_pktmbuf_mtod(frames[i]->next, const void*));
      }
    }
    return inner_->tx_burst(queue, frames, count);
  }
  void turn(std::int64_t now_ns) noexcept override { inner_->turn(now_ns); }
  const pmd::PortCapabilities& capabilities() const noexcept override { return inner_->capabilities(); }
  wire::MacAddress mac() const noexcept override { return inner_->mac(); }
  bool is_link_up() noexcept override { return inner_->is_link_up(); }
  pmd::PortStatistics statistics() noexcept override { return inner_->statistics(); }
  Result<wire::UdpEndpoint> bind(const BindOptions& options) override { return inner_->bind(options); }
  void unbind(const wire::UdpEndpoint& local) override { inner_->unbind(local); }

 private:
  std::unique_ptr<pmd::Port> inner_;
  Sent& sent_;
};

class SharedPayloads : public ::testing::Test {
 protected:
  static constexpr std::size_t kDestinations = 5;
  static constexpr std::int64_t kStep_ns = 10 * kMicrosecond_ns;

  ~SharedPayloads() override {
    publication = {};
    client.reset();
  }
  void SetUp() override {
    Appliance::Options o;
    o.settings.streams.term_length = 64 << 10;
    pmd::PortOptions kernel;
    kernel.name = "kernel";
    kernel.kind = shm::PortKind::kKernel;
    o.ports = {kernel};
    o.wrap_port = [this](std::unique_ptr<pmd::Port> port, const pmd::PortOptions&) -> std::unique_ptr<pmd::Port> {
      return std::make_unique<WatchedPort>(std::move(port), sent);
    };
    appliance = std::make_unique<Appliance>(std::move(o), std::make_shared<pmd::PortContext>(), now_ns);
    client::Context context;
    context.directory = appliance->path();
    context.mode = client::ConductorMode::kInvoker;
    context.clock = {[this] { return now_ns; }, [this] { return epoch_ms_at(now_ns); }};
    context.idle = [this] { step(); };
    auto connected = client::Client::connect(std::move(context));
    ASSERT_TRUE(connected) << connected.error().message;
    client = std::make_unique<client::Client>(std::move(*connected));
    auto published = client->add_publication("aeron:udp?control-mode=manual", kStream);
    ASSERT_TRUE(published) << published.error().message;
    publication = std::move(*published);
    for (const Destination& destination : destinations) {
      const auto added = client->add_destination(publication, "aeron:udp?endpoint=127.0.0.1:" + std::to_string(destination.port()));
      ASSERT_TRUE(added) << added.error().message;
    }
    ASSERT_TRUE(run_until([this] { return destinations[0].setup.has_value(); }));
    destinations[0].answer(1);
    ASSERT_TRUE(run_until([this] { return publication.is_connected(); }));
  }
  void step() {
    appliance->step(now_ns);
    for (Destination& destination : destinations) destination.read();
    now_ns += kStep_ns;
  }
  template <typename Predicate>
  bool run_until(Predicate&& predicate) {
    for (const std::int64_t end = now_ns + 2 * kSecond_ns; now_ns < end; step()) {
      if (predicate()) return true;
      client->do_work();
    }
    return false;
  }
  // The log's bytes of one message, as every destination must get them.
  void expect_everywhere(const Payload& message) {
    for (Destination& destination : destinations) destination.data.clear();
    const auto framed = static_cast<std::size_t>(wire::align_frame(static_cast<std::int32_t>(message.size()) + wire::kDataHeaderLength));
    sent = {};
    ASSERT_TRUE(publication.offer(message));
    const auto has_it = [framed](const Destination& d) { return d.data.size() >= framed; };
    ASSERT_TRUE(run_until([&] { return std::all_of(std::begin(destinations), std::end(destinations), has_it); })) << message.size();
    for (const Destination& destination : destinations) {
      ASSERT_EQ(destination.data.size(), framed);
      EXPECT_EQ(wire::DataView{destination.data.data()}.frame_length(), static_cast<std::int32_t>(message.size()) + wire::kDataHeaderLength);
      EXPECT_TRUE(std::equal(message.begin(), message.end(), destination.data.begin() + wire::kDataHeaderLength)) << message.size() << " bytes at " << destination.port();
      EXPECT_EQ(destination.data, destinations[0].data);
    }
  }
  static Payload make_message(std::size_t length) {
    Payload message(length);
    for (std::size_t i = 0; i < length; ++i) message[i] = static_cast<std::byte>(i * 31 + length);
    return message;
  }

  Sent sent;
  Destination destinations[kDestinations];
  std::int64_t now_ns{1'000 * kSecond_ns};
  std::unique_ptr<Appliance> appliance;
  std::unique_ptr<client::Client> client;
  client::Publication publication;
};

TEST_F(SharedPayloads, reach_every_destination_byte_for_byte_from_one_buffer) {
  constexpr std::size_t kLeast = core::FanOut::kShareBytes - wire::kDataHeaderLength;
  for (const std::size_t length : {kLeast, kLeast + 1, std::size_t{1'000}, std::size_t{1'376}}) {
    ASSERT_NO_FATAL_FAILURE(expect_everywhere(make_message(length)));
    EXPECT_EQ(sent.chained, kDestinations) << length;
    EXPECT_EQ(sent.bodies.size(), 1U) << "one payload for all of them";
    EXPECT_EQ(sent.whole, 0U);
  }
}

TEST_F(SharedPayloads, are_not_worth_it_for_small_frames) {
  ASSERT_NO_FATAL_FAILURE(expect_everywhere(make_message(64)));
  EXPECT_EQ(sent.whole, kDestinations);
  EXPECT_EQ(sent.chained, 0U);
}

TEST_F(SharedPayloads, return_every_buffer) {
  run_until([this] { return appliance->plane->mbufs_in_use() == 0; });
  const std::uint32_t before = appliance->plane->mbufs_in_use();
  for (int i = 0; i < 20; ++i) ASSERT_NO_FATAL_FAILURE(expect_everywhere(make_message(1'376)));
  EXPECT_TRUE(run_until([&] { return appliance->plane->mbufs_in_use() <= before; })) << appliance->plane->mbufs_in_use() << " of " << before;
}

}  // namespace
}  // namespace thalweg::test
