// Every key of the configuration: name, rule and its paragraph of the manual. config/default.yaml, the JSON Schema and
// docs/reference/configuration.md are made from this file (config/schema/generate.cpp), and a test fails when they are stale.
#include "config/schema/map.hpp"
#include "dataplane/base/time.hpp"

namespace thalweg::config {
namespace {

constexpr std::int64_t kKiB = 1 << 10;
constexpr std::int64_t kMiB = 1 << 20;
constexpr std::int64_t kGiB = 1 << 30;
constexpr std::int64_t kDay_ns = 24 * 3600 * kSecond_ns;
constexpr std::int64_t kPortMax = std::numeric_limits<std::uint16_t>::max();
constexpr std::int64_t kUint32Max = std::numeric_limits<std::uint32_t>::max();
constexpr std::int64_t kInt32Min = std::numeric_limits<std::int32_t>::min();
constexpr std::int64_t kInt32Max = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t kInt64Min = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t kInt64Max = std::numeric_limits<std::int64_t>::max();

// wire-protocol 7: aeron.mtu.length is larger than 32, at most 65504, a multiple of 32.
Rule mtu() { return rule::size(64, 65'504, 32); }
Rule term_length() { return rule::power_of_two(64 * kKiB, kGiB); }
Rule timeout() { return rule::duration(kMillisecond_ns, 30 * kDay_ns); }
Rule delay() { return rule::duration(0, 60 * kSecond_ns); }

}  // namespace

void decode(Map& map, Config& c) {
  map.section("instance", c.instance, "Who this appliance is on this machine: where its shared memory lies and who may use it.");
  map.section("dataplane", c.dataplane, "The process that polls the ports: its worker threads (lanes), their CPUs and their memory.");
  map.list("ports", c.ports,
           "The network interfaces the appliance drives itself. A loopback port (127.0.0.0/8) and a kernel port (UDP sockets, for addresses "
           "that no other port owns) are added when none is listed, so the empty list already is a complete media driver.");
  map.section("streams", c.streams,
              "Defaults of publications and subscriptions; a channel URI parameter overrides them for its stream. Names and values are those "
              "of the Aeron driver properties unless the text says otherwise.");
  map.list("relays", c.relays,
           "Streams that the appliance passes on without an application: each image of `from` is sent on `to`, straight from the memory it was "
           "received into. Both channels' ports must be polled by one lane.");
  map.list("feeds", c.feeds,
           "A/B feeds: streams that arrive twice, by two ways. A subscription to `channel` hears both sides; the first copy of each datagram is used, and only what "
           "neither side brought is asked for. Applications need not know.");
  map.section("control-plane", c.control_plane, "The process that answers clients: timeouts, ring and counter sizes, the control socket.");
  map.section("memory", c.memory, "Where log buffers lie and how many are kept ready.");
  map.section("names", c.names,
              "What hosts in channels are called. With a name of its own this appliance tells others where it is and learns from them who is where, "
              "without a name server and in the stock drivers' way; a host that no driver is called is asked of the system's resolver.");
  map.section("archive", c.archive, "Streams recorded to disk, whose files other programs read and `thalweg archive` shows.");
  map.section("logging", c.logging, "What the processes write to standard error (to the journal under systemd).");
}

void decode(Map& map, Instance& c) {
  map.optional("directory", c.directory, rule::path(),
               "The instance directory, which clients call the Aeron directory. Empty: what clients use without being told, that is "
               "$AERON_DIR or /dev/shm/aeron-<user>. It should lie on tmpfs; two appliances on one machine need two directories.");
  map.optional("name", c.name, rule::name(), "The name of this instance in logs and in the file prefix of its packet memory.");
  map.optional("group", c.group, rule::text(),
               "A group whose members may connect. Empty: the directory is for its owner alone (mode 0700); else it is mode 2750 of this group.");
  map.optional("user", c.user, rule::text(),
               "Become this user once ports and memory are set up: the files of the instance are its own, and ports below 1024 are out of reach then. Needs "
               "root. Empty: keep the user that started the process.");
  map.optional("delete-on-start", c.delete_on_start, rule::flag(),
               "Remove an existing directory at start instead of taking its streams up again. An instance that runs is never removed.");
  map.optional("delete-on-shutdown", c.delete_on_shutdown, rule::flag(), "Remove the directory after an orderly stop.");
}

void decode(Map& map, Lane& c) {
  map.optional("cpu", c.cpu, rule::count(0, 1023), "The CPU this lane is pinned to. Left out: it floats on the allowed CPUs.");
  map.texts("ports", c.ports, "Names of the ports this lane polls; lanes that name the same port share its queues. Left out: those that no other lane names.");
}

void decode(Map& map, Dataplane& c) {
  map.list("lanes", c.lanes,
           "The polling threads. `auto` picks their number from the CPUs the process may use and leaves one for everything else; on one CPU "
           "it makes one floating lane. Or a list with a CPU and port names for each, such as [{cpu: 2, ports: [a]}, {cpu: 3}].",
           "auto");
  map.optional("cpu-mode", c.cpu_mode, rule::choice({"shared", "exclusive"}),
               "`shared` lets lanes share their CPUs with other work and other instances. `exclusive` makes a CPU that is taken by another "
               "instance or not isolated from the scheduler an error at start.");
  map.optional("idle", c.idle, rule::choice({"noop", "busy-spin", "yield", "sleep", "backoff"}),
               "What a lane does in a turn without work. `busy-spin` and `noop` give the lowest latency and burn the CPU; `backoff` spins, "
               "then yields, then sleeps up to idle-sleep.");
  map.optional("idle-sleep", c.idle_sleep_ns, rule::duration(kMicrosecond_ns, 100 * kMillisecond_ns),
               "How long `sleep` sleeps, and the longest nap of `backoff`. It adds to the latency of the first message after a pause.");
  map.optional("hugepages", c.hugepages, rule::choice({"auto", "on", "off"}),
               "Packet memory on hugepages: `auto` uses them when enough are free, `on` fails without them, `off` never uses them.");
  map.optional("packet-buffers", c.packet_buffers, rule::zero_or(rule::count(512, 16 * kMiB)),
               "Number of packet buffers. 0: computed from ports, queues and bursts; the start-up log says how many.");
}

void decode(Map& map, FrameLoss& c) {
  map.optional("way", c.way, rule::choice({"receive", "send"}), "Whether frames that the port receives are lost, or frames that it sends.");
  map.texts("types", c.types,
            "Of which types: pad, data, nak, sm, err, setup, rttm, res, rsp-setup. A datagram is lost as a whole, by the type of its first frame. Left out: of any.");
  map.optional("loss", c.loss, rule::ratio(), "Share of them that is dropped.");
  map.optional("seed", c.seed, rule::count(0, std::numeric_limits<std::int64_t>::max()), "Start of this item's own random sequence.");
}

void decode(Map& map, Impairment& c) {
  map.optional("loss", c.loss, rule::ratio(), "Share of the received frames that is dropped.");
  map.optional("duplicate", c.duplicate, rule::ratio(), "Share of the received frames that is delivered twice.");
  map.optional("reorder", c.reorder, rule::ratio(), "Share of the received frames that is delivered after a later one.");
  map.optional("corrupt", c.corrupt, rule::ratio(), "Share of the received frames in which a bit is changed, in a copy.");
  map.optional("delay", c.delay_ns, delay(), "Added to every received frame.");
  map.optional("jitter", c.jitter_ns, delay(), "Up to this much more delay, evenly distributed.");
  map.optional("rate", c.rate_bits_per_second, rule::bit_rate(), "Frames beyond this rate are held back. 0: no limit.");
  map.optional("seed", c.seed, rule::count(0, std::numeric_limits<std::int64_t>::max()),
               "Start of the random sequence: the same seed and the same frames give the same losses.");
  map.list("frames", c.frames, "Loss of datagrams with frames of certain types only, such as [{way: send, types: [data, setup], loss: 5%}, {types: [nak], loss: 10%}].");
}

void decode(Map& map, Route& c) {
  map.required("to", c.to, rule::subnet(), "The network, as a.b.c.d/prefix; the route for everything else is the key gateway.");
  map.required("via", c.via, rule::address(), "The next hop. It must lie in the port's subnet.");
}

void decode(Map& map, Route6& c) {
  map.required("to", c.to, rule::subnet6(), "The network, as address/prefix; the route for everything else is the key gateway6.");
  map.required("via", c.via, rule::address6(), "The next hop. It must lie in the network of address6, or be link-local.");
}

void decode(Map& map, Port& c) {
  map.required("name", c.name, rule::name(), "Unique in this file; lanes, `peer` and every report use it.");
  map.required("type", c.type, rule::choice({"patch", "loopback", "memif", "af_packet", "af_xdp", "tap", "pcap", "pci", "kernel"}),
               "`patch`: a cable to another port of this instance. `memif`: shared memory to another process. `af_packet`, `af_xdp`: a "
               "kernel interface. `tap`: a new kernel interface. `pcap`: files. `pci`: a NIC that DPDK drives. `loopback`: 127.0.0.0/8. "
               "`kernel`: UDP sockets for addresses that no other port owns.");
  map.optional("address", c.address, rule::subnet(),
               "IPv4 address and prefix length of this port; the appliance answers ARP and ICMP for it. Needed by all types but loopback and kernel.");
  map.optional("gateway", c.gateway, rule::address(), "Next hop for destinations outside every port's subnet and routes. It must lie in this port's subnet.");
  map.list("routes", c.routes, "Networks behind other next hops than the gateway. Of all ports' subnets and routes the one with the longest prefix carries a destination.");
  map.optional("address6", c.address6, rule::subnet6(),
               "IPv6 address and prefix length of this port, beside the IPv4 one; the appliance answers neighbour solicitations and ICMPv6 echo for it and for a "
               "link-local address made from the MAC. Empty: no IPv6. IPv6 headers are 20 bytes longer, and fragments of IPv6 are not sent.");
  map.optional("gateway6", c.gateway6, rule::address6(),
               "Next hop for IPv6 destinations outside every port's network and routes. It must lie in the network of address6, or be link-local.");
  map.list("routes6", c.routes6, "As routes, for IPv6.");
  map.optional("mac", c.mac, rule::mac(), "Empty: the device's own, or one made from name and address for ports that have none.");
  map.optional("mtu", c.mtu_bytes, rule::size(576, 9'600), "Largest IP packet in bytes. streams.mtu and 28 bytes of headers must fit, unless ip-fragments is true.");
  map.optional("ip-fragments", c.has_ip_fragments, rule::flag(),
               "Cut datagrams that are larger than mtu into IP fragments, and put received fragments together, as hosts do. For peers that need datagrams beyond the "
               "link's MTU; one lost fragment costs the whole datagram. Without it fragments are dropped (drop_ip_fragment). Not for af_packet, where the kernel "
               "puts them together first and cuts off what no frame has room for.");
  map.optional("vlan", c.vlan, rule::count(0, 4'094), "VLAN id; frames are tagged and others dropped. 0: untagged.");
  map.optional("checksums", c.checksums, rule::choice({"auto", "on", "off"}),
               "UDP checksums. `auto`: sent and verified on real wires and where corruption is injected, left out on patch and memif.");
  map.optional("peer", c.peer, rule::text(), "patch: the port at the other end of the cable, which must name this one.");
  map.optional("device", c.device, rule::text(),
               "af_packet, af_xdp: the interface. tap: the interface to make. pci: the address (0000:01:00.0). pcap: the file to read.");
  map.optional("device-tx", c.device_tx, rule::text(), "pcap: the file to write.");
  map.optional("socket", c.socket, rule::text(),
               "memif: the socket both ends meet at. A name is an abstract socket; a text that starts with '/' is a path.");
  map.optional("id", c.id, rule::count(0, kUint32Max), "memif: tells several links over one socket apart; equal at both ends.");
  map.optional("role", c.role, rule::choice({"server", "client"}), "memif: one end is server, the other client. Either may start first.");
  map.optional("queues", c.queues, rule::count(1, 64), "Receive queues, for as many lanes that name the port. More than one needs a type that can spread frames.");
  map.optional("ring-size", c.ring_size, rule::power_of_two(64, 32'768), "Descriptors of each queue.");
  map.optional("receive-timestamps", c.has_receive_timestamps, rule::flag(),
               "pci: the device notes when each frame came, for channels with media-rcv-ts-offset. A device that cannot is an error; some are slower "
               "with it. Loopback and kernel ports need no key: they ask the kernel as soon as a channel asks them.");
  map.section("impair", c.impair, "Faults injected into received frames, for tests and demonstrations.");
  map.optional("capture", c.capture, rule::text(), "Write every frame to this pcapng file from the start. `thalweg capture` does it at run time.");
}

void decode(Map& map, Streams& c) {
  map.optional("mtu", c.mtu_bytes, mtu(), "Largest UDP payload of network streams; messages beyond it are fragmented.");
  map.optional("ipc-mtu", c.ipc_mtu_bytes, mtu(), "The same for IPC streams, whose fragments are reassembled by the subscriber.");
  map.optional("term-length", c.term_length_bytes, term_length(),
               "Length of one of the three terms of a network log. It bounds the largest message (an eighth) and the largest window (a half).");
  map.optional("ipc-term-length", c.ipc_term_length_bytes, term_length(), "The same for IPC logs.");
  map.optional("sparse", c.is_sparse, rule::flag(),
               "Whether a log with terms of 8 MiB and more gets the memory for its second and third term only when the stream comes near them. Without "
               "memory the stream then waits and the error log says so. Smaller logs, those of the pool and those on huge pages have it all from the start.");
  map.optional("publication-window", c.publication_window_bytes, rule::zero_or(rule::size(64, kGiB / 2)),
               "How far a publisher may run ahead of the slowest receiver. 0: half a term.");
  map.optional("ipc-publication-window", c.ipc_publication_window_bytes, rule::zero_or(rule::size(64, kGiB / 2)), "The same for IPC.");
  map.optional("receiver-window", c.receiver_window_bytes, rule::size(256, kGiB / 2),
               "How much a receiver lets the sender have in flight; at most half a term counts. Bandwidth times round-trip time is the least that "
               "keeps a link full.");
  map.optional("socket-rcvbuf", c.socket_rcvbuf_bytes, rule::zero_or(rule::size(1'024, kGiB)),
               "SO_RCVBUF of sockets on loopback and kernel ports. 0: the system's default.");
  map.optional("socket-sndbuf", c.socket_sndbuf_bytes, rule::zero_or(rule::size(1'024, kGiB)), "SO_SNDBUF of the same. 0: the system's default.");
  map.optional("status-message-timeout", c.status_message_timeout_ns, timeout(), "A receiver reports its position at least this often.");
  map.optional("linger", c.linger_ns, rule::duration(0, kDay_ns),
               "How long a finished publication stays to answer NAKs before its log is removed.");
  map.optional("connection-timeout", c.connection_timeout_ns, timeout(), "A publication without status messages for this long is not connected.");
  map.optional("unblock-timeout", c.unblock_timeout_ns, timeout(),
               "An unfinished claim of a dead publisher is padded after this. It must exceed control-plane.client-liveness-timeout.");
  map.optional("image-liveness-timeout", c.image_liveness_timeout_ns, timeout(), "An image without packets for this long is drained and closed.");
  map.optional("untethered-window-limit-timeout", c.untethered_window_limit_timeout_ns, timeout(),
               "An untethered subscriber that holds the window for this long loses its hold.");
  map.optional("untethered-linger-timeout", c.untethered_linger_timeout_ns, timeout(), "How long it may still drain what it has.");
  map.optional("untethered-resting-timeout", c.untethered_resting_timeout_ns, timeout(), "How long it rests before it may join again.");
  map.optional("reliable", c.is_reliable, rule::flag(), "Repair lost data by NAK; otherwise gaps are padded and skipped.");
  map.optional("rejoin", c.is_rejoin, rule::flag(), "A subscription joins a stream again after its image went away.");
  map.optional("tether", c.is_tethered, rule::flag(), "Subscribers hold the sender back by default (flow control).");
  map.optional("spies-simulate-connection", c.spies_simulate_connection, rule::flag(),
               "A local spy lets a publication without receivers go on.");
  map.optional("nak-delay", c.nak_delay_ns, rule::duration(kMicrosecond_ns, 10 * kSecond_ns), "Unicast: wait this long before the first NAK of a gap.");
  map.optional("nak-retry-ratio", c.nak_retry_ratio, rule::count(1, 1'000'000), "Unicast: repeat it after this many times nak-delay.");
  map.optional("nak-multicast-max-backoff", c.nak_multicast_max_backoff_ns, rule::duration(0, 10 * kSecond_ns),
               "Multicast: receivers wait a random time up to this, so that one NAK answers for all.");
  map.optional("nak-multicast-group-size", c.nak_multicast_group_size, rule::count(1, 1'000'000), "Multicast: the expected number of receivers.");
  map.optional("nak-all-gaps", c.nak_all_gaps, rule::flag(),
               "Ask for every gap up to the highest frame seen in one pass instead of for the first alone. Repairs bursts of loss faster; "
               "stock peers understand it.");
  map.optional("nak-backoff", c.nak_backoff_ns, rule::duration(0, 10 * kSecond_ns),
               "Repeats of a NAK wait twice as long each time, up to this. 0: always the same time, as stock drivers do.");
  map.optional("nak-max", c.nak_max, rule::count(0, 1'000'000),
               "So many NAKs for one gap, then the image ends before it: readers get what is there, the error log names the stream, and a subscription "
               "that rejoins goes on with what is sent then. 0: ask until the image times out.");
  map.optional("retransmit-delay", c.retransmit_delay_ns, delay(), "Wait this long before data is sent again for a NAK.");
  map.optional("retransmit-linger", c.retransmit_linger_ns, delay(), "Ignore further NAKs for the same data this long.");
  map.optional("retransmit-linger-auto", c.is_retransmit_linger_auto, rule::flag(),
               "Use twice the measured round-trip time, at least 50us, instead of retransmit-linger.");
  map.optional("max-resend", c.max_resend, rule::count(1, 256), "Retransmissions of a multicast stream in progress at once. More than 16 count as 16.");
  map.optional("retransmit-limit", c.retransmit_limit_bytes, rule::zero_or(rule::size(1'024, kInt32Max)),
               "Bytes a stream sends again at most per retransmit-limit-interval: the bound on a NAK storm. 0: no limit.");
  map.optional("retransmit-limit-interval", c.retransmit_limit_interval_ns, timeout(), "The interval of retransmit-limit.");
  map.optional("unicast-retransmit-window-multiple", c.unicast_retransmit_window_multiple, rule::count(1, kInt32Max),
               "One NAK of a unicast stream is answered with at most this many windows of 128KiB, or of half a term if that is less.");
  map.optional("multicast-retransmit-window-multiple", c.multicast_retransmit_window_multiple, rule::count(1, kInt32Max),
               "The same for multicast streams (fc=...,rrwm:).");
  map.optional("multicast-flow-control", c.multicast_flow_control, rule::choice({"max", "min", "tagged"}),
               "Whom a multicast sender waits for, unless the channel says (fc=): the fastest receiver, the slowest one, or the slowest of those with its "
               "group tag. With max, slower receivers may lose data for good.");
  map.optional("flow-control-group-tag", c.flow_control_group_tag, rule::count(kInt64Min, kInt64Max),
               "The tag of the receivers that tagged flow control waits for (fc=tagged,g:).");
  map.optional("flow-control-group-min-size", c.flow_control_group_min_size, rule::count(0, kInt32Max),
               "With min or tagged flow control a publication is not connected while fewer receivers than this count (fc=...,g:/).");
  map.optional("flow-control-receiver-timeout", c.flow_control_receiver_timeout_ns, timeout(),
               "Min and tagged flow control wait this long for a receiver that has fallen silent (fc=...,t:).");
  map.optional("session-limit", c.session_limit, rule::count(1, kInt32Max),
               "How many sessions of one stream a receive address takes part in at once. SETUPs of more are ignored and counted (drop_session_limit).");
  map.optional("receiver-group-tag", c.receiver_group_tag, rule::empty_or(rule::count(kInt64Min, kInt64Max)),
               "The group tag in status messages of subscriptions whose channel names none (gtag=). Empty: they carry none.");
  map.optional("receiver-group", c.receiver_group, rule::choice({"infer", "always", "never"}),
               "Whether receivers treat a stream as a group's, and wait at random before they NAK, unless the channel says (group=). infer: if its address is "
               "multicast or its sender says so.");
  map.optional("multicast-ttl", c.multicast_ttl, rule::count(0, 255),
               "The TTL of what is sent to groups by channels that give none (ttl=): how many routers may pass it on. 0: the system's, which is 1, so nothing leaves the "
               "segment. Unicast frames have 64 whatever this says. Receivers count senders with a larger TTL than theirs (ttl_asymmetries).");
  map.optional("congestion-control", c.congestion_control, rule::choice({"static", "cubic", "aimd"}),
               "How receivers choose their window, unless the channel says (cc=). static: receiver-window. cubic: up to it, as stock drivers do. aimd: from 64KiB, "
               "between 4KiB and 16MiB (or rcv-wnd= of the channel), with slow start, halved by loss, and a retransmission time-out after RFC 6298.");
  map.optional("cubic-initial-rtt", c.cubic_initial_rtt_ns, rule::duration(1, 10 * kSecond_ns),
               "Cubic: the round-trip time before one was measured, and how often the window grows.");
  map.optional("cubic-measure-rtt", c.cubic_measure_rtt, rule::flag(), "Cubic: measure the round-trip time every four of them.");
  map.optional("cubic-tcp-mode", c.cubic_tcp_mode, rule::flag(), "Cubic: grow at least as fast as TCP would.");
  map.optional("sender-wildcard-port-low", c.sender_wildcard_port_low, rule::zero_or(rule::count(1, kPortMax)),
               "What publications send from when their channel names no port: one from here to sender-wildcard-port-high, in turn. Both 0: the system's choice.");
  map.optional("sender-wildcard-port-high", c.sender_wildcard_port_high, rule::zero_or(rule::count(1, kPortMax)), "The last one.");
  map.optional("receiver-wildcard-port-low", c.receiver_wildcard_port_low, rule::zero_or(rule::count(1, kPortMax)),
               "The same for subscriptions to port 0.");
  map.optional("receiver-wildcard-port-high", c.receiver_wildcard_port_high, rule::zero_or(rule::count(1, kPortMax)), "The last one.");
}

void decode(Map& map, Relay& c) {
  map.required("name", c.name, rule::name(), "Unique in this file; the error log uses it.");
  map.required("from", c.from, rule::text(), "The channel to receive, as a subscription would write it: aeron:udp?endpoint=10.0.0.2:40123.");
  map.required("to", c.to, rule::text(),
               "The channel to send on, as a publication would write it, with its own flow control: aeron:udp?endpoint=10.1.0.9:40123. The term length, the "
               "MTU and the first term are those of the stream received.");
  map.required("stream", c.stream, rule::count(kInt32Min, kInt32Max), "The stream id to receive.");
  map.optional("to-stream", c.to_stream, rule::count(kInt32Min, kInt32Max), "The stream id to send. Left out: the same.");
  map.optional("session", c.session, rule::choice({"keep", "new"}), "`keep` sends under the session id received, `new` under one of its own.");
  map.optional("on-slow", c.on_slow, rule::choice({"block", "drop"}),
               "When the receivers of `to` cannot keep up: `block` slows the sender of `from` down and loses nothing; `drop` goes on from the live end "
               "once it is more than a term behind, sending padding in place of what it skips. Nobody waits for a relay without receivers.");
}

void decode(Map& map, Feed& c) {
  map.required("name", c.name, rule::name(), "Unique in this file; the error log uses it.");
  map.required("channel", c.channel, rule::text(),
               "What applications subscribe to: aeron:udp?endpoint=224.0.1.1:40456. A subscription is the feed's when it has the same endpoint, and control and interface "
               "where this channel has them. It may be one of the sides, or an address that nothing is sent to.");
  map.required("a", c.a, rule::text(), "The first side, as a receive destination would write it. The stream is worked on by the lane of this side's port.");
  map.required("b", c.b, rule::text(), "The second side.");
  map.optional("nak-hold", c.nak_hold_ns, rule::duration(0, 10 * kSecond_ns),
               "How much longer the first NAK for a gap waits while both sides deliver: a copy may still come by the slower one. It should exceed the difference of the "
               "two ways.");
  map.optional("side-timeout", c.side_timeout_ns, rule::duration(200 * kMillisecond_ns, 30 * kDay_ns),
               "A side that is silent for so long while the other delivers is reported as dead, and neither NAKs nor the end of a stream wait for it. Idle streams have "
               "heartbeats every 100ms.");
}

void decode(Map& map, ControlPlane& c) {
  map.optional("timer-interval", c.timer_interval_ns, rule::duration(kMillisecond_ns, 60 * kSecond_ns), "How often liveness is checked and the driver's heartbeat is stored.");
  map.optional("client-liveness-timeout", c.client_liveness_timeout_ns, timeout(),
               "A client that did not renew its heartbeat for this long is closed with everything it had. It must exceed timer-interval.");
  map.optional("driver-timeout", c.driver_timeout_ns, timeout(), "A directory whose driver heartbeat is older than this belongs to nobody.");
  map.optional("counters-free-to-reuse-timeout", c.counters_free_to_reuse_timeout_ns, rule::duration(0, kDay_ns),
               "A freed counter id is not given out again for this long, so that readers notice.");
  map.optional("poll-interval", c.poll_interval_ns, rule::duration(kMicrosecond_ns, 100 * kMillisecond_ns),
               "The conductor's nap while no lane looks at clients' commands for it: those that spin or are busy do not.");
  map.optional("reserved-session-id-low", c.reserved_session_id_low, rule::count(kInt32Min, kInt32Max),
               "Session ids from here to reserved-session-id-high are never chosen, only asked for.");
  map.optional("reserved-session-id-high", c.reserved_session_id_high, rule::count(kInt32Min, kInt32Max), "The upper end of that range.");
  map.optional("to-driver-buffer", c.to_driver_buffer_bytes, rule::power_of_two(kMiB, kGiB), "The ring for client commands, without its trailer.");
  map.optional("to-clients-buffer", c.to_clients_buffer_bytes, rule::power_of_two(kMiB, kGiB), "The broadcast ring for answers, without its trailer.");
  map.optional("error-log", c.error_log_bytes, rule::size(4 * kMiB, kGiB, 4'096), "The log of distinct errors.");
  map.optional("loss-report", c.loss_report_bytes, rule::size(4'096, kGiB, 4'096), "The report of lost ranges by stream.");
  map.optional("counters", c.counters, rule::count(8'192, 4'096'000),
               "How many counters there may be at once. A publication takes six, an image three and one for each subscriber; 640 bytes each.");
  map.optional("low-storage-warning", c.low_storage_warning_bytes, rule::zero_or(rule::size(kMiB, 1'024 * kGiB)),
               "Warn when less than this is free where the log buffers lie. 0: never.");
  map.optional("socket", c.socket, rule::path(), "The control socket. Empty: control.sock in the instance directory.");
  map.optional("allow-termination", c.allows_termination, rule::flag(),
               "Whether a client may stop the instance by the command that the stock drivers know for it. Refused ones are in the error log.");
}

void decode(Map& map, LogPool& c) {
  map.required("term-length", c.term_length_bytes, term_length(), "Streams of this term length take their log from here.");
  map.required("count", c.count, rule::count(1, 4'096), "Logs kept ready. Each takes three terms and a page of memory.");
}

void decode(Map& map, Memory& c) {
  map.list("pool", c.pool,
           "Log buffers kept zeroed and mapped, so that a new stream starts within microseconds. They take memory while unused: three terms "
           "each. A stream whose term length is not listed gets its log when it asks.");
  map.optional("hugetlbfs", c.hugetlbfs, rule::path(),
               "A hugetlbfs mount with 2 MiB pages for logs with terms of 4 MiB and more. Empty: the first writable one, if there is any.");
  map.optional("image-limit", c.image_limit_bytes, rule::zero_or(rule::size(kMiB, 1'024 * kGiB)),
               "What the logs of all images may take together. Peers ask for images and choose their term lengths, so this is the bound on what "
               "they, or somebody who forges their frames, can make this machine allocate. 0: half of the file system, at most half of the memory.");
}

void decode(Map& map, Names& c) {
  map.optional("name", c.name, rule::text(),
               "The name others find this appliance by, as in aeron:udp?endpoint=NAME:40123: letters, digits, '-', '_' and '.', at most 255. Empty: it "
               "takes no part, and hosts are asked of the system alone.");
  map.optional("interface", c.interface, rule::text(),
               "The address and UDP port it speaks to other drivers on, such as 10.0.0.1:8050. The address is also what its name stands for, so it should be "
               "the one streams come to. Empty: 0.0.0.0:8050, and others take the address it is seen from. Needs a name.");
  map.texts("bootstrap-neighbors", c.bootstrap_neighbors,
            "Drivers to speak to first, as host:port, at most 20; they tell of all others. The same list may be given to every driver. Hosts are asked of the "
            "system's resolver, again while they do not answer. Needs a name.");
  map.optional("neighbor-timeout", c.neighbor_timeout_ns, timeout(), "A driver that nobody heard of for this long is forgotten. It must exceed self-resolution-interval.");
  map.optional("self-resolution-interval", c.self_resolution_interval_ns, rule::duration(10 * kMillisecond_ns, kDay_ns),
               "How often this appliance says who and where it is.");
  map.optional("neighbor-resolution-interval", c.neighbor_resolution_interval_ns, rule::duration(10 * kMillisecond_ns, kDay_ns),
               "How often it tells every driver it knows of all the others.");
  map.optional("bootstrap-resolution-interval", c.bootstrap_resolution_interval_ns, rule::duration(100 * kMillisecond_ns, kDay_ns),
               "How often the host of a bootstrap neighbour that does not answer is looked up again.");
  map.optional("re-resolution-interval", c.re_resolution_interval_ns, rule::zero_or(rule::duration(10 * kMillisecond_ns, kDay_ns)),
               "How often the names in the channels of running streams are looked at: where nothing was heard for 5 s the name is resolved again, and the "
               "stream follows its new address. 0: never.");
}

void decode(Map& map, RecordingRetention& c) {
  map.optional("max-age", c.max_age_ns, rule::zero_or(rule::duration(kSecond_ns, 36'500 * kDay_ns)),
               "A segment goes when its newest frame is older than this. 0: frames may have any age.");
  map.optional("max-size", c.max_size_bytes, rule::zero_or(rule::size(64 * kKiB, 1'048'576 * kGiB)),
               "The oldest segments of each recording go until its files take no more than this. 0: it may have any size.");
  map.optional("min-segments", c.min_segments, rule::count(0, kUint32Max), "So many closed segments of each recording stay, whatever the other keys say.");
}

void decode(Map& map, RecordedStream& c) {
  map.required("name", c.name, rule::name(), "Unique in this file; recordings and log messages have it.");
  map.required("channel", c.channel, rule::text(),
               "The channel, as a subscription would write it: aeron:udp?endpoint=10.0.0.2:40123, or aeron:ipc. Each session on it is a recording of its own.");
  map.required("stream", c.stream, rule::count(kInt32Min, kInt32Max), "The stream id.");
  map.optional("source", c.source, rule::choice({"remote", "local"}),
               "`remote` records what is received. `local` records what this machine's own publications send, as a spy, without a network in between; aeron:ipc is always "
               "local.");
  map.optional("on-slow", c.on_slow, rule::choice({"block", "drop"}),
               "When the disk cannot keep up: `block` holds the publisher back like any other subscriber and loses nothing; `drop` lets the stream go on without the archive after "
               "untethered-window-limit-timeout, and a new recording begins where it joins again.");
  map.section("retention", c.retention,
              "What of it is kept. Whole segments are deleted, the oldest first, never the one that is written to.");
}

void decode(Map& map, Archive& c) {
  map.optional("directory", c.directory, rule::path(),
               "Where recordings are kept: a directory of their own on a disk, not on tmpfs. One archive at a time uses it. Empty: there is no archive.");
  map.optional("segment-length", c.segment_length_bytes, rule::power_of_two(64 * kKiB, kGiB),
               "Recordings are files of this size, allocated before they are written. A stream with longer terms has segments of one term.");
  map.optional("sync", c.sync, rule::choice({"none", "interval", "segment", "block"}),
               "When recorded frames are made durable: `none` leaves it to the kernel, `interval` does it every sync-interval, `segment` at the end of each, `block` after each "
               "block of frames taken from the stream. Whatever it says, frames that were recorded survive the death of every process.");
  map.optional("sync-interval", c.sync_interval_ns, rule::duration(kMillisecond_ns, kDay_ns), "How much may be lost with the machine's power when sync is `interval`.");
  map.optional("max-active-recordings", c.max_active_recordings, rule::count(1, 16'384), "Streams recorded at once; more are refused.");
  map.optional("control-channel", c.control_channel, rule::text(), "Where the archive listens to clients on this machine (docs/reference/archive-control.md). Empty: nowhere.");
  map.optional("remote-control-channel", c.remote_control_channel, rule::text(),
               "Where it listens to clients of other machines, as aeron:udp?endpoint=10.0.0.2:8010. Whoever reaches it may record, replay and delete. Empty: nowhere.");
  map.optional("control-stream", c.control_stream, rule::count(kInt32Min, kInt32Max), "The stream id on both.");
  map.optional("max-replays", c.max_replays, rule::count(1, 1'024), "Replays at once; more are refused.");
  map.optional("replay-connect-timeout", c.replay_connect_timeout_ns, rule::duration(10 * kMillisecond_ns, kDay_ns), "A replay that nobody subscribes to for so long ends.");
  map.optional("low-space", c.low_space_bytes, rule::zero_or(rule::size(64 * kKiB, 1'024 * kGiB)),
               "With less than this free on the file system no recording is begun, and those that need a new segment end. Those of this file begin again when there is twice as much. "
               "0: one segment.");
  map.optional("retention-interval", c.retention_interval_ns, rule::duration(100 * kMillisecond_ns, kDay_ns), "How often segments are looked at for what may be deleted.");
  map.list("recordings", c.recordings, "Streams to record whenever they are there, with no application at all.");
}

void decode(Map& map, Logging& c) {
  map.optional("level", c.level, rule::choice({"error", "warn", "info", "debug"}), "The least important message that is still written.");
  map.optional("format", c.format, rule::choice({"text", "json"}), "`text`: level, event, key=value. `json`: one object a line.");
}

}  // namespace thalweg::config
