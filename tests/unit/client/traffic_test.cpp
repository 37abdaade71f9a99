// What the traffic verbs are made of, and the verbs themselves against the scripted driver.
#include <atomic>
#include <cstdlib>
#include <sstream>
#include <thread>

#include "controlplane/cli/traffic.hpp"
#include "tests/unit/client/fixture.hpp"

namespace thalweg::cli {
namespace {

using client::test::bytes_of;
using client::test::IpcDriver;
using client::test::TemporaryDirectory;

TEST(Digest, changes_with_each_byte_and_with_the_order_of_messages) {
  std::vector<std::byte> bytes(29, std::byte{7});
  const std::uint32_t whole = add_bytes(1, bytes);
  for (std::byte& byte : bytes) {
    byte = std::byte{8};
    EXPECT_NE(add_bytes(1, bytes), whole);
    byte = std::byte{7};
  }
  const std::vector<std::byte> other(5, std::byte{1});
  EXPECT_NE(add_bytes(add_bytes(1, bytes), other), add_bytes(add_bytes(1, other), bytes));
}

TEST(Histograms, are_exact_for_small_values) {
  Histogram h;
  for (int i = 1; i <= 1000; ++i) h.record(i);
  EXPECT_EQ(h.count(), 1000);
  EXPECT_EQ(h.min(), 1);
  EXPECT_EQ(h.max(), 1000);
  EXPECT_DOUBLE_EQ(h.mean(), 500.5);
  EXPECT_EQ(h.percentile(50), 500);
  EXPECT_EQ(h.percentile(99.9), 999);
  EXPECT_EQ(h.percentile(100), 1000);
}

TEST(Histograms, stay_within_a_thousandth_for_large_values) {
  for (std::int64_t value = 2048; value < Histogram::kMax; value = value * 3 + 7) {
    Histogram h;
    h.record(value);
    h.record(Histogram::kMax);
    const auto found = h.percentile(50);
    EXPECT_GE(found, value);
    EXPECT_LE(static_cast<double>(found - value), static_cast<double>(value) / 1000.0);
  }
}

TEST(Histograms, are_monotonic_over_every_bucket_border) {
  std::int64_t last = -1;
  for (int shift = 10; shift < 42; ++shift) {
    for (std::int64_t value : {(std::int64_t{1} << shift) - 1, std::int64_t{1} << shift, (std::int64_t{1} << shift) + 1}) {
      Histogram h;
      h.record(value);
      h.record(Histogram::kMax);
      EXPECT_GE(h.percentile(50), last);
      last = h.percentile(50);
    }
  }
}

TEST(Histograms, keep_outliers_apart_and_can_be_added) {
  Histogram a;
  Histogram b;
  a.record(-5);
  a.record(Histogram::kMax + 1);
  b.record(7);
  a.add(b);
  EXPECT_EQ(a.count(), 3);
  EXPECT_EQ(a.saturated_count(), 1);
  EXPECT_EQ(a.min(), 0);
  EXPECT_EQ(a.percentile(60), 7);
  EXPECT_EQ(Histogram{}.percentile(50), 0);
}

TEST(Checksums, are_crc32c) {
  EXPECT_EQ(crc32c(bytes_of("123456789")), 0xE3069283U);  // RFC 3720, B.4 gives the polynomial; this is its check value
  EXPECT_EQ(crc32c(bytes_of("6789"), crc32c(bytes_of("12345"))), 0xE3069283U);
}

TEST(TestMessages, survive_the_trip_and_every_flipped_bit_is_seen) {
  for (const std::size_t size : {kTestMessageMin, kTestMessageMin + 1, std::size_t{64}, std::size_t{333}}) {
    std::vector<std::byte> bytes(size);
    write_message(bytes, {42, 1234});
    const auto read = read_message(bytes);
    ASSERT_TRUE(read);
    EXPECT_EQ(read->sequence, 42U);
    EXPECT_EQ(read->time_ns, 1234);
    for (std::size_t bit = 0; bit < size * 8; ++bit) {
      bytes[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
      EXPECT_FALSE(read_message(bytes)) << "bit " << bit;
      bytes[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    }
    EXPECT_FALSE(read_message(std::span{bytes}.first(size - 1)));
  }
}

TEST(Sequences, gaps_late_arrivals_and_repeats_are_told_apart) {
  SequenceCheck check;
  for (const std::uint64_t n : {10, 11, 14, 12, 15}) check.on(n);
  EXPECT_EQ(check.first(), 10U);
  EXPECT_EQ(check.next(), 16U);
  EXPECT_EQ(check.missing(), 1) << "13 never came";
  EXPECT_EQ(check.out_of_order(), 1) << "12 came late";
}

TEST(Schedules, do_not_drift) {
  const Schedule thousand{500, 1000};
  EXPECT_EQ(thousand.due_ns(0), 500);
  EXPECT_EQ(thousand.due_ns(1'000'000), 500 + 1'000'000'000'000);
  EXPECT_FALSE((Schedule{0, 0}.is_paced()));
}

TEST(Medians, of_odd_and_even_counts) {
  EXPECT_EQ(median({3, 1, 2}), 2);
  EXPECT_EQ(median({4, 1, 2, 3}), 2.5);
  EXPECT_EQ(median({}), 0);
}

// ---- the verbs ----

struct Outcome {
  int exit{};
  std::string out;
  std::string err;
  [[nodiscard]] nlohmann::json json() const { return nlohmann::json::parse(out.substr(out.rfind("\n", out.size() - 2) + 1)); }
};

class Verbs : public ::testing::Test {
 protected:
  Verbs() {
    driver_thread_ = std::thread{[this] {
      IpcDriver driver{{.directory = directory_.path(), .term_length = 1 << 20}};
      is_up_ = true;
      while (!stop_) {
        driver.do_work();
        driver.beat();
        std::this_thread::yield();
      }
    }};
    while (!is_up_) std::this_thread::yield();
  }
  ~Verbs() override {
    stop_ = true;
    driver_thread_.join();
  }
  Outcome thalweg(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--directory", directory_.path()});
    std::ostringstream out;
    std::ostringstream err;
    Context context{Output{out, err, {}}, {}, Exit::kOk};
    const int exit = run(context, arguments);
    return {exit, out.str(), err.str()};
  }
  // Runs `first` in its own thread beside `second`; returns both outcomes.
  std::pair<Outcome, Outcome> beside(std::vector<std::string> first, std::vector<std::string> second) {
    Outcome other;
    std::thread thread{[&] { other = thalweg(std::move(first)); }};
    Outcome mine = thalweg(std::move(second));
    thread.join();
    return {std::move(other), std::move(mine)};
  }

  TemporaryDirectory directory_{"verbs"};
  std::atomic<bool> is_up_{false};
  std::atomic<bool> stop_{false};
  std::thread driver_thread_;
};

TEST_F(Verbs, what_pub_sends_sub_receives_whole_and_in_order) {
  const auto [sub, pub] = beside({"sub", "--verify", "--until-end", "--json"}, {"pub", "--verify", "--rate", "0", "--count", "5000", "--json"});
  EXPECT_EQ(pub.exit, 0) << pub.err;
  EXPECT_EQ(sub.exit, 0) << sub.err;
  const auto sent = pub.json();
  const auto received = sub.json();
  EXPECT_EQ(sent["messages_sent"], 5000);
  EXPECT_EQ(sent["end_reason"], "count");
  EXPECT_EQ(sent["is_connected"], true);
  EXPECT_EQ(received["messages_received"], 5000);
  EXPECT_EQ(received["missing"], 0);
  EXPECT_EQ(received["out_of_order"], 0);
  EXPECT_EQ(received["corrupt"], 0);
  EXPECT_EQ(received["end_reason"], "end_of_stream");
  ASSERT_EQ(received["sessions"].size(), 1U);
  EXPECT_EQ(received["sessions"][0]["first_sequence"], 0);
  EXPECT_EQ(received["sessions"][0]["last_sequence"], 4999);
  EXPECT_EQ(received["sessions"][0]["session_id"], sent["session_id"]);
}

TEST_F(Verbs, fragmented_messages_are_verified_too) {
  const auto [sub, pub] = beside({"sub", "--verify", "--count", "200", "--json"},
                                 {"pub", "--verify", "--shared", "--rate", "0", "--size", "20KiB", "--count", "200", "--json"});
  EXPECT_EQ(pub.exit, 0) << pub.err;
  EXPECT_EQ(sub.exit, 0) << sub.err;
  EXPECT_EQ(sub.json()["bytes_received"], 200 * 20 * 1024);
}

TEST_F(Verbs, unnumbered_messages_make_a_verifying_sub_fail_with_exit_4) {
  const auto [sub, pub] = beside({"sub", "--verify", "--count", "10", "--json"}, {"pub", "--rate", "0", "--count", "10", "--json"});
  EXPECT_EQ(pub.exit, 0);
  EXPECT_EQ(sub.exit, 4);
  EXPECT_EQ(sub.json()["corrupt"], 10);
}

TEST_F(Verbs, a_pub_without_subscriber_gives_up_with_exit_5) {
  const Outcome pub = thalweg({"pub", "--wait", "20ms", "--json"});
  EXPECT_EQ(pub.exit, 5);
  EXPECT_EQ(pub.json()["end_reason"], "timed_out");
  EXPECT_EQ(pub.json()["is_connected"], false);
}

TEST_F(Verbs, a_sub_without_publisher_gives_up_with_exit_5) {
  EXPECT_EQ(thalweg({"sub", "--wait", "20ms", "--json"}).exit, 5);
  EXPECT_EQ(thalweg({"sub", "--duration", "20ms", "--json"}).exit, 0) << "a time limit of one's own is no failure";
}

TEST_F(Verbs, lines_are_printed_as_they_come) {
  const auto [sub, pub] = beside({"sub", "--lines", "--count", "2"}, {"pub", "--rate", "0", "--size", "1", "--count", "2"});
  EXPECT_EQ(sub.exit, 0);
  EXPECT_EQ(sub.out, std::string("\0\n\1\n", 4));
}

TEST_F(Verbs, ping_is_answered_by_pong) {
  const auto [pong, ping] = beside({"pong", "--until-end", "--json"},
                                   {"ping", "--rate", "2000", "--count", "200", "--warm-up", "0s", "--json"});
  EXPECT_EQ(ping.exit, 0) << ping.err;
  EXPECT_EQ(pong.exit, 0) << pong.err;
  const auto measured = ping.json();
  EXPECT_EQ(measured["messages_sent"], 200);
  EXPECT_EQ(measured["messages_received"], 200);
  EXPECT_EQ(measured["missing"], 0);
  EXPECT_EQ(measured["measured"], 200);
  EXPECT_GT(measured["rtt_p50_ns"], 0);
  EXPECT_LE(measured["rtt_p50_ns"], measured["rtt_max_ns"]);
  EXPECT_EQ(pong.json()["messages_sent"], 200);
}

TEST_F(Verbs, ping_without_pong_gives_up_with_exit_5) { EXPECT_EQ(thalweg({"ping", "--wait", "20ms"}).exit, 5); }

TEST_F(Verbs, bench_reports_medians) {
  const Outcome throughput = thalweg({"bench", "throughput", "--duration", "20ms", "--repeat", "3", "--json"});
  EXPECT_EQ(throughput.exit, 0) << throughput.err;
  EXPECT_EQ(throughput.json()["runs"].size(), 3U);
  EXPECT_GT(throughput.json()["messages_per_second"], 0);
  EXPECT_EQ(throughput.json()["corrupt"], 0);
  const Outcome rtt = thalweg({"bench", "rtt", "--duration", "20ms", "--repeat", "2", "--json"});
  EXPECT_EQ(rtt.exit, 0) << rtt.err;
  EXPECT_GT(rtt.json()["p50_ns"], 0);
  EXPECT_GT(rtt.json()["core_to_core_ns"], 0);
}

TEST_F(Verbs, mistakes_are_usage_errors) {
  EXPECT_EQ(thalweg({"pub", "--rate", "-1"}).exit, 2);
  EXPECT_EQ(thalweg({"pub", "--verify", "--size", "8"}).exit, 2);
  EXPECT_EQ(thalweg({"pub", "--size", "4MiB"}).exit, 2);
  EXPECT_EQ(thalweg({"sub", "--lines", "--json"}).exit, 2);
  EXPECT_EQ(thalweg({"ping", "--size", "8"}).exit, 2);
}

TEST(VerbsAlone, say_so_when_no_driver_is_there) {
  TemporaryDirectory directory{"verbs"};
  ::setenv("AERON_DRIVER_TIMEOUT", "20", 1);
  std::ostringstream out;
  std::ostringstream err;
  Context context{Output{out, err, {}}, {}, Exit::kOk};
  EXPECT_EQ(run(context, {"sub", "--directory", directory.path(), "--json"}), 3);
  ::unsetenv("AERON_DRIVER_TIMEOUT");
  EXPECT_EQ(nlohmann::json::parse(err.str())["error"]["code"], "unreachable");
}

}  // namespace
}  // namespace thalweg::cli
