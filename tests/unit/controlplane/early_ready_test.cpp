// READY before the lane has the stream: where the log is mapped and the port is known, no lane could refuse (client-protocol 6.5).
#include "tests/unit/controlplane/fixture.hpp"

namespace thalweg::conductor::testing {
namespace {

using shm::Response;

const std::string kUdp = "aeron:udp?endpoint=127.0.0.1:24325";
constexpr std::uint32_t kEthernetMtu = 1500;

// A pool with logs in it, and a lane that does not answer for publications.
class EarlyReady : public ConductorTest {
 protected:
  void SetUp() override {
    log_options.pool = {{64 << 10, 3}};
    start();
    registry().ports[0].mtu = kEthernetMtu;
    advance(kSecond_ns);  // the pool is filled when nothing else is to do
    data_plane->answers_publications = false;
    add_counter(1101, "the client is known from here on");
    skip_all();
  }
  [[nodiscard]] std::uint32_t only_publication() {
    EXPECT_EQ(world().publications.used().size(), 1U);
    return world().publications.used().front();
  }
};

TEST_F(EarlyReady, an_ipc_publication_with_a_pooled_log_waits_for_no_lane) {
  const std::int64_t id = add_publication("aeron:ipc");
  EXPECT_EQ(expect<shm::OnPublicationReady>(Response::kPublicationReady).correlation_id, id);
  expect_nothing();
}

TEST_F(EarlyReady, a_network_publication_waits_for_its_endpoint_only) {
  const std::int64_t id = add_publication(kUdp);
  EXPECT_EQ(expect<shm::OnPublicationReady>(Response::kPublicationReady).correlation_id, id);
}

TEST_F(EarlyReady, an_mtu_that_its_port_may_refuse_waits_for_the_lane) {
  const std::int64_t id = add_publication(kUdp + "|mtu=1504");
  expect_nothing();
  data_plane->publication_error = shm::SlotError{};
  data_plane->publication_error->code = static_cast<std::int32_t>(shm::ClientError::kInvalidChannel);
  data_plane->answers_publications = true;
  data_plane->ring_all();
  registry().header.control_to_steward.ring({shm::SlotKind::kPublication, only_publication()});
  run();
  expect_error(id, shm::ClientError::kInvalidChannel);
}

TEST_F(EarlyReady, destinations_of_its_own_wait_for_the_lane) {
  add_publication("aeron:udp?control-mode=manual");
  expect_nothing();
}

TEST_F(EarlyReady, a_log_that_is_made_on_demand_waits_for_the_lane) {
  add_publication("aeron:ipc?term-length=128k");
  expect_nothing();
}

TEST_F(EarlyReady, a_slot_whose_last_stream_ended_takes_subscriptions_at_once) {
  data_plane->answers_publications = true;
  const std::int64_t first = add_publication("aeron:ipc");
  run();
  const std::uint32_t slot = only_publication();
  data_plane->end_publication(slot);
  run();
  remove_publication(first);
  run();
  data_plane->finish_publication(slot);
  run();
  ASSERT_TRUE(world().publications.used().empty());
  registry().publications[slot].observed.state.lifecycle = shm::Lifecycle::kDone;  // as a lane leaves it
  data_plane->answers_publications = false;
  skip_all();
  add_publication("aeron:ipc");
  ASSERT_EQ(only_publication(), slot);
  expect<shm::OnPublicationReady>(Response::kPublicationReady);
  add_subscription("aeron:ipc");
  expect<shm::OnSubscriptionReady>(Response::kSubscriptionReady);
  expect<shm::OnAvailableImage>(Response::kAvailableImage);
}

TEST_F(EarlyReady, what_its_lane_cannot_do_after_all_is_told_like_any_stream_that_fails) {
  const std::int64_t id = add_publication("aeron:ipc");
  skip_all();
  data_plane->publication_error = shm::SlotError{};
  data_plane->publication_error->code = static_cast<std::int32_t>(shm::ClientError::kStorageSpace);
  data_plane->answers_publications = true;
  registry().header.control_to_steward.ring({shm::SlotKind::kPublication, only_publication()});
  run();
  const auto error = expect<shm::OnPublicationError>(Response::kPublicationError);
  EXPECT_EQ(error.registration_id, id);
  remove_publication(id);
  expect<shm::OnOperationSuccess>(Response::kOperationSuccess);
  EXPECT_TRUE(world().publications.used().empty());
}

TEST_F(EarlyReady, a_successor_takes_it_for_running_before_its_lane_says_so) {
  add_publication("aeron:ipc");
  skip_all();
  crash_and_restart();
  skip_all();
  add_subscription("aeron:ipc");
  expect<shm::OnSubscriptionReady>(Response::kSubscriptionReady);
  expect<shm::OnAvailableImage>(Response::kAvailableImage);
}

}  // namespace
}  // namespace thalweg::conductor::testing
