#include "dataplane/core/capture_desk.hpp"

#include <gtest/gtest.h>

#include <cstring>

namespace thalweg::core {
namespace {

// A port whose capture does what the test says.
class ScriptedPort final : public pmd::Port {
 public:
  std::uint16_t rx_burst(std::uint16_t, rte_mbuf**, std::uint16_t) noexcept override { return 0; }
  std::uint16_t tx_burst(std::uint16_t, rte_mbuf**, std::uint16_t) noexcept override { return 0; }
  const pmd::PortCapabilities& capabilities() const noexcept override { return capabilities_; }
  wire::MacAddress mac() const noexcept override { return {}; }
  bool is_link_up() noexcept override { return true; }
  pmd::PortStatistics statistics() noexcept override { return {}; }
  Result<wire::UdpEndpoint> bind(const BindOptions& options) override { return options.local; }
  void unbind(const wire::UdpEndpoint&) override {}
  Result<void> start_capture(const pmd::CaptureOptions& options) override {
    if (status.is_running) return fail(ErrorCode::kInUse, "it is being captured already", "stop that one");
    asked = options;
    status = {.is_running = true};
    return {};
  }
  void stop_capture() override { status.is_running = false; }
  pmd::CaptureStatus capture_status() const override { return status; }

  pmd::CaptureOptions asked;
  pmd::CaptureStatus status;

 private:
  pmd::PortCapabilities capabilities_;
};

class CaptureDeskTest : public testing::Test {
 protected:
  CaptureDeskTest() {
    for (ScriptedPort*& port : port_) {
      auto made = std::make_unique<ScriptedPort>();
      port = made.get();
      ports_.emplace_back();
      ports_.back().port = std::move(made);
      ports_.back().lanes.push_back(0);
    }
  }
  shm::CaptureSlot& slot(std::uint32_t index) { return registry_->captures[index]; }
  void want(std::uint32_t index, std::uint32_t port) {
    auto& wanted = slot(index).desired;
    wanted.port = port;
    wanted.snap_length = 128;
    wanted.frame_limit = 1000;
    wanted.byte_limit = 1U << 20;
    std::strcpy(wanted.path, "/tmp/x.pcapng");
    ++wanted.generation;
    wanted.state.store(shm::Desired::kActive);
  }
  [[nodiscard]] shm::Observed observed(std::uint32_t index) {
    EXPECT_EQ(slot(index).observed.generation, slot(index).desired.generation);
    return slot(index).observed.state.load();
  }

  std::unique_ptr<shm::Registry> registry_{std::make_unique<shm::Registry>()};
  ScriptedPort* port_[2]{};
  std::vector<StewardPort> ports_;
  CaptureDesk desk_{*registry_, ports_};
};

TEST_F(CaptureDeskTest, a_capture_is_started_as_asked_followed_and_stopped) {
  want(3, 1);
  EXPECT_TRUE(desk_.look(3));
  EXPECT_EQ(observed(3), shm::Observed::kActive);
  EXPECT_EQ(port_[1]->asked.path, "/tmp/x.pcapng");
  EXPECT_EQ(port_[1]->asked.snap_length, 128U);
  EXPECT_EQ(port_[1]->asked.frame_limit, 1000U);
  EXPECT_EQ(port_[1]->asked.byte_limit, 1U << 20);
  EXPECT_FALSE(desk_.look(3)) << "a second bell changes nothing";

  port_[1]->status.frames = 17;
  port_[1]->status.dropped = 2;
  EXPECT_FALSE(desk_.watch(3));
  EXPECT_EQ(slot(3).observed.frames.load(), 17U);
  EXPECT_EQ(slot(3).observed.dropped.load(), 2U);

  port_[1]->status.frames = 20;
  slot(3).desired.state.store(shm::Desired::kClosing);
  EXPECT_TRUE(desk_.look(3));
  EXPECT_EQ(observed(3), shm::Observed::kDone);
  EXPECT_FALSE(port_[1]->status.is_running);
  EXPECT_EQ(slot(3).observed.frames.load(), 20U) << "the last figures are the file's";
}

TEST_F(CaptureDeskTest, a_capture_at_its_limit_is_done_without_being_asked) {
  want(0, 0);
  ASSERT_TRUE(desk_.look(0));
  port_[0]->status = {.is_running = false, .frames = 1000};
  EXPECT_TRUE(desk_.watch(0));
  EXPECT_EQ(observed(0), shm::Observed::kDone);
  EXPECT_FALSE(desk_.look(0)) << "and is not started again";
}

TEST_F(CaptureDeskTest, a_capture_that_cannot_go_on_says_why) {
  want(0, 0);
  ASSERT_TRUE(desk_.look(0));
  port_[0]->status = {.is_running = false, .error = "no space left on device"};
  EXPECT_TRUE(desk_.watch(0));
  EXPECT_EQ(observed(0), shm::Observed::kFailed);
  EXPECT_STREQ(slot(0).observed.error.text, "no space left on device");
  slot(0).desired.state.store(shm::Desired::kClosing);
  EXPECT_TRUE(desk_.look(0));
  EXPECT_EQ(observed(0), shm::Observed::kDone);
}

TEST_F(CaptureDeskTest, a_port_is_captured_once_at_a_time_and_the_first_goes_on) {
  want(0, 0);
  want(1, 0);
  ASSERT_TRUE(desk_.look(0));
  ASSERT_TRUE(desk_.look(1));
  EXPECT_EQ(observed(1), shm::Observed::kFailed);
  EXPECT_STREQ(slot(1).observed.error.text, "it is being captured already (stop that one)");
  slot(1).desired.state.store(shm::Desired::kClosing);
  EXPECT_TRUE(desk_.look(1));
  EXPECT_TRUE(port_[0]->status.is_running) << "letting the second go does not stop the first";
}

TEST_F(CaptureDeskTest, hostile_slots_are_refused) {
  want(0, 77);
  EXPECT_TRUE(desk_.look(0));
  EXPECT_EQ(observed(0), shm::Observed::kFailed);
  want(1, 0);
  std::memset(slot(1).desired.path, 'x', sizeof slot(1).desired.path);
  EXPECT_TRUE(desk_.look(1));
  EXPECT_EQ(port_[0]->asked.path.size(), sizeof slot(1).desired.path - 1);
}

TEST_F(CaptureDeskTest, a_restarted_data_plane_does_not_write_over_its_predecessors_file) {
  want(0, 0);
  ASSERT_TRUE(desk_.look(0));
  CaptureDesk successor{*registry_, ports_};
  EXPECT_TRUE(successor.look(0));
  EXPECT_EQ(observed(0), shm::Observed::kFailed);
}

}  // namespace
}  // namespace thalweg::core
