// Untethered subscribers that do not keep up, from client to client: they are let go, hold nobody up, and come back (wire-protocol 3.14).
#include <gtest/gtest.h>

#include "tests/support/appliance.hpp"
#include "tests/support/two_nodes.hpp"

namespace thalweg::test {
namespace {

constexpr std::int32_t kStream = 1001;
const std::string kTimeouts = "|untethered-window-limit-timeout=2s|untethered-linger-timeout=3s|untethered-resting-timeout=4s";

enum class On { kIpc, kSpy, kImage };

class Untethered : public ::testing::TestWithParam<On> {
 protected:
  void SetUp() override {
    const std::string udp = std::string{"aeron:udp?endpoint="} + TwoAppliances::kAddressB + ":" + std::to_string(free_udp_port());
    const bool is_image = GetParam() == On::kImage;
    published_to = GetParam() == On::kIpc ? "aeron:ipc?term-length=64k" + kTimeouts : udp + "|term-length=64k" + (is_image ? "" : kTimeouts);
    fast_channel = GetParam() == On::kIpc ? "aeron:ipc" : udp;
    slow_channel = GetParam() == On::kIpc ? "aeron:ipc?tether=false" : (is_image ? udp + kTimeouts : "aeron-spy:" + udp) + "|tether=false";
    fast_client = both.connect(GetParam() == On::kIpc ? both.a : both.b);
    slow_client = both.connect(slow_side(), context());
    publish = both.connect(both.a);
    ASSERT_TRUE(fast_client && slow_client && publish);
  }
  void TearDown() override {
    if (HasFailure()) std::fprintf(stderr, "errors of a:\n%serrors of b:\n%s", both.a.errors().c_str(), both.b.errors().c_str());
  }
  Appliance& slow_side() { return GetParam() == On::kImage ? both.b : both.a; }
  client::Context context() {
    client::Context context;
    context.on_available_image = [this](const std::shared_ptr<client::Image>& image) { available.push_back(image->correlation_id()); };
    context.on_unavailable_image = [this](const std::shared_ptr<client::Image>& image) { unavailable.push_back(image->correlation_id()); };
    return context;
  }
  void connect() {
    auto first = fast_client->add_subscription(fast_channel, kStream);
    ASSERT_TRUE(first) << first.error().message;
    fast = std::move(*first);
    auto second = slow_client->add_subscription(slow_channel, kStream);
    ASSERT_TRUE(second) << second.error().message;
    slow = std::move(*second);
    auto publication = publish->add_publication(published_to, kStream);
    ASSERT_TRUE(publication) << publication.error().message;
    source = std::move(*publication);
    ASSERT_TRUE(both.run_until([&] { return source.is_connected() && fast.is_connected() && slow.is_connected(); }, kSecond_ns));
    ASSERT_EQ(available.size(), 1U);
  }
  // One turn of everybody but the slow subscriber.
  void work() {
    const std::string text = std::to_string(offered);
    if (source.offer(std::as_bytes(std::span{text}.first(text.size()))) ) ++offered;
    fast.poll([this](std::span<const std::byte> bytes, const client::Header&) { seen.push_back(number(bytes)); }, 100);
  }
  template <typename Predicate>
  bool work_until(Predicate&& predicate, std::int64_t limit_ns, std::int64_t step_ns = 100 * kMicrosecond_ns) {
    return both.run_until([&] { return work(), predicate(); }, limit_ns, step_ns);
  }
  // The stream stands still because of the slow one.
  void expect_stalled() {
    const std::size_t before = offered;
    work_until([] { return false; }, 200 * kMillisecond_ns);
    EXPECT_EQ(offered, before) << "nobody was waited for";
  }
  void stall() {
    std::size_t before = 0;
    do {
      before = offered;
      ASSERT_LT(offered, 100'000U) << "the slow subscriber holds nobody up";
      work_until([] { return false; }, 20 * kMillisecond_ns);
    } while (offered != before);
  }
  void expect_moving() {
    const std::size_t before = offered;
    EXPECT_TRUE(work_until([&] { return offered > before + 5'000; }, 5 * kSecond_ns)) << "it still holds the stream up";
  }
  void expect_fast_saw_everything() {
    ASSERT_TRUE(work_until([&] { return seen.size() + 10 >= offered; }, kSecond_ns));
    for (std::size_t i = 0; i < seen.size(); ++i) ASSERT_EQ(seen[i], i);
  }
  // From some message on, everything in order, up to date.
  void expect_slow_reads_on() {
    std::vector<std::size_t> got;
    const std::size_t goal = offered + 1'000;
    ASSERT_TRUE(work_until(
        [&] {
          slow.poll([&](std::span<const std::byte> bytes, const client::Header&) { got.push_back(number(bytes)); }, 100);
          return !got.empty() && got.back() >= goal;
        },
        2 * kSecond_ns));
    EXPECT_GT(got.front(), 0U) << "it joins again, it does not go on where it was";
    for (std::size_t i = 1; i < got.size(); ++i) ASSERT_EQ(got[i], got[i - 1] + 1);
  }
  std::size_t positions() {
    const std::vector<std::string> all = slow_side().labels();
    return static_cast<std::size_t>(std::count_if(all.begin(), all.end(), [](const std::string& label) { return label.starts_with("sub-pos"); }));
  }
  static std::size_t number(std::span<const std::byte> bytes) {
    return std::stoul(std::string{reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }

  TwoAppliances both;
  std::string published_to, fast_channel, slow_channel;
  std::shared_ptr<client::Client> publish, fast_client, slow_client;
  client::Publication source;
  client::Subscription fast, slow;
  std::vector<std::int64_t> available, unavailable;
  std::size_t offered{};
  std::vector<std::size_t> seen;
};

INSTANTIATE_TEST_SUITE_P(On, Untethered, ::testing::Values(On::kIpc, On::kSpy, On::kImage), [](const auto& on) {
  return std::string{on.param == On::kIpc ? "ipc" : on.param == On::kSpy ? "spy" : "image"};
});

// proves 3.14/4, 3.14/5, 3.14/6, 3.14/7, 3.14/8, 3.14/12
TEST_P(Untethered, one_that_does_not_keep_up_is_let_go_and_comes_back) {
  connect();
  stall();
  const std::int64_t begin_ns = both.now_ns;
  ASSERT_TRUE(work_until([&] { return unavailable.size() == 1; }, 5 * kSecond_ns));
  EXPECT_GE(both.now_ns - begin_ns, 1'500 * kMillisecond_ns) << "its window limit timeout, less what the stalling took";
  expect_stalled();  // LINGER: it may still read
  expect_moving();
  EXPECT_FALSE(slow.is_connected());
  ASSERT_TRUE(work_until([&] { return available.size() == 2; }, 10 * kSecond_ns, kMillisecond_ns));
  EXPECT_EQ(available[1], available[0]) << "the same image";
  expect_slow_reads_on();
  expect_fast_saw_everything();
  EXPECT_EQ(unavailable.size(), 1U);
}

// proves 3.14/6, 3.14/9
TEST_P(Untethered, one_that_may_not_rejoin_loses_its_counter_and_never_comes_back) {
  slow_channel += "|rejoin=false";
  if (GetParam() == On::kImage) fast_channel += "|rejoin=false";  // must agree
  connect();
  const std::size_t before = positions();
  stall();
  ASSERT_TRUE(work_until([&] { return unavailable.size() == 1; }, 5 * kSecond_ns));
  expect_moving();
  EXPECT_EQ(positions(), before - 1);
  work_until([] { return false; }, 6 * kSecond_ns, kMillisecond_ns);
  EXPECT_EQ(available.size(), 1U);
  expect_fast_saw_everything();
}

// proves 3.14/10
TEST_P(Untethered, a_tethered_one_is_waited_for_as_long_as_it_takes) {
  slow_channel.erase(slow_channel.find(GetParam() == On::kIpc ? "?tether=false" : "|tether=false"), std::string{"?tether=false"}.size());
  connect();
  stall();
  work_until([] { return false; }, 20 * kSecond_ns, kMillisecond_ns);
  expect_stalled();
  EXPECT_TRUE(unavailable.empty());
  const std::size_t before = offered;
  slow.poll([](std::span<const std::byte>, const client::Header&) {}, 100'000);
  EXPECT_TRUE(work_until([&] { return offered > before; }, 100 * kMillisecond_ns));
}

TEST_P(Untethered, one_that_keeps_up_stays) {
  connect();
  std::size_t count = 0;
  work_until(
      [&] {
        slow.poll([&](std::span<const std::byte>, const client::Header&) { ++count; }, 100);
        return false;
      },
      8 * kSecond_ns, kMillisecond_ns);
  EXPECT_TRUE(unavailable.empty());
  EXPECT_GT(count, 5'000U);
}

TEST_P(Untethered, one_at_rest_comes_back_although_both_processes_were_restarted) {
  connect();
  stall();
  ASSERT_TRUE(work_until([&] { return unavailable.size() == 1; }, 5 * kSecond_ns));
  expect_moving();
  slow_side().restart_control_plane();
  slow_side().kill_data_plane();
  slow_side().start_data_plane();
  EXPECT_EQ(available.size(), 1U) << "nothing changed for its client";
  expect_moving();
  ASSERT_TRUE(work_until([&] { return available.size() == 2; }, 10 * kSecond_ns, kMillisecond_ns));
  expect_slow_reads_on();
  expect_fast_saw_everything();
}

TEST_P(Untethered, a_control_plane_that_was_away_tells_of_what_it_missed) {
  connect();
  stall();
  slow_side().control.reset();
  work_until([] { return false; }, 6'500 * kMillisecond_ns, kMillisecond_ns);
  expect_moving();  // no control plane is needed for that
  EXPECT_TRUE(unavailable.empty());
  slow_side().restart_control_plane();
  EXPECT_TRUE(work_until([&] { return unavailable.size() == 1; }, kSecond_ns));
  ASSERT_TRUE(work_until([&] { return available.size() == 2; }, 10 * kSecond_ns, kMillisecond_ns));
  expect_slow_reads_on();
}

}  // namespace
}  // namespace thalweg::test
