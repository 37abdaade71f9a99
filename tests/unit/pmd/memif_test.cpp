#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>

#include "dataplane/base/time.hpp"
#include "tests/support/temporary_directory.hpp"
#include "tests/unit/pmd/child_process.hpp"
#include "tests/unit/pmd/eal_environment.hpp"

// A port of this process against a port of another one. Every wait ends by a condition or fails at a deadline.
namespace thalweg::pmd::test {
namespace {

constexpr wire::UdpEndpoint kOurs{0x0A000001, 40001};
constexpr wire::UdpEndpoint kTheirs{0x0A000002, 40002};
constexpr std::int64_t kPatience_ns = 20 * kSecond_ns;

enum class Role : bool { kClient, kServer };
enum class Socket : bool { kAbstract, kPath };

class Memif : public PortTest {
 protected:
  [[nodiscard]] std::string socket_name(Socket kind) const {
    return kind == Socket::kPath ? directory_.path() + "/memif.sock" : "thalweg-test-" + directory_.path().substr(directory_.path().rfind('/') + 1);
  }
  [[nodiscard]] PortOptions options(Role role, Socket kind) const {
    PortOptions made;
    made.name = "m0";
    made.kind = shm::PortKind::kMemif;
    made.address = kOurs.address;
    made.memif_socket = socket_name(kind);
    made.memif_id = 7;
    made.is_memif_server = role == Role::kServer;
    return made;
  }
  // The peer of a port with that role.
  [[nodiscard]] std::unique_ptr<ChildProcess> peer_of(Role role, Socket kind) const {
    auto child = std::make_unique<ChildProcess>(
        THALWEG_PORT_ECHO, std::vector<std::string>{"kind=memif", "address=10.0.0.2", "id=7", "socket=" + socket_name(kind),
                                                    role == Role::kServer ? "role=client" : "role=server"});
    EXPECT_EQ(child->read_line(), "ready");
    return child;
  }

  // Turns the steward's and the lane's wheel until `condition` holds; frames received meanwhile go to `on_frame`.
  [[nodiscard]] bool run_until(Port& port, const std::function<bool()>& condition, const std::function<void(const std::string&)>& on_frame = {}) {
    const std::int64_t deadline_ns = monotonic_ns() + kPatience_ns;
    std::int64_t next_watch_ns = 0;
    while (!condition()) {
      const std::int64_t now_ns = monotonic_ns();
      if (now_ns > deadline_ns) return false;
      if (now_ns >= next_watch_ns) {
        is_up_ = port.is_link_up();
        static_cast<void>(port.statistics());
        next_watch_ns = now_ns + 2 * kMillisecond_ns;
      }
      rte_mbuf* frames[kBurstMax];
      const std::uint16_t received = port.rx_burst(0, frames, kBurstMax);
      for (std::uint16_t i = 0; i < received; ++i) {
        if (on_frame) on_frame(payload_of(frames[i]));
        rte_pktmbuf_free(frames[i]);
      }
    }
    return true;
  }
  [[nodiscard]] bool wait_for_link(Port& port, bool is_up) {
    is_up_ = !is_up;
    return run_until(port, [&] { return is_up_ == is_up; });
  }
  // Sends 2000 frames with at most 64 under way and expects each back, in order.
  void expect_exchange(Port& port) {
    ASSERT_TRUE(wait_for_link(port, true)) << "the link never came up";
    constexpr int kCount = 2000;
    int sent = 0, returned = 0;
    const auto send_some = [&] {
      while (sent < kCount && sent - returned < 64 && send(port, frame(kOurs, kTheirs, std::to_string(sent)))) ++sent;
      return returned == kCount;
    };
    EXPECT_TRUE(run_until(port, send_some, [&](const std::string& payload) { EXPECT_EQ(payload, std::to_string(returned++)); }))
        << returned << " of " << sent << " frames came back";
  }

  bool is_up_{};
  thalweg::test::TemporaryDirectory directory_;
};

struct Case {
  Role role;
  Socket socket;
};
std::string name_of(const testing::TestParamInfo<Case>& info) {
  return std::string{info.param.role == Role::kServer ? "server" : "client"} + (info.param.socket == Socket::kPath ? "_path" : "_abstract");
}

class MemifBothWays : public Memif, public testing::WithParamInterface<Case> {};
INSTANTIATE_TEST_SUITE_P(Roles, MemifBothWays,
                         testing::Values(Case{Role::kServer, Socket::kAbstract}, Case{Role::kServer, Socket::kPath},
                                         Case{Role::kClient, Socket::kAbstract}, Case{Role::kClient, Socket::kPath}),
                         name_of);

TEST_P(MemifBothWays, frames_are_exchanged_when_we_start_first) {
  const auto [role, socket] = GetParam();
  const auto port = make(options(role, socket));
  EXPECT_FALSE(port->is_link_up()) << "nobody is there yet";
  const auto peer = peer_of(role, socket);
  expect_exchange(*port);
  EXPECT_EQ(peer->stop(), 0);
}

TEST_P(MemifBothWays, frames_are_exchanged_when_the_peer_starts_first) {
  const auto [role, socket] = GetParam();
  const auto peer = peer_of(role, socket);
  const auto port = make(options(role, socket));
  expect_exchange(*port);
  EXPECT_EQ(peer->stop(), 0);
}

TEST_P(MemifBothWays, the_link_comes_back_after_each_kill_of_the_peer) {
  const auto [role, socket] = GetParam();
  const auto port = make(options(role, socket));
  std::uint64_t received = 0;
  for (int round = 0; round < 3; ++round) {
    SCOPED_TRACE(round);
    const auto peer = peer_of(role, socket);
    expect_exchange(*port);
    peer->kill();
    ASSERT_TRUE(wait_for_link(*port, false)) << "the death of the peer went unnoticed";
    EXPECT_FALSE(send(*port, frame(kOurs, kTheirs, "nobody"))) << "a link that is down pushes back";
    const std::uint64_t now_received = port->statistics().rx_frames;
    EXPECT_GE(now_received, received) << "statistics never go backwards";
    received = now_received;
  }
}

TEST_P(MemifBothWays, the_peer_lives_through_restarts_of_this_port) {
  const auto [role, socket] = GetParam();
  const auto peer = peer_of(role, socket);
  for (int round = 0; round < 3; ++round) {
    SCOPED_TRACE(round);
    const auto port = make(options(role, socket));
    expect_exchange(*port);
  }
  EXPECT_EQ(peer->stop(), 0);
}

TEST_P(MemifBothWays, a_peer_killed_in_full_flight_disturbs_no_lane) {
  const auto [role, socket] = GetParam();
  const auto port = make(options(role, socket));
  std::atomic<bool> is_stopping{};
  std::atomic<std::uint64_t> returned{};
  // The lane knows nothing of the link: it sends and receives all the time, as fast as it can.
  std::thread lane{[&] {
    while (!is_stopping.load()) {
      rte_mbuf* frames[kBurstMax];
      for (rte_mbuf*& one : frames) one = frame(kOurs, kTheirs, std::string(700, 'x'));
      const std::uint16_t sent = port->tx_burst(0, frames, kBurstMax);
      for (std::uint16_t i = sent; i < kBurstMax; ++i) rte_pktmbuf_free(frames[i]);
      const std::uint16_t received = port->rx_burst(0, frames, kBurstMax);
      for (std::uint16_t i = 0; i < received; ++i) rte_pktmbuf_free(frames[i]);
      returned.fetch_add(received);
    }
  }};
  const auto wait = [&](const std::function<bool()>& condition) {
    const std::int64_t deadline_ns = monotonic_ns() + kPatience_ns;
    while (!condition() && monotonic_ns() < deadline_ns) is_up_ = port->is_link_up();
    return condition();
  };
  for (int round = 0; round < 4; ++round) {
    SCOPED_TRACE(round);
    const auto peer = peer_of(role, socket);
    const std::uint64_t before = returned.load();
    EXPECT_TRUE(wait([&] { return returned.load() >= before + 5000; })) << "no traffic";
    peer->kill();
    EXPECT_TRUE(wait([&] { return !is_up_; }));
  }
  is_stopping.store(true);
  lane.join();
}

// Connecting to a server that does not run ends only when it runs again, once its queue is full.
TEST_F(Memif, a_server_that_is_stopped_keeps_no_client_waiting) {
  for (const Socket kind : {Socket::kAbstract, Socket::kPath}) {
    const auto peer = peer_of(Role::kClient, kind);
    peer->freeze();
    PortOptions wanted = options(Role::kClient, kind);
    const auto port = make(wanted);
    std::vector<std::unique_ptr<Port>> others;
    for (int other = 0; other < 4; ++other) {
      wanted.name = "other" + std::to_string(other);
      wanted.memif_id = 100 + static_cast<std::uint32_t>(other);
      others.push_back(make(wanted));
      EXPECT_FALSE(others.back()->is_link_up());
    }
    EXPECT_FALSE(port->is_link_up());
    peer->thaw();
    expect_exchange(*port);
  }
}

TEST_F(Memif, a_socket_file_left_by_a_killed_server_is_taken_over) {
  {
    const auto dead = peer_of(Role::kClient, Socket::kPath);
    dead->kill();
  }
  struct stat info{};
  ASSERT_EQ(::lstat(socket_name(Socket::kPath).c_str(), &info), 0) << "the kill left no file, so this tests nothing";
  const auto port = make(options(Role::kServer, Socket::kPath));
  const auto peer = peer_of(Role::kServer, Socket::kPath);
  expect_exchange(*port);
}

TEST_F(Memif, a_second_server_on_a_socket_is_told_so) {
  for (const Socket kind : {Socket::kPath, Socket::kAbstract}) {
    const auto first = peer_of(Role::kClient, kind);
    const auto second = make_port(options(Role::kServer, kind), context());
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, ErrorCode::kInUse) << second.error().message;
    EXPECT_NE(second.error().message.find(socket_name(kind)), std::string::npos) << second.error().message;
  }
}

TEST_F(Memif, a_file_that_is_no_socket_is_never_removed) {
  const std::string path = socket_name(Socket::kPath);
  std::FILE* const file = std::fopen(path.c_str(), "w");
  ASSERT_NE(file, nullptr);
  std::fclose(file);
  const auto port = make_port(options(Role::kServer, Socket::kPath), context());
  ASSERT_FALSE(port);
  EXPECT_EQ(port.error().code, ErrorCode::kInvalidConfig);
  EXPECT_EQ(::access(path.c_str(), F_OK), 0);
}

TEST_F(Memif, an_argument_that_would_be_two_is_refused) {
  PortOptions hostile = options(Role::kServer, Socket::kAbstract);
  hostile.memif_socket = "name,zero-copy=yes";
  const auto port = make_port(hostile, context());
  ASSERT_FALSE(port);
  EXPECT_EQ(port.error().code, ErrorCode::kInvalidConfig);
}

TEST_F(Memif, several_queues_carry_frames) {
  PortOptions wide = options(Role::kServer, Socket::kAbstract);
  wide.queues = 2;
  const auto port = make(wide);
  EXPECT_EQ(port->capabilities().rx_queue_count, 2);
  EXPECT_FALSE(port->capabilities().is_real_wire);
}

}  // namespace
}  // namespace thalweg::pmd::test
