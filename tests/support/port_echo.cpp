// A process that makes one port from key=value arguments and sends every UDP frame it receives back to where it came from, until SIGTERM or
// until its parent dies. Says "ready" when the port exists; ends with one line of JSON. For tests that need a real process at the other
// end, to kill it for example.
//
// Keys: kind (memif, af-packet, af-xdp, tap), socket, role (server, client), id, device, address, mtu, queues, capture.
#include <rte_mbuf.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <sys/prctl.h>
#include <thread>

#include "dataplane/base/time.hpp"
#include "dataplane/base/units.hpp"
#include "pmd/eal.hpp"
#include "pmd/frame.hpp"
#include "pmd/packet_pool.hpp"
#include "pmd/port_factory.hpp"

namespace {

using namespace thalweg;

std::atomic<bool> is_stopping{};
static_assert(std::atomic<bool>::is_always_lock_free, "set in a signal handler");

bool set_kind(pmd::PortOptions& options, std::string_view kind) {
  if (kind == "memif") options.kind = shm::PortKind::kMemif;
  else if (kind == "af-packet") options.kind = shm::PortKind::kAfPacket;
  else if (kind == "af-xdp") options.kind = shm::PortKind::kAfXdp;
  else if (kind == "tap") options.kind = shm::PortKind::kTap;
  else return false;
  return true;
}

bool set_option(pmd::PortOptions& options, std::string_view key, const std::string& value) {
  if (key == "kind") return set_kind(options, value);
  if (key == "name") options.name = value;
  else if (key == "socket") options.memif_socket = value;
  else if (key == "role") options.is_memif_server = value == "server";
  else if (key == "id") options.memif_id = static_cast<std::uint32_t>(std::stoul(value));
  else if (key == "device") options.device = value;
  else if (key == "address") options.address = parse_ipv4(value).value_or(0);
  else if (key == "mtu") options.mtu = static_cast<std::uint32_t>(std::stoul(value));
  else if (key == "queues") options.queues = static_cast<std::uint16_t>(std::stoul(value));
  else if (key == "capture") options.capture_file = value;
  else return false;
  return true;
}

// Sends a UDP frame back: MACs, addresses and ports change places, checksums stay right because sums do not mind the order.
bool turn_around(rte_mbuf* frame) {
  pmd::UdpFrame view;
  if (!pmd::UdpFrame::parse(frame, view)) return false;
  auto* const p = rte_pktmbuf_mtod(frame, std::byte*);
  std::byte* const ip = p + wire::kEthernetHeaderLength;
  std::swap_ranges(p, p + 6, p + 6);
  std::swap_ranges(ip + 12, ip + 16, ip + 16);
  std::swap_ranges(ip + wire::kIpv4HeaderLength, ip + wire::kIpv4HeaderLength + 2, ip + wire::kIpv4HeaderLength + 2);
  return true;
}

std::uint64_t echo(pmd::Port& port) {
  std::uint64_t echoed = 0;
  while (!is_stopping.load(std::memory_order_relaxed)) {
    port.turn(monotonic_ns());
    for (std::uint16_t queue = 0; queue < port.capabilities().rx_queue_count; ++queue) {
      rte_mbuf* frames[pmd::kBurstMax];
      const std::uint16_t received = port.rx_burst(queue, frames, pmd::kBurstMax);
      std::uint16_t kept = 0;
      for (std::uint16_t i = 0; i < received; ++i) {
        if (turn_around(frames[i])) frames[kept++] = frames[i];
        else rte_pktmbuf_free(frames[i]);
      }
      const std::uint16_t sent = kept == 0 ? std::uint16_t{0} : port.tx_burst(0, frames, kept);
      for (std::uint16_t i = sent; i < kept; ++i) rte_pktmbuf_free(frames[i]);
      echoed += sent;
    }
  }
  return echoed;
}

int run(const pmd::PortOptions& options) {
  pmd::EalOptions eal_options;
  eal_options.instance = "port-echo";
  eal_options.memory = pmd::EalMemory::kOrdinaryPages;
  eal_options.memory_bytes = 96U << 20;
  const auto eal = pmd::Eal::start(eal_options);
  if (!eal) return std::fprintf(stderr, "%s\n", eal.error().message.c_str()), 1;
  auto pool = pmd::PacketPool::create({.name = "echo_pool", .count = 16383, .mtu = options.mtu});
  if (!pool) return std::fprintf(stderr, "%s\n", pool.error().message.c_str()), 1;
  pmd::PortContext context;
  context.pool = pool->get();
  auto port = pmd::make_port(options, context);
  if (!port) return std::fprintf(stderr, "%s\n%s\n", port.error().message.c_str(), port.error().hint.c_str()), 1;
  std::printf("ready\n");
  std::fflush(stdout);

  // The steward's part runs on a thread of its own, as in the appliance: the race between a restarting device and a polling lane is part of
  // the test.
  std::jthread steward{[&port](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      static_cast<void>((*port)->is_link_up());
      std::this_thread::sleep_for(std::chrono::milliseconds{2});
    }
  }};
  const std::uint64_t echoed = echo(**port);
  steward.request_stop();
  steward.join();
  const pmd::PortStatistics statistics = (*port)->statistics();
  std::printf("{\"echoed\": %llu, \"rx_frames\": %llu, \"tx_frames\": %llu}\n", static_cast<unsigned long long>(echoed),
              static_cast<unsigned long long>(statistics.rx_frames), static_cast<unsigned long long>(statistics.tx_frames));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  std::signal(SIGTERM, [](int) { is_stopping.store(true, std::memory_order_relaxed); });
  pmd::PortOptions options;
  options.name = "echo";
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument{argv[i]};
    const std::size_t equals = argument.find('=');
    if (equals == std::string_view::npos || !set_option(options, argument.substr(0, equals), std::string{argument.substr(equals + 1)}))
      return std::fprintf(stderr, "port_echo: cannot use '%s'\n", argv[i]), 2;
  }
  return run(options);
}
