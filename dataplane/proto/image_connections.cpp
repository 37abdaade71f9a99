// The connections of an image (wire-protocol 3.4, 3.10, 5.6): one for an ordinary subscription, one for each destination of a
// multi-destination one, the two sides of an A/B stream among them.
#include <algorithm>

#include "dataplane/proto/image.hpp"

namespace thalweg::proto {

using shm::ConnectionState;
using shm::ImageState;
using shm::LaneCounter;

void Image::on_setup(unsigned connection, const wire::UdpEndpoint& control, std::int64_t now_ns) noexcept {
  if (connection >= shm::kConnectionsMax) return;
  ConnectionState& c = c_.state->connections[connection];
  c.last_activity_ns = now_ns;
  if (c.is_used && !planted(Bug::kSetupMovesConnection)) return;
  c.is_used = 1;
  c.control_address = control.address;
  c.control_port = control.port;
  c.last_frame_ns = now_ns;
  count_transports(now_ns);
}

unsigned Image::find_connection(std::uint32_t endpoint) const noexcept {
  unsigned i = 0;
  while (i < shm::kConnectionsMax && !(c_.state->connections[i].is_used && c_.state->connections[i].endpoint == endpoint)) ++i;
  return i;
}

unsigned Image::add_connection(std::uint32_t endpoint, const wire::UdpEndpoint& control, std::int64_t now_ns) noexcept {
  unsigned i = 0;
  while (i < shm::kConnectionsMax && c_.state->connections[i].is_used) ++i;
  if (i == shm::kConnectionsMax) return i;
  c_.state->connections[i] = ConnectionState{};
  c_.state->connections[i].endpoint = endpoint;
  on_setup(i, control, now_ns);
  return i;
}

void Image::remove_connection(unsigned connection, std::int64_t now_ns) noexcept {
  if (connection >= shm::kConnectionsMax) return;
  c_.state->connections[connection] = ConnectionState{};
  count_transports(now_ns);
  const bool has_others = std::any_of(std::begin(c_.state->connections), std::end(c_.state->connections), [](const ConnectionState& c) { return c.is_used != 0; });
  if (has_others && !c_.state->is_end_of_stream) end_if_all_have(now_ns);
}

// 5.6: connections with a frame within the liveness timeout.
void Image::count_transports(std::int64_t now_ns) noexcept {
  std::int32_t used = 0;
  std::int32_t active = 0;
  for (const ConnectionState& c : c_.state->connections) {
    used += c.is_used;
    active += c.is_used != 0 && now_ns <= c.last_frame_ns + c_.desired->liveness_timeout_ns ? 1 : 0;
  }
  has_sides_ = used > 1;
  if (active == transports_) return;
  transports_ = active;
  c_.log.store<std::int32_t>(shm::meta::kActiveTransportCount, active);
}

// ---- end of stream ----

// 3.10: the stream ends when every connection has said so, at the highest position any of them named.
void Image::end_of_stream(unsigned connection, std::int64_t position, bool is_revoked, std::int64_t now_ns) noexcept {
  ImageState& s = *c_.state;
  if (connection >= shm::kConnectionsMax || s.is_end_of_stream) return;
  s.connections[connection].is_end_of_stream = 1;
  s.connections[connection].end_of_stream_position = position;
  if (!end_if_all_have(now_ns) || !is_revoked) return;
  s.is_revoked = 1;
  c_.log.store<std::uint8_t>(shm::meta::kIsPublicationRevoked, 1);
}

// Of an A/B stream a dead side is not waited for: what it would have brought has come by the other one.
bool Image::end_if_all_have(std::int64_t now_ns) noexcept {
  ImageState& s = *c_.state;
  std::int64_t end = -1;
  for (const ConnectionState& c : s.connections) {
    if (!c.is_used) continue;
    if (c.is_end_of_stream) {
      end = std::max(end, c.end_of_stream_position);
    } else if (planted(Bug::kOneSideEndsStream)) {
      continue;
    } else if (c_.desired->side_timeout_ns == 0 || is_side_alive(c, now_ns)) {
      return false;
    }
  }
  if (end < 0) return false;
  s.is_end_of_stream = 1;
  s.end_of_stream_position = end;
  c_.log.store<std::int64_t>(shm::meta::kEndOfStreamPosition, end);
  return true;
}

// ---- sides ----

bool Image::is_here(std::int64_t position) const noexcept {
  const ImageState& s = *c_.state;
  return position < s.rebuild_position || (position < s.high_water && !GapList{*c_.state, c_.log}.is_empty_at(position));
}

// Where in a datagram whose first frame is here the first frame is that is not; 0: all are. Nothing in the datagram was checked yet.
std::size_t Image::missing_tail(std::span<const std::byte> datagram, std::int64_t position) const noexcept {
  if (position + static_cast<std::int64_t>(datagram.size()) <= c_.state->rebuild_position) return 0;
  for (std::size_t at = 0; at + wire::kDataHeaderLength <= datagram.size();) {
    const std::int32_t length = load_le<std::int32_t>(datagram.data() + at);
    if (at != 0 && !is_here(position + static_cast<std::int64_t>(at))) return at;
    if (length < wire::kDataHeaderLength || length > wire::kMtuMax) return 0;
    at += static_cast<std::size_t>(wire::align_frame(length));
  }
  return 0;
}

bool Image::was_asked_for(std::int64_t position) const noexcept {
  const ImageState& s = *c_.state;
  for (std::size_t i = 0; i < s.gap_count; ++i) {
    if (position >= s.gaps[i].position && position < s.gaps[i].position + s.gaps[i].length) return s.gaps[i].naks > 0;
  }
  return false;
}

bool Image::is_side_alive(const ConnectionState& connection, std::int64_t now_ns) const noexcept {
  return connection.is_used && now_ns <= connection.last_frame_ns + c_.desired->side_timeout_ns;
}

// A/B: what one side lost is likely to come by the other, which may be slower. With one side left nobody is waited for.
std::int64_t Image::nak_hold_ns(std::int64_t now_ns) const noexcept {
  if (!has_sides_ || c_.desired->nak_hold_ns == 0) return 0;
  int alive = 0;
  for (const ConnectionState& c : c_.state->connections) alive += is_side_alive(c, now_ns) ? 1 : 0;
  return alive > 1 ? c_.desired->nak_hold_ns : 0;
}

Insert Image::count_copy(unsigned connection, const Arrivals::Arrival* first, std::int64_t now_ns) noexcept {
  c_.counters.add(LaneCounter::kDataFramesReceived);
  if (connection >= shm::kConnectionsMax) return Insert::kInserted;
  ConnectionState& side = c_.state->connections[connection];
  side.last_activity_ns = side.last_frame_ns = now_ns;
  ++side.copies;
  if (first != nullptr) {
    const std::int64_t late_ns = std::max<std::int64_t>(now_ns - first->at_ns, 0);
    ++side.copies_timed;
    side.late_ns_sum += late_ns;
    side.late_ns_max = std::max(side.late_ns_max, late_ns);
  }
  return Insert::kInserted;
}

Insert Image::insert_side(std::span<const std::byte> datagram, unsigned connection, std::int64_t now_ns, Arrivals& arrivals,
                          std::uint32_t stream) noexcept {
  ImageState& s = *c_.state;
  const wire::DataView header{datagram.data()};
  const std::int32_t term_count = wire::wrapping_sub(header.term_id(), initial_term_id_);
  const std::int32_t offset = header.term_offset();
  std::int64_t position = (static_cast<std::int64_t>(term_count) << bits_) + offset;
  const bool is_data = header.frame_length() != 0 && offset >= 0 && offset < term_length_ && (offset & (wire::kFrameAlignment - 1)) == 0;
  const bool is_near = term_count >= 0 && position >= s.last_sm_position - term_length_ && position >= s.join_position;
  if (is_data && is_near && !s.is_rejected && is_on_wire() && is_here(position)) {
    // Two senders may cut their datagrams differently: of this one only the beginning is here.
    const std::size_t tail = missing_tail(datagram, position);
    if (tail == 0) {
      const Arrivals::Arrival* const first = arrivals.find(stream, position);
      if (first == nullptr || first->connection != connection) return count_copy(connection, first, now_ns);
      return insert(datagram, connection, now_ns);  // it came twice by the same way: a duplicate as any
    }
    datagram = datagram.subspan(tail);
    position += static_cast<std::int64_t>(tail);
  }
  const std::int64_t high_water = s.high_water;
  const bool is_repair = position < high_water && was_asked_for(position);
  const Insert outcome = insert(datagram, connection, now_ns);
  if (outcome == Insert::kHeartbeat && s.high_water > high_water) leader_ = connection;
  if (outcome != Insert::kInserted || connection >= shm::kConnectionsMax) return outcome;
  ConnectionState& side = s.connections[connection];
  ++side.frames_won;
  side.bytes_won += static_cast<std::int64_t>(datagram.size());
  if (position < high_water && connection != leader_ && !is_repair) ++side.fills;
  if (s.high_water > high_water) leader_ = connection;
  arrivals.note(stream, position, {now_ns, connection});
  return outcome;
}

}  // namespace thalweg::proto
