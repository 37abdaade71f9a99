#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dataplane/base/time.hpp"
#include "pmd/decorators/capture.hpp"
#include "tests/support/pcapng.hpp"
#include "tests/support/temporary_directory.hpp"
#include "tests/unit/pmd/eal_environment.hpp"

namespace thalweg::pmd::test {
namespace {

using thalweg::test::Pcapng;
using thalweg::test::read_pcapng;

constexpr wire::UdpEndpoint kLeft{0x0A000001, 40001};
constexpr wire::UdpEndpoint kRight{0x0A000002, 40002};
constexpr std::size_t kHeaders = wire::kUdpFrameHeaderLength;

class Capture : public PortTest {
 protected:
  void SetUp() override {
    PortTest::SetUp();
    left_ = make(end("left", "right"));
    right_ = make(end("right", "left"));
  }
  void TearDown() override {
    left_.reset();
    right_.reset();
    PortTest::TearDown();
  }
  static PortOptions end(const std::string& name, const std::string& peer) {
    PortOptions options;
    options.name = name;
    options.kind = shm::PortKind::kPatch;
    options.peer = peer;
    return options;
  }
  [[nodiscard]] CaptureOptions to_file(const std::string& name) const { return {.path = directory_.file(name)}; }
  // One frame left to right, one back.
  void ping_pong(const std::string& text) {
    ASSERT_TRUE(send(*left_, frame(kLeft, kRight, text)));
    EXPECT_EQ(receive_payloads(*right_, 1), std::vector<std::string>{text});
    ASSERT_TRUE(send(*right_, frame(kRight, kLeft, text + " back")));
    EXPECT_EQ(receive_payloads(*left_, 1), std::vector<std::string>{text + " back"});
  }
  [[nodiscard]] static bool eventually(const std::function<bool()>& condition) {
    const std::int64_t deadline_ns = monotonic_ns() + 20 * kSecond_ns;
    while (!condition() && monotonic_ns() < deadline_ns) std::this_thread::yield();
    return condition();
  }

  std::unique_ptr<Port> left_, right_;
  thalweg::test::TemporaryDirectory directory_;
};

TEST_F(Capture, the_file_holds_what_was_sent_and_received_with_direction_and_time) {
  const auto before_ns = static_cast<std::uint64_t>(epoch_ns());
  ASSERT_TRUE(left_->start_capture(to_file("c")));
  for (int i = 0; i < 50; ++i) ping_pong("frame " + std::to_string(i));
  left_->stop_capture();
  const Pcapng file = read_pcapng(directory_.file("c"));
  EXPECT_EQ(file.interface_name, "left");
  EXPECT_EQ(file.link_type, 1U);
  EXPECT_EQ(file.timestamp_digits, 9U);
  ASSERT_EQ(file.frames.size(), 100U);
  std::uint64_t last_ns = before_ns;
  for (std::size_t i = 0; i < 100; ++i) {
    const Pcapng::Frame& one = file.frames[i];
    EXPECT_EQ(one.bytes.substr(kHeaders), "frame " + std::to_string(i / 2) + (i % 2 == 0 ? "" : " back"));
    EXPECT_EQ(one.direction, i % 2 == 0 ? 2U : 1U);
    EXPECT_EQ(one.original_length, one.bytes.size());
    EXPECT_FALSE(one.dropped_before);
    EXPECT_GE(one.epoch_ns, last_ns);
    last_ns = one.epoch_ns;
  }
  EXPECT_LE(last_ns, static_cast<std::uint64_t>(epoch_ns()));
  EXPECT_EQ(file.received, 100U);
  EXPECT_EQ(file.dropped, 0U);
  const CaptureStatus status = left_->capture_status();
  EXPECT_FALSE(status.is_running);
  EXPECT_EQ(status.frames, 100U);
}

TEST_F(Capture, frames_are_cut_at_the_snap_length_and_keep_their_real_length) {
  CaptureOptions options = to_file("c");
  options.snap_length = 60;
  ASSERT_TRUE(left_->start_capture(options));
  ping_pong(std::string(500, 'x'));
  left_->stop_capture();
  const Pcapng file = read_pcapng(directory_.file("c"));
  EXPECT_EQ(file.snap_length, 60U);
  ASSERT_EQ(file.frames.size(), 2U);
  EXPECT_EQ(file.frames[0].bytes.size(), 60U);
  EXPECT_EQ(file.frames[0].original_length, kHeaders + 500);
}

TEST_F(Capture, a_frame_limit_ends_the_capture_by_itself) {
  CaptureOptions options = to_file("c");
  options.frame_limit = 7;
  ASSERT_TRUE(left_->start_capture(options));
  for (int i = 0; i < 20; ++i) ping_pong("x");
  EXPECT_TRUE(eventually([&] { return !left_->capture_status().is_running; }));
  EXPECT_EQ(read_pcapng(directory_.file("c")).frames.size(), 7U);
  ping_pong("goes on without it");
  ASSERT_TRUE(left_->start_capture(to_file("d"))) << "and another may follow";
  ping_pong("y");
  left_->stop_capture();
  EXPECT_EQ(read_pcapng(directory_.file("d")).frames.size(), 2U);
}

TEST_F(Capture, a_byte_limit_is_never_exceeded) {
  CaptureOptions options = to_file("c");
  options.byte_limit = 4096;
  ASSERT_TRUE(left_->start_capture(options));
  for (int i = 0; i < 100; ++i) ping_pong(std::string(static_cast<std::size_t>(i), 'x'));
  EXPECT_TRUE(eventually([&] { return !left_->capture_status().is_running; }));
  struct stat info{};
  ASSERT_EQ(::stat(options.path.c_str(), &info), 0);
  EXPECT_LE(info.st_size, 4096);
  EXPECT_GT(info.st_size, 3000);
  EXPECT_GT(read_pcapng(options.path).frames.size(), 10U);
}

TEST_F(Capture, a_file_is_readable_while_the_capture_runs) {
  ASSERT_TRUE(left_->start_capture(to_file("c")));
  ping_pong("now");
  EXPECT_TRUE(eventually([&] { return left_->capture_status().frames == 2; }));
  EXPECT_TRUE(eventually([&] { return read_pcapng(directory_.file("c")).frames.size() == 2; }));
}

TEST_F(Capture, chains_are_captured_whole) {
  ASSERT_TRUE(left_->start_capture(to_file("c")));
  rte_mbuf* const head = frame(kLeft, kRight, "head ");
  rte_mbuf* const tail = frame(kLeft, kRight, "");
  std::memcpy(rte_pktmbuf_mtod(tail, char*), "tail", 4);
  tail->data_len = 4;
  tail->pkt_len = 4;
  ASSERT_EQ(rte_pktmbuf_chain(head, tail), 0);
  ASSERT_TRUE(send(*left_, head));
  for (rte_mbuf* const one : receive(*right_, 1)) rte_pktmbuf_free(one);
  left_->stop_capture();
  ASSERT_EQ(read_pcapng(directory_.file("c")).frames.size(), 1U);
  EXPECT_EQ(read_pcapng(directory_.file("c")).frames[0].bytes.substr(kHeaders), "head tail");
}

TEST_F(Capture, frames_that_the_port_refused_are_not_in_the_file) {
  ASSERT_TRUE(left_->start_capture(to_file("c")));
  right_.reset();
  EXPECT_FALSE(send(*left_, frame(kLeft, kRight, "nobody is there")));
  left_->stop_capture();
  EXPECT_TRUE(read_pcapng(directory_.file("c")).frames.empty());
}

TEST_F(Capture, a_full_ring_drops_and_says_how_many) {
  // The writer's side is not run at all: the ring alone decides.
  CaptureRing ring{Direction::kInbound, UINT32_MAX};
  rte_mbuf* const one = frame(kLeft, kRight, std::string(1000, 'x'));
  std::uint64_t kept = 0;
  while (ring.dropped() < 3) {
    static_cast<void>(ring.write(one, 1));
    ring.publish(ring.end());
    ++kept;
  }
  kept -= 3;
  EXPECT_GT(kept, 900U);
  EXPECT_LT(kept, 1048U);
  CapturedFrame out;
  std::vector<std::byte> scratch;
  for (std::uint64_t i = 0; i < kept; ++i) {
    ASSERT_TRUE(ring.peek(out, scratch));
    ASSERT_EQ(out.bytes.size(), one->pkt_len);
    ASSERT_EQ(out.dropped_before, 0U);
    ring.pop(static_cast<std::uint32_t>(out.bytes.size()));
  }
  EXPECT_FALSE(ring.peek(out, scratch));
  static_cast<void>(ring.write(one, 2));
  ring.publish(ring.end());
  ASSERT_TRUE(ring.peek(out, scratch)) << "there is room again";
  EXPECT_EQ(out.dropped_before, 3U);
  EXPECT_EQ(std::memcmp(out.bytes.data(), rte_pktmbuf_mtod(one, const void*), out.bytes.size()), 0);
  rte_pktmbuf_free(one);
}

TEST_F(Capture, drop_counts_are_written_with_the_frame_after_the_gap) {
  auto file = PcapngFile::create(directory_.file("c"), "p", 0);
  ASSERT_TRUE(file);
  const std::byte bytes[3]{};
  file->add({.epoch_ns = 5, .bytes = bytes, .original_length = 3, .dropped_before = 42, .direction = Direction::kInbound});
  ASSERT_TRUE(file->flush());
  EXPECT_EQ(read_pcapng(directory_.file("c")).frames.at(0).dropped_before, 42U);
}

TEST_F(Capture, what_cannot_be_written_is_refused_with_a_reason) {
  EXPECT_EQ(left_->start_capture({.path = directory_.path() + "/no/such/place"}).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(left_->start_capture({.path = "/dev/null"}).error().code, ErrorCode::kInvalidArgument);
  std::ofstream{directory_.file("target")} << "precious";
  ASSERT_EQ(::symlink(directory_.file("target").c_str(), directory_.file("link").c_str()), 0);
  EXPECT_FALSE(left_->start_capture(to_file("link"))) << "a link could point anywhere";
  std::string content;
  std::ifstream{directory_.file("target")} >> content;
  EXPECT_EQ(content, "precious");
  ASSERT_TRUE(left_->start_capture(to_file("c")));
  EXPECT_EQ(left_->start_capture(to_file("d")).error().code, ErrorCode::kInUse);
}

TEST_F(Capture, a_file_that_is_no_capture_is_not_written_over) {
  std::ofstream{directory_.file("c")} << "precious content";
  const auto refused = left_->start_capture(to_file("c"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInUse);
  EXPECT_EQ(std::filesystem::file_size(directory_.file("c")), 16U);
  ASSERT_TRUE(left_->start_capture(to_file("d")));
  left_->stop_capture();
  EXPECT_TRUE(left_->start_capture(to_file("d"))) << "an older capture is";
}

TEST_F(Capture, a_file_that_takes_no_more_ends_the_capture_and_not_the_port) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto ignored = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_TRUE(left_->start_capture(to_file("c")));
  const rlimit small{.rlim_cur = 2000, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  for (int i = 0; i < 50; ++i) ping_pong(std::string(100, 'x'));
  EXPECT_TRUE(eventually([&] { return !left_->capture_status().is_running; }));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, ignored);
  EXPECT_NE(left_->capture_status().error.find(directory_.file("c")), std::string::npos) << left_->capture_status().error;
  EXPECT_NO_THROW(static_cast<void>(read_pcapng(directory_.file("c")))) << "what is there is whole";
}

TEST_F(Capture, options_start_a_capture_with_the_port) {
  PortOptions options = end("left", "right");
  options.capture_file = directory_.file("from-start");
  left_.reset();
  left_ = make(options);
  ping_pong("first");
  left_->stop_capture();
  EXPECT_EQ(read_pcapng(directory_.file("from-start")).frames.size(), 2U);
}

}  // namespace
}  // namespace thalweg::pmd::test
