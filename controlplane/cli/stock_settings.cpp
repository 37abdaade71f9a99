#include "controlplane/cli/stock_settings.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <utility>
#include <nlohmann/json.hpp>

#include "config/schema/convert.hpp"
#include "config/schema/rule.hpp"
#include "dataplane/base/units.hpp"
#include "dataplane/shm/broadcast.hpp"
#include "dataplane/shm/counters.hpp"
#include "dataplane/shm/ring_buffer.hpp"

namespace thalweg::cli {
namespace {

struct Row;
using Translate = void (*)(const Row&, const StockSetting&, StockTranslation&);
struct Row {
  std::string_view name;
  Translate translate{};    // nullptr: a function below looks at it together with others
  std::string_view path;
  std::string_view remark;
};

// ---- values ----
void refuse(const StockSetting& setting, std::string_view needs, StockTranslation& out) {
  out.errors.push_back({setting.origin, 0, 0, fmt::format("{} needs {}; found '{}'", setting.name, needs, setting.value)});
}
void set(std::string_view path, std::string value, const StockSetting& setting, StockTranslation& out) {
  out.settings.push_back({std::string{path}, std::move(value), setting.origin});
}
// A YAML scalar or list of them, whatever the texts hold.
std::string yaml_of(const nlohmann::json& value) { return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace); }

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r\f");
  return first == std::string_view::npos ? std::string_view{} : text.substr(first, text.find_last_not_of(" \t\r\f") - first + 1);
}

std::optional<bool> parse_bool(std::string_view text) {
  std::string lower;
  for (const char c : text) lower += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  if (lower == "true" || lower == "1" || lower == "on" || lower == "yes") return true;
  if (lower == "false" || lower == "0" || lower == "off" || lower == "no") return false;
  return std::nullopt;
}

std::optional<std::int64_t> parse_integer(std::string_view text) {
  std::int64_t value = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  return read.ec == std::errc{} && read.ptr == text.data() + text.size() && !text.empty() ? std::optional{value} : std::nullopt;
}

std::optional<double> parse_share(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  return !text.empty() && *end == '\0' && value >= 0.0 && value <= 1.0 ? std::optional{value} : std::nullopt;
}

// A word, an enumerator or the name of a class or a function as the stock drivers take them: "busy_spin", "sleep-ns",
// "org.agrona.concurrent.BusySpinIdleStrategy", "aeron_max_multicast_flow_control_strategy_supplier" -> "busyspin", "sleepns", ...
std::string plain_word(std::string_view text) {
  text = text.substr(text.rfind('.') + 1);  // npos + 1: all of it
  std::string out;
  for (const char c : text) {
    if (c >= 'A' && c <= 'Z') out += static_cast<char>(c - 'A' + 'a');
    else if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) out += c;
  }
  return out;
}

// ---- one setting, one key ----
void as_text(const Row& row, const StockSetting& setting, StockTranslation& out) { set(row.path, yaml_of(setting.value), setting, out); }

void as_bool(const Row& row, const StockSetting& setting, StockTranslation& out) {
  const auto value = parse_bool(setting.value);
  if (!value) return refuse(setting, "true or false", out);
  set(row.path, *value ? "true" : "false", setting, out);
}

void as_count(const Row& row, const StockSetting& setting, StockTranslation& out) {
  const auto value = parse_integer(setting.value);
  if (!value) return refuse(setting, "a whole number", out);
  set(row.path, std::to_string(*value), setting, out);
}

// Sizes less `subtrahend` bytes that ours do not count, divided by `divisor` and rounded up.
void as_size_of(std::int64_t subtrahend, std::int64_t divisor, std::int64_t multiple, const Row& row, const StockSetting& setting, StockTranslation& out) {
  const auto value = parse_uri_size(setting.value);
  if (!value) return refuse(setting, "a size such as 4096, 64k or 16m", out);
  const std::int64_t units = (std::max<std::int64_t>(*value - subtrahend, 0) + divisor - 1) / divisor;
  set(row.path, std::to_string((units + multiple - 1) / multiple * multiple), setting, out);
}
void as_size(const Row& row, const StockSetting& setting, StockTranslation& out) { as_size_of(0, 1, 1, row, setting, out); }
void as_ring(const Row& row, const StockSetting& setting, StockTranslation& out) { as_size_of(shm::kRingTrailerLength, 1, 1, row, setting, out); }
void as_broadcast(const Row& row, const StockSetting& setting, StockTranslation& out) { as_size_of(shm::kBroadcastTrailerLength, 1, 1, row, setting, out); }
void as_pages(const Row& row, const StockSetting& setting, StockTranslation& out) { as_size_of(0, 1, 4'096, row, setting, out); }
void as_counters(const Row& row, const StockSetting& setting, StockTranslation& out) { as_size_of(0, shm::kCounterValueLength, 1, row, setting, out); }

void as_duration(const Row& row, const StockSetting& setting, StockTranslation& out) {
  const auto value = parse_uri_duration_ns(setting.value);
  if (!value) return refuse(setting, "nanoseconds, or a duration such as 500us, 100ms or 5s", out);
  set(row.path, std::to_string(*value) + "ns", setting, out);
}

void as_milliseconds(const Row& row, const StockSetting& setting, StockTranslation& out) {
  const auto value = parse_integer(setting.value);
  if (!value || *value < 0) return refuse(setting, "milliseconds as a plain number", out);
  set(row.path, std::to_string(*value) + "ms", setting, out);
}

// "low high", to two keys.
void as_ports(const Row& row, const StockSetting& setting, StockTranslation& out) {
  const std::size_t gap = std::min(setting.value.find_first_of(" \t,-"), setting.value.size());
  const std::size_t high_at = std::min(setting.value.find_first_not_of(" \t,-", gap), setting.value.size());
  const auto low = parse_integer(std::string_view{setting.value}.substr(0, gap));
  const auto high = parse_integer(std::string_view{setting.value}.substr(high_at));
  if (!low || !high) return refuse(setting, "two port numbers such as \"20700 20799\"", out);
  set(std::string{row.path} + "-low", std::to_string(*low), setting, out);
  set(std::string{row.path} + "-high", std::to_string(*high), setting, out);
}

void as_list(const Row& row, const StockSetting& setting, StockTranslation& out) {
  nlohmann::json items = nlohmann::json::array();
  for (std::size_t begin = 0; begin <= setting.value.size();) {
    const std::size_t end = std::min(setting.value.find(',', begin), setting.value.size());
    const std::size_t first = setting.value.find_first_not_of(" \t", begin);
    if (first < end) items.push_back(setting.value.substr(first, setting.value.find_last_not_of(" \t", end - 1) - first + 1));
    begin = end + 1;
  }
  set(row.path, yaml_of(items), setting, out);
}

void as_directory(const Row& row, const StockSetting& setting, StockTranslation& out) {
  std::error_code error;
  const auto path = std::filesystem::absolute(setting.value, error).lexically_normal();
  const std::string text = path.has_filename() ? path.string() : path.parent_path().string();
  if (error) return refuse(setting, "a directory", out);
  set(row.path, yaml_of(text), setting, out);
}

// The one of `words` that is in the value; "" is none.
std::string_view word_in(const StockSetting& setting, std::initializer_list<std::string_view> words) {
  const std::string plain = plain_word(setting.value);
  for (const std::string_view word : words) {
    if (plain.find(word) != std::string::npos) return word;
  }
  return {};
}

void as_flow_control(const Row& row, const StockSetting& setting, StockTranslation& out) {
  const std::string_view word = word_in(setting, {"tagged", "min", "max"});
  if (word.empty()) return refuse(setting, "max, min or tagged", out);
  set(row.path, std::string{word}, setting, out);
}

void as_congestion_control(const Row& row, const StockSetting& setting, StockTranslation& out) {
  const std::string_view word = word_in(setting, {"cubic", "static", "default"});
  if (word.empty()) return refuse(setting, "default, static or cubic", out);
  if (word != "default") set(row.path, std::string{word}, setting, out);
}

void as_group_consideration(const Row& row, const StockSetting& setting, StockTranslation& out) {
  const std::string_view word = word_in(setting, {"infer", "true", "false"});
  if (word.empty()) return refuse(setting, "infer, force_true or force_false", out);
  set(row.path, word == "infer" ? "infer" : word == "true" ? "always" : "never", setting, out);
}

void as_validator(const Row& row, const StockSetting& setting, StockTranslation& out) {
  const std::string_view word = word_in(setting, {"allow", "deny"});
  if (word.empty()) return refuse(setting, "allow or deny", out);
  set(row.path, word == "allow" ? "true" : "false", setting, out);
}

void as_storage_checks(const Row& row, const StockSetting& setting, StockTranslation& out) {
  const auto value = parse_bool(setting.value);
  if (!value) return refuse(setting, "true or false", out);
  if (!*value) set(row.path, "0", setting, out);
}

void as_print(const Row&, const StockSetting& setting, StockTranslation& out) {
  const auto value = parse_bool(setting.value);
  if (!value) return refuse(setting, "true or false", out);
  out.prints_configuration = *value;
}

void as_warning(const Row&, const StockSetting& setting, StockTranslation& out) {
  const auto value = parse_bool(setting.value);
  if (!value) return refuse(setting, "true or false", out);
  out.warns_if_directory_exists = *value;
}

void as_nothing(const Row& row, const StockSetting& setting, StockTranslation& out) {
  out.notes.push_back(fmt::format("{} ({}) has no effect here: {}", setting.name, setting.origin, row.remark));
}

// What is only another way to say what is so anyway needs no word.
void as_page_size(const Row& row, const StockSetting& setting, StockTranslation& out) {
  if (parse_uri_size(setting.value) != 4'096) as_nothing(row, setting, out);
}
void as_unicast_flow_control(const Row& row, const StockSetting& setting, StockTranslation& out) {
  if (word_in(setting, {"max", "unicast"}).empty()) as_nothing(row, setting, out);
}
void as_bindings(const Row& row, const StockSetting& setting, StockTranslation& out) {
  if (plain_word(setting.value) != "default") as_nothing(row, setting, out);
}

bool has_effect(const Row& row) {
  return row.translate != as_nothing && row.translate != as_page_size && row.translate != as_unicast_flow_control && row.translate != as_bindings;
}

constexpr std::string_view kLanes = "dataplane.lanes";
constexpr std::string_view kIdle = "dataplane.idle";
constexpr std::string_view kFrames = "ports[].impair.frames";
constexpr std::string_view kSeed = "of its rate; the same seed and the same frames give the same losses";
constexpr std::string_view kStall = "a cycle counts as a stall after 100 ms, whatever is set";
constexpr std::string_view kBatches = "lanes choose their own batches";
constexpr std::string_view kLogging = "`--set logging.level=debug` and `thalweg capture` show what happens";
constexpr std::string_view kBindings = "there is one transport; ports are chosen in a configuration file";
constexpr std::string_view kOwnProcess = "the conductor is a process of its own and rests until there is work";

constexpr Row kRows[] = {
    {"AERON_DIR", as_directory, "instance.directory", ""},
    {"AERON_DIR_DELETE_ON_START", as_bool, "instance.delete-on-start", "a directory in use is an error, never removed"},
    {"AERON_DIR_DELETE_ON_SHUTDOWN", as_bool, "instance.delete-on-shutdown", ""},
    {"AERON_DIR_WARN_IF_EXISTS", as_warning, "", "a line on standard error"},
    {"AERON_PRINT_CONFIGURATION", as_print, "", "what `thalweg config show` prints, before the start"},
    {"AERON_THREADING_MODE", nullptr, kLanes, "DEDICATED: two lanes, one on machines below four CPUs; any other: one. The conductor has a process of its own"},
    {"AERON_SENDER_CPU_AFFINITY", nullptr, kLanes, "the CPU of a lane"},
    {"AERON_RECEIVER_CPU_AFFINITY", nullptr, kLanes, "the CPU of the other lane"},
    {"AERON_CONDUCTOR_CPU_AFFINITY", nullptr, kLanes, "SHARED: the lane's CPU. Else nothing: the conductor's process floats"},
    {"AERON_SENDER_IDLE_STRATEGY", nullptr, kIdle, "DEDICATED: the keener one of sender and receiver"},
    {"AERON_RECEIVER_IDLE_STRATEGY", nullptr, kIdle, "as AERON_SENDER_IDLE_STRATEGY"},
    {"AERON_SHAREDNETWORK_IDLE_STRATEGY", nullptr, kIdle, "SHARED_NETWORK"},
    {"AERON_SHARED_IDLE_STRATEGY", nullptr, kIdle, "SHARED and INVOKER"},
    {"AERON_SENDER_IDLE_STRATEGY_INIT_ARGS", nullptr, "dataplane.idle-sleep", "of a sleeping strategy"},
    {"AERON_RECEIVER_IDLE_STRATEGY_INIT_ARGS", nullptr, "dataplane.idle-sleep", "of a sleeping strategy"},
    {"AERON_SHAREDNETWORK_IDLE_STRATEGY_INIT_ARGS", nullptr, "dataplane.idle-sleep", "of a sleeping strategy"},
    {"AERON_SHARED_IDLE_STRATEGY_INIT_ARGS", nullptr, "dataplane.idle-sleep", "of a sleeping strategy"},
    {"AERON_CONDUCTOR_IDLE_STRATEGY", as_nothing, "", kOwnProcess},
    {"AERON_CONDUCTOR_IDLE_STRATEGY_INIT_ARGS", as_nothing, "", kOwnProcess},
    {"AERON_MTU_LENGTH", as_size, "streams.mtu", ""},
    {"AERON_IPC_MTU_LENGTH", as_size, "streams.ipc-mtu", ""},
    {"AERON_TERM_BUFFER_LENGTH", as_size, "streams.term-length", ""},
    {"AERON_IPC_TERM_BUFFER_LENGTH", as_size, "streams.ipc-term-length", ""},
    {"AERON_TERM_BUFFER_SPARSE_FILE", as_bool, "streams.sparse", ""},
    {"AERON_PUBLICATION_TERM_WINDOW_LENGTH", as_size, "streams.publication-window", ""},
    {"AERON_IPC_PUBLICATION_TERM_WINDOW_LENGTH", as_size, "streams.ipc-publication-window", ""},
    {"AERON_RCV_INITIAL_WINDOW_LENGTH", as_size, "streams.receiver-window", ""},
    {"AERON_RCV_STATUS_MESSAGE_TIMEOUT", as_duration, "streams.status-message-timeout", ""},
    {"AERON_SEND_TO_STATUS_POLL_RATIO", as_nothing, "", "a lane polls for status messages in every turn"},
    {"AERON_SOCKET_SO_RCVBUF", as_size, "streams.socket-rcvbuf", ""},
    {"AERON_SOCKET_SO_SNDBUF", as_size, "streams.socket-sndbuf", ""},
    {"AERON_SOCKET_MULTICAST_TTL", as_count, "streams.multicast-ttl", ""},
    {"AERON_PUBLICATION_LINGER_TIMEOUT", as_duration, "streams.linger", ""},
    {"AERON_PUBLICATION_CONNECTION_TIMEOUT", as_duration, "streams.connection-timeout", ""},
    {"AERON_PUBLICATION_UNBLOCK_TIMEOUT", as_duration, "streams.unblock-timeout", ""},
    {"AERON_IMAGE_LIVENESS_TIMEOUT", as_duration, "streams.image-liveness-timeout", ""},
    {"AERON_CLIENT_LIVENESS_TIMEOUT", as_duration, "control-plane.client-liveness-timeout", ""},
    {"AERON_TIMER_INTERVAL", as_duration, "control-plane.timer-interval", ""},
    {"AERON_DRIVER_TIMEOUT", as_milliseconds, "control-plane.driver-timeout", "milliseconds"},
    {"AERON_COUNTERS_FREE_TO_REUSE_TIMEOUT", as_duration, "control-plane.counters-free-to-reuse-timeout", ""},
    {"AERON_UNTETHERED_WINDOW_LIMIT_TIMEOUT", as_duration, "streams.untethered-window-limit-timeout", ""},
    {"AERON_UNTETHERED_LINGER_TIMEOUT", as_duration, "streams.untethered-linger-timeout", "left out: the window limit time-out"},
    {"AERON_UNTETHERED_RESTING_TIMEOUT", as_duration, "streams.untethered-resting-timeout", ""},
    {"AERON_NAK_UNICAST_DELAY", as_duration, "streams.nak-delay", ""},
    {"AERON_NAK_UNICAST_RETRY_DELAY_RATIO", as_count, "streams.nak-retry-ratio", ""},
    {"AERON_NAK_MULTICAST_MAX_BACKOFF", as_duration, "streams.nak-multicast-max-backoff", ""},
    {"AERON_NAK_MULTICAST_GROUP_SIZE", as_count, "streams.nak-multicast-group-size", ""},
    {"AERON_RETRANSMIT_UNICAST_DELAY", as_duration, "streams.retransmit-delay", ""},
    {"AERON_RETRANSMIT_UNICAST_LINGER", as_duration, "streams.retransmit-linger", ""},
    {"AERON_MAX_RESEND", as_count, "streams.max-resend", ""},
    {"AERON_UNICAST_FLOWCONTROL_SUPPLIER", as_unicast_flow_control, "", "unicast streams have one receiver and wait for it"},
    {"AERON_UNICAST_FLOW_CONTROL_STRATEGY", as_unicast_flow_control, "", "unicast streams have one receiver and wait for it"},
    {"AERON_MULTICAST_FLOWCONTROL_SUPPLIER", as_flow_control, "streams.multicast-flow-control", ""},
    {"AERON_MULTICAST_FLOW_CONTROL_STRATEGY", as_flow_control, "streams.multicast-flow-control", ""},
    {"AERON_UNICAST_FLOW_CONTROL_RRWM", as_count, "streams.unicast-retransmit-window-multiple", ""},
    {"AERON_MULTICAST_FLOW_CONTROL_RRWM", as_count, "streams.multicast-retransmit-window-multiple", ""},
    {"AERON_FLOW_CONTROL_RECEIVER_TIMEOUT", as_duration, "streams.flow-control-receiver-timeout", ""},
    {"AERON_FLOW_CONTROL_GROUP_TAG", as_count, "streams.flow-control-group-tag", ""},
    {"AERON_FLOW_CONTROL_GROUP_MIN_SIZE", as_count, "streams.flow-control-group-min-size", ""},
    {"AERON_RECEIVER_GROUP_TAG", as_count, "streams.receiver-group-tag", ""},
    {"AERON_RECEIVER_GROUP_CONSIDERATION", as_group_consideration, "streams.receiver-group", ""},
    {"AERON_CONGESTIONCONTROL_SUPPLIER", as_congestion_control, "streams.congestion-control", ""},
    {"AERON_CUBICCONGESTIONCONTROL_MEASURERTT", as_bool, "streams.cubic-measure-rtt", ""},
    {"AERON_CUBICCONGESTIONCONTROL_INITIALRTT", as_duration, "streams.cubic-initial-rtt", ""},
    {"AERON_CUBICCONGESTIONCONTROL_TCPMODE", as_bool, "streams.cubic-tcp-mode", ""},
    {"AERON_RELIABLE_STREAM", as_bool, "streams.reliable", ""},
    {"AERON_REJOIN_STREAM", as_bool, "streams.rejoin", ""},
    {"AERON_TETHER_SUBSCRIPTIONS", as_bool, "streams.tether", ""},
    {"AERON_SPIES_SIMULATE_CONNECTION", as_bool, "streams.spies-simulate-connection", ""},
    {"AERON_PUBLICATION_RESERVED_SESSION_ID_LOW", as_count, "control-plane.reserved-session-id-low", ""},
    {"AERON_PUBLICATION_RESERVED_SESSION_ID_HIGH", as_count, "control-plane.reserved-session-id-high", ""},
    {"AERON_DRIVER_STREAM_SESSION_LIMIT", as_count, "streams.session-limit", ""},
    {"AERON_SENDER_WILDCARD_PORT_RANGE", as_ports, "streams.sender-wildcard-port", "-low and -high"},
    {"AERON_RECEIVER_WILDCARD_PORT_RANGE", as_ports, "streams.receiver-wildcard-port", "-low and -high"},
    {"AERON_CONDUCTOR_BUFFER_LENGTH", as_ring, "control-plane.to-driver-buffer", "less its trailer of 768 bytes"},
    {"AERON_CLIENTS_BUFFER_LENGTH", as_broadcast, "control-plane.to-clients-buffer", "less its trailer of 128 bytes"},
    {"AERON_COUNTERS_BUFFER_LENGTH", as_counters, "control-plane.counters", "one for each 128 bytes"},
    {"AERON_ERROR_BUFFER_LENGTH", as_pages, "control-plane.error-log", ""},
    {"AERON_LOSS_REPORT_BUFFER_LENGTH", as_pages, "control-plane.loss-report", "rounded up to whole pages"},
    {"AERON_PERFORM_STORAGE_CHECKS", as_storage_checks, "control-plane.low-storage-warning", "false: no warning. There must be room for a log either way"},
    {"AERON_LOW_FILE_STORE_WARNING_THRESHOLD", as_size, "control-plane.low-storage-warning", ""},
    {"AERON_FILE_PAGE_SIZE", as_page_size, "", "pages are 4 KiB, and 2 MiB for large logs on a hugetlbfs mount"},
    {"AERON_DRIVER_TERMINATION_VALIDATOR", as_validator, "control-plane.allow-termination", ""},
    {"AERON_NAME_RESOLVER_SUPPLIER", nullptr, "", "driver: the AERON_DRIVER_RESOLVER_* settings count, else they do not"},
    {"AERON_DRIVER_RESOLVER_NAME", nullptr, "names.name", ""},
    {"AERON_DRIVER_RESOLVER_INTERFACE", nullptr, "names.interface", ""},
    {"AERON_DRIVER_RESOLVER_BOOTSTRAP_NEIGHBOR", nullptr, "names.bootstrap-neighbors", ""},
    {"AERON_DRIVER_RESOLVER_NEIGHBOR_TIMEOUT", as_duration, "names.neighbor-timeout", ""},
    {"AERON_DRIVER_RESOLVER_SELF_RESOLUTION_INTERVAL", as_duration, "names.self-resolution-interval", ""},
    {"AERON_DRIVER_RESOLVER_NEIGHBOR_RESOLUTION_INTERVAL", as_duration, "names.neighbor-resolution-interval", ""},
    {"AERON_DRIVER_RESOLVER_BOOTSTRAP_NEIGHBOR_RESOLUTION_INTERVAL", as_duration, "names.bootstrap-resolution-interval", ""},
    {"AERON_DRIVER_RERESOLUTION_CHECK_INTERVAL", as_duration, "names.re-resolution-interval", ""},
    {"AERON_NAME_RESOLVER_INIT_ARGS", as_nothing, "", "names are resolved by drivers or by the system"},
    {"AERON_DEBUG_RECEIVE_DATA_LOSS_RATE", nullptr, kFrames, "share of the PAD, DATA and SETUP frames received that is lost"},
    {"AERON_DEBUG_RECEIVE_CONTROL_LOSS_RATE", nullptr, kFrames, "share of the NAK, SM, ERR, RTTM and RSP_SETUP frames sent that is lost"},
    {"AERON_DEBUG_SEND_DATA_LOSS_RATE", nullptr, kFrames, "share of the PAD, DATA and SETUP frames sent that is lost"},
    {"AERON_DEBUG_SEND_CONTROL_LOSS_RATE", nullptr, kFrames, "share of the NAK, SM, ERR, RTTM and RSP_SETUP frames received that is lost"},
    {"AERON_DEBUG_RECEIVE_DATA_LOSS_SEED", nullptr, kFrames, kSeed},
    {"AERON_DEBUG_RECEIVE_CONTROL_LOSS_SEED", nullptr, kFrames, kSeed},
    {"AERON_DEBUG_SEND_DATA_LOSS_SEED", nullptr, kFrames, kSeed},
    {"AERON_DEBUG_SEND_CONTROL_LOSS_SEED", nullptr, kFrames, kSeed},
    {"AERON_UDP_CHANNEL_INCOMING_INTERCEPTORS", nullptr, kFrames, "loss: of frames received, as AERON_UDP_CHANNEL_TRANSPORT_BINDINGS_LOSS_ARGS says"},
    {"AERON_UDP_CHANNEL_OUTGOING_INTERCEPTORS", nullptr, kFrames, "loss: the same of frames sent"},
    {"AERON_UDP_CHANNEL_TRANSPORT_BINDINGS_LOSS_ARGS", nullptr, kFrames, "rate=, seed= and recv-msg-mask= (bit n: frames of type n; without it all), with | between them"},
    {"AERON_UDP_CHANNEL_TRANSPORT_BINDINGS_FIXED_LOSS_ARGS", as_nothing, "", "loss is at random"},
    {"AERON_UDP_CHANNEL_TRANSPORT_BINDINGS_MULTI_GAP_LOSS_ARGS", as_nothing, "", "loss is at random"},
    {"AERON_UDP_CHANNEL_TRANSPORT_BINDINGS_MEDIA", as_bindings, "", kBindings},
    {"AERON_CONDUCTOR_UDP_CHANNEL_TRANSPORT_BINDINGS_MEDIA", as_bindings, "", kBindings},
    {"AERON_DRIVER_CONDUCTOR_CYCLE_THRESHOLD", as_nothing, "", kStall},
    {"AERON_DRIVER_SENDER_CYCLE_THRESHOLD", as_nothing, "", kStall},
    {"AERON_DRIVER_RECEIVER_CYCLE_THRESHOLD", as_nothing, "", kStall},
    {"AERON_DRIVER_NAME_RESOLVER_THRESHOLD", as_nothing, "", "names are resolved beside the conductor"},
    {"AERON_NAME_RESOLVER_THRESHOLD", as_nothing, "", "names are resolved beside the conductor"},
    {"AERON_RECEIVER_IO_VECTOR_CAPACITY", as_nothing, "", kBatches},
    {"AERON_SENDER_IO_VECTOR_CAPACITY", as_nothing, "", kBatches},
    {"AERON_NETWORK_PUBLICATION_MAX_MESSAGES_PER_SEND", as_nothing, "", kBatches},
    {"AERON_DRIVER_RESOURCE_FREE_LIMIT", as_nothing, "", "logs are freed in small steps beside the conductor"},
    {"AERON_DRIVER_ASYNC_EXECUTOR_THREADS", as_nothing, "", "the control plane has a thread for files and one for names"},
    {"AERON_DRIVER_CONNECT", as_nothing, "", "sockets are shared by channels, so none is connected"},
    {"AERON_DRIVER_DYNAMIC_LIBRARIES", as_nothing, "", "nothing is loaded into the driver"},
    {"AERON_DRIVER_CPUSET_AFFINITY", as_nothing, "", "name CPUs in dataplane.lanes"},
    {"AERON_DRIVER_CPUSET_WARNINGS_AS_ERRORS", as_nothing, "", "dataplane.cpu-mode: exclusive makes taken CPUs errors"},
    {"AERON_DRIVER_NATIVE_RESOURCE_AGENT_CPU_AFFINITY", as_nothing, "", "the worker thread floats"},
    {"AERON_DRIVER_NATIVE_RESOURCE_AGENT_IDLE_STRATEGY", as_nothing, "", "the worker thread sleeps until there is work"},
    {"AERON_DRIVER_NATIVE_RESOURCE_AGENT_IDLE_STRATEGY_INIT_ARGS", as_nothing, "", "the worker thread sleeps until there is work"},
    {"AERON_AGENT_ON_START_FUNCTION", as_nothing, "", "nothing is loaded into the driver"},
    {"AERON_THREAD_NAMING", as_nothing, "", "threads always have names"},
    {"AERON_ENABLE_EXPERIMENTAL_FEATURES", as_nothing, "", "everything is always on"},
    {"AERON_EVENT_LOG", as_nothing, "", kLogging},
    {"AERON_EVENT_LOG_DISABLE", as_nothing, "", kLogging},
    {"AERON_EVENT_LOG_FILENAME", as_nothing, "", kLogging},
    {"AERON_EVENT_LOG_FILE_MAX_LENGTH", as_nothing, "", kLogging},
};

using Settings = std::map<std::string, StockSetting, std::less<>>;

const StockSetting* find(const Settings& settings, std::string_view name) {
  const auto found = settings.find(name);
  return found == settings.end() ? nullptr : &found->second;
}

void note_no_effect(const StockSetting& setting, std::string_view why, StockTranslation& out) {
  out.notes.push_back(fmt::format("{} ({}) has no effect here: {}", setting.name, setting.origin, why));
}

// ---- threads ----
enum class Threading : std::uint8_t { kDedicated, kSharedNetwork, kShared };

Threading threading_of(const Settings& settings, StockTranslation& out) {
  const StockSetting* const mode = find(settings, "AERON_THREADING_MODE");
  const std::string word = mode == nullptr ? "dedicated" : plain_word(mode->value);
  if (word.ends_with("dedicated")) return Threading::kDedicated;
  if (word.ends_with("sharednetwork")) return Threading::kSharedNetwork;
  if (!word.ends_with("shared") && !word.ends_with("invoker")) refuse(*mode, "DEDICATED, SHARED_NETWORK, SHARED or INVOKER", out);
  return Threading::kShared;
}

// The CPUs that lanes are to have, each once; the first setting that names one goes into `asked_by`.
std::vector<std::int64_t> lane_cpus(const Settings& settings, Threading threading, const StockSetting*& asked_by, StockTranslation& out) {
  std::vector<std::int64_t> cpus;
  for (const std::string_view name : {"AERON_SENDER_CPU_AFFINITY", "AERON_RECEIVER_CPU_AFFINITY", "AERON_CONDUCTOR_CPU_AFFINITY"}) {
    const StockSetting* const setting = find(settings, name);
    if (setting == nullptr) continue;
    const auto cpu = parse_integer(setting->value);
    const bool is_conductor = name == "AERON_CONDUCTOR_CPU_AFFINITY";
    if (!cpu) {
      refuse(*setting, "the number of a CPU, or -1", out);
    } else if (is_conductor && threading != Threading::kShared && *cpu >= 0) {
      out.notes.push_back(fmt::format("{} ({}) has no effect here: {}", name, setting->origin, kOwnProcess));
    } else if (*cpu >= 0 && std::find(cpus.begin(), cpus.end(), *cpu) == cpus.end()) {
      if (cpus.empty() || threading == Threading::kDedicated) cpus.push_back(*cpu);
      else out.notes.push_back(fmt::format("{} ({}) has no effect here: this threading mode has one lane, on CPU {}", name, setting->origin, cpus.front()));
      if (asked_by == nullptr) asked_by = setting;
    }
  }
  return cpus;
}

constexpr std::uint32_t kCpusForTwoLanes = 4;  // below it two lanes only take turns on what there is, beside the applications

void translate_lanes(const Settings& settings, Threading threading, const StockMachine& machine, StockTranslation& out) {
  const StockSetting* asked_by = find(settings, "AERON_THREADING_MODE");
  const auto cpus = lane_cpus(settings, threading, asked_by, out);
  if (asked_by == nullptr && machine.has_configuration) return;
  std::string lanes;
  for (const std::int64_t cpu : cpus) lanes += fmt::format("{}{{cpu: {}}}", lanes.empty() ? "" : ", ", cpu);
  if (cpus.empty()) lanes = threading == Threading::kDedicated && machine.cpu_count >= kCpusForTwoLanes ? "{}, {}" : "{}";
  set(kLanes, "[" + lanes + "]", asked_by == nullptr ? StockSetting{{}, {}, "the stock driver's threads"} : *asked_by, out);
}

// Our strategies from the keenest to the laziest, and what the stock ones' names hold; "backoff" before words it may hold.
struct Idle {
  std::string_view ours;
  std::string_view word;
};
constexpr Idle kIdles[] = {{"noop", "noop"}, {"busy-spin", "spin"}, {"yield", "yield"}, {"backoff", "backoff"}, {"sleep", "sleep"}};

std::size_t idle_of(const StockSetting& setting, StockTranslation& out) {
  const std::string word = plain_word(setting.value);
  for (std::size_t i = 0; i < std::size(kIdles); ++i) {
    if (word.find(kIdles[i].word) != std::string::npos) return i;
  }
  refuse(setting, "noop, busy_spin, yield, sleep-ns or backoff", out);
  return std::size(kIdles);
}

// The argument of a sleeping strategy: a duration. Others have numbers of spins and yields, which ours fix.
void translate_idle_sleep(const Settings& settings, const StockSetting& strategy, std::string_view ours, StockTranslation& out) {
  constexpr std::int64_t kShortest_ns = 1'000;
  const StockSetting* const arguments = find(settings, strategy.name + "_INIT_ARGS");
  if (arguments == nullptr) return;
  if (ours != "sleep") {
    out.notes.push_back(fmt::format("{} ({}) has no effect here: only a sleeping strategy has an argument", arguments->name, arguments->origin));
  } else if (const auto sleep = parse_uri_duration_ns(arguments->value)) {
    set("dataplane.idle-sleep", std::to_string(std::max(*sleep, kShortest_ns)) + "ns", *arguments, out);
  } else {
    refuse(*arguments, "nanoseconds, or a duration such as 500us", out);
  }
}

// Strategies of threads that this threading mode does not have, and their arguments.
void note_other_idles(const Settings& settings, const std::vector<std::string_view>& names, StockTranslation& out) {
  for (const std::string_view thread : {"SENDER", "RECEIVER", "SHAREDNETWORK", "SHARED"}) {
    const std::string name = fmt::format("AERON_{}_IDLE_STRATEGY", thread);
    if (std::find(names.begin(), names.end(), name) != names.end()) continue;
    for (const std::string& one : {name, name + "_INIT_ARGS"}) {
      if (const StockSetting* const setting = find(settings, one)) note_no_effect(*setting, "AERON_THREADING_MODE is another", out);
    }
  }
}

void translate_idle(const Settings& settings, Threading threading, StockTranslation& out) {
  std::vector<std::string_view> names{"AERON_SENDER_IDLE_STRATEGY", "AERON_RECEIVER_IDLE_STRATEGY"};
  if (threading == Threading::kSharedNetwork) names = {"AERON_SHAREDNETWORK_IDLE_STRATEGY"};
  if (threading == Threading::kShared) names = {"AERON_SHARED_IDLE_STRATEGY"};
  note_other_idles(settings, names, out);
  const StockSetting* keenest = nullptr;
  std::size_t idle = std::size(kIdles);
  for (const std::string_view name : names) {
    const StockSetting* const setting = find(settings, name);
    const std::size_t its = setting == nullptr ? std::size(kIdles) : idle_of(*setting, out);
    if (its >= idle) continue;
    idle = its;
    keenest = setting;
  }
  for (const std::string_view name : names) {
    const std::string arguments = fmt::format("{}_INIT_ARGS", name);
    const StockSetting* const setting = find(settings, arguments);
    if (setting != nullptr && (keenest == nullptr || name != keenest->name)) note_no_effect(*setting, "it is another strategy that lanes idle by", out);
  }
  if (keenest == nullptr) return;
  set(kIdle, std::string{kIdles[idle].ours}, *keenest, out);
  translate_idle_sleep(settings, *keenest, kIdles[idle].ours, out);
}

// ---- names ----
void translate_names(const Settings& settings, StockTranslation& out) {
  const StockSetting* const supplier = find(settings, "AERON_NAME_RESOLVER_SUPPLIER");
  const std::string word = supplier == nullptr ? "default" : plain_word(supplier->value);
  if (word != "default" && word.find("driver") == std::string::npos) return refuse(*supplier, "default or driver", out);
  for (const Row& row : {Row{"AERON_DRIVER_RESOLVER_NAME", as_text, "names.name", {}}, Row{"AERON_DRIVER_RESOLVER_INTERFACE", as_text, "names.interface", {}},
                         Row{"AERON_DRIVER_RESOLVER_BOOTSTRAP_NEIGHBOR", as_list, "names.bootstrap-neighbors", {}}}) {
    const StockSetting* const setting = find(settings, row.name);
    if (setting == nullptr) continue;
    if (word != "default") row.translate(row, *setting, out);
    else out.notes.push_back(fmt::format("{} ({}) has no effect without AERON_NAME_RESOLVER_SUPPLIER=driver", setting->name, setting->origin));
  }
}

// ---- loss ----
bool read_rate(const StockSetting& setting, const std::string& value, config::FrameLoss& loss, StockTranslation& out) {
  const auto share = parse_share(value);
  if (!share) refuse(setting, "a rate from 0 to 1", out);
  loss.loss = share.value_or(0.0);
  return share.has_value();
}

// The stock drivers' seeds are 64 bits wide, -1 among them; ours are not negative.
bool read_seed(const StockSetting& setting, const std::string& value, config::FrameLoss& loss, StockTranslation& out) {
  std::uint64_t seed = 0;
  const std::size_t sign = value.starts_with('-') ? 1 : 0;
  const auto read = std::from_chars(value.data() + sign, value.data() + value.size(), seed);
  const bool is_number = read.ec == std::errc{} && read.ptr == value.data() + value.size() && value.size() > sign;
  if (!is_number) refuse(setting, "a whole number as the seed", out);
  loss.seed = seed & 0x7FFF'FFFF'FFFF'FFFF;
  return is_number;
}

// A mask in hexadecimal digits, bit n for frames of type n (wire-protocol 1.2).
bool read_mask(const StockSetting& setting, std::string_view digits, config::FrameLoss& loss, StockTranslation& out) {
  if (digits.starts_with("0x") || digits.starts_with("0X")) digits.remove_prefix(2);
  std::uint64_t mask = 0;
  const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), mask, 16);
  if (read.ec != std::errc{} || read.ptr != digits.data() + digits.size() || digits.empty()) {
    refuse(setting, "a mask of frame types such as recv-msg-mask=0xF", out);
    return false;
  }
  for (const config::FrameTypeWord& one : config::frame_type_words()) {
    if ((mask >> one.number & 1U) != 0) loss.types.emplace_back(one.word);
  }
  if (loss.types.empty()) loss.loss = 0.0;  // none of those that there are
  return true;
}

// "rate=0.1|seed=7|recv-msg-mask=0xf"; without a mask frames of every type are lost.
std::optional<config::FrameLoss> loss_of_arguments(const StockSetting& setting, StockTranslation& out) {
  config::FrameLoss loss;
  std::string_view mask;
  for (std::size_t begin = 0; begin < setting.value.size();) {
    const std::size_t end = std::min(setting.value.find('|', begin), setting.value.size());
    const std::string_view part = trimmed(std::string_view{setting.value}.substr(begin, end - begin));
    const std::string_view value = part.substr(std::min(part.find('='), part.size() - 1) + 1);
    begin = end + 1;
    if (part.starts_with("rate=")) {
      if (!read_rate(setting, std::string{value}, loss, out)) return std::nullopt;
    } else if (part.starts_with("seed=")) {
      if (!read_seed(setting, std::string{value}, loss, out)) return std::nullopt;
    } else if (part.starts_with("recv-msg-mask=")) {
      mask = value.empty() ? std::string_view{"-"} : value;
    } else {
      refuse(setting, "rate=, seed= and recv-msg-mask=, with | between them", out);
      return std::nullopt;
    }
  }
  if (!mask.empty() && !read_mask(setting, mask, loss, out)) return std::nullopt;
  return loss;
}

// Sender and receiver of the stock drivers, each with what it sends and what it is sent.
struct DebugLoss {
  std::string_view name;
  std::string_view way;
  std::vector<std::string> types;
};
const std::vector<DebugLoss>& debug_losses() {
  static const std::vector<std::string> kData{"pad", "data", "setup"};
  static const std::vector<std::string> kControl{"nak", "sm", "err", "rttm", "rsp-setup"};
  static const std::vector<DebugLoss> kLosses{
      {"RECEIVE_DATA", "receive", kData}, {"RECEIVE_CONTROL", "send", kControl}, {"SEND_DATA", "send", kData}, {"SEND_CONTROL", "receive", kControl}};
  return kLosses;
}

void translate_debug_loss(const Settings& settings, StockTranslation& out) {
  for (const DebugLoss& debug : debug_losses()) {
    const StockSetting* const rate = find(settings, fmt::format("AERON_DEBUG_{}_LOSS_RATE", debug.name));
    const StockSetting* const seed = find(settings, fmt::format("AERON_DEBUG_{}_LOSS_SEED", debug.name));
    config::FrameLoss loss;
    loss.way = debug.way;
    loss.types = debug.types;
    const bool is_good = (rate == nullptr || read_rate(*rate, rate->value, loss, out)) && (seed == nullptr || read_seed(*seed, seed->value, loss, out));
    if (is_good && loss.loss > 0.0) out.frame_losses.push_back(std::move(loss));
    else if (is_good && seed != nullptr) note_no_effect(*seed, "its rate is not set, or 0", out);
  }
}

void translate_loss(const Settings& settings, StockTranslation& out) {
  translate_debug_loss(settings, out);
  const StockSetting* const arguments = find(settings, "AERON_UDP_CHANNEL_TRANSPORT_BINDINGS_LOSS_ARGS");
  const auto loss = arguments != nullptr ? loss_of_arguments(*arguments, out) : std::nullopt;
  bool is_read = false;
  for (const auto& [name, way] : {std::pair{"AERON_UDP_CHANNEL_INCOMING_INTERCEPTORS", "receive"}, std::pair{"AERON_UDP_CHANNEL_OUTGOING_INTERCEPTORS", "send"}}) {
    const StockSetting* const interceptor = find(settings, name);
    if (interceptor == nullptr) continue;
    if (plain_word(interceptor->value) != "loss") {
      refuse(*interceptor, "loss: no other interceptor is there", out);
    } else if (arguments == nullptr) {
      note_no_effect(*interceptor, "AERON_UDP_CHANNEL_TRANSPORT_BINDINGS_LOSS_ARGS is not set", out);
    } else if (loss && loss->loss > 0.0) {
      out.frame_losses.push_back(*loss);
      out.frame_losses.back().way = way;
    }
    is_read = true;
  }
  if (arguments != nullptr && !is_read) note_no_effect(*arguments, "no interceptor is called loss", out);
}

// ---- properties ----
bool is_of_applications(std::string_view name) {
  if (name == "AERON_CLIENT_LIVENESS_TIMEOUT") return false;
  for (const std::string_view prefix : {"AERON_CLIENT_", "AERON_ARCHIVE_", "AERON_CLUSTER_", "AERON_SAMPLE_", "AERON_EVENT_ARCHIVE_", "AERON_EVENT_CLUSTER_"}) {
    if (name.starts_with(prefix)) return true;
  }
  return name == "AERON_PRE_TOUCH_MAPPED_MEMORY";
}

std::string name_of_property(std::string_view property) {
  std::string name;
  for (const char c : property) name += c == '.' ? '_' : c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return name;
}

void note_unknown(const StockSetting& setting, StockTranslation& out) {
  std::vector<std::string_view> names;
  for (const Row& row : kRows) names.push_back(row.name);
  const std::string_view near = config::nearest_word(setting.name, names);
  out.notes.push_back(fmt::format("{} ({}) is no setting of a media driver{}", setting.name, setting.origin, near.empty() ? "" : fmt::format("; did you mean {}?", near)));
}

}  // namespace

std::vector<StockSetting> stock_settings_of(const std::vector<std::string>& environment) {
  std::vector<StockSetting> settings;
  for (const std::string& variable : environment) {
    const std::size_t equals = variable.find('=');
    if (!variable.starts_with("AERON_") || equals == std::string::npos) continue;
    const std::string name = variable.substr(0, equals);
    if (!is_of_applications(name)) settings.push_back({name, std::string{trimmed(std::string_view{variable}.substr(equals + 1))}, "environment " + name});
  }
  return settings;
}

std::vector<StockSetting> stock_settings_of_environment() {
  std::vector<std::string> environment;
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable) environment.emplace_back(*variable);
  return stock_settings_of(environment);
}

Result<StockSetting> stock_setting_of(std::string_view definition) {
  const std::size_t equals = definition.find('=');
  if (equals == std::string_view::npos || trimmed(definition.substr(0, equals)).empty()) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("-D {} needs name=value", definition), "as in -D aeron.mtu.length=8k");
  }
  const std::string_view name = trimmed(definition.substr(0, equals));
  return StockSetting{name_of_property(name), std::string{trimmed(definition.substr(equals + 1))}, fmt::format("-D {}", name)};
}

std::vector<StockSetting> parse_properties(std::string_view text, const std::string& file) {
  std::vector<StockSetting> settings;
  std::string line;
  int first_line = 0;
  int number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view part = trimmed(text.substr(begin, end - begin));
    begin = end + 1;
    ++number;
    if (line.empty()) first_line = number;
    if (line.empty() && (part.empty() || part.front() == '#' || part.front() == '!')) continue;
    const bool goes_on = part.ends_with('\\') && begin < text.size();
    line += part.ends_with('\\') ? part.substr(0, part.size() - 1) : part;
    if (goes_on) continue;
    const std::size_t gap = std::min(line.find_first_of("=: \t"), line.size());
    const std::size_t value = line.find_first_not_of(" \t", gap);
    const bool has_sign = value != std::string::npos && (line[value] == '=' || line[value] == ':');
    const std::string_view rest = value == std::string::npos ? std::string_view{} : std::string_view{line}.substr(value + (has_sign ? 1 : 0));
    StockSetting setting{name_of_property(std::string_view{line}.substr(0, gap)), std::string{trimmed(rest)}, fmt::format("{}:{}", file, first_line)};
    if (!is_of_applications(setting.name)) settings.push_back(std::move(setting));
    line.clear();
  }
  return settings;
}

Result<std::vector<StockSetting>> read_properties(const std::string& path) {
  constexpr std::size_t kBytesMax = 1U << 20;
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file{std::fopen(path.c_str(), "rbe"), &std::fclose};
  if (!file) {
    const int saved = errno;
    return fail_errno(saved == ENOENT ? ErrorCode::kNotFound : saved == EACCES ? ErrorCode::kPermission : ErrorCode::kIo, "read " + path, saved);
  }
  std::string text(kBytesMax + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (std::ferror(file.get()) != 0) return fail(ErrorCode::kIo, "read " + path + " failed");
  if (text.size() > kBytesMax) return fail(ErrorCode::kInvalidArgument, path + " is larger than 1 MiB", "is it a properties file?");
  return parse_properties(text, path);
}

StockTranslation translate(const std::vector<StockSetting>& all, const StockMachine& machine) {
  StockTranslation out;
  Settings settings;
  for (const StockSetting& setting : all) {
    if (!setting.value.empty()) settings.insert_or_assign(setting.name, setting);
  }
  for (const auto& [name, setting] : settings) {
    const auto row = std::find_if(std::begin(kRows), std::end(kRows), [&name = name](const Row& candidate) { return candidate.name == name; });
    if (row == std::end(kRows)) note_unknown(setting, out);
    else if (row->translate != nullptr) row->translate(*row, setting, out);
  }
  // wire-protocol 7: a linger time-out that is not set is the window limit's.
  const StockSetting* const limit = find(settings, "AERON_UNTETHERED_WINDOW_LIMIT_TIMEOUT");
  if (limit != nullptr && find(settings, "AERON_UNTETHERED_LINGER_TIMEOUT") == nullptr) {
    if (const auto value = parse_uri_duration_ns(limit->value)) set("streams.untethered-linger-timeout", std::to_string(*value) + "ns", *limit, out);
  }
  const Threading threading = threading_of(settings, out);
  translate_lanes(settings, threading, machine, out);
  translate_idle(settings, threading, out);
  translate_names(settings, out);
  translate_loss(settings, out);
  return out;
}

std::vector<StockKey> stock_keys() {
  std::vector<StockKey> keys;
  for (const Row& row : kRows) keys.push_back({row.name, row.path, row.remark, has_effect(row)});
  return keys;
}

}  // namespace thalweg::cli
