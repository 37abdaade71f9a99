// thalweg.h: counters, a driver seen from outside, channels.
#include "dataplane/client/c/handles.hpp"

using namespace thalweg;
using namespace thalweg::client;
using namespace thalweg::client::c;

namespace {
thalweg_counter_view_t view_of(const CountersReader::View& view) noexcept {
  return {view.value, view.registration_id, view.owner_id, view.reference_id, octets(view.key), view.key.size(), view.label.data(), view.label.size(), view.id,
          view.type_id};
}
bool give_view(const std::optional<CountersReader::View>& found, thalweg_counter_view_t* view) noexcept {
  if (found) *view = view_of(*found);
  return found.has_value();
}

// Keys whose values the builder checks.
using Builder = ChannelUriBuilder;
struct IntegerKey {
  std::string_view key;
  std::int64_t min, max;
  void (*set)(Builder&, std::int64_t);
};
constexpr std::int64_t kMin32 = std::numeric_limits<std::int32_t>::min(), kMax32 = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t kMin64 = std::numeric_limits<std::int64_t>::min(), kMax64 = std::numeric_limits<std::int64_t>::max();
template <auto Setter>
void set32(Builder& builder, std::int64_t value) {
  (builder.*Setter)(static_cast<std::int32_t>(value));
}
template <auto Setter>
void set64(Builder& builder, std::int64_t value) {
  (builder.*Setter)(value);
}
constexpr IntegerKey kIntegers[] = {
    {"ttl", kMin32, kMax32, set32<&Builder::ttl>},
    {"stream-id", kMin32, kMax32, set32<&Builder::stream_id>},
    {"session-id", kMin32, kMax32, set32<&Builder::session_id>},
    {"term-length", kMin32, kMax32, set32<&Builder::term_length>},
    {"mtu", kMin32, kMax32, set32<&Builder::mtu>},
    {"init-term-id", kMin32, kMax32, set32<&Builder::initial_term_id>},
    {"term-id", kMin32, kMax32, set32<&Builder::term_id>},
    {"term-offset", kMin32, kMax32, set32<&Builder::term_offset>},
    {"max-resend", kMin32, kMax32, set32<&Builder::max_resend>},
    {"channel-snd-ts-offset", kMin32, kMax32, set32<&Builder::channel_send_timestamp_offset>},
    {"channel-rcv-ts-offset", kMin32, kMax32, set32<&Builder::channel_receive_timestamp_offset>},
    {"media-rcv-ts-offset", kMin32, kMax32, set32<&Builder::media_receive_timestamp_offset>},
    {"pub-wnd", kMin64, kMax64, set64<&Builder::publication_window>},
    {"rcv-wnd", kMin64, kMax64, set64<&Builder::receiver_window>},
    {"so-sndbuf", kMin64, kMax64, set64<&Builder::socket_send_buffer>},
    {"so-rcvbuf", kMin64, kMax64, set64<&Builder::socket_receive_buffer>},
    {"gtag", kMin64, kMax64, set64<&Builder::group_tag>},
    {"response-correlation-id", kMin64, kMax64, set64<&Builder::response_correlation_id>},
};
constexpr struct {
  std::string_view key;
  Builder& (Builder::*set)(std::string_view);
} kAddresses[] = {{"endpoint", &Builder::endpoint}, {"control", &Builder::control}, {"response-endpoint", &Builder::response_endpoint}};
}  // namespace

extern "C" {

// ---- counters --------------------------------------------------------------------------------------------------------------------------

void thalweg_counter_destroy(thalweg_counter_t* counter) noexcept { delete counter; }
void thalweg_counter_close(thalweg_counter_t* counter) noexcept { counter->counter.close(); }
int64_t thalweg_counter_get(const thalweg_counter_t* counter) noexcept { return counter->counter.get(); }
void thalweg_counter_set(thalweg_counter_t* counter, int64_t value) noexcept { counter->counter.set(value); }
void thalweg_counter_add(thalweg_counter_t* counter, int64_t delta) noexcept { counter->counter.add(delta); }
int32_t thalweg_counter_id(const thalweg_counter_t* counter) noexcept { return counter->counter.id(); }
int64_t thalweg_counter_registration_id(const thalweg_counter_t* counter) noexcept { return counter->counter.registration_id(); }
bool thalweg_counter_is_closed(const thalweg_counter_t* counter) noexcept { return counter->counter.is_closed(); }
bool thalweg_counter_is_static(const thalweg_counter_t* counter) noexcept { return counter->counter.is_static(); }

void thalweg_counters_for_each(const thalweg_counters_t* counters, thalweg_counter_visitor_t visitor, void* clientd) noexcept {
  counters->reader.for_each([&](const CountersReader::View& view) {
    const thalweg_counter_view_t told = view_of(view);
    visitor(clientd, &told);
  });
}
bool thalweg_counters_get(const thalweg_counters_t* counters, int32_t id, thalweg_counter_view_t* view) noexcept { return give_view(counters->reader.find(id), view); }
bool thalweg_counters_find(const thalweg_counters_t* counters, int32_t type_id, int64_t registration_id, thalweg_counter_view_t* view) noexcept {
  return give_view(counters->reader.find(type_id, registration_id), view);
}
thalweg_counter_state_t thalweg_counters_state(const thalweg_counters_t* counters, int32_t id) noexcept {
  return static_cast<thalweg_counter_state_t>(counters->reader.state(id));
}
int64_t thalweg_counters_value(const thalweg_counters_t* counters, int32_t id) noexcept { return counters->reader.value(id); }
int32_t thalweg_counters_capacity(const thalweg_counters_t* counters) noexcept { return counters->reader.capacity(); }

// ---- a driver from outside -------------------------------------------------------------------------------------------------------------

thalweg_error_t thalweg_cnc_open(const char* directory, thalweg_cnc_t** cnc) noexcept {
  *cnc = nullptr;
  auto opened = Cnc::open(std::string{text_or_empty(directory)});
  if (!opened) return failed(opened.error());
  const thalweg_counters counters{opened->counters()};
  *cnc = new thalweg_cnc{std::move(*opened), counters};
  return THALWEG_OK;
}
void thalweg_cnc_close(thalweg_cnc_t* cnc) noexcept { delete cnc; }
int32_t thalweg_cnc_version(const thalweg_cnc_t* cnc) noexcept { return cnc->cnc.version(); }
int64_t thalweg_cnc_pid(const thalweg_cnc_t* cnc) noexcept { return cnc->cnc.pid(); }
int64_t thalweg_cnc_start_ms(const thalweg_cnc_t* cnc) noexcept { return cnc->cnc.start_ms(); }
int64_t thalweg_cnc_heartbeat_ms(const thalweg_cnc_t* cnc) noexcept { return cnc->cnc.heartbeat_ms(); }
bool thalweg_cnc_is_driver_alive(const thalweg_cnc_t* cnc, int64_t timeout_ms) noexcept { return cnc->cnc.is_driver_alive(std::chrono::milliseconds{timeout_ms}); }
int64_t thalweg_cnc_client_liveness_timeout(const thalweg_cnc_t* cnc) noexcept { return cnc->cnc.client_liveness_timeout().count(); }
int64_t thalweg_cnc_command_backlog(const thalweg_cnc_t* cnc) noexcept { return cnc->cnc.command_backlog(); }
const thalweg_counters_t* thalweg_cnc_counters(const thalweg_cnc_t* cnc) noexcept { return &cnc->counters; }
void thalweg_cnc_for_each_error(const thalweg_cnc_t* cnc, thalweg_error_visitor_t visitor, void* clientd) noexcept {
  cnc->cnc.for_each_error([&](const shm::ErrorLogEntry& entry) {
    visitor(clientd, entry.observation_count, entry.first_ms, entry.last_ms, entry.text.data(), entry.text.size());
  });
}
void thalweg_cnc_for_each_loss(const thalweg_cnc_t* cnc, thalweg_loss_visitor_t visitor, void* clientd) noexcept {
  cnc->cnc.for_each_loss([&](const shm::LossReportEntry& entry) {
    const thalweg_loss_t loss{entry.observation_count, entry.bytes_lost,    entry.first_ms,       entry.last_ms,    entry.channel.data(),
                              entry.channel.size(),    entry.source.data(), entry.source.size(), entry.session_id, entry.stream_id};
    visitor(clientd, &loss);
  });
}
thalweg_error_t thalweg_is_driver_active(const char* directory, int64_t timeout_ms, bool* is_active) noexcept {
  const auto active = is_driver_active(std::string{text_or_empty(directory)}, std::chrono::milliseconds{timeout_ms});
  *is_active = active.value_or(false);
  return status(active);
}
thalweg_error_t thalweg_request_driver_termination(const char* directory, const void* token, size_t token_length) noexcept {
  return status(request_driver_termination(std::string{text_or_empty(directory)}, bytes_of(token, token_length)));
}

// ---- channels --------------------------------------------------------------------------------------------------------------------------

thalweg_uri_t* thalweg_uri_create_udp(void) noexcept { return new thalweg_uri{ChannelUriBuilder::udp()}; }
thalweg_uri_t* thalweg_uri_create_ipc(void) noexcept { return new thalweg_uri{ChannelUriBuilder::ipc()}; }
thalweg_uri_t* thalweg_uri_create_spy(void) noexcept { return new thalweg_uri{ChannelUriBuilder::spy()}; }
thalweg_error_t thalweg_uri_parse(const char* channel, thalweg_uri_t** uri) noexcept {
  *uri = nullptr;
  auto builder = ChannelUriBuilder::from(text_or_empty(channel));
  if (!builder) return failed(builder.error());
  *uri = new thalweg_uri{std::move(*builder)};
  return THALWEG_OK;
}
void thalweg_uri_destroy(thalweg_uri_t* uri) noexcept { delete uri; }
void thalweg_uri_set(thalweg_uri_t* uri, const char* key, const char* value) noexcept {
  for (const auto& address : kAddresses) {
    if (address.key == text_or_empty(key)) return static_cast<void>((uri->builder.*address.set)(text_or_empty(value)));
  }
  uri->builder.set(text_or_empty(key), text_or_empty(value));
}
void thalweg_uri_set_int(thalweg_uri_t* uri, const char* key, int64_t value) noexcept {
  for (const IntegerKey& integer : kIntegers) {
    if (integer.key != text_or_empty(key)) continue;
    if (value >= integer.min && value <= integer.max) return integer.set(uri->builder, value);
    return static_cast<void>(uri->builder.refuse(key, std::to_string(value), "a 32-bit number"));
  }
  uri->builder.set(text_or_empty(key), std::to_string(value));
}
void thalweg_uri_set_bool(thalweg_uri_t* uri, const char* key, bool value) noexcept { uri->builder.set(text_or_empty(key), value ? "true" : "false"); }
void thalweg_uri_set_duration(thalweg_uri_t* uri, const char* key, int64_t ns) noexcept { uri->builder.set_duration(text_or_empty(key), std::chrono::nanoseconds{ns}); }
void thalweg_uri_clear(thalweg_uri_t* uri, const char* key) noexcept { uri->builder.clear(text_or_empty(key)); }
void thalweg_uri_set_initial_position(thalweg_uri_t* uri, int64_t position, int32_t initial_term_id, int32_t term_length) noexcept {
  uri->builder.initial_position(position, initial_term_id, term_length);
}
size_t thalweg_uri_get(const thalweg_uri_t* uri, const char* key, char* buffer, size_t capacity) noexcept {
  return copy_text(uri->builder.get(text_or_empty(key)).value_or(std::string_view{}), buffer, capacity);
}
thalweg_error_t thalweg_uri_build(const thalweg_uri_t* uri, char* buffer, size_t capacity) noexcept {
  const auto channel = uri->builder.build();
  if (!channel) return failed(channel.error());
  if (copy_text(*channel, buffer, capacity) >= capacity) return invalid("there is no room for the channel");
  return THALWEG_OK;
}

}  // extern "C"
