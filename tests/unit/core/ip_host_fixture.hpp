#pragma once
#include <gtest/gtest.h>

#include <vector>

#include "dataplane/core/ip_host.hpp"

// What tests of a port's IP host have in common, whichever family they are about: who is on the link, what the host wanted done.
namespace thalweg::core {

inline constexpr std::int64_t kSecond = 1'000'000'000;
inline constexpr wire::MacAddress kOurMac{{2, 0, 0, 0, 0, 1}};
inline constexpr wire::MacAddress kPeerMac{{2, 0, 0, 0, 0, 2}};
inline constexpr wire::MacAddress kOtherMac{{2, 0, 0, 0, 0, 9}};

class Recorder final : public IpHost::Output {
 public:
  void send_frame(std::span<const std::byte> frame) noexcept override { sent.emplace_back(frame.begin(), frame.end()); }
  void release(rte_mbuf* frame, const wire::MacAddress& mac) noexcept override {
    released.push_back(frame);
    last_mac = mac;
  }
  void discard(rte_mbuf* frame) noexcept override { discarded.push_back(frame); }
  [[nodiscard]] wire::ArpPacket arp(std::size_t i) const { return *wire::ArpPacket::parse(std::span{sent.at(i)}.subspan(14)); }
  std::vector<std::vector<std::byte>> sent;
  std::vector<rte_mbuf*> released, discarded;
  wire::MacAddress last_mac;
};

class IpHostFixture : public ::testing::Test {
 protected:
  // Opaque to the host.
  static rte_mbuf* handle(std::uintptr_t n) { return reinterpret_cast<rte_mbuf*>(n * 64); }
  static void run(IpHost& host, std::int64_t& now, std::int64_t ns) {
    for (const std::int64_t end = now + ns; now < end; now += 10'000'000) host.tick(now);
  }

  std::int64_t now{kSecond};
  Recorder out;
};

}  // namespace thalweg::core
