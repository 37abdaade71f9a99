// fc= and its driver defaults (wire-protocol 4.1, 5.13, 7): what is understood, and what the operator reads when it is not.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "controlplane/conductor/uri_params.hpp"
#include "dataplane/base/time.hpp"

namespace thalweg::conductor::testing {
namespace {

using shm::FlowControl;

Outcome<PublicationParams> publication(const std::string& params, const StreamDefaults& defaults = {}, bool is_group = true) {
  const auto uri = shm::ChannelUri::parse("aeron:udp?endpoint=224.20.30.39:24091" + params);
  EXPECT_TRUE(uri) << params;
  return parse_publication_params(*uri, defaults, is_group);
}
FlowControlParams flow_control(const std::string& fc) {
  const auto params = publication("|fc=" + fc);
  EXPECT_TRUE(params) << (params ? "" : params.error().text);
  return params ? params->flow_control : FlowControlParams{};
}
std::string error_of(const std::string& params, bool is_group = true) {
  const auto outcome = publication(params, {}, is_group);
  if (outcome) return "none";
  EXPECT_EQ(outcome.error().code, shm::ClientError::kInvalidChannel);
  return outcome.error().text;
}

// proves 4.1/2, 4.1/3, 4.1/4, 4.1/5, 4.1/6
TEST(FlowControlParameter, names_a_strategy_and_its_options_in_any_order) {
  EXPECT_EQ(flow_control("max").strategy, FlowControl::kMax);
  const FlowControlParams min = flow_control("min,g:/3,t:10s");
  EXPECT_EQ(min.strategy, FlowControl::kMin);
  EXPECT_EQ(min.group_min_size, 3);
  EXPECT_EQ(min.group_tag, -1);
  EXPECT_EQ(min.receiver_timeout_ns, 10'000'000'000);
  EXPECT_EQ(min.retransmit_window_multiple, 4);
  const FlowControlParams tagged = flow_control("tagged,rrwm:8,t:250ms,g:-9223372036854775808/2");
  EXPECT_EQ(tagged.strategy, FlowControl::kTagged);
  EXPECT_EQ(tagged.group_tag, INT64_MIN);
  EXPECT_EQ(tagged.group_min_size, 2);
  EXPECT_EQ(tagged.receiver_timeout_ns, 250'000'000);
  EXPECT_EQ(tagged.retransmit_window_multiple, 8);
  EXPECT_EQ(flow_control("tagged,g:101").group_tag, 101);
}

// proves 4.1/1
TEST(FlowControlParameter, is_ignored_by_unicast) {
  EXPECT_EQ(error_of("|fc=nonsense", false), "none");
  EXPECT_EQ(publication("|fc=min,g:/3,rrwm:2", {}, false)->flow_control.retransmit_window_multiple, 16);
  EXPECT_EQ(publication("|fc=min,g:/3", {}, false)->flow_control.strategy, FlowControl::kMax);
}

// proves 4.1/7
TEST(FlowControlParameter, a_mistake_names_the_parameter_the_part_and_what_is_allowed) {
  const std::pair<const char*, const char*> cases[] = {
      {"fastest", "fc=fastest: 'fastest' is not one of the flow control strategies max, min, tagged"},
      {"Min", "fc=Min: 'Min' is not one of the flow control strategies max, min, tagged"},
      {",g:/2", "fc=,g:/2: '' is not one of the flow control strategies max, min, tagged"},
      {"min,", "fc=min,: '' is not one of the options g:[<tag>][/<size>], t:<duration>, rrwm:<number>"},
      {"min,x:3", "fc=min,x:3: 'x:3' is not one of the options g:[<tag>][/<size>], t:<duration>, rrwm:<number>"},
      {"min,g:/-1", "fc=min,g:/-1: '-1' is not a group size from 0 to 2147483647"},
      {"min,g:/2147483648", "fc=min,g:/2147483648: '2147483648' is not a group size from 0 to 2147483647"},
      {"min,g:/", "fc=min,g:/: '' is not a group size from 0 to 2147483647"},
      {"tagged,g:", "fc=tagged,g:: '' is not a group tag, a 64-bit decimal number"},
      {"tagged,g:x/2", "fc=tagged,g:x/2: 'x' is not a group tag, a 64-bit decimal number"},
      {"tagged,g:9223372036854775808", "fc=tagged,g:9223372036854775808: '9223372036854775808' is not a group tag, a 64-bit decimal number"},
      {"min,t:5x", "fc=min,t:5x: 't:5x' is not a receiver timeout t:<duration> above 0, as in t:5s"},
      {"min,t:", "fc=min,t:: 't:' is not a receiver timeout t:<duration> above 0, as in t:5s"},
      {"min,t:0", "fc=min,t:0: 't:0' is not a receiver timeout t:<duration> above 0, as in t:5s"},
      {"max,rrwm:0", "fc=max,rrwm:0: 'rrwm:0' is not a retransmit window multiple rrwm:<number> from 1 to 2147483647"},
      {"max,rrwm:many", "fc=max,rrwm:many: 'rrwm:many' is not a retransmit window multiple rrwm:<number> from 1 to 2147483647"},
  };
  for (const auto& [fc, text] : cases) EXPECT_EQ(error_of(std::string{"|fc="} + fc).substr(0, std::string_view{text}.size()), text);
}

// proves 4.1/2, 4.1/5, 5.13/17
TEST(FlowControlParameter, what_it_leaves_open_comes_from_the_driver_defaults) {
  StreamDefaults defaults;
  defaults.multicast_flow_control = FlowControl::kTagged;
  defaults.flow_control_group_tag = 5;
  defaults.flow_control_group_min_size = 2;
  defaults.flow_control_receiver_timeout_ns = 7;
  defaults.multicast_retransmit_window_multiple = 9;
  defaults.unicast_retransmit_window_multiple = 3;
  const FlowControlParams open = publication("", defaults)->flow_control;
  EXPECT_EQ(open.strategy, FlowControl::kTagged);
  EXPECT_EQ(open.group_tag, 5);
  EXPECT_EQ(open.group_min_size, 2);
  EXPECT_EQ(open.receiver_timeout_ns, 7);
  EXPECT_EQ(open.retransmit_window_multiple, 9);
  const FlowControlParams partly = publication("|fc=min,g:/4", defaults)->flow_control;
  EXPECT_EQ(partly.strategy, FlowControl::kMin);
  EXPECT_EQ(partly.group_min_size, 4);
  EXPECT_EQ(partly.receiver_timeout_ns, 7);
  const FlowControlParams unicast = publication("", defaults, false)->flow_control;
  EXPECT_EQ(unicast.strategy, FlowControl::kMax);
  EXPECT_EQ(unicast.group_min_size, 0);
  EXPECT_EQ(unicast.retransmit_window_multiple, 3);
}

TEST(GroupParameter, overrides_the_driver_default_both_ways) {
  const auto group = [](const std::string& text, std::optional<bool> value) {
    StreamDefaults defaults;
    defaults.receiver_group = value;
    return parse_subscription_params(*shm::ChannelUri::parse("aeron:udp?endpoint=127.0.0.1:24091" + text), defaults)->group;
  };
  EXPECT_EQ(group("", {}), std::nullopt);
  EXPECT_EQ(group("", true), true);
  EXPECT_EQ(group("|group=infer", true), std::nullopt);
  EXPECT_EQ(group("|group=false", true), false);
  EXPECT_EQ(group("|group=true", {}), true);
  EXPECT_EQ(group("|group=maybe", {}), false) << "as the reference driver reads it";
}

Outcome<SubscriptionParams> subscription(const std::string& text, const StreamDefaults& defaults = {}) {
  return parse_subscription_params(*shm::ChannelUri::parse("aeron:udp?endpoint=127.0.0.1:24091" + text), defaults);
}

// proves 3.8/7
TEST(NakControlParameters, come_from_the_channel_or_the_driver_defaults) {
  const auto stock = subscription("");
  EXPECT_EQ(stock->nak_backoff_ns, 0);
  EXPECT_EQ(stock->nak_max, 0);
  const auto ours = subscription("|nak-delay=50us|nak-backoff=20ms|nak-max=30");
  EXPECT_EQ(ours->nak_delay_ns, 50'000);
  EXPECT_EQ(ours->nak_retry_ns, 5'000'000);
  EXPECT_EQ(ours->nak_backoff_ns, 20'000'000);
  EXPECT_EQ(ours->nak_max, 30);
  StreamDefaults defaults;
  defaults.nak_backoff_ns = 5;
  defaults.nak_max = 6;
  EXPECT_EQ(subscription("", defaults)->nak_backoff_ns, 5);
  EXPECT_EQ(subscription("|nak-max=0", defaults)->nak_max, 0);
  for (const char* const text : {"-1", "1000001"}) {
    const auto wrong = subscription(std::string{"|nak-max="} + text);
    ASSERT_FALSE(wrong);
    EXPECT_EQ(wrong.error().code, shm::ClientError::kInvalidChannel);
    EXPECT_TRUE(wrong.error().text.starts_with(std::string{"nak-max="} + text + " is not a number of NAKs from 1 to 1000000, or 0 for no end")) << wrong.error().text;
  }
}

// What a channel calls for ever is added to a lane's clock, twice at most, and must not come out as the past.
TEST(Durations, of_channels_are_never_so_long_that_a_deadline_wraps) {
  constexpr std::int64_t kCentury_ns = 100LL * 365 * 86'400 * kSecond_ns;
  const auto is_safe = [](std::int64_t duration_ns) { return duration_ns > kCentury_ns / 2 && duration_ns <= (INT64_MAX - kCentury_ns) / 2; };
  for (const std::string forever : {"9999999999999s", "9223372036854775807", "99999999999999999999s"}) {
    EXPECT_TRUE(is_safe(flow_control("min,t:" + forever).receiver_timeout_ns)) << forever;
    const auto sent = publication("|linger=" + forever + "|retransmit-linger=" + forever + "|untethered-resting-timeout=" + forever);
    ASSERT_TRUE(sent);
    EXPECT_TRUE(is_safe(sent->linger_ns)) << forever;
    EXPECT_TRUE(is_safe(sent->retransmit_linger_ns)) << forever;
    EXPECT_TRUE(is_safe(sent->untethered.resting_ns)) << forever;
    const auto received = subscription("|nak-delay=" + forever + "|nak-backoff=" + forever);
    ASSERT_TRUE(received);
    EXPECT_TRUE(is_safe(received->nak_delay_ns)) << forever;
    EXPECT_TRUE(is_safe(received->nak_retry_ns)) << forever;
    EXPECT_TRUE(is_safe(received->nak_backoff_ns)) << forever;
  }
}

// proves 4.6/2, 4.7/9
TEST(CongestionControlParameter, is_static_cubic_or_aimd) {
  EXPECT_EQ(subscription("")->congestion_control, shm::CongestionControl::kStatic);
  EXPECT_EQ(subscription("|cc=static")->congestion_control, shm::CongestionControl::kStatic);
  EXPECT_EQ(subscription("|cc=cubic")->congestion_control, shm::CongestionControl::kCubic);
  EXPECT_EQ(subscription("|cc=cubic")->receiver_window, 128 << 10);
  StreamDefaults defaults;
  defaults.congestion_control = shm::CongestionControl::kCubic;
  EXPECT_EQ(subscription("", defaults)->congestion_control, shm::CongestionControl::kCubic);
  EXPECT_EQ(subscription("|cc=static", defaults)->congestion_control, shm::CongestionControl::kStatic);
  const auto wrong = subscription("|cc=Cubic");
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code, shm::ClientError::kInvalidChannel);
  EXPECT_TRUE(wrong.error().text.starts_with("cc=Cubic is not one of static, cubic, aimd")) << wrong.error().text;
}

TEST(CongestionControlParameter, with_aimd_only_the_channels_own_window_is_a_bound) {
  const auto open = subscription("|cc=aimd");
  ASSERT_TRUE(open) << "16 MiB are more than the receive buffer of 128 KiB, which is the network's affair";
  EXPECT_EQ(open->receiver_window, 16 << 20);
  EXPECT_FALSE(open->has_receiver_window);
  const auto bounded = subscription("|cc=aimd|rcv-wnd=100k");
  EXPECT_EQ(bounded->receiver_window, 100 << 10);
  EXPECT_TRUE(bounded->has_receiver_window);
  EXPECT_FALSE(subscription("|cc=aimd|rcv-wnd=1m")) << "more than the receive buffer";
}

}  // namespace
}  // namespace thalweg::conductor::testing
