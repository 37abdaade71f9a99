#include "tests/support/ipc_driver.hpp"

#include <algorithm>
#include <limits>

#include "dataplane/base/assert.hpp"
#include "dataplane/shm/channel_uri.hpp"

namespace thalweg::test {
namespace {
constexpr int kCommandsPerTurn = 64;

// A parameter of the channel that tells where a publication starts.
std::int32_t number(std::string_view channel, std::string_view key, std::int32_t otherwise) {
  const auto uri = shm::ChannelUri::parse(channel);
  const auto value = uri ? uri->get_int32(key) : Result<std::optional<std::int32_t>>{std::nullopt};
  return value && *value ? **value : otherwise;
}

shm::CncFile create_cnc(const IpcDriver::Options& options) {
  shm::CncLayout layout;
  layout.to_driver_length = (1 << 16) + 768;
  layout.to_clients_length = options.to_clients_length;
  layout.counter_values_length = options.counter_count * static_cast<std::int32_t>(shm::kCounterValueLength);
  layout.error_log_length = 64 << 10;
  layout.client_liveness_timeout_ns = options.client_liveness_timeout_ns;
  auto cnc = shm::CncFile::create(options.directory, layout, 4242, options.epoch_ms());
  THALWEG_ASSERT(cnc.has_value());
  return std::move(*cnc);
}
}  // namespace

IpcDriver::IpcDriver(Options options)
    : options_{std::move(options)},
      cnc_{create_cnc(options_)},
      ring_{cnc_.to_driver()},
      broadcast_{cnc_.to_clients()},
      counters_{cnc_.counter_metadata(), cnc_.counter_values(), 0} {
  THALWEG_ASSERT(shm::allocate_system_counters(counters_, "INVOKER", "", options_.epoch_ms()).has_value());
  static_cast<void>(ring_.next_correlation_id());  // ids begin at 1 (1.3 step 9)
  beat();
  counters_.counter(static_cast<std::int32_t>(shm::SystemCounter::kControlProtocolVersion)).set(options_.control_protocol_version);
  if (options_.is_ready) cnc_.mark_ready();
}

int IpcDriver::do_work() {
  int commands = 0;
  if (!is_holding_) {
    commands = ring_.read(
        [this](std::int32_t type, std::span<const std::byte> body) {
          seen_.push_back({static_cast<shm::Command>(type), {body.begin(), body.end()}});
          if (!is_mute_) handle(static_cast<shm::Command>(type), body);
          return true;
        },
        kCommandsPerTurn);
  }
  update_publications();
  return commands;
}

void IpcDriver::handle(shm::Command type, shm::Bytes body) {
  switch (type) {
    case shm::Command::kAddPublication: return add_publication(*shm::decode<shm::AddPublication>(body), false);
    case shm::Command::kAddExclusivePublication: return add_publication(*shm::decode<shm::AddPublication>(body), true);
    case shm::Command::kRemovePublication: return remove_publication(*shm::decode<shm::RemovePublication>(body));
    case shm::Command::kAddSubscription: return add_subscription(*shm::decode<shm::AddSubscription>(body));
    case shm::Command::kRemoveSubscription: return remove_subscription(*shm::decode<shm::RemoveRegistration>(body));
    case shm::Command::kAddCounter: return add_counter(*shm::decode<shm::AddCounter>(body));
    case shm::Command::kAddStaticCounter: return add_static_counter(*shm::decode<shm::AddStaticCounter>(body));
    case shm::Command::kGetNextAvailableSessionId: {
      const auto asked = *shm::decode<shm::GetNextAvailableSessionId>(body);
      return transmit(shm::Response::kNextAvailableSessionId, shm::OnNextAvailableSessionId{asked.correlation_id, next_session_id_++});
    }
    case shm::Command::kRejectImage: {
      const auto asked = *shm::decode<shm::RejectImage>(body);
      if (!refuse(asked.correlation_id)) transmit(shm::Response::kOperationSuccess, shm::OnOperationSuccess{asked.correlation_id});
      return;
    }
    case shm::Command::kRemoveCounter: return remove_counter(*shm::decode<shm::RemoveRegistration>(body));
    case shm::Command::kAddDestination:
    case shm::Command::kRemoveDestination:
    case shm::Command::kRemoveDestinationById:
    case shm::Command::kAddReceiveDestination:
    case shm::Command::kRemoveReceiveDestination: {
      const auto header = *shm::decode<shm::CommandHeader>(body);
      if (!refuse(header.correlation_id)) transmit(shm::Response::kOperationSuccess, shm::OnOperationSuccess{header.correlation_id});
      return;
    }
    case shm::Command::kClientClose: return forget_client(shm::decode<shm::CommandHeader>(body)->client_id);
    default: return;
  }
}

std::int32_t IpcDriver::allocate(std::int32_t type, std::int64_t registration_id, std::int64_t reference_id, std::int64_t value,
                                 std::span<const std::byte> key, std::string_view label) {
  const auto id = counters_.allocate({.type_id = type, .key = key, .label = label, .registration_id = registration_id,
                                      .reference_id = reference_id, .initial_value = value},
                                     options_.epoch_ms());
  THALWEG_ASSERT(id.has_value());
  return *id;
}

void IpcDriver::know_client(std::int64_t client_id) {
  if (heartbeats_.contains(client_id)) return;
  const auto key = shm::heartbeat_key(client_id);
  const std::int32_t id = allocate(shm::counter_type::kClientHeartbeat, client_id, 0, options_.epoch_ms(), key.span(),
                                   "client-heartbeat: id=" + std::to_string(client_id));
  heartbeats_[client_id] = id;
  transmit(shm::Response::kCounterReady, shm::OnCounter{client_id, id});
}

void IpcDriver::forget_client(std::int64_t client_id) {
  const auto it = heartbeats_.find(client_id);
  if (it == heartbeats_.end()) return;
  counters_.free(it->second, options_.epoch_ms());
  heartbeats_.erase(it);
}

bool IpcDriver::refuse(std::int64_t correlation_id) {
  if (failures_.empty()) return false;
  transmit(shm::Response::kError, shm::OnError{correlation_id, failures_.front().code, failures_.front().text});
  failures_.pop_front();
  return true;
}

IpcDriver::Stream& IpcDriver::create_stream(const shm::AddPublication& m, bool is_exclusive) {
  auto stream = std::make_unique<Stream>();
  stream->id = m.correlation_id;
  stream->session_id = number(m.channel, "session-id", next_session_id_);
  if (stream->session_id == next_session_id_) ++next_session_id_;
  stream->stream_id = m.stream_id;
  stream->channel = m.channel;
  stream->is_exclusive = is_exclusive;
  const auto length = shm::log_file_length(options_.term_length, shm::kDefaultPageSize);
  auto file = shm::MappedFile::create(options_.directory + "/" + std::to_string(m.correlation_id) + ".logbuffer", {.length = length});
  THALWEG_ASSERT(file.has_value());
  stream->file = std::move(*file);
  stream->log = shm::LogBuffer{stream->file.data(), length, options_.term_length};
  shm::LogMetadata metadata;
  metadata.type = is_exclusive ? shm::LogType::kExclusivePublication : shm::LogType::kConcurrentPublication;
  metadata.correlation_id = m.correlation_id;
  stream->initial_term_id = number(m.channel, "init-term-id", options_.initial_term_id);
  metadata.initial_term_id = stream->initial_term_id;
  metadata.start_term_id = number(m.channel, "term-id", wire::wrapping_add(options_.initial_term_id, options_.start_term_count));
  metadata.start_term_offset = number(m.channel, "term-offset", 0);
  metadata.session_id = stream->session_id;
  metadata.stream_id = m.stream_id;
  metadata.mtu = options_.mtu;
  metadata.term_length = options_.term_length;
  metadata.page_size = shm::kDefaultPageSize;
  shm::init_log_metadata(stream->log, metadata);
  const auto start_term = static_cast<std::int64_t>(wire::wrapping_sub(metadata.start_term_id, metadata.initial_term_id));
  stream->consumed = stream->cleaned = (start_term << stream->log.position_bits()) + metadata.start_term_offset;
  stream->limit_counter = allocate(shm::counter_type::kPublisherLimit, m.correlation_id, 0, stream->consumed);
  stream->status_counter = allocate(shm::counter_type::kSendChannelStatus, m.correlation_id, 0, shm::channel_status::kActive);
  return *(streams_[m.correlation_id] = std::move(stream));
}

void IpcDriver::add_publication(const shm::AddPublication& m, bool is_exclusive) {
  if (refuse(m.correlation_id)) return;
  know_client(m.client_id);
  Stream* stream = nullptr;
  for (auto& [id, known] : streams_) {
    if (!is_exclusive && !known->is_exclusive && !known->is_draining && known->stream_id == m.stream_id && known->channel == m.channel) {
      stream = known.get();
    }
  }
  const bool is_new = stream == nullptr;
  if (is_new) stream = &create_stream(m, is_exclusive);
  stream->links.push_back(m.correlation_id);
  const std::string path = next_log_path_.empty() ? stream->file.path() : std::exchange(next_log_path_, {});
  std::int32_t limit_counter = std::exchange(next_limit_counter_, shm::kNullCounterId);
  if (limit_counter == shm::kNullCounterId) limit_counter = stream->limit_counter;
  transmit(is_exclusive ? shm::Response::kExclusivePublicationReady : shm::Response::kPublicationReady,
           shm::OnPublicationReady{m.correlation_id, stream->id, stream->session_id, stream->stream_id, limit_counter,
                                   stream->status_counter, path});
  if (!is_new) return;
  for (const auto& [id, interest] : interests_) link(*stream, interest);
}

void IpcDriver::link(Stream& stream, const Interest& interest) {
  const bool is_of_session = interest.channel.find("session-id=") != std::string::npos && number(interest.channel, "session-id", 0) == stream.session_id;
  if (stream.is_draining || stream.stream_id != interest.stream_id || (stream.channel != interest.channel && !is_of_session)) return;
  const std::int32_t counter = allocate(shm::counter_type::kSubscriberPosition, interest.id, stream.id, stream.consumed);
  stream.subscribers.push_back({interest.id, counter});
  transmit(shm::Response::kAvailableImage, shm::OnAvailableImage{stream.id, stream.session_id, stream.stream_id, interest.id, counter,
                                                                 stream.file.path(), "aeron:ipc"});
  stream.log.store<std::int32_t>(shm::meta::kIsConnected, 1);
}

void IpcDriver::remove_publication(const shm::RemovePublication& m) {
  for (auto& [id, stream] : streams_) {
    if (std::erase(stream->links, m.registration_id) == 0) continue;
    if (stream->links.empty()) {
      const std::int64_t end = shm::producer_position(stream->log, stream->initial_term_id);
      counters_.counter(stream->limit_counter).set(end);
      stream->log.store<std::int64_t>(shm::meta::kEndOfStreamPosition, end);
      if (m.revoke) stream->log.store<std::uint8_t>(shm::meta::kIsPublicationRevoked, 1);
      stream->is_draining = true;
    }
    transmit(shm::Response::kOperationSuccess, shm::OnOperationSuccess{m.correlation_id});
    return;
  }
  transmit(shm::Response::kError, shm::OnError{m.correlation_id, static_cast<std::int32_t>(shm::ClientError::kUnknownPublication), "unknown publication"});
}

void IpcDriver::add_subscription(const shm::AddSubscription& m) {
  if (refuse(m.correlation_id)) return;
  know_client(m.client_id);
  const Interest& interest = interests_[m.correlation_id] = {m.correlation_id, m.stream_id, std::string{m.channel}};
  transmit(shm::Response::kSubscriptionReady, shm::OnSubscriptionReady{m.correlation_id, shm::kNullCounterId});
  for (auto& [id, stream] : streams_) link(*stream, interest);
}

void IpcDriver::remove_subscription(const shm::RemoveRegistration& m) {
  interests_.erase(m.registration_id);
  for (auto& [id, stream] : streams_) {
    std::erase_if(stream->subscribers, [&](const Subscriber& s) {
      if (s.subscription_id != m.registration_id) return false;
      counters_.free(s.position_counter, options_.epoch_ms());
      return true;
    });
    if (stream->subscribers.empty()) stream->log.store<std::int32_t>(shm::meta::kIsConnected, 0);
  }
  transmit(shm::Response::kOperationSuccess, shm::OnOperationSuccess{m.correlation_id});
}

void IpcDriver::drop_image(std::int64_t publication_id, std::int64_t subscription_id) {
  Stream& stream = *streams_.at(publication_id);
  std::erase_if(stream.subscribers, [&](const Subscriber& s) {
    if (s.subscription_id != subscription_id) return false;
    counters_.free(s.position_counter, options_.epoch_ms());
    return true;
  });
  if (stream.subscribers.empty()) stream.log.store<std::int32_t>(shm::meta::kIsConnected, 0);
  transmit(shm::Response::kUnavailableImage, shm::OnUnavailableImage{publication_id, subscription_id, stream.stream_id, "aeron:ipc"});
}

void IpcDriver::add_counter(const shm::AddCounter& m) {
  if (refuse(m.correlation_id)) return;
  know_client(m.client_id);
  const std::int32_t id = allocate(m.type_id, m.correlation_id, 0, 0, m.key, m.label);
  client_counters_[m.correlation_id] = id;
  transmit(shm::Response::kCounterReady, shm::OnCounter{m.correlation_id, id});
}

void IpcDriver::add_static_counter(const shm::AddStaticCounter& m) {
  if (refuse(m.correlation_id)) return;
  know_client(m.client_id);
  std::optional<std::int32_t> id;
  counters_.for_each([&](const shm::CountersReader::View& view) {
    if (view.type_id == m.type_id && view.registration_id == m.registration_id) id = view.id;
  });
  if (!id) id = allocate(m.type_id, m.registration_id, 0, 0, m.key, m.label);
  transmit(shm::Response::kStaticCounter, shm::OnCounter{m.correlation_id, *id});
}

void IpcDriver::remove_counter(const shm::RemoveRegistration& m) {
  const auto it = client_counters_.find(m.registration_id);
  if (it == client_counters_.end()) return;
  counters_.free(it->second, options_.epoch_ms());
  transmit(shm::Response::kOperationSuccess, shm::OnOperationSuccess{m.correlation_id});
  transmit(shm::Response::kUnavailableCounter, shm::OnCounter{m.registration_id, it->second});
  client_counters_.erase(it);
}

void IpcDriver::update_publications() {
  for (auto it = streams_.begin(); it != streams_.end();) {
    if (update(*it->second)) {
      ended_.push_back(std::move(it->second));
      it = streams_.erase(it);
    } else {
      ++it;
    }
  }
}

// 7.6 for IPC. True: drained and done.
bool IpcDriver::update(Stream& stream) {
  std::int64_t slowest = std::numeric_limits<std::int64_t>::max();
  for (const Subscriber& s : stream.subscribers) slowest = std::min(slowest, counters_.counter(s.position_counter).get());
  if (stream.subscribers.empty()) slowest = stream.consumed;
  stream.consumed = std::max(stream.consumed, slowest);
  while (stream.cleaned < slowest) {
    const std::int64_t term_end = (stream.cleaned | (options_.term_length - 1)) + 1;
    const std::int64_t to = std::min(slowest, term_end);
    shm::clean_log(stream.log, stream.cleaned, to);
    stream.cleaned = to;
  }
  if (stream.is_draining) {
    const auto end = stream.log.load<std::int64_t>(shm::meta::kEndOfStreamPosition);
    if (slowest < end && !stream.subscribers.empty()) return false;
    while (!stream.subscribers.empty()) drop_image(stream.id, stream.subscribers.front().subscription_id);
    return true;
  }
  shm::Counter limit = counters_.counter(stream.limit_counter);
  const std::int64_t wanted = stream.subscribers.empty() ? stream.consumed : slowest + options_.term_length / 2;
  if (limit.get_plain() != wanted) limit.set(wanted);
  return false;
}

int IpcDriver::count(shm::Command type) const {
  return static_cast<int>(std::count_if(seen_.begin(), seen_.end(), [&](const Seen& s) { return s.type == type; }));
}

}  // namespace thalweg::test
