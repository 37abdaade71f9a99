#include "config/schema/convert.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "dataplane/base/units.hpp"

namespace thalweg::config {
namespace {

shm::PortKind kind_of(const std::string& type) {
  using enum shm::PortKind;
  if (type == "patch") return kPatch;
  if (type == "loopback") return kLoopback;
  if (type == "memif") return kMemif;
  if (type == "af_packet") return kAfPacket;
  if (type == "af_xdp") return kAfXdp;
  if (type == "tap") return kTap;
  if (type == "pcap") return kPcap;
  if (type == "pci") return kPci;
  return type == "kernel" ? kKernel : kNone;
}

std::uint32_t per_million(double share) { return static_cast<std::uint32_t>(std::lround(share * 1e6)); }

wire::MacAddress mac_of(std::string_view text) {
  wire::MacAddress mac;
  for (std::size_t i = 0; i < mac.bytes.size() && i * 3 + 2 <= text.size(); ++i) {
    std::from_chars(text.data() + i * 3, text.data() + i * 3 + 2, mac.bytes[i], 16);
  }
  return mac;
}

// "a.b.c.d/prefix"; without a prefix the length stays what it was.
std::uint32_t split_subnet(const std::string& text, std::uint32_t& prefix_length) {
  const std::size_t slash = std::min(text.find('/'), text.size());
  if (slash < text.size()) std::from_chars(text.data() + slash + 1, text.data() + text.size(), prefix_length);
  return parse_ipv4(std::string_view{text}.substr(0, slash)).value_or(0);
}

wire::Ipv6Address split_subnet6(const std::string& text, std::uint32_t& prefix_length) {
  const std::size_t slash = std::min(text.find('/'), text.size());
  if (slash < text.size()) std::from_chars(text.data() + slash + 1, text.data() + text.size(), prefix_length);
  return wire::parse_ipv6(std::string_view{text}.substr(0, slash)).value_or(wire::Ipv6Address{});
}

shm::PortRoute route_of(const Route& route) {
  shm::PortRoute out;
  out.network = split_subnet(route.to, out.prefix_length);
  out.gateway = parse_ipv4(route.via).value_or(0);
  return out;
}

constexpr FrameTypeWord kFrameTypeWords[] = {
    {"pad", 0x00}, {"data", 0x01}, {"nak", 0x02}, {"sm", 0x03}, {"err", 0x04}, {"setup", 0x05}, {"rttm", 0x06}, {"res", 0x07}, {"rsp-setup", 0x0B}};

pmd::FrameLossOptions frame_loss_of(const FrameLoss& loss) {
  pmd::FrameLossOptions out{.is_sent = loss.way == "send", .loss_ppm = per_million(loss.loss), .seed = loss.seed};
  for (const std::string& type : loss.types) out.types |= frame_type_bit(type).value_or(0);
  if (loss.types.empty()) out.types = ~0U;
  return out;
}

pmd::PortOptions options_of(const Port& port) {
  pmd::PortOptions out;
  out.name = port.name;
  out.kind = kind_of(port.type);
  out.address = split_subnet(port.address, out.prefix_length);
  out.gateway = parse_ipv4(port.gateway).value_or(0);
  out.address6 = split_subnet6(port.address6, out.prefix_length6);
  out.gateway6 = wire::parse_ipv6(port.gateway6).value_or(wire::Ipv6Address{});
  for (const Route6& route : port.routes6) {
    auto& one = out.routes6.emplace_back();
    one.network = split_subnet6(route.to, one.prefix_length);
    one.gateway = wire::parse_ipv6(route.via).value_or(wire::Ipv6Address{});
  }
  for (const Route& route : port.routes) out.routes.push_back(route_of(route));
  out.mtu = port.mtu_bytes;
  out.has_ip_fragments = port.has_ip_fragments;
  out.vlan = port.vlan;
  out.mac = mac_of(port.mac);
  out.checksums = port.checksums == "on" ? pmd::Checksums::kOn : port.checksums == "off" ? pmd::Checksums::kOff : pmd::Checksums::kAuto;
  out.peer = port.peer;
  out.device = port.device;
  out.device_tx = port.device_tx;
  out.memif_socket = port.socket;
  out.memif_id = port.id;
  out.is_memif_server = port.role == "server";
  out.queues = port.queues;
  out.ring_size = port.ring_size;
  out.has_receive_timestamps = port.has_receive_timestamps;
  out.impairment = {.loss_ppm = per_million(port.impair.loss),
                    .duplicate_ppm = per_million(port.impair.duplicate),
                    .reorder_ppm = per_million(port.impair.reorder),
                    .corrupt_ppm = per_million(port.impair.corrupt),
                    .delay_ns = port.impair.delay_ns,
                    .jitter_ns = port.impair.jitter_ns,
                    .rate_bits_per_second = port.impair.rate_bits_per_second,
                    .seed = port.impair.seed,
                    .frame_losses = {}};
  for (const FrameLoss& loss : port.impair.frames) out.impairment.frame_losses.push_back(frame_loss_of(loss));
  out.capture_file = port.capture;
  return out;
}

}  // namespace

std::span<const FrameTypeWord> frame_type_words() noexcept { return kFrameTypeWords; }

std::optional<std::uint32_t> frame_type_bit(std::string_view word) noexcept {
  for (const FrameTypeWord& one : kFrameTypeWords) {
    if (one.word == word) return std::uint32_t{1} << one.number;
  }
  return std::nullopt;
}

std::vector<pmd::PortOptions> port_options(const Config& config) {
  std::vector<pmd::PortOptions> out;
  for (const Port& port : config.ports) out.push_back(options_of(port));
  const auto has = [&](shm::PortKind kind) { return std::any_of(out.begin(), out.end(), [&](const auto& p) { return p.kind == kind; }); };
  Port added;
  added.mtu_bytes = pmd::kMtuMax;  // the kernel cuts datagrams itself
  if (!has(shm::PortKind::kLoopback)) {
    added.name = added.type = "loopback";
    added.address = "127.0.0.1/8";
    out.push_back(options_of(added));
  }
  if (!has(shm::PortKind::kKernel)) {
    added.name = added.type = "kernel";
    added.address.clear();
    out.push_back(options_of(added));
  }
  return out;
}

}  // namespace thalweg::config
