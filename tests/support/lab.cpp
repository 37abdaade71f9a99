#include "tests/support/lab.hpp"

#include <gtest/gtest.h>
#include <rte_mbuf.h>

namespace thalweg::test {
namespace {

std::span<const std::byte> bytes_of(const rte_mbuf* frame) { return {rte_pktmbuf_mtod(frame, const std::byte*), frame->data_len}; }

std::optional<wire::Ipv4View> ip_of(const rte_mbuf* frame) {
  const auto ethernet = wire::EthernetView::parse(bytes_of(frame));
  if (!ethernet || ethernet->type != wire::kEtherTypeIpv4) return std::nullopt;
  const auto ip = wire::Ipv4View::parse(bytes_of(frame).subspan(ethernet->header_length));
  return ip.bad == wire::Ipv4View::Bad::kNone ? std::optional{ip} : std::nullopt;
}

bool is_local_group(std::uint32_t group) { return group >> 8 == 0xE00000; }  // 224.0.0.x: never pruned (RFC 4541 2.1.2)

}  // namespace

Switch::Switch(std::size_t ports, pmd::PatchPanel& panel) {
  for (std::size_t i = 0; i < ports; ++i) {
    pmd::PortOptions options;
    options.name = "switch" + std::to_string(i);
    options.peer = "node" + std::to_string(i);
    options.kind = shm::PortKind::kPatch;
    auto port = pmd::PatchPort::create(options, panel);
    EXPECT_TRUE(port) << port.error().message;
    ports_.push_back(std::move(*port));
  }
}

void Switch::step() {
  for (std::size_t from = 0; from < ports_.size(); ++from) {
    rte_mbuf* frames[pmd::kBurstMax];
    const std::uint16_t count = ports_[from]->rx_burst(0, frames, pmd::kBurstMax);
    for (std::uint16_t i = 0; i < count; ++i) {
      forward(from, frames[i]);
      rte_pktmbuf_free(frames[i]);
    }
  }
}

void Switch::forward(std::size_t from, rte_mbuf* frame) {
  const auto ip = ip_of(frame);
  if (ip && ip->protocol == wire::kIpProtocolIgmp) snoop(from, *ip);
  if (ip) ttls_[ip->destination] = ip->ttl;
  if (ip) ++sent_[ip->destination];
  for (std::size_t to = 0; to < ports_.size(); ++to) {
    if (to == from || !wants(to, frame) || (drops && drops(to, bytes_of(frame)))) continue;
    rte_mbuf* copy = rte_pktmbuf_copy(frame, frame->pool, 0, UINT32_MAX);
    if (copy == nullptr || ports_[to]->tx_burst(0, &copy, 1) != 1) {
      rte_pktmbuf_free(copy);
      continue;
    }
    if (ip && wire::is_multicast_ipv4(ip->destination)) ++forwarded_[{ip->destination, to}];
  }
}

void Switch::snoop(std::size_t from, const wire::Ipv4View& ip) {
  const auto message = wire::IgmpView::parse(ip.payload);
  ASSERT_TRUE(message) << "every IGMP message of ours has a right checksum";
  EXPECT_EQ(ip.ttl, 1);
  if (message->type == wire::IgmpView::kReportV2) members_[message->group].insert(from);
  if (message->type == wire::IgmpView::kLeave) members_[message->group].erase(from);
  if (message->type != wire::IgmpView::kReportV3) return;
  EXPECT_EQ(ip.destination, core::IgmpHost::kReportTo);
  const std::size_t records = load_be16(ip.payload.data() + 6);
  for (std::size_t i = 0; i < records; ++i) {
    const std::byte* const record = ip.payload.data() + wire::igmp_v3_report_length(i);
    const auto type = static_cast<wire::IgmpRecord>(record[0]);
    auto& members = members_[load_be32(record + 4)];
    type == wire::IgmpRecord::kToInclude ? void(members.erase(from)) : void(members.insert(from));
  }
}

bool Switch::wants(std::size_t to, const rte_mbuf* frame) const {
  const auto ip = ip_of(frame);
  if (!ip || !wire::is_multicast_ipv4(ip->destination) || is_local_group(ip->destination)) return true;
  return is_member(ip->destination, to);
}

bool Switch::is_member(std::uint32_t group, std::size_t port) const {
  const auto found = members_.find(group);
  return found != members_.end() && found->second.contains(port);
}

std::size_t Switch::forwarded(std::uint32_t group, std::size_t port) const {
  const auto found = forwarded_.find({group, port});
  return found == forwarded_.end() ? 0 : found->second;
}

std::size_t Switch::sent_to(std::uint32_t address) const {
  const auto found = sent_.find(address);
  return found == sent_.end() ? 0 : found->second;
}

int Switch::ttl(std::uint32_t group) const {
  const auto found = ttls_.find(group);
  return found == ttls_.end() ? -1 : found->second;
}

void Switch::send(std::size_t to, rte_mempool* pool, std::span<const std::byte> frame) {
  rte_mbuf* buffer = rte_pktmbuf_alloc(pool);
  ASSERT_NE(buffer, nullptr);
  std::memcpy(rte_pktmbuf_append(buffer, static_cast<std::uint16_t>(frame.size())), frame.data(), frame.size());
  if (ports_[to]->tx_burst(0, &buffer, 1) != 1) rte_pktmbuf_free(buffer);
}

void Switch::query(rte_mempool* pool, std::uint8_t max_response, bool is_v2) {
  members_.clear();
  constexpr wire::MacAddress kMac{{2, 0xFF, 0, 0, 0, 1}};
  for (const auto& port : ports_) {
    rte_mbuf* frame = rte_pktmbuf_alloc(pool);
    ASSERT_NE(frame, nullptr);
    auto* const out = reinterpret_cast<std::byte*>(rte_pktmbuf_append(frame, 60));
    std::memset(out, 0, 60);
    wire::build_ethernet(out, wire::multicast_mac(core::IgmpHost::kAllHosts), kMac, wire::kEtherTypeIpv4);
    const std::size_t length = is_v2 ? wire::kIgmpV2Length : 12;
    std::byte* const igmp = out + 14 + wire::build_ipv4(out + 14, wire::kIpProtocolIgmp, 1, 0x0A0000FE, core::IgmpHost::kAllHosts, length, true);
    igmp[0] = std::byte{wire::IgmpView::kQuery};
    igmp[1] = std::byte{max_response};
    store_be16(igmp + 2, wire::checksum_fold(wire::checksum_add({igmp, length}, 0)));
    if (port->tx_burst(0, &frame, 1) != 1) rte_pktmbuf_free(frame);
  }
}

Lab::Lab(const Options& options) {
  ethernet = std::make_unique<Switch>(options.is_on_sockets ? 0 : options.nodes, cables_->patches);
  for (std::size_t i = 0; i < options.nodes; ++i) {
    Appliance::Options o;
    o.packet_buffers = options.packet_buffers;
    o.settings.streams.term_length = 64 << 10;
    o.settings.random_seed = 100 + i;
    pmd::PortOptions cable;
    cable.name = "node" + std::to_string(i);
    cable.peer = "switch" + std::to_string(i);
    cable.kind = shm::PortKind::kPatch;
    cable.address = 0x0A000001 + static_cast<std::uint32_t>(i);
    cable.prefix_length = 24;
    cable.impairment = options.impairment;
    cable.impairment.seed += i;
    pmd::PortOptions loopback;
    loopback.name = "lo" + std::to_string(i);
    loopback.kind = shm::PortKind::kLoopback;
    loopback.address = 0x7F000001;
    loopback.prefix_length = 8;
    pmd::PortOptions kernel;
    kernel.name = "kernel" + std::to_string(i);
    kernel.kind = shm::PortKind::kKernel;
    o.ports = options.is_on_sockets ? std::vector{loopback, kernel} : std::vector{cable, loopback};
    if (options.adjust) options.adjust(o, i);
    nodes_.push_back(std::make_unique<Appliance>(std::move(o), options.is_on_sockets ? std::make_shared<pmd::PortContext>() : cables_, now_ns));
  }
}

Lab::~Lab() {
  ethernet.reset();  // what is under way lies in buffers of the nodes
}

void Lab::restart_data_plane(std::size_t node) {
  constexpr std::int64_t kDrain_ns = 2 * kMillisecond_ns;   // longer than any link delay a test uses
  const auto before = std::exchange(ethernet->drops, [](std::size_t, std::span<const std::byte>) { return true; });
  for (const std::int64_t end = now_ns + kDrain_ns; now_ns < end; now_ns += kStep_ns) {
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      if (i != node) nodes_[i]->step(now_ns);
    }
    ethernet->step();
  }
  ethernet->drops = before;
  nodes_[node]->kill_data_plane();
  nodes_[node]->start_data_plane();
}

void Lab::step_all(std::int64_t step_ns) {
  for (const auto& node : nodes_) node->step(now_ns);
  ethernet->step();
  now_ns += step_ns;
}

void Lab::turn(std::int64_t step_ns) {
  for (const auto& weak : clients_) {
    if (const auto client = weak.lock()) client->do_work();
  }
  step_all(step_ns);
}

std::shared_ptr<client::Client> Lab::connect(std::size_t node, client::Context context) {
  context.directory = nodes_[node]->path();
  context.mode = client::ConductorMode::kInvoker;
  context.clock = {[this] { return now_ns; }, [this] { return epoch_ms_at(now_ns); }};
  context.idle = [this] { step_all(kStep_ns); };
  auto connected = client::Client::connect(std::move(context));
  if (!connected) {
    ADD_FAILURE() << connected.error().message;
    return nullptr;
  }
  auto client = std::make_shared<client::Client>(std::move(*connected));
  clients_.push_back(client);
  return client;
}

std::string Lab::errors() const {
  std::string text;
  for (std::size_t i = 0; i < nodes_.size(); ++i) text += "node " + std::to_string(i) + ": " + nodes_[i]->errors() + "\n";
  return text;
}

}  // namespace thalweg::test
