#include <gtest/gtest.h>

#include <array>
#include <cstddef>

#include "dataplane/core/transmit.hpp"

// Frames of a turn in front of a port that takes as many as the test says.
namespace thalweg::core {
namespace {

class NarrowPort final : public pmd::Port {
 public:
  std::uint16_t rx_burst(std::uint16_t, rte_mbuf**, std::uint16_t) noexcept override { return 0; }
  std::uint16_t tx_burst(std::uint16_t, rte_mbuf**, std::uint16_t count) noexcept override {
    ++bursts;
    const auto taken = static_cast<std::uint16_t>(std::min<std::uint32_t>(count, room));
    room -= taken;
    return taken;
  }
  const pmd::PortCapabilities& capabilities() const noexcept override { return capabilities_; }
  wire::MacAddress mac() const noexcept override { return {}; }
  bool is_link_up() noexcept override { return true; }
  pmd::PortStatistics statistics() noexcept override { return {}; }
  Result<wire::UdpEndpoint> bind(const BindOptions& options) override { return options.local; }
  void unbind(const wire::UdpEndpoint&) override {}
  Result<void> start_capture(const pmd::CaptureOptions&) override { return {}; }
  void stop_capture() override {}
  pmd::CaptureStatus capture_status() const override { return {}; }

  std::uint32_t room{};
  int bursts{};

 private:
  pmd::PortCapabilities capabilities_;
};

class TxStageTest : public testing::Test {
 protected:
  ~TxStageTest() override {
    port_.room = ~0U;
    stage_.flush();  // the frames are nobody's: none may be left to be freed
  }
  void fill() {
    while (stage_.has_room()) stage_.push(frame_);
  }

  NarrowPort port_;
  std::array<std::uint64_t, shm::kLaneCounterCount> counters_{};
  alignas(rte_mbuf) std::array<std::byte, sizeof(rte_mbuf)> bytes_{};  // a frame that nobody looks into
  rte_mbuf* frame_{reinterpret_cast<rte_mbuf*>(bytes_.data())};
  TxStage stage_{port_, 0, proto::LaneCounters{counters_.data()}};
};

TEST_F(TxStageTest, a_port_that_takes_nothing_is_asked_once_a_turn_whatever_the_number_of_streams) {
  fill();
  EXPECT_EQ(stage_.count(), TxStage::kCapacity);
  EXPECT_EQ(port_.bursts, 1);
  for (int stream = 0; stream < 500; ++stream) EXPECT_FALSE(stage_.has_room());
  EXPECT_EQ(port_.bursts, 1);
  EXPECT_EQ(stage_.flush(), 0U);  // the end of the turn
  EXPECT_FALSE(stage_.has_room());
  EXPECT_EQ(port_.bursts, 3);
}

TEST_F(TxStageTest, room_that_a_port_makes_is_found_in_the_same_turn_or_in_the_next) {
  fill();
  port_.room = 3;
  EXPECT_FALSE(stage_.has_room()) << "it refused in this turn";
  stage_.flush();
  for (int frame = 0; frame < 3; ++frame) {
    ASSERT_TRUE(stage_.has_room());
    stage_.push(frame_);
  }
  port_.room = 5;
  EXPECT_TRUE(stage_.has_room()) << "not asked yet in this turn";
  EXPECT_EQ(stage_.count(), TxStage::kCapacity - 5);
}

}  // namespace
}  // namespace thalweg::core
