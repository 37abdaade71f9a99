// The settings of a stock driver's executable in the words of our configuration.
#include "controlplane/cli/stock_settings.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/support/temporary_directory.hpp"
#include "tests/unit/cli/instance_fixture.hpp"

namespace thalweg::cli {
namespace {

std::vector<StockSetting> environment(const std::vector<std::string>& variables) { return stock_settings_of(variables); }

// "path=value" of what the settings become, without the lanes that are there anyway.
std::vector<std::string> keys_of(const StockTranslation& translation) {
  std::vector<std::string> keys;
  for (const auto& setting : translation.settings) {
    if (setting.path != "dataplane.lanes" || setting.origin.starts_with("environment")) keys.push_back(setting.path + "=" + setting.value);
  }
  return keys;
}
std::vector<std::string> keys_of(const std::vector<std::string>& variables, std::uint32_t cpus = 2) {
  const StockTranslation translation = translate(environment(variables), {.cpu_count = cpus});
  EXPECT_TRUE(translation.errors.empty()) << translation.errors.front().to_string();
  return keys_of(translation);
}

// What our configuration says to it: nothing, where all is well.
std::string refusal_of(const StockTranslation& translation) {
  config::Overrides overrides;
  overrides.flags = translation.settings;
  std::string text;
  for (const config::Diagnostic& error : config::load_text("", "none", overrides).errors) text += error.to_string() + "\n";
  return text;
}

struct Mapping {
  const char* variable;
  const char* value;
  std::vector<std::string> keys;  // "path=value"
};

// Every setting that has a key of ours, with a value that is not the default.
const std::vector<Mapping>& mappings() {
  static const std::vector<Mapping> kMappings{
      {"AERON_DIR", "/dev/shm/elsewhere", {R"(instance.directory="/dev/shm/elsewhere")"}},
      {"AERON_DIR_DELETE_ON_START", "true", {"instance.delete-on-start=true"}},
      {"AERON_DIR_DELETE_ON_SHUTDOWN", "1", {"instance.delete-on-shutdown=true"}},
      {"AERON_THREADING_MODE", "SHARED", {"dataplane.lanes=[{}]"}},
      {"AERON_SENDER_CPU_AFFINITY", "1", {"dataplane.lanes=[{cpu: 1}]"}},
      {"AERON_RECEIVER_CPU_AFFINITY", "0", {"dataplane.lanes=[{cpu: 0}]"}},
      {"AERON_SENDER_IDLE_STRATEGY", "busy_spin", {"dataplane.idle=busy-spin"}},
      {"AERON_RECEIVER_IDLE_STRATEGY", "org.agrona.concurrent.YieldingIdleStrategy", {"dataplane.idle=yield"}},
      {"AERON_MTU_LENGTH", "8k", {"streams.mtu=8192"}},
      {"AERON_IPC_MTU_LENGTH", "4096", {"streams.ipc-mtu=4096"}},
      {"AERON_TERM_BUFFER_LENGTH", "64k", {"streams.term-length=65536"}},
      {"AERON_IPC_TERM_BUFFER_LENGTH", "1m", {"streams.ipc-term-length=1048576"}},
      {"AERON_TERM_BUFFER_SPARSE_FILE", "false", {"streams.sparse=false"}},
      {"AERON_PUBLICATION_TERM_WINDOW_LENGTH", "1m", {"streams.publication-window=1048576"}},
      {"AERON_IPC_PUBLICATION_TERM_WINDOW_LENGTH", "2M", {"streams.ipc-publication-window=2097152"}},
      {"AERON_RCV_INITIAL_WINDOW_LENGTH", "64k", {"streams.receiver-window=65536"}},
      {"AERON_RCV_STATUS_MESSAGE_TIMEOUT", "100ms", {"streams.status-message-timeout=100000000ns"}},
      {"AERON_SOCKET_SO_RCVBUF", "2m", {"streams.socket-rcvbuf=2097152"}},
      {"AERON_SOCKET_SO_SNDBUF", "2m", {"streams.socket-sndbuf=2097152"}},
      {"AERON_SOCKET_MULTICAST_TTL", "4", {"streams.multicast-ttl=4"}},
      {"AERON_PUBLICATION_LINGER_TIMEOUT", "1000000000", {"streams.linger=1000000000ns"}},
      {"AERON_PUBLICATION_CONNECTION_TIMEOUT", "2s", {"streams.connection-timeout=2000000000ns"}},
      {"AERON_PUBLICATION_UNBLOCK_TIMEOUT", "20s", {"streams.unblock-timeout=20000000000ns"}},
      {"AERON_IMAGE_LIVENESS_TIMEOUT", "2s", {"streams.image-liveness-timeout=2000000000ns"}},
      {"AERON_CLIENT_LIVENESS_TIMEOUT", "5s", {"control-plane.client-liveness-timeout=5000000000ns"}},
      {"AERON_TIMER_INTERVAL", "100ms", {"control-plane.timer-interval=100000000ns"}},
      {"AERON_DRIVER_TIMEOUT", "5000", {"control-plane.driver-timeout=5000ms"}},
      {"AERON_COUNTERS_FREE_TO_REUSE_TIMEOUT", "2s", {"control-plane.counters-free-to-reuse-timeout=2000000000ns"}},
      {"AERON_UNTETHERED_WINDOW_LIMIT_TIMEOUT", "2s", {"streams.untethered-window-limit-timeout=2000000000ns", "streams.untethered-linger-timeout=2000000000ns"}},
      {"AERON_UNTETHERED_LINGER_TIMEOUT", "3s", {"streams.untethered-linger-timeout=3000000000ns"}},
      {"AERON_UNTETHERED_RESTING_TIMEOUT", "4s", {"streams.untethered-resting-timeout=4000000000ns"}},
      {"AERON_NAK_UNICAST_DELAY", "60us", {"streams.nak-delay=60000ns"}},
      {"AERON_NAK_UNICAST_RETRY_DELAY_RATIO", "50", {"streams.nak-retry-ratio=50"}},
      {"AERON_NAK_MULTICAST_MAX_BACKOFF", "20ms", {"streams.nak-multicast-max-backoff=20000000ns"}},
      {"AERON_NAK_MULTICAST_GROUP_SIZE", "100", {"streams.nak-multicast-group-size=100"}},
      {"AERON_RETRANSMIT_UNICAST_DELAY", "1us", {"streams.retransmit-delay=1000ns"}},
      {"AERON_RETRANSMIT_UNICAST_LINGER", "60ms", {"streams.retransmit-linger=60000000ns"}},
      {"AERON_MAX_RESEND", "8", {"streams.max-resend=8"}},
      {"AERON_MULTICAST_FLOWCONTROL_SUPPLIER", "io.aeron.driver.MinMulticastFlowControlSupplier", {"streams.multicast-flow-control=min"}},
      {"AERON_MULTICAST_FLOW_CONTROL_STRATEGY", "tagged", {"streams.multicast-flow-control=tagged"}},
      {"AERON_UNICAST_FLOW_CONTROL_RRWM", "4", {"streams.unicast-retransmit-window-multiple=4"}},
      {"AERON_MULTICAST_FLOW_CONTROL_RRWM", "2", {"streams.multicast-retransmit-window-multiple=2"}},
      {"AERON_FLOW_CONTROL_RECEIVER_TIMEOUT", "2s", {"streams.flow-control-receiver-timeout=2000000000ns"}},
      {"AERON_FLOW_CONTROL_GROUP_TAG", "-7", {"streams.flow-control-group-tag=-7"}},
      {"AERON_FLOW_CONTROL_GROUP_MIN_SIZE", "3", {"streams.flow-control-group-min-size=3"}},
      {"AERON_RECEIVER_GROUP_TAG", "9", {"streams.receiver-group-tag=9"}},
      {"AERON_RECEIVER_GROUP_CONSIDERATION", "FORCE_TRUE", {"streams.receiver-group=always"}},
      {"AERON_CONGESTIONCONTROL_SUPPLIER", "cubic", {"streams.congestion-control=cubic"}},
      {"AERON_CUBICCONGESTIONCONTROL_MEASURERTT", "true", {"streams.cubic-measure-rtt=true"}},
      {"AERON_CUBICCONGESTIONCONTROL_INITIALRTT", "200us", {"streams.cubic-initial-rtt=200000ns"}},
      {"AERON_CUBICCONGESTIONCONTROL_TCPMODE", "true", {"streams.cubic-tcp-mode=true"}},
      {"AERON_RELIABLE_STREAM", "false", {"streams.reliable=false"}},
      {"AERON_REJOIN_STREAM", "off", {"streams.rejoin=false"}},
      {"AERON_TETHER_SUBSCRIPTIONS", "FALSE", {"streams.tether=false"}},
      {"AERON_SPIES_SIMULATE_CONNECTION", "true", {"streams.spies-simulate-connection=true"}},
      {"AERON_PUBLICATION_RESERVED_SESSION_ID_LOW", "-5", {"control-plane.reserved-session-id-low=-5"}},
      {"AERON_PUBLICATION_RESERVED_SESSION_ID_HIGH", "5", {"control-plane.reserved-session-id-high=5"}},
      {"AERON_DRIVER_STREAM_SESSION_LIMIT", "12", {"streams.session-limit=12"}},
      {"AERON_SENDER_WILDCARD_PORT_RANGE", "20700 20799", {"streams.sender-wildcard-port-low=20700", "streams.sender-wildcard-port-high=20799"}},
      {"AERON_RECEIVER_WILDCARD_PORT_RANGE", "20800 20899", {"streams.receiver-wildcard-port-low=20800", "streams.receiver-wildcard-port-high=20899"}},
      {"AERON_CONDUCTOR_BUFFER_LENGTH", "2097920", {"control-plane.to-driver-buffer=2097152"}},
      {"AERON_CLIENTS_BUFFER_LENGTH", "4194432", {"control-plane.to-clients-buffer=4194304"}},
      {"AERON_COUNTERS_BUFFER_LENGTH", "8m", {"control-plane.counters=65536"}},
      {"AERON_ERROR_BUFFER_LENGTH", "8m", {"control-plane.error-log=8388608"}},
      {"AERON_LOSS_REPORT_BUFFER_LENGTH", "5k", {"control-plane.loss-report=8192"}},
      {"AERON_PERFORM_STORAGE_CHECKS", "false", {"control-plane.low-storage-warning=0"}},
      {"AERON_LOW_FILE_STORE_WARNING_THRESHOLD", "32m", {"control-plane.low-storage-warning=33554432"}},
      {"AERON_DRIVER_TERMINATION_VALIDATOR", "allow", {"control-plane.allow-termination=true"}},
      {"AERON_DRIVER_RESOLVER_NEIGHBOR_TIMEOUT", "5s", {"names.neighbor-timeout=5000000000ns"}},
      {"AERON_DRIVER_RESOLVER_SELF_RESOLUTION_INTERVAL", "2s", {"names.self-resolution-interval=2000000000ns"}},
      {"AERON_DRIVER_RESOLVER_NEIGHBOR_RESOLUTION_INTERVAL", "3s", {"names.neighbor-resolution-interval=3000000000ns"}},
      {"AERON_DRIVER_RESOLVER_BOOTSTRAP_NEIGHBOR_RESOLUTION_INTERVAL", "4s", {"names.bootstrap-resolution-interval=4000000000ns"}},
      {"AERON_DRIVER_RERESOLUTION_CHECK_INTERVAL", "0", {"names.re-resolution-interval=0ns"}},
  };
  return kMappings;
}

TEST(StockSettings, each_setting_becomes_its_key_and_our_configuration_takes_it) {
  for (const Mapping& mapping : mappings()) {
    const StockTranslation translation = translate(environment({std::string{mapping.variable} + "=" + mapping.value}), {.cpu_count = 2});
    ASSERT_TRUE(translation.errors.empty()) << translation.errors.front().to_string();
    EXPECT_EQ(keys_of(translation), mapping.keys) << mapping.variable;
    EXPECT_EQ(refusal_of(translation), "") << mapping.variable;
    EXPECT_TRUE(translation.notes.empty()) << translation.notes.front();
  }
}

// Settings that count only together with others have tests of their own below.
TEST(StockSettings, no_setting_with_a_key_is_without_a_test) {
  std::set<std::string, std::less<>> tested{"AERON_CONDUCTOR_CPU_AFFINITY", "AERON_SHAREDNETWORK_IDLE_STRATEGY", "AERON_SHARED_IDLE_STRATEGY"};
  for (const Mapping& mapping : mappings()) tested.insert(mapping.variable);
  for (const StockKey& key : stock_keys()) {
    const bool is_of_a_group = key.name.ends_with("_INIT_ARGS") || key.path == "ports[].impair.frames" || key.name.starts_with("AERON_DRIVER_RESOLVER_");
    EXPECT_TRUE(key.path.empty() || is_of_a_group || tested.contains(key.name)) << key.name;
  }
}

TEST(StockSettings, no_key_that_is_named_is_missing_in_our_configuration) {
  for (const StockKey& key : stock_keys()) {
    if (key.path.empty() || key.path.starts_with("ports[]")) continue;
    const std::string path = std::string{key.path} + (key.path.ends_with("wildcard-port") ? "-low" : "");
    config::Overrides overrides;
    overrides.flags = {{path, "%", "test"}};
    const auto errors = config::load_text("", "none", overrides).errors;
    for (const config::Diagnostic& error : errors) EXPECT_EQ(error.text.find("unknown key"), std::string::npos) << error.text;
  }
}

TEST(StockSettings, nothing_set_gives_floating_lanes_as_the_stock_driver_has_threads) {
  const auto lanes = [](std::uint32_t cpus) { return translate({}, {.cpu_count = cpus}).settings.front().value; };
  EXPECT_EQ(lanes(1), "[{}]");
  EXPECT_EQ(lanes(3), "[{}]");
  EXPECT_EQ(lanes(4), "[{}, {}]");
  EXPECT_EQ(refusal_of(translate({}, {.cpu_count = 8})), "");
  EXPECT_TRUE(translate({}, {.cpu_count = 8, .has_configuration = true}).settings.empty()) << "the file says which";
}

TEST(StockSettings, threads_become_lanes) {
  using Keys = std::vector<std::string>;
  EXPECT_EQ(keys_of({"AERON_THREADING_MODE=DEDICATED"}, 16), Keys{"dataplane.lanes=[{}, {}]"});
  EXPECT_EQ(keys_of({"AERON_THREADING_MODE=SHARED_NETWORK"}, 16), Keys{"dataplane.lanes=[{}]"});
  EXPECT_EQ(keys_of({"AERON_THREADING_MODE=INVOKER"}, 16), Keys{"dataplane.lanes=[{}]"});
  EXPECT_EQ(keys_of({"AERON_SENDER_CPU_AFFINITY=2", "AERON_RECEIVER_CPU_AFFINITY=3"}, 16), Keys{"dataplane.lanes=[{cpu: 2}, {cpu: 3}]"});
  EXPECT_EQ(keys_of({"AERON_SENDER_CPU_AFFINITY=2", "AERON_RECEIVER_CPU_AFFINITY=2"}, 16), Keys{"dataplane.lanes=[{cpu: 2}]"});
  EXPECT_EQ(keys_of({"AERON_THREADING_MODE=SHARED", "AERON_CONDUCTOR_CPU_AFFINITY=5"}, 16), Keys{"dataplane.lanes=[{cpu: 5}]"});
  EXPECT_EQ(keys_of({"AERON_SENDER_CPU_AFFINITY=-1"}), Keys{});
  EXPECT_EQ(translate(environment({"AERON_CONDUCTOR_CPU_AFFINITY=5"}), {.cpu_count = 16}).notes.size(), 1U);
}

TEST(StockSettings, the_idle_strategy_is_that_of_the_threading_mode_and_the_keener_of_two) {
  using Keys = std::vector<std::string>;
  EXPECT_EQ(keys_of({"AERON_SENDER_IDLE_STRATEGY=backoff", "AERON_RECEIVER_IDLE_STRATEGY=noop"}), Keys{"dataplane.idle=noop"});
  const Keys shared = keys_of({"AERON_THREADING_MODE=SHARED", "AERON_SHARED_IDLE_STRATEGY=sleep-ns", "AERON_SHARED_IDLE_STRATEGY_INIT_ARGS=100us", "AERON_SENDER_IDLE_STRATEGY=noop"});
  EXPECT_EQ(shared, (Keys{"dataplane.lanes=[{}]", "dataplane.idle=sleep", "dataplane.idle-sleep=100000ns"}));
  EXPECT_EQ(keys_of({"AERON_THREADING_MODE=SHARED_NETWORK", "AERON_SHAREDNETWORK_IDLE_STRATEGY=spin"}), (Keys{"dataplane.lanes=[{}]", "dataplane.idle=busy-spin"}));
  const auto backoff = translate(environment({"AERON_SENDER_IDLE_STRATEGY=backoff", "AERON_SENDER_IDLE_STRATEGY_INIT_ARGS=10,20"}), {});
  ASSERT_EQ(backoff.notes.size(), 1U);
  EXPECT_NE(backoff.notes[0].find("AERON_SENDER_IDLE_STRATEGY_INIT_ARGS"), std::string::npos);
}

TEST(StockSettings, driver_names_need_their_supplier) {
  const std::vector<std::string> names{"AERON_DRIVER_RESOLVER_NAME=left", "AERON_DRIVER_RESOLVER_INTERFACE=0.0.0.0:8050", "AERON_DRIVER_RESOLVER_BOOTSTRAP_NEIGHBOR=a:8050, b:8051"};
  auto with = names;
  with.emplace_back("AERON_NAME_RESOLVER_SUPPLIER=driver");
  EXPECT_EQ(keys_of(with), (std::vector<std::string>{R"(names.name="left")", R"(names.interface="0.0.0.0:8050")", R"(names.bootstrap-neighbors=["a:8050","b:8051"])"}));
  EXPECT_EQ(refusal_of(translate(environment(with), {})), "");
  const auto without = translate(environment(names), {});
  EXPECT_TRUE(keys_of(without).empty());
  EXPECT_EQ(without.notes.size(), 3U);
}

// "send data,setup 0.25 seed 7"
std::vector<std::string> losses_of(const StockTranslation& translation) {
  std::vector<std::string> out;
  for (const config::FrameLoss& loss : translation.frame_losses) {
    std::string types;
    for (const std::string& type : loss.types) types += (types.empty() ? "" : ",") + type;
    out.push_back(fmt::format("{} {} {} seed {}", loss.way, types, loss.loss, loss.seed));
  }
  return out;
}

TEST(StockSettings, loss_is_of_what_sender_and_receiver_send_and_are_sent) {
  const auto debug = translate(environment({"AERON_DEBUG_RECEIVE_DATA_LOSS_RATE=0.1", "AERON_DEBUG_RECEIVE_CONTROL_LOSS_RATE=0.2", "AERON_DEBUG_SEND_DATA_LOSS_RATE=0.25",
                                            "AERON_DEBUG_SEND_DATA_LOSS_SEED=7", "AERON_DEBUG_SEND_CONTROL_LOSS_RATE=0.5", "AERON_DEBUG_SEND_CONTROL_LOSS_SEED=-1"}), {});
  EXPECT_EQ(losses_of(debug), (std::vector<std::string>{"receive pad,data,setup 0.1 seed 1", "send nak,sm,err,rttm,rsp-setup 0.2 seed 1", "send pad,data,setup 0.25 seed 7",
                                                        "receive nak,sm,err,rttm,rsp-setup 0.5 seed 1"}));
  EXPECT_TRUE(debug.notes.empty());
  const auto none = translate(environment({"AERON_DEBUG_RECEIVE_DATA_LOSS_RATE=0", "AERON_DEBUG_SEND_DATA_LOSS_SEED=7"}), {});
  EXPECT_TRUE(none.frame_losses.empty());
  EXPECT_EQ(none.notes.size(), 1U) << "a seed without a rate";
}

TEST(StockSettings, the_loss_interceptor_takes_frames_of_the_types_in_its_mask) {
  const auto of = [](const std::string& way, const std::string& arguments) {
    return translate(environment({"AERON_UDP_CHANNEL_" + way + "_INTERCEPTORS=loss", "AERON_UDP_CHANNEL_TRANSPORT_BINDINGS_LOSS_ARGS=" + arguments}), {});
  };
  EXPECT_EQ(losses_of(of("INCOMING", "rate=0.5|seed=3|recv-msg-mask=0xF")), std::vector<std::string>{"receive pad,data,nak,sm 0.5 seed 3"});
  EXPECT_EQ(losses_of(of("INCOMING", "rate=0.5|recv-msg-mask=820")), std::vector<std::string>{"receive setup,rsp-setup 0.5 seed 1"}) << "hexadecimal without 0x, too";
  EXPECT_EQ(losses_of(of("OUTGOING", "rate=1")), std::vector<std::string>{"send  1 seed 1"}) << "without a mask every type";
  EXPECT_TRUE(of("INCOMING", "rate=0.5|recv-msg-mask=0x100").frame_losses.empty()) << "a type that there is not";
  for (const char* const wrong : {"rate=2", "rate=0.5|seed=x", "rate=0.5|recv-msg-mask=", "rate=0.5|recv-msg-mask=0xG", "share=1", "rate"}) {
    EXPECT_EQ(of("INCOMING", wrong).errors.size(), 1U) << wrong;
  }
}

TEST(StockSettings, whatever_does_not_count_is_told_once) {
  const auto told = [](const std::vector<std::string>& variables, std::uint32_t cpus = 16) { return translate(environment(variables), {.cpu_count = cpus}).notes.size(); };
  EXPECT_EQ(told({"AERON_UDP_CHANNEL_TRANSPORT_BINDINGS_LOSS_ARGS=rate=0.5"}), 1U) << "no interceptor reads it";
  EXPECT_EQ(told({"AERON_UDP_CHANNEL_INCOMING_INTERCEPTORS=loss"}), 1U) << "it has no rate";
  EXPECT_EQ(told({"AERON_SHARED_IDLE_STRATEGY=noop", "AERON_SHARED_IDLE_STRATEGY_INIT_ARGS=1us"}), 2U) << "of another threading mode";
  EXPECT_EQ(told({"AERON_SENDER_IDLE_STRATEGY=noop", "AERON_RECEIVER_IDLE_STRATEGY=sleep", "AERON_RECEIVER_IDLE_STRATEGY_INIT_ARGS=1us"}), 1U) << "of the lazier strategy";
  EXPECT_EQ(told({"AERON_SENDER_IDLE_STRATEGY_INIT_ARGS=1us"}), 1U) << "of no strategy";
  EXPECT_EQ(told({"AERON_THREADING_MODE=SHARED", "AERON_SENDER_CPU_AFFINITY=1", "AERON_RECEIVER_CPU_AFFINITY=2"}), 1U) << "one lane has one CPU";
}

// wire-protocol 7: the properties of the table and the variables that are called otherwise.
TEST(StockSettings, every_setting_of_the_specification_is_known) {
  std::set<std::string_view> known;
  for (const StockKey& key : stock_keys()) known.insert(key.name);
  for (const char* const name :
       {"AERON_MTU_LENGTH", "AERON_IPC_MTU_LENGTH", "AERON_TERM_BUFFER_LENGTH", "AERON_IPC_TERM_BUFFER_LENGTH", "AERON_TERM_BUFFER_SPARSE_FILE",
        "AERON_PUBLICATION_TERM_WINDOW_LENGTH", "AERON_IPC_PUBLICATION_TERM_WINDOW_LENGTH", "AERON_RCV_INITIAL_WINDOW_LENGTH",
        "AERON_RCV_STATUS_MESSAGE_TIMEOUT", "AERON_SEND_TO_STATUS_POLL_RATIO", "AERON_SOCKET_SO_RCVBUF", "AERON_SOCKET_SO_SNDBUF",
        "AERON_SOCKET_MULTICAST_TTL", "AERON_PUBLICATION_LINGER_TIMEOUT", "AERON_PUBLICATION_CONNECTION_TIMEOUT",
        "AERON_PUBLICATION_UNBLOCK_TIMEOUT", "AERON_IMAGE_LIVENESS_TIMEOUT", "AERON_CLIENT_LIVENESS_TIMEOUT", "AERON_TIMER_INTERVAL",
        "AERON_DRIVER_TIMEOUT", "AERON_COUNTERS_FREE_TO_REUSE_TIMEOUT", "AERON_UNTETHERED_WINDOW_LIMIT_TIMEOUT", "AERON_UNTETHERED_LINGER_TIMEOUT",
        "AERON_UNTETHERED_RESTING_TIMEOUT", "AERON_NAK_UNICAST_DELAY", "AERON_NAK_UNICAST_RETRY_DELAY_RATIO", "AERON_NAK_MULTICAST_MAX_BACKOFF",
        "AERON_NAK_MULTICAST_GROUP_SIZE", "AERON_RETRANSMIT_UNICAST_DELAY", "AERON_RETRANSMIT_UNICAST_LINGER", "AERON_MAX_RESEND",
        "AERON_UNICAST_FLOWCONTROL_SUPPLIER", "AERON_MULTICAST_FLOWCONTROL_SUPPLIER", "AERON_UNICAST_FLOW_CONTROL_RRWM",
        "AERON_MULTICAST_FLOW_CONTROL_RRWM", "AERON_FLOW_CONTROL_RECEIVER_TIMEOUT", "AERON_FLOW_CONTROL_GROUP_TAG",
        "AERON_FLOW_CONTROL_GROUP_MIN_SIZE", "AERON_RECEIVER_GROUP_TAG", "AERON_RECEIVER_GROUP_CONSIDERATION", "AERON_CONGESTIONCONTROL_SUPPLIER",
        "AERON_CUBICCONGESTIONCONTROL_MEASURERTT", "AERON_CUBICCONGESTIONCONTROL_INITIALRTT", "AERON_CUBICCONGESTIONCONTROL_TCPMODE",
        "AERON_RELIABLE_STREAM", "AERON_REJOIN_STREAM", "AERON_TETHER_SUBSCRIPTIONS", "AERON_SPIES_SIMULATE_CONNECTION",
        "AERON_PUBLICATION_RESERVED_SESSION_ID_LOW", "AERON_PUBLICATION_RESERVED_SESSION_ID_HIGH", "AERON_DRIVER_STREAM_SESSION_LIMIT",
        "AERON_DRIVER_RERESOLUTION_CHECK_INTERVAL", "AERON_DRIVER_RESOLVER_NAME", "AERON_DRIVER_RESOLVER_INTERFACE",
        "AERON_DRIVER_RESOLVER_BOOTSTRAP_NEIGHBOR", "AERON_NAME_RESOLVER_SUPPLIER", "AERON_DRIVER_RESOLVER_NEIGHBOR_TIMEOUT",
        "AERON_DRIVER_RESOLVER_SELF_RESOLUTION_INTERVAL", "AERON_DRIVER_RESOLVER_NEIGHBOR_RESOLUTION_INTERVAL",
        "AERON_DRIVER_RESOLVER_BOOTSTRAP_NEIGHBOR_RESOLUTION_INTERVAL", "AERON_SENDER_WILDCARD_PORT_RANGE", "AERON_RECEIVER_WILDCARD_PORT_RANGE",
        "AERON_DRIVER_CONDUCTOR_CYCLE_THRESHOLD", "AERON_DRIVER_SENDER_CYCLE_THRESHOLD", "AERON_DRIVER_RECEIVER_CYCLE_THRESHOLD",
        "AERON_DRIVER_NAME_RESOLVER_THRESHOLD", "AERON_RECEIVER_IO_VECTOR_CAPACITY", "AERON_SENDER_IO_VECTOR_CAPACITY",
        "AERON_NETWORK_PUBLICATION_MAX_MESSAGES_PER_SEND", "AERON_DRIVER_CONNECT", "AERON_DRIVER_RESOURCE_FREE_LIMIT", "AERON_FILE_PAGE_SIZE",
        "AERON_LOSS_REPORT_BUFFER_LENGTH"}) {
    EXPECT_TRUE(known.contains(name)) << name;
  }
}

TEST(StockSettings, values_that_cannot_be_read_are_errors_that_name_the_setting_and_what_it_needs) {
  for (const char* const wrong : {"AERON_MTU_LENGTH=large", "AERON_TIMER_INTERVAL=1 second", "AERON_RELIABLE_STREAM=perhaps", "AERON_MAX_RESEND=1.5", "AERON_DRIVER_TIMEOUT=10s",
                                  "AERON_THREADING_MODE=MANY", "AERON_SENDER_IDLE_STRATEGY=hope", "AERON_SENDER_CPU_AFFINITY=two", "AERON_SENDER_WILDCARD_PORT_RANGE=20700",
                                  "AERON_MULTICAST_FLOWCONTROL_SUPPLIER=custom", "AERON_NAME_RESOLVER_SUPPLIER=csv_table", "AERON_DRIVER_TERMINATION_VALIDATOR=ask",
                                  "AERON_DEBUG_SEND_DATA_LOSS_RATE=1.5", "AERON_UDP_CHANNEL_INCOMING_INTERCEPTORS=mine", "AERON_RECEIVER_GROUP_CONSIDERATION=x"}) {
    const auto translation = translate(environment({wrong}), {});
    ASSERT_EQ(translation.errors.size(), 1U) << wrong;
    const std::string text = translation.errors[0].to_string();
    const std::string name = std::string{wrong}.substr(0, std::string{wrong}.find('='));
    EXPECT_TRUE(text.starts_with("environment " + name + ": error: " + name + " needs ")) << text;
  }
}

TEST(StockSettings, values_outside_our_limits_are_refused_with_the_settings_name) {
  EXPECT_NE(refusal_of(translate(environment({"AERON_MTU_LENGTH=1409"}), {})).find("environment AERON_MTU_LENGTH: error: "), std::string::npos);
  EXPECT_NE(refusal_of(translate(environment({"AERON_CLIENT_LIVENESS_TIMEOUT=500ms"}), {})).find("environment AERON_CLIENT_LIVENESS_TIMEOUT: error: "), std::string::npos);
}

TEST(StockSettings, what_is_unknown_or_without_effect_is_told_once_and_the_applications_settings_are_not) {
  const auto translation = translate(environment({"AERON_MTU_LENGHT=8k", "AERON_CLIENT_NAME=me", "AERON_ARCHIVE_DIR=/x", "AERON_SEND_TO_STATUS_POLL_RATIO=6", "HOME=/root",
                                                  "AERON_FILE_PAGE_SIZE=4k", "AERON_UDP_CHANNEL_TRANSPORT_BINDINGS_MEDIA=default", "AERON_UNICAST_FLOWCONTROL_SUPPLIER=max"}), {});
  ASSERT_EQ(translation.notes.size(), 2U);
  EXPECT_EQ(translation.notes[0], "AERON_MTU_LENGHT (environment AERON_MTU_LENGHT) is no setting of a media driver; did you mean AERON_MTU_LENGTH?");
  EXPECT_TRUE(translation.notes[1].starts_with("AERON_SEND_TO_STATUS_POLL_RATIO (environment AERON_SEND_TO_STATUS_POLL_RATIO) has no effect here: "));
  EXPECT_TRUE(translation.errors.empty());
}

TEST(StockSettings, an_empty_value_is_as_none) {
  EXPECT_TRUE(keys_of({"AERON_DIR=", "AERON_MTU_LENGTH= "}).empty());
}

TEST(StockSettings, properties_are_read_as_java_writes_them_and_later_ones_count) {
  const auto settings = parse_properties("# comment\n! another\n\naeron.mtu.length=8k\r\naeron.dir : /dev/shm/a b\naeron.CongestionControl.supplier cubic\n"
                                         "aeron.timer.interval=\\\n   100ms\naeron.client.name=me\naeron.mtu.length = 4k\nagrona.something=1\naeron.term.buffer.length\n",
                                         "f.properties");
  const auto translation = translate(settings, {.cpu_count = 1, .has_configuration = true});
  EXPECT_EQ(keys_of(translation), (std::vector<std::string>{"streams.congestion-control=cubic", R"(instance.directory="/dev/shm/a b")", "streams.mtu=4096", "control-plane.timer-interval=100000000ns"}));
  EXPECT_EQ(translation.settings[2].origin, "f.properties:10");
  EXPECT_EQ(translation.settings[3].origin, "f.properties:7");
  ASSERT_EQ(translation.notes.size(), 1U);
  EXPECT_NE(translation.notes[0].find("f.properties:11"), std::string::npos);
}

TEST(StockSettings, a_definition_is_a_property_with_a_value) {
  const auto setting = stock_setting_of("aeron.ipc.mtu.length=2k");
  ASSERT_TRUE(setting);
  EXPECT_EQ(setting->name, "AERON_IPC_MTU_LENGTH");
  EXPECT_EQ(setting->value, "2k");
  EXPECT_EQ(setting->origin, "-D aeron.ipc.mtu.length");
  EXPECT_FALSE(stock_setting_of("aeron.ipc.mtu.length"));
  EXPECT_FALSE(stock_setting_of("=2k"));
}

TEST(StockSettings, a_relative_directory_is_that_of_the_working_directory) {
  const auto keys = keys_of({"AERON_DIR=some/where/"});
  ASSERT_EQ(keys.size(), 1U);
  EXPECT_TRUE(keys[0].starts_with("instance.directory=\"/") && keys[0].ends_with("/some/where\"")) << keys[0];
}

TEST(MediaDriver, wrong_settings_start_nothing_and_name_their_place) {
  const thalweg::test::TemporaryDirectory directory{"media-driver"};
  const std::string file = directory.path() + "/driver.properties";
  std::FILE* const out = std::fopen(file.c_str(), "we");
  ASSERT_NE(out, nullptr);
  std::fputs("aeron.dir=/dev/shm/thalweg-never\naeron.mtu.length=7\naeron.mut.length=8\n", out);
  std::fclose(out);
  const test::Outcome outcome = test::thalweg({"media-driver", file, "-Daeron.threading.mode=NONE"});
  EXPECT_EQ(outcome.exit, 1);
  EXPECT_NE(outcome.err.find("-D aeron.threading.mode: error: AERON_THREADING_MODE needs DEDICATED"), std::string::npos) << outcome.err;
  const test::Outcome limits = test::thalweg({"media-driver", file});
  EXPECT_EQ(limits.exit, 1);
  EXPECT_NE(limits.err.find(file + ":2: error: "), std::string::npos) << limits.err;
  EXPECT_NE(limits.err.find("AERON_MUT_LENGTH (" + file + ":3) is no setting of a media driver"), std::string::npos) << limits.err;
  EXPECT_EQ(test::thalweg({"media-driver", directory.path() + "/none"}).exit, static_cast<int>(exit_of(ErrorCode::kNotFound)));
}

}  // namespace
}  // namespace thalweg::cli
