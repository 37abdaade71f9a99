#pragma once
#include <gtest/gtest.h>
#include <rte_mbuf.h>

#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

#include "pmd/eal.hpp"
#include "pmd/frame.hpp"
#include "pmd/packet_pool.hpp"
#include "pmd/port_factory.hpp"

namespace thalweg::pmd::test {

// One EAL for the whole binary, on ordinary pages.
class EalEnvironment final : public testing::Environment {
 public:
  void SetUp() override;
  void TearDown() override;
  static Eal& eal();
  static std::vector<std::string>& log_lines();
};

// A pool and a port context per test; every test ends with all buffers back in the pool.
class PortTest : public testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  [[nodiscard]] std::unique_ptr<Port> make(const PortOptions& options);
  // A UDP frame as a lane would send it.
  [[nodiscard]] rte_mbuf* frame(const wire::UdpEndpoint& from, const wire::UdpEndpoint& to, std::string_view payload);
  // Offers one frame; frees it and returns false when the port does not take it.
  [[nodiscard]] bool send(Port& port, rte_mbuf* frame, std::uint16_t queue = 0);
  // Polls until `count` frames are there or two seconds have passed; the caller's turns are simulated with the real clock.
  [[nodiscard]] std::vector<rte_mbuf*> receive(Port& port, std::size_t count, std::uint16_t queue = 0);
  // Payloads of the next `count` frames; frees them.
  [[nodiscard]] std::vector<std::string> receive_payloads(Port& port, std::size_t count, std::uint16_t queue = 0);

  PacketPool& pool() { return *pool_; }
  PortContext& context() { return *context_; }

 private:
  std::size_t first_line_{};  // of DPDK's log, for a test that fails
  std::unique_ptr<PacketPool> pool_;
  std::unique_ptr<PortContext> context_;
};

[[nodiscard]] std::string payload_of(const rte_mbuf* frame);
[[nodiscard]] UdpFrame addresses_of(const rte_mbuf* frame);

}  // namespace thalweg::pmd::test
