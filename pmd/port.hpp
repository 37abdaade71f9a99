#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "dataplane/base/result.hpp"
#include "dataplane/shm/registry.hpp"
#include "dataplane/wire/ipv6.hpp"

struct rte_mbuf;
struct rte_mempool;

// The only door to network interfaces. Every backend moves whole Ethernet frames in mbufs: a patch cable, memif, af_packet, af_xdp, tap,
// pcap and PCI devices through ethdev; the loopback and the kernel port translate between frames and UDP sockets inside their bursts.
namespace thalweg::pmd {

inline constexpr std::uint16_t kBurstMax = 32;
inline constexpr std::uint64_t kStartCaptureBytes = std::uint64_t{1} << 30;  // nobody is there to stop a capture of the configuration
inline constexpr std::uint32_t kMtuMax = 65'312;  // IP bytes that fit one packet buffer; socket ports are made with it

struct PortCapabilities {
  bool has_multi_segment_tx{};      // chained mbufs may be sent (never on af_xdp: see dpdk-notes)
  bool has_ip_checksum_tx{};
  bool has_udp_checksum_tx{};
  bool needs_arp{true};             // false: loopback and kernel ports, which need no MAC
  bool is_real_wire{true};          // decides `checksums: auto`
  std::uint16_t rx_queue_count{1};
  std::uint16_t tx_queue_count{1};
};

struct PortStatistics {
  std::uint64_t rx_frames{}, rx_bytes{}, tx_frames{}, tx_bytes{}, rx_missed{}, rx_errors{}, tx_errors{}, rx_no_buffer{};
};

struct ImpairmentStatistics {
  std::uint64_t lost{}, duplicated{}, reordered{}, corrupted{}, delayed{};
};

struct CaptureOptions {
  std::string path;               // made, or emptied when it is there
  std::uint32_t snap_length{};    // bytes kept of each frame, 0 = all
  std::uint64_t frame_limit{};    // ends by itself after so many frames, 0 = never
  std::uint64_t byte_limit{};     // ends by itself before the file grows beyond, 0 = never
};
struct CaptureStatus {
  bool is_running{};              // false: never started, stopped, at a limit, or failed
  std::uint64_t frames{};         // written
  std::uint64_t dropped{};        // not written, because the lane was faster than the disk
  std::string error;              // "" unless it failed
};

// Thread: bursts on the owning lane; everything else on the steward, which may block.
class Port {
 public:
  virtual ~Port() = default;
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;

  // Up to `count` frames (<= kBurstMax) into `frames`; the caller owns them. Contiguous unless stated by the backend.
  [[nodiscard]] virtual std::uint16_t rx_burst(std::uint16_t queue, rte_mbuf** frames, std::uint16_t count) noexcept = 0;
  // Offers `count` frames; takes ownership of the first n returned. 0 is back-pressure, never an error.
  [[nodiscard]] virtual std::uint16_t tx_burst(std::uint16_t queue, rte_mbuf** frames, std::uint16_t count) noexcept = 0;
  // Called once per lane turn with the lane's clock: decorators release delayed frames, socket ports look at their epoll set.
  virtual void turn(std::int64_t now_ns) noexcept { static_cast<void>(now_ns); }

  [[nodiscard]] virtual const PortCapabilities& capabilities() const noexcept = 0;
  [[nodiscard]] virtual wire::MacAddress mac() const noexcept = 0;
  [[nodiscard]] virtual bool is_link_up() noexcept = 0;            // steward; also drives memif reconnects
  [[nodiscard]] virtual PortStatistics statistics() noexcept = 0;  // steward
  [[nodiscard]] virtual ImpairmentStatistics impairments() const noexcept { return {}; }

  // Claims a UDP address before an endpoint uses it, so that "port in use" is an answer and not a surprise. port 0 picks an ephemeral one.
  // Poll-mode ports keep their own table; loopback and kernel ports bind a real socket (loopback for 127/8, design section 2).
  // `remote` connects a send socket (wire-protocol 5.2); port 0 = unconnected. Errors: kInUse, kPermission, kIo. Steward.
  struct BindOptions {
    wire::UdpEndpoint local;
    wire::UdpEndpoint remote{};
    bool is_receive{};
    std::int32_t socket_rcvbuf{};
    std::int32_t socket_sndbuf{};
    std::uint8_t ttl{};                 // of what is sent to groups; 0: 1
    std::uint32_t interface_address{};  // a multicast `remote` is sent to by this interface of ours
    std::uint16_t queue{};  // rx queue that shall get this address's frames, where the port can choose (loopback, kernel)
    bool wants_arrivals{};  // the port is to note when each frame came, where it does so by address (loopback, kernel); see arrival.hpp
  };
  [[nodiscard]] virtual Result<wire::UdpEndpoint> bind(const BindOptions& options) = 0;
  virtual void unbind(const wire::UdpEndpoint& local) = 0;

  // Multicast: from here on what is sent to `group` comes in; lanes still look at each datagram's address and port. Poll-mode ports set
  // up the device's filter, socket ports join with a socket on the group's address, which lanes also send from. Several may join one group:
  // each join() is paired with a leave(). Errors: kInUse, kPermission, kInvalidArgument (no such interface), kNoSpace, kIo. Steward.
  struct GroupOptions {
    wire::UdpEndpoint group;
    std::uint32_t interface_address{};   // host order: ours on the network where the group is wanted
    std::int32_t socket_rcvbuf{};
    std::int32_t socket_sndbuf{};
    std::uint8_t ttl{};                  // of what is sent from the group's socket; 0: 1
    std::uint16_t queue{};
    bool wants_arrivals{};
  };
  // A port that receives every group has nothing to do.
  [[nodiscard]] virtual Result<void> join(const GroupOptions& /*options*/) { return {}; }
  virtual void leave(const wire::UdpEndpoint& /*group*/, std::uint32_t /*interface_address*/) {}

  // Writes what the port sends and receives to a nanosecond pcapng file; one capture at a time. What make_port() makes can be captured.
  // Errors: kUnsupported, kInUse (one is running), kNotFound, kPermission, kInvalidArgument (not a regular file), kIo. Steward.
  [[nodiscard]] virtual Result<void> start_capture(const CaptureOptions& /*options*/) {
    return fail(ErrorCode::kUnsupported, "this port cannot be captured");
  }
  // The file is complete when it returns. Without a capture it does nothing. Steward.
  virtual void stop_capture() {}
  // Of the capture started last. Steward.
  [[nodiscard]] virtual CaptureStatus capture_status() const { return {}; }

 protected:
  Port() = default;
};

// What a port is made from; decoded from YAML by config/schema, plain here.
// Loss of datagrams whose first frame is of certain types, with a random sequence of its own.
struct FrameLossOptions {
  bool is_sent{};                         // of what the port is given to send; else of what it receives
  std::uint32_t types{};                  // bit n: frames of type n (wire::FrameType)
  std::uint32_t loss_ppm{};
  std::uint64_t seed{1};
};
struct ImpairmentOptions {
  std::uint32_t loss_ppm{}, duplicate_ppm{}, reorder_ppm{}, corrupt_ppm{};
  std::int64_t delay_ns{};
  std::int64_t jitter_ns{};
  std::uint64_t rate_bits_per_second{};   // 0: unlimited
  std::uint64_t seed{1};
  std::vector<FrameLossOptions> frame_losses;
  [[nodiscard]] bool is_active() const noexcept {
    return !frame_losses.empty() || loss_ppm != 0 || duplicate_ppm != 0 || reorder_ppm != 0 || corrupt_ppm != 0 || delay_ns != 0 || jitter_ns != 0 ||
           rate_bits_per_second != 0;
  }
};
enum class Checksums : std::uint8_t { kAuto, kOn, kOff };
struct PortOptions {
  std::string name;                 // unique in the instance
  shm::PortKind kind{};
  std::uint32_t address{};          // host order
  std::uint32_t prefix_length{24};
  std::uint32_t gateway{};
  wire::Ipv6Address address6;       // ::: no IPv6
  std::uint32_t prefix_length6{};
  wire::Ipv6Address gateway6;       // ::: none
  std::vector<shm::PortRoute> routes;
  struct Route6 {
    wire::Ipv6Address network;
    std::uint32_t prefix_length{};
    wire::Ipv6Address gateway;
  };
  std::vector<Route6> routes6;
  std::uint32_t mtu{1500};          // IP bytes
  bool has_ip_fragments{};          // datagrams beyond the mtu are cut, and such ones put together
  std::uint16_t vlan{};
  wire::MacAddress mac;             // zero: made up from name and address, or the device's own
  Checksums checksums{Checksums::kAuto};
  std::string peer;                 // patch: name of the other end in this data plane
  std::string device;               // af_packet, af_xdp: interface; tap: interface to make; pci: address; pcap: file read
  std::string device_tx;            // pcap: file written
  std::string memif_socket;         // memif: socket name; starts with '/' = path, else abstract
  std::uint32_t memif_id{};
  bool is_memif_server{};
  std::uint16_t queues{1};
  std::uint16_t ring_size{1024};
  bool has_receive_timestamps{};    // pci: the device is to note when each frame came
  ImpairmentOptions impairment;     // of received frames; frame_losses: of sent ones, too
  std::string capture_file;         // not empty: capture from the start, up to kStartCaptureBytes
};

}  // namespace thalweg::pmd
