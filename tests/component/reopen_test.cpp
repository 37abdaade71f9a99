// A restarted data plane that cannot open what its predecessor had open: somebody else has the port meanwhile.
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/component/many_receivers.hpp"

namespace thalweg::test {
namespace {

class Reopen : public ManyReceivers {
 protected:
  static constexpr std::size_t kNode = 1;   // the receiver's

  void SetUp() override {
    lab = std::make_unique<Lab>(Lab::Options{.nodes = 2, .impairment = {}, .adjust = {}, .is_on_sockets = true});
    number = free_udp_port();
    channel = "aeron:udp?endpoint=127.0.0.1:" + std::to_string(number);
    receive(kNode, channel);
    publish_on(0, channel);
    ASSERT_TRUE(connect());
    ASSERT_TRUE(transfer(make_messages(20)));
  }
  void TearDown() override {
    give_back();
    ManyReceivers::TearDown();
  }
  // Another program has the port from the moment the data plane dies on.
  void lose() {
    lab->node(kNode).kill_data_plane();
    thief = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(number);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(::bind(thief, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    lab->node(kNode).start_data_plane();
    ASSERT_TRUE(lab->run_until([this] { return receivers[0]->subscription.channel_status() == client::ChannelStatus::kErrored; }, 5 * kSecond_ns));
  }
  void give_back() {
    if (thief >= 0) ::close(std::exchange(thief, -1));
  }
  void expect_to_be_back() {
    ASSERT_TRUE(lab->run_until([this] { return receivers[0]->subscription.channel_status() == client::ChannelStatus::kActive; }, 3 * kSecond_ns));
    ASSERT_TRUE(connect()) << "a new image";
    receivers[0]->received.clear();
    const auto more = make_messages(50, 100);
    ASSERT_TRUE(transfer(more));
    EXPECT_EQ(receivers[0]->received, more);
  }

  std::uint16_t number{};
  std::string channel;
  int thief{-1};
};

TEST_F(Reopen, a_port_that_is_free_again_is_opened_again_and_its_subscription_goes_on) {
  const std::int64_t receiver_id = lab->node(kNode).registry().endpoints[0].observed.receiver_id;
  lose();
  lab->run_for(3 * kSecond_ns);
  EXPECT_EQ(receivers[0]->subscription.channel_status(), client::ChannelStatus::kErrored);
  EXPECT_EQ(lab->node(kNode).errors().find("restarted"), lab->node(kNode).errors().rfind("restarted")) << "told once";
  give_back();
  expect_to_be_back();
  EXPECT_EQ(lab->node(kNode).registry().endpoints[0].observed.receiver_id, receiver_id);
  receivers.clear();
  publication = {};
  EXPECT_TRUE(lab->run_until([this] { return lab->node(kNode).control->world().endpoints.used().empty(); }, 60 * kSecond_ns, kMillisecond_ns));
}

TEST_F(Reopen, whichever_process_is_restarted_meanwhile) {
  lose();
  lab->node(kNode).restart_control_plane();
  lab->run_for(2 * kSecond_ns);
  lab->restart_data_plane(kNode);
  lab->run_for(2 * kSecond_ns);
  EXPECT_EQ(receivers[0]->subscription.channel_status(), client::ChannelStatus::kErrored);
  give_back();
  expect_to_be_back();
  receive(kNode, channel);
  ASSERT_TRUE(connect()) << "who subscribes now is served as well";
}

}  // namespace
}  // namespace thalweg::test
