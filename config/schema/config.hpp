#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/base/result.hpp"

// The YAML file, decoded. One file for both processes. Plain structs: defaults live here and nowhere else; config/default.yaml is tested
// to equal them. Only main.cpp files and the command see this header; lanes receive plain structs of their own.
namespace thalweg::config {

enum class IdleStrategy : std::uint8_t { kNoop, kBusySpin, kYield, kSleep, kBackoff };
enum class CpuMode : std::uint8_t { kShared, kExclusive };
enum class Hugepages : std::uint8_t { kAuto, kOn, kOff };

struct Instance {
  std::string directory;                 // "" = the stock default (AERON_DIR or /dev/shm/aeron-<user>)
  std::string name{"thalweg"};           // in logs and file prefixes
  std::string group;                     // "" = directory mode 0700
  std::string user;                      // drop to this user after start-up; "" = stay
  bool delete_on_start{false};
  bool delete_on_shutdown{false};
};
struct Lane {
  std::optional<std::uint32_t> cpu;      // none: floating
  std::vector<std::string> ports;        // names it serves; empty = whatever no other lane names
};
struct Dataplane {
  std::vector<Lane> lanes;               // empty = auto
  CpuMode cpu_mode{CpuMode::kShared};
  IdleStrategy idle{IdleStrategy::kBackoff};
  std::int64_t idle_sleep_ns{20'000};    // sleep, and the longest park of backoff
  Hugepages hugepages{Hugepages::kAuto};
  std::uint32_t packet_buffers{0};       // mbufs; 0 = computed
};
struct FrameLoss {
  std::string way{"receive"};            // receive send
  std::vector<std::string> types;        // frame_type_bit(); empty = all
  double loss{};                         // 0..1
  std::uint64_t seed{1};
};
struct Impairment {
  double loss{}, duplicate{}, reorder{}, corrupt{};   // 0..1 (percent with a % sign in the file)
  std::int64_t delay_ns{}, jitter_ns{};
  std::uint64_t rate_bits_per_second{};
  std::uint64_t seed{1};
  std::vector<FrameLoss> frames;
};
struct Route {
  std::string to;                        // a.b.c.d/prefix
  std::string via;
};
struct Route6 {
  std::string to;                        // IPv6 address/prefix
  std::string via;
};
struct Port {
  std::string name;
  std::string type;                      // patch loopback memif af_packet af_xdp tap pcap pci kernel
  std::string address;                   // a.b.c.d/prefix
  std::string gateway;
  std::vector<Route> routes;
  std::string address6;                  // IPv6 address/prefix
  std::string gateway6;
  std::vector<Route6> routes6;
  std::string mac;
  std::uint32_t mtu_bytes{1500};
  bool has_ip_fragments{false};
  std::uint16_t vlan{};
  std::string checksums{"auto"};         // auto on off
  std::string peer;                      // patch
  std::string device;                    // interface, PCI address, pcap file to read
  std::string device_tx;                 // pcap file to write
  std::string socket{"thalweg"};         // memif
  std::uint32_t id{};                    // memif
  std::string role{"client"};            // memif: server client
  std::uint16_t queues{1};
  std::uint16_t ring_size{1024};
  bool has_receive_timestamps{};         // pci
  Impairment impair;
  std::string capture;
};
enum class FlowControl : std::uint8_t { kMax, kMin, kTagged };
enum class CongestionControl : std::uint8_t { kStatic, kCubic, kAimd };
enum class GroupSemantics : std::uint8_t { kInfer, kAlways, kNever };
struct Streams {                         // driver defaults of wire-protocol section 7
  std::uint32_t mtu_bytes{1408};
  std::uint32_t ipc_mtu_bytes{1408};
  std::uint64_t term_length_bytes{16U << 20};
  std::uint64_t ipc_term_length_bytes{64U << 20};
  bool is_sparse{true};
  std::uint64_t publication_window_bytes{0};
  std::uint64_t ipc_publication_window_bytes{0};
  std::uint64_t receiver_window_bytes{128U << 10};
  std::uint64_t socket_rcvbuf_bytes{128U << 10};
  std::uint64_t socket_sndbuf_bytes{0};
  std::int64_t status_message_timeout_ns{200'000'000};
  std::int64_t linger_ns{5'000'000'000};
  std::int64_t connection_timeout_ns{5'000'000'000};
  std::int64_t unblock_timeout_ns{15'000'000'000};
  std::int64_t image_liveness_timeout_ns{10'000'000'000};
  std::int64_t untethered_window_limit_timeout_ns{5'000'000'000};
  std::int64_t untethered_linger_timeout_ns{5'000'000'000};
  std::int64_t untethered_resting_timeout_ns{10'000'000'000};
  bool is_reliable{true}, is_rejoin{true}, is_tethered{true}, spies_simulate_connection{false};
  std::int64_t nak_delay_ns{1'000};
  std::uint32_t nak_retry_ratio{100};
  std::int64_t nak_multicast_max_backoff_ns{10'000'000};
  std::uint32_t nak_multicast_group_size{10};
  bool nak_all_gaps{false};              // ours: NAK every gap up to the high-water mark per pass
  std::int64_t nak_backoff_ns{0};        // ours: exponential up to this
  std::uint32_t nak_max{0};              // ours: for one gap, then the image ends
  std::int64_t retransmit_delay_ns{0};
  std::int64_t retransmit_linger_ns{10'000'000};
  bool is_retransmit_linger_auto{false}; // ours: max(50 us, 2 RTT)
  std::uint32_t max_resend{16};
  std::uint64_t retransmit_limit_bytes{256U << 20};   // per stream and interval; 0 = none
  std::int64_t retransmit_limit_interval_ns{1'000'000'000};
  std::uint32_t session_limit{0x7FFFFFFF};            // images of one stream on one endpoint
  std::uint32_t unicast_retransmit_window_multiple{16};
  std::uint32_t multicast_retransmit_window_multiple{4};
  FlowControl multicast_flow_control{FlowControl::kMax};
  std::int64_t flow_control_group_tag{-1};
  std::uint32_t flow_control_group_min_size{0};
  std::int64_t flow_control_receiver_timeout_ns{5'000'000'000};
  std::optional<std::int64_t> receiver_group_tag;     // absent: status messages carry none
  GroupSemantics receiver_group{GroupSemantics::kInfer};
  std::uint8_t multicast_ttl{0};         // 0 = 1: groups stay on their segment
  CongestionControl congestion_control{CongestionControl::kStatic};
  std::int64_t cubic_initial_rtt_ns{100'000};
  bool cubic_measure_rtt{false};
  bool cubic_tcp_mode{false};
  std::uint16_t sender_wildcard_port_low{0}, sender_wildcard_port_high{0};       // 0 and 0: the system's choice
  std::uint16_t receiver_wildcard_port_low{0}, receiver_wildcard_port_high{0};
};
struct ControlPlane {
  std::int64_t timer_interval_ns{1'000'000'000};
  std::int64_t client_liveness_timeout_ns{10'000'000'000};
  std::int64_t driver_timeout_ns{10'000'000'000};
  std::int64_t counters_free_to_reuse_timeout_ns{1'000'000'000};
  std::int64_t poll_interval_ns{100'000};             // conductor's longest sleep
  std::int32_t reserved_session_id_low{-1}, reserved_session_id_high{1000};
  std::uint64_t to_driver_buffer_bytes{1U << 20};
  std::uint64_t to_clients_buffer_bytes{1U << 20};
  std::uint64_t error_log_bytes{4U << 20};
  std::uint64_t loss_report_bytes{1U << 20};
  std::uint32_t counters{131072};
  std::uint64_t low_storage_warning_bytes{160U << 20};
  std::string socket;                    // control socket; "" = <directory>/control.sock
  bool allows_termination{false};        // by a client's TERMINATE_DRIVER
};
struct LogPool {                         // zeroed, already mapped log buffers kept ready
  std::uint64_t term_length_bytes{};
  std::uint32_t count{};
};
struct Memory {
  std::vector<LogPool> pool{{16U << 20, 2}};   // 2 x 48 MiB
  std::string hugetlbfs;                 // "" = the first writable mount with 2 MiB pages, if any
  std::uint64_t image_limit_bytes{0};    // 0 = half of the file system, at most half of the machine's memory
};
enum class RelaySession : std::uint8_t { kKeep, kNew };
enum class OnSlow : std::uint8_t { kBlock, kDrop };
struct Relay {
  std::string name;
  std::string from;                      // channel URIs
  std::string to;
  std::int32_t stream{};
  std::optional<std::int32_t> to_stream; // none: the same
  RelaySession session{RelaySession::kKeep};
  OnSlow on_slow{OnSlow::kBlock};
};
struct Feed {                            // one stream by two ways
  std::string name;
  std::string channel;                   // what applications subscribe to
  std::string a, b;                      // what is received instead
  std::int64_t nak_hold_ns{1'000'000};
  std::int64_t side_timeout_ns{1'000'000'000};
};
struct Names {                           // driver names, wire-protocol section 6
  std::string name;                      // "" = no driver names
  std::string interface;                 // a.b.c.d:port; "" = 0.0.0.0:8050
  std::vector<std::string> bootstrap_neighbors;  // host:port
  std::int64_t neighbor_timeout_ns{10'000'000'000};
  std::int64_t self_resolution_interval_ns{1'000'000'000};
  std::int64_t neighbor_resolution_interval_ns{2'000'000'000};
  std::int64_t bootstrap_resolution_interval_ns{10'000'000'000};
  std::int64_t re_resolution_interval_ns{1'000'000'000};  // of channels' names; 0 = never
};
enum class RecordingSource : std::uint8_t { kRemote, kLocal };
enum class ArchiveSync : std::uint8_t { kNone, kInterval, kSegment, kBlock };
struct RecordingRetention {              // 0: no such limit
  std::int64_t max_age_ns{0};
  std::uint64_t max_size_bytes{0};
  std::uint32_t min_segments{2};
};
struct RecordedStream {                  // a stream that the archive records whenever it is there
  std::string name;
  std::string channel;
  std::int32_t stream{};
  RecordingSource source{RecordingSource::kRemote};
  OnSlow on_slow{OnSlow::kBlock};
  RecordingRetention retention;
};
struct Archive {
  std::string directory;                 // "" = no archive
  std::uint64_t segment_length_bytes{128U << 20};
  ArchiveSync sync{ArchiveSync::kInterval};
  std::int64_t sync_interval_ns{1'000'000'000};
  std::uint32_t max_active_recordings{128};
  std::string control_channel{"aeron:ipc"};
  std::string remote_control_channel;    // "" = none
  std::int32_t control_stream{10};
  std::uint32_t max_replays{20};
  std::int64_t replay_connect_timeout_ns{5'000'000'000};
  std::uint64_t low_space_bytes{0};      // 0 = one segment
  std::int64_t retention_interval_ns{10'000'000'000};
  std::vector<RecordedStream> recordings;
};
struct Logging {
  std::string level{"info"};
  std::string format{"text"};            // text json
};

struct Config {
  Instance instance;
  Dataplane dataplane;
  std::vector<Port> ports;               // loopback and kernel ports are added when absent
  Streams streams;
  std::vector<Relay> relays;
  std::vector<Feed> feeds;
  ControlPlane control_plane;
  Memory memory;
  Names names;
  Archive archive;
  Logging logging;
};

// Where a mistake is. All mistakes of a file are reported at once: `file:line:column: error: text`.
struct Diagnostic {
  std::string file;
  int line{};
  int column{};
  std::string text;
  // Line 0: the mistake is in an override and `file` says which.
  [[nodiscard]] std::string to_string() const {
    return file + (line == 0 ? "" : ":" + std::to_string(line) + ":" + std::to_string(column)) + ": error: " + text;
  }
};

// Settings from outside the file. Precedence: file < environment < flag (house rules, section 8).
struct Overrides {
  struct Setting {
    std::string path;                    // "streams.mtu", "ports.a.impair.loss" (a list item by its name or number)
    std::string value;                   // YAML: a scalar, or a flow list or map
    std::string origin;                  // "environment THALWEG_STREAMS_MTU" or "--set streams.mtu", for messages and `config show`
  };
  std::vector<Setting> environment;
  std::vector<Setting> flags;
};
// Collects THALWEG_<SECTION>_<KEY>=value from `environment` (name=value strings) and "section.key=value" flags. A variable that starts with
// a section's name but names no key is kept: loading reports it. Never throws.
[[nodiscard]] Overrides make_overrides(const std::vector<std::string>& environment, const std::vector<std::string>& set_flags);
// The same with this process's environment.
[[nodiscard]] Overrides make_overrides(const std::vector<std::string>& set_flags);

struct Loaded {
  Config config;
  std::vector<Diagnostic> errors;        // empty: the configuration is valid
  std::map<std::string, std::string> origins;  // dotted path -> "file.yaml:12", "environment THALWEG_...", "--set ..."; absent: default
};
// Decodes text, then overrides; cross-field rules run after decoding. `file` is only for messages. Never throws. Any thread.
[[nodiscard]] Loaded load_text(const std::string& text, const std::string& file, const Overrides& overrides = {});
// Reads a file ("" = no file, the built-in defaults) and applies THALWEG_* variables and `set_flags` ("section.key=value").
// Errors: kNotFound / kPermission / kIo when it cannot be read, kInvalidConfig with every diagnostic, one a line, when it is wrong.
[[nodiscard]] Result<Config> load_file(const std::string& path, const std::vector<std::string>& set_flags = {});
// The same with origins and diagnostics apart; the Result fails only when the file cannot be read.
[[nodiscard]] Result<Loaded> load(const std::string& path, const Overrides& overrides);

}  // namespace thalweg::config
