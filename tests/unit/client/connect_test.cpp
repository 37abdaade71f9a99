#include <cstdlib>
#include <fstream>

#include "dataplane/base/bytes.hpp"
#include "tests/unit/client/fixture.hpp"

namespace thalweg::client::test {
namespace {

class Connecting : public WithDriver {};

TEST_F(Connecting, succeeds_with_a_live_driver_and_takes_a_client_id) {
  start();
  EXPECT_GE(client_->client_id(), 1);
  EXPECT_EQ(client_->driver_pid(), 4242);
  EXPECT_FALSE(client_->is_closed());
}

TEST_F(Connecting, sends_no_command) {
  start();
  settle();
  EXPECT_TRUE(driver_->seen().empty());
}

TEST_F(Connecting, waits_for_a_driver_that_starts_later) {
  Context late = context();
  int idles = 0;
  late.idle = [&] {
    advance_ms(1);
    if (++idles == 5) start_driver();
  };
  const auto connected = Client::connect(std::move(late));
  EXPECT_TRUE(connected);
  EXPECT_GE(idles, 5);
}

TEST_F(Connecting, gives_up_as_unreachable_after_the_time_out) {
  const auto connected = Client::connect(context());
  ASSERT_FALSE(connected);
  EXPECT_EQ(connected.error().code, ErrorCode::kUnreachable);
  EXPECT_FALSE(connected.error().hint.empty());
}

TEST_F(Connecting, waits_until_the_version_is_stored) {
  options_.is_ready = false;
  start_driver();
  Context patient = context();
  int idles = 0;
  patient.idle = [&] {
    advance_ms(1);
    if (++idles == 3) driver_->mark_ready();
  };
  EXPECT_TRUE(Client::connect(std::move(patient)));
}

TEST_F(Connecting, refuses_another_major_version_at_once) {
  start_driver();
  const std::int32_t other = 0x00010000;
  std::fstream file{directory_.file("cnc.dat"), std::ios::in | std::ios::out | std::ios::binary};
  file.write(reinterpret_cast<const char*>(&other), sizeof other);
  file.close();
  const auto connected = Client::connect(context());
  ASSERT_FALSE(connected);
  EXPECT_EQ(connected.error().code, ErrorCode::kVersion);
  EXPECT_EQ(now_ns_, kSecond_ns) << "it must not wait for a version to change";
}

TEST_F(Connecting, survives_the_stale_file_of_a_dead_driver) {
  start_driver();
  advance_ms(60'000);  // the heartbeat is a minute old now
  Context patient = context();
  int idles = 0;
  patient.idle = [&] {
    advance_ms(1);
    if (++idles == 3) driver_->beat();
  };
  EXPECT_TRUE(Client::connect(std::move(patient)));
}

TEST_F(Connecting, fails_when_the_heartbeat_stays_stale) {
  start_driver();
  advance_ms(60'000);
  const auto connected = Client::connect(context());
  ASSERT_FALSE(connected);
  EXPECT_EQ(connected.error().code, ErrorCode::kUnreachable);
}

TEST_F(Connecting, reads_the_environment) {
  ::setenv("AERON_DIR", "/somewhere", 1);
  ::setenv("AERON_DRIVER_TIMEOUT", "2500", 1);
  ::setenv("AERON_CLIENT_NAME", "probe", 1);
  ::setenv("AERON_CLIENT_RESOURCE_LINGER_DURATION", "1500ms", 1);
  ::setenv("AERON_CLIENT_IDLE_SLEEP_DURATION", "2000000", 1);
  ::setenv("AERON_CLIENT_PRE_TOUCH_MAPPED_MEMORY", "true", 1);
  const Context context = Context::from_environment();
  ::setenv("AERON_DRIVER_TIMEOUT", "soon", 1);
  const Context fallback = Context::from_environment();
  ::unsetenv("AERON_DIR");
  ::unsetenv("AERON_DRIVER_TIMEOUT");
  ::unsetenv("AERON_CLIENT_NAME");
  ::unsetenv("AERON_CLIENT_RESOURCE_LINGER_DURATION");
  ::unsetenv("AERON_CLIENT_IDLE_SLEEP_DURATION");
  ::unsetenv("AERON_CLIENT_PRE_TOUCH_MAPPED_MEMORY");
  EXPECT_EQ(context.directory, "/somewhere");
  EXPECT_EQ(context.driver_timeout, std::chrono::milliseconds{2500});
  EXPECT_EQ(context.client_name, "probe");
  EXPECT_EQ(context.resource_linger, std::chrono::milliseconds{1500});
  EXPECT_EQ(context.idle_sleep, std::chrono::milliseconds{2});
  EXPECT_TRUE(context.pre_touch_mapped_memory);
  EXPECT_EQ(fallback.driver_timeout, std::chrono::seconds{10});
}

TEST_F(Connecting, refuses_settings_that_cannot_work) {
  start_driver();
  Context wrong = context();
  wrong.keepalive_interval = std::chrono::nanoseconds{0};
  EXPECT_EQ(Client::connect(wrong).error().code, ErrorCode::kInvalidArgument);
  wrong = context();
  wrong.driver_timeout = std::chrono::nanoseconds{-1};
  EXPECT_EQ(Client::connect(wrong).error().code, ErrorCode::kInvalidArgument);
  wrong = context();
  wrong.client_name = "two\nlines";
  EXPECT_EQ(Client::connect(wrong).error().code, ErrorCode::kInvalidArgument);
}

class Liveness : public WithDriver {};

TEST_F(Liveness, names_itself_in_its_heartbeat_counter_and_keeps_it_fresh) {
  start();
  const Publication p = publication();
  pass_ms(1000);
  std::string label;
  std::int64_t beat = 0;
  client_->counters().for_each([&](const shm::CountersReader::View& view) {
    if (view.type_id != shm::counter_type::kClientHeartbeat) return;
    label = view.label;
    beat = view.value;
  });
  EXPECT_NE(label.find("client-heartbeat: id=" + std::to_string(client_->client_id()) + " name=tester version="), std::string::npos) << label;
  EXPECT_GE(beat, epoch_ms_ - 600);
  pass_ms(5000);
  EXPECT_EQ(label.find("name="), label.rfind("name=")) << "appended once only";
}

TEST_F(Liveness, a_driver_that_shut_down_closes_the_client) {
  start();
  const Publication p = publication();
  Subscription s = subscription();
  driver_->set_heartbeat(-1);
  advance_ms(600);
  client_->do_work();
  EXPECT_TRUE(client_->is_closed());
  EXPECT_EQ(client_->close_reason(), CloseReason::kDriverShutDown);
  ASSERT_EQ(errors_.size(), 1U);
  EXPECT_EQ(errors_[0].code, ErrorCode::kUnreachable);
  EXPECT_TRUE(p.is_closed());
  EXPECT_EQ(p.offer(bytes_of("x")).status(), OfferStatus::kClosed);
  EXPECT_TRUE(s.is_closed());
  EXPECT_EQ(s.poll([](std::span<const std::byte>, const Header&) {}, 1), 0);
  ASSERT_EQ(unavailable_.size(), 1U);
  EXPECT_TRUE(unavailable_[0]->is_closed());
  EXPECT_EQ(closed_, 1);
  EXPECT_EQ(client_->add_publication(kChannel, 1).error().code, ErrorCode::kClosed);
}

TEST_F(Liveness, a_driver_without_heartbeat_closes_the_client_after_the_driver_time_out) {
  start();
  for (int i = 0; i < 98; ++i) {
    advance_ms(100);
    client_->do_work();
  }
  EXPECT_FALSE(client_->is_closed());
  for (int i = 0; i < 10; ++i) {
    advance_ms(100);
    client_->do_work();
  }
  EXPECT_TRUE(client_->is_closed());
}

TEST_F(Liveness, a_conductor_that_was_not_run_closes_the_client) {
  start();
  advance_ms(11'000);  // client liveness timeout: 10 s
  driver_->beat();
  client_->do_work();
  EXPECT_TRUE(client_->is_closed());
  ASSERT_EQ(errors_.size(), 1U);
  EXPECT_EQ(errors_[0].code, client_error::kServiceTimeout);
  EXPECT_EQ(client_->close_reason(), CloseReason::kServiceTimeout);
}

class ShortLiveness : public WithDriver {
 protected:
  ShortLiveness() : WithDriver{{.client_liveness_timeout_ns = 500 * kMillisecond_ns}} {}
};

TEST_F(ShortLiveness, a_driver_that_gives_clients_up_early_hears_of_them_more_often) {
  start();
  const Publication p = publication();
  const auto heartbeat = [this] {
    std::int64_t value = 0;
    client_->counters().for_each([&value](const shm::CountersReader::View& view) {
      if (view.type_id == shm::counter_type::kClientHeartbeat) value = view.value;
    });
    return value;
  };
  for (int i = 0; i < 20; ++i) {
    pass_ms(100);
    EXPECT_LE(epoch_ms_ - heartbeat(), 200);
  }
  EXPECT_FALSE(client_->is_closed());
}

TEST_F(Liveness, losing_the_heartbeat_counter_closes_the_client) {
  start();
  const Publication p = publication();
  pass_ms(1000);
  driver_->forget_client(client_->client_id());
  pass_ms(1000);
  EXPECT_TRUE(client_->is_closed());
}

TEST_F(Liveness, being_timed_out_by_the_driver_closes_the_client_but_not_others) {
  start();
  driver_->transmit(shm::Response::kClientTimeout, shm::OnClientTimeout{client_->client_id() + 1});
  client_->do_work();
  EXPECT_FALSE(client_->is_closed());
  driver_->transmit(shm::Response::kClientTimeout, shm::OnClientTimeout{client_->client_id()});
  client_->do_work();
  EXPECT_TRUE(client_->is_closed());
}

TEST_F(Liveness, closing_tells_the_driver_once) {
  start();
  const Publication p = publication();
  client_->close();
  client_->close();
  driver_->do_work();
  EXPECT_EQ(driver_->count(shm::Command::kClientClose), 1);
  EXPECT_EQ(closed_, 1);
  EXPECT_EQ(p.offer(bytes_of("x")).status(), OfferStatus::kClosed);
}

TEST_F(Liveness, handles_may_outlive_the_client) {
  start();
  Publication p = publication();
  Subscription s = subscription();
  const auto image = s.images().at(0);
  client_.reset();
  EXPECT_TRUE(p.is_closed());
  EXPECT_TRUE(image->is_closed());
  EXPECT_EQ(image->position(), 0);
  EXPECT_TRUE(s.images().empty());
}

TEST(OwnThread, connects_publishes_and_stops_without_any_help) {
  TemporaryDirectory directory{"client"};
  IpcDriver driver{{.directory = directory.path()}};
  std::atomic<bool> stop{false};
  std::thread driver_thread{[&] {
    while (!stop.load()) {
      driver.do_work();
      driver.beat();
      std::this_thread::yield();
    }
  }};
  Context context;
  context.directory = directory.path();
  context.idle_sleep = std::chrono::milliseconds{1};
  {
    auto client = Client::connect(context);
    ASSERT_TRUE(client);
    EXPECT_EQ(client->do_work(), 0);
    auto s = client->add_subscription(kChannel, kStream);
    ASSERT_TRUE(s);
    auto p = client->add_publication(kChannel, kStream);
    ASSERT_TRUE(p);
    while (!p->is_connected() || !s->is_connected()) std::this_thread::yield();
    while (!p->offer(bytes_of("hello"))) std::this_thread::yield();
    std::string received;
    while (received.empty()) {
      s->poll([&](std::span<const std::byte> payload, const Header&) { received = text_of(payload); }, 1);
    }
    EXPECT_EQ(received, "hello");
  }
  stop = true;
  driver_thread.join();
  driver.do_work();
  EXPECT_EQ(driver.count(shm::Command::kClientClose), 1);
}

}  // namespace
}  // namespace thalweg::client::test
