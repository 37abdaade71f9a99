#include "controlplane/settings_from_config.hpp"

#include <algorithm>
#include <bit>
#include <limits>

#include "controlplane/host/resolver.hpp"
#include "dataplane/base/time.hpp"
#include "dataplane/shm/broadcast.hpp"
#include "dataplane/shm/channel_uri.hpp"
#include "dataplane/shm/ring_buffer.hpp"

namespace thalweg {
namespace {

std::int32_t to_i32(std::uint64_t value) noexcept {
  return static_cast<std::int32_t>(std::min<std::uint64_t>(value, std::numeric_limits<std::int32_t>::max()));
}

conductor::StreamDefaults stream_defaults(const config::Streams& streams) {
  conductor::StreamDefaults result;
  result.mtu = to_i32(streams.mtu_bytes);
  result.ipc_mtu = to_i32(streams.ipc_mtu_bytes);
  result.term_length = to_i32(streams.term_length_bytes);
  result.ipc_term_length = to_i32(streams.ipc_term_length_bytes);
  result.is_sparse = streams.is_sparse;
  result.publication_window = to_i32(streams.publication_window_bytes);
  result.ipc_publication_window = to_i32(streams.ipc_publication_window_bytes);
  result.receiver_window = to_i32(streams.receiver_window_bytes);
  result.socket_rcvbuf = to_i32(streams.socket_rcvbuf_bytes);
  result.socket_sndbuf = to_i32(streams.socket_sndbuf_bytes);
  result.status_message_timeout_ns = streams.status_message_timeout_ns;
  result.linger_ns = streams.linger_ns;
  result.connection_timeout_ns = streams.connection_timeout_ns;
  result.unblock_timeout_ns = streams.unblock_timeout_ns;
  result.image_liveness_timeout_ns = streams.image_liveness_timeout_ns;
  result.untethered_window_limit_timeout_ns = streams.untethered_window_limit_timeout_ns;
  result.untethered_linger_timeout_ns = streams.untethered_linger_timeout_ns;
  result.untethered_resting_timeout_ns = streams.untethered_resting_timeout_ns;
  result.is_reliable = streams.is_reliable;
  result.is_rejoin = streams.is_rejoin;
  result.is_tethered = streams.is_tethered;
  result.spies_simulate_connection = streams.spies_simulate_connection;
  result.nak_delay_ns = streams.nak_delay_ns;
  result.nak_retry_ratio = to_i32(streams.nak_retry_ratio);
  result.nak_multicast_max_backoff_ns = streams.nak_multicast_max_backoff_ns;
  result.nak_multicast_group_size = to_i32(streams.nak_multicast_group_size);
  result.nak_all_gaps = streams.nak_all_gaps;
  result.nak_backoff_ns = streams.nak_backoff_ns;
  result.nak_max = to_i32(streams.nak_max);
  result.congestion_control = static_cast<shm::CongestionControl>(streams.congestion_control);
  result.cubic_initial_rtt_ns = streams.cubic_initial_rtt_ns;
  result.cubic_measure_rtt = streams.cubic_measure_rtt;
  result.cubic_tcp_mode = streams.cubic_tcp_mode;
  result.retransmit_delay_ns = streams.retransmit_delay_ns;
  result.retransmit_linger_ns = streams.retransmit_linger_ns;
  result.is_retransmit_linger_auto = streams.is_retransmit_linger_auto;
  result.max_resend = to_i32(streams.max_resend);
  result.retransmit_limit_bytes = static_cast<std::int64_t>(streams.retransmit_limit_bytes);
  result.retransmit_limit_interval_ns = streams.retransmit_limit_interval_ns;
  result.unicast_retransmit_window_multiple = to_i32(streams.unicast_retransmit_window_multiple);
  result.multicast_retransmit_window_multiple = to_i32(streams.multicast_retransmit_window_multiple);
  result.multicast_flow_control = static_cast<shm::FlowControl>(streams.multicast_flow_control);
  result.flow_control_group_tag = streams.flow_control_group_tag;
  result.flow_control_group_min_size = to_i32(streams.flow_control_group_min_size);
  result.flow_control_receiver_timeout_ns = streams.flow_control_receiver_timeout_ns;
  result.receiver_group_tag = streams.receiver_group_tag;
  result.multicast_ttl = streams.multicast_ttl;
  if (streams.receiver_group != config::GroupSemantics::kInfer) result.receiver_group = streams.receiver_group == config::GroupSemantics::kAlways;
  return result;
}

conductor::RelaySettings relay_settings(const config::Relay& relay) {
  conductor::RelaySettings result;
  result.name = relay.name;
  result.from = relay.from;
  result.to = relay.to;
  result.stream_id = relay.stream;
  result.to_stream_id = relay.to_stream;
  result.keeps_session = relay.session == config::RelaySession::kKeep;
  result.drops_when_slow = relay.on_slow == config::OnSlow::kDrop;
  return result;
}

conductor::NameSettings name_settings(const config::Names& names) {
  conductor::NameSettings result;
  result.name = names.name;
  if (!names.interface.empty()) {  // checked by the configuration's rules
    const auto split = shm::parse_host_port(names.interface);
    result.interface_address = split ? host::literal_host(split->host).value_or(0) : 0;
    result.interface_port = split ? split->port : result.interface_port;
  }
  result.bootstrap_neighbors = names.bootstrap_neighbors;
  result.neighbor_timeout_ns = names.neighbor_timeout_ns;
  result.self_interval_ns = names.self_resolution_interval_ns;
  result.neighbor_interval_ns = names.neighbor_resolution_interval_ns;
  result.bootstrap_interval_ns = names.bootstrap_resolution_interval_ns;
  result.re_resolution_interval_ns = names.re_resolution_interval_ns;
  return result;
}

log::SyncPolicy sync_policy(config::ArchiveSync sync) noexcept {
  switch (sync) {
    case config::ArchiveSync::kNone: return log::SyncPolicy::kNone;
    case config::ArchiveSync::kInterval: return log::SyncPolicy::kPeriodic;
    case config::ArchiveSync::kSegment: return log::SyncPolicy::kEverySegment;
    case config::ArchiveSync::kBlock: return log::SyncPolicy::kEveryBatch;
  }
  return log::SyncPolicy::kPeriodic;
}

}  // namespace

conductor::Settings conductor_settings(const config::Config& config, const std::string& directory) {
  const config::ControlPlane& control = config.control_plane;
  conductor::Settings settings;
  settings.directory = directory;
  settings.streams = stream_defaults(config.streams);
  settings.names = name_settings(config.names);
  settings.timer_interval_ns = settings.streams.untethered_timeout_above_ns = control.timer_interval_ns;
  settings.client_liveness_timeout_ns = control.client_liveness_timeout_ns;
  settings.counters_free_to_reuse_ms = control.counters_free_to_reuse_timeout_ns / kMillisecond_ns;
  settings.poll_interval_ns = control.poll_interval_ns;
  settings.reserved_session_id_low = control.reserved_session_id_low;
  settings.reserved_session_id_high = control.reserved_session_id_high;
  settings.is_termination_allowed = control.allows_termination;
  for (const config::Relay& relay : config.relays) settings.relays.push_back(relay_settings(relay));
  for (const config::Feed& feed : config.feeds) settings.feeds.push_back({feed.name, feed.channel, feed.a, feed.b, feed.nak_hold_ns, feed.side_timeout_ns});
  return settings;
}

host::InstanceOptions instance_options(const config::Config& config, const std::string& directory) {
  const config::ControlPlane& control = config.control_plane;
  host::InstanceOptions options;
  options.directory = directory;
  options.group = config.instance.group;
  options.cnc.to_driver_length = to_i32(std::bit_ceil(control.to_driver_buffer_bytes) + shm::kRingTrailerLength);
  options.cnc.to_clients_length = to_i32(std::bit_ceil(control.to_clients_buffer_bytes) + shm::kBroadcastTrailerLength);
  options.cnc.counter_values_length = to_i32(std::uint64_t{control.counters} * shm::kCounterValueLength);
  options.cnc.error_log_length = to_i32(control.error_log_bytes);
  options.cnc.client_liveness_timeout_ns = control.client_liveness_timeout_ns;
  options.loss_report_bytes = control.loss_report_bytes;
  for (const config::LogPool& pool : config.memory.pool) {
    options.pool_bytes += pool.count * shm::log_file_length(to_i32(pool.term_length_bytes), shm::kDefaultPageSize);
  }
  options.driver_timeout_ms = control.driver_timeout_ns / kMillisecond_ns;
  options.delete_on_start = config.instance.delete_on_start;
  return options;
}

archive::Settings archive_settings(const config::Config& config, const std::string& directory) {
  const config::Archive& from = config.archive;
  archive::Settings settings;
  settings.directory = from.directory;
  settings.instance_directory = directory;
  settings.segment_bytes = from.segment_length_bytes;
  settings.sync = sync_policy(from.sync);
  settings.sync_interval_ns = from.sync_interval_ns;
  settings.recordings_max = from.max_active_recordings;
  settings.control_channel = from.control_channel;
  settings.remote_control_channel = from.remote_control_channel;
  settings.control_stream = from.control_stream;
  settings.replays_max = from.max_replays;
  settings.replay_connect_timeout_ns = from.replay_connect_timeout_ns;
  settings.low_space_bytes = from.low_space_bytes;
  settings.retention_interval_ns = from.retention_interval_ns;
  for (const config::RecordedStream& stream : from.recordings) {
    archive::Wish wish{.name = stream.name, .channel = stream.channel, .stream_id = stream.stream, .keep = {}};
    wish.is_local = stream.source == config::RecordingSource::kLocal;
    wish.drops_when_slow = stream.on_slow == config::OnSlow::kDrop;
    wish.keep = {stream.retention.max_age_ns, stream.retention.max_size_bytes, stream.retention.min_segments};
    settings.wishes.push_back(std::move(wish));
  }
  return settings;
}

host::LogStore::Options log_options(const config::Config& config, const std::string& directory, const std::string& hugetlbfs) {
  host::LogStore::Options options;
  options.directory = directory;
  options.hugetlbfs = hugetlbfs;
  options.low_storage_warning_bytes = config.control_plane.low_storage_warning_bytes;
  options.image_limit_bytes = config.memory.image_limit_bytes != 0 ? config.memory.image_limit_bytes : host::half_of_storage(directory);
  for (const config::LogPool& pool : config.memory.pool) options.pool.push_back({to_i32(pool.term_length_bytes), pool.count});
  return options;
}

}  // namespace thalweg
