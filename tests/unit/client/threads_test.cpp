// Several threads on one stream; these tests are what the TSan build is for.
#include <atomic>
#include <thread>

#include "tests/unit/client/fixture.hpp"

namespace thalweg::client::test {
namespace {

// A driver that works in its own thread until the scope ends.
//
// It maps cnc.dat a second time, so TSan cannot see that a reader's position reaches the driver, and the driver's limit a writer: the same
// bytes have two addresses. before_offer() and after_poll() draw just these two edges (reader -> driver -> writer) for it. They lag the real
// ones by a turn, which is harmless: a term is written again only two terms after it was read. The edge that matters, from a writer's
// commit to a reader, is left to the library.
class DriverThread {
 public:
  explicit DriverThread(const std::string& directory) : driver_{{.directory = directory}}, thread_{[this] { run(); }} {}
  ~DriverThread() {
    stop_ = true;
    thread_.join();
  }
  void before_offer() const { static_cast<void>(limited_.load(std::memory_order_acquire)); }
  void after_poll() { consumed_.fetch_add(1, std::memory_order_release); }
  // Runs `action` on the driver's thread and waits for it.
  void run_there(std::function<void(IpcDriver&)> action) {
    action_ = std::move(action);
    is_wanted_ = true;
    while (is_wanted_) std::this_thread::yield();
  }

 private:
  void run() {
    while (!stop_) {
      static_cast<void>(consumed_.load(std::memory_order_acquire));
      driver_.do_work();
      limited_.fetch_add(1, std::memory_order_release);
      driver_.beat();
      if (is_wanted_) {
        action_(driver_);
        is_wanted_ = false;
      }
      std::this_thread::yield();
    }
  }
  IpcDriver driver_;
  std::function<void(IpcDriver&)> action_;
  std::atomic<std::uint64_t> consumed_{0};
  std::atomic<std::uint64_t> limited_{0};
  std::atomic<bool> is_wanted_{false};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

Context quick_context(const std::string& directory) {
  Context context;
  context.directory = directory;
  context.idle_sleep = std::chrono::milliseconds{1};
  return context;
}

struct Numbered {
  std::int32_t writer;
  std::int32_t number;
  std::byte filler[92];
};

TEST(Threads, several_publishers_of_one_stream_lose_nothing_and_keep_each_ones_order) {
  constexpr int kWriters = 3;
  constexpr int kEach = 3000;  // about ten terms
  TemporaryDirectory directory{"client"};
  DriverThread driver{directory.path()};
  auto client = Client::connect(quick_context(directory.path()));
  ASSERT_TRUE(client);
  auto s = client->add_subscription(kChannel, kStream);
  auto p = client->add_publication(kChannel, kStream);
  ASSERT_TRUE(s && p);

  std::vector<std::thread> writers;
  for (int w = 0; w < kWriters; ++w) {
    writers.emplace_back([&, w] {
      const auto pause = [&] {
        std::this_thread::yield();
        driver.before_offer();
      };
      for (int n = 0; n < kEach; ++n) {
        const Numbered message{w, n, {}};
        const auto bytes = std::as_bytes(std::span{&message, 1});
        driver.before_offer();
        if (n % 3 == 0) {
          BufferClaim claim;
          while (!p->try_claim(bytes.size(), claim)) pause();
          std::memcpy(claim.data().data(), bytes.data(), bytes.size());
          claim.commit();
        } else {
          while (!p->offer(bytes)) pause();
        }
      }
    });
  }
  std::array<int, kWriters> next{};
  int received = 0;
  while (received < kWriters * kEach) {
    const int fragments = s->poll(
        [&](std::span<const std::byte> payload, const Header&) {
          const auto message = load_le<Numbered>(payload.data());
          ASSERT_EQ(message.number, next.at(static_cast<std::size_t>(message.writer))++);
          ++received;
        },
        32);
    driver.after_poll();
    if (fragments == 0) std::this_thread::yield();
  }
  for (auto& writer : writers) writer.join();
  EXPECT_EQ(s->images().at(0)->position(), p->position());
}

TEST(Threads, images_may_come_and_go_under_a_polling_thread) {
  TemporaryDirectory directory{"client"};
  DriverThread driver{directory.path()};
  auto client = Client::connect(quick_context(directory.path()));
  ASSERT_TRUE(client);
  auto s = client->add_subscription(kChannel, kStream);
  ASSERT_TRUE(s);
  std::atomic<int> received{0};
  std::atomic<bool> stop{false};
  std::thread poller{[&] {
    while (!stop) {
      if (s->poll([&](std::span<const std::byte>, const Header&) { ++received; }, 10) == 0) std::this_thread::yield();
    }
  }};
  constexpr int kStreams = 40;
  for (int i = 0; i < kStreams; ++i) {
    auto p = client->add_exclusive_publication(kChannel, kStream);
    ASSERT_TRUE(p);
    while (!p->offer(bytes_of("one"))) std::this_thread::yield();
  }
  while (received < kStreams || !s->images().empty()) std::this_thread::yield();
  stop = true;
  poller.join();
  EXPECT_EQ(received, kStreams);
}

TEST(Threads, resources_may_be_added_from_many_threads_at_once) {
  TemporaryDirectory directory{"client"};
  DriverThread driver{directory.path()};
  auto client = Client::connect(quick_context(directory.path()));
  ASSERT_TRUE(client);
  std::vector<std::thread> threads;
  std::atomic<int> added{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 5; ++i) {
        auto p = client->add_publication(kChannel, 100 * t + i);
        if (p && p->stream_id() == 100 * t + i) ++added;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(added, 20);
}

TEST(Threads, a_dying_driver_ends_offers_of_all_threads) {
  TemporaryDirectory directory{"client"};
  DriverThread driver{directory.path()};
  Context context = quick_context(directory.path());
  context.keepalive_interval = std::chrono::milliseconds{1};
  context.on_error = [](const Error&) {};
  auto client = Client::connect(context);
  ASSERT_TRUE(client);
  auto s = client->add_subscription(kChannel, kStream);
  auto p = client->add_publication(kChannel, kStream);
  ASSERT_TRUE(s && p);
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&] {
      while (p->offer(bytes_of("x")).status() != OfferStatus::kClosed) std::this_thread::yield();
    });
  }
  driver.run_there([&](IpcDriver& d) {
    d.set_heartbeat(-1);
    while (!client->is_closed()) std::this_thread::yield();
  });
  for (auto& thread : threads) thread.join();
  EXPECT_TRUE(client->is_closed());
}

}  // namespace
}  // namespace thalweg::client::test
