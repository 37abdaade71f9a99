#include "dataplane/client/channel_uri.hpp"

#include <gtest/gtest.h>

namespace thalweg::client::test {
namespace {

using namespace std::chrono_literals;

TEST(ChannelUriBuilder, writes_what_it_was_told_in_that_order) {
  const auto channel = ChannelUriBuilder::udp()
                           .endpoint("10.0.0.2:40123")
                           .local_interface("10.0.0.0/24")
                           .term_length(1 << 20)
                           .mtu(8192)
                           .session_id(-7)
                           .linger(1500ms)
                           .sparse(false)
                           .build();
  ASSERT_TRUE(channel) << channel.error().message;
  EXPECT_EQ(*channel,
            "aeron:udp?endpoint=10.0.0.2:40123|interface=10.0.0.0/24|term-length=1048576|mtu=8192|session-id=-7|linger=1500ms|sparse=false");
}

TEST(ChannelUriBuilder, knows_the_other_media) {
  EXPECT_EQ(*ChannelUriBuilder::ipc().build(), "aeron:ipc");
  EXPECT_EQ(*ChannelUriBuilder::ipc().alias("orders").build(), "aeron:ipc?alias=orders");
  EXPECT_EQ(*ChannelUriBuilder::spy().endpoint("[::1]:7000").build(), "aeron-spy:aeron:udp?endpoint=[::1]:7000");
  EXPECT_EQ(*ChannelUriBuilder::udp().control_mode(ControlMode::kManual).build(), "aeron:udp?control-mode=manual");
}

struct Written {
  const char* text;
  std::function<void(ChannelUriBuilder&)> write;
};
void PrintTo(const Written& one, std::ostream* out) { *out << one.text; }
class EachParameter : public ::testing::TestWithParam<Written> {};

TEST_P(EachParameter, is_written_as_the_driver_reads_it) {
  ChannelUriBuilder builder = ChannelUriBuilder::udp().endpoint("a:1");
  GetParam().write(builder);
  const auto channel = builder.build();
  ASSERT_TRUE(channel) << channel.error().message;
  EXPECT_EQ(*channel, std::string{"aeron:udp?endpoint=a:1|"} + GetParam().text);
  EXPECT_TRUE(ChannelUri::parse(*channel));
}
using B = ChannelUriBuilder;
INSTANTIATE_TEST_SUITE_P(
    All, EachParameter,
    ::testing::Values(Written{"control=b:2", [](B& b) { b.control("b:2"); }}, Written{"control=b:2|control-mode=dynamic", [](B& b) { b.control("b:2").control_mode(ControlMode::kDynamic); }},
                      Written{"control-mode=response", [](B& b) { b.control_mode(ControlMode::kResponse); }}, Written{"ttl=4", [](B& b) { b.ttl(4); }},
                      Written{"tags=7", [](B& b) { b.tags(7); }}, Written{"tags=7,-8", [](B& b) { b.tags(7, -8); }}, Written{"stream-id=5", [](B& b) { b.stream_id(5); }},
                      Written{"session-id=tag:9", [](B& b) { b.session_id_of_tag(9); }}, Written{"init-term-id=1|term-id=2|term-offset=64", [](B& b) { b.initial_term_id(1).term_id(2).term_offset(64); }},
                      Written{"eos=false", [](B& b) { b.end_of_stream(false); }}, Written{"ssc=true", [](B& b) { b.spies_simulate_connection(true); }},
                      Written{"pub-wnd=65536", [](B& b) { b.publication_window(65536); }}, Written{"max-resend=3", [](B& b) { b.max_resend(3); }},
                      Written{"fc=max", [](B& b) { b.flow_control("max"); }}, Written{"fc=min,g:/3,t:5s", [](B& b) { b.min_flow_control(3, 5s); }},
                      Written{"fc=tagged,g:101/2,t:250ms", [](B& b) { b.tagged_flow_control(101, 2, 250ms); }}, Written{"fc=tagged,g:-1", [](B& b) { b.tagged_flow_control(-1); }},
                      Written{"channel-snd-ts-offset=reserved", [](B& b) { b.channel_send_timestamp_offset(-1); }}, Written{"response-correlation-id=12", [](B& b) { b.response_correlation_id(12); }},
                      Written{"response-correlation-id=prototype", [](B& b) { b.response_prototype(); }}, Written{"response-endpoint=c:3", [](B& b) { b.response_endpoint("c:3"); }}));
INSTANTIATE_TEST_SUITE_P(
    OfSubscriptions, EachParameter,
    ::testing::Values(Written{"rcv-wnd=131072", [](B& b) { b.receiver_window(131072); }}, Written{"reliable=false", [](B& b) { b.reliable(false); }},
                      Written{"rejoin=true", [](B& b) { b.rejoin(true); }}, Written{"tether=false", [](B& b) { b.tether(false); }}, Written{"group=infer", [](B& b) { b.group(GroupReceiver::kInfer); }},
                      Written{"group=true", [](B& b) { b.group(GroupReceiver::kGroup); }}, Written{"group=false", [](B& b) { b.group(GroupReceiver::kSingle); }}, Written{"gtag=101", [](B& b) { b.group_tag(101); }},
                      Written{"cc=cubic", [](B& b) { b.congestion_control("cubic"); }}, Written{"nak-delay=200us", [](B& b) { b.nak_delay(200us); }}, Written{"nak-delay=0ns", [](B& b) { b.nak_delay(0ns); }},
                      Written{"media-rcv-ts-offset=0", [](B& b) { b.media_receive_timestamp_offset(0); }}, Written{"channel-rcv-ts-offset=8", [](B& b) { b.channel_receive_timestamp_offset(8); }},
                      Written{"so-sndbuf=1|so-rcvbuf=2", [](B& b) { b.socket_send_buffer(1).socket_receive_buffer(2); }},
                      Written{"untethered-window-limit-timeout=5s|untethered-linger-timeout=6s|untethered-resting-timeout=7ns",
                              [](B& b) { b.untethered_window_limit_timeout(5s).untethered_linger_timeout(6s).untethered_resting_timeout(7ns); }},
                      Written{"nak-max=5", [](B& b) { b.set("nak-max", "5"); }}));

TEST(ChannelUriBuilder, turns_a_position_into_terms) {
  // Term 3 of a stream that began with term INT32_MAX: ids wrap.
  const auto channel = ChannelUriBuilder::ipc().initial_position(3 * 65536 + 96, std::numeric_limits<std::int32_t>::max(), 65536).build();
  ASSERT_TRUE(channel);
  EXPECT_EQ(*channel, "aeron:ipc?init-term-id=2147483647|term-id=-2147483646|term-offset=96|term-length=65536");
}

TEST(ChannelUriBuilder, goes_on_from_a_channel) {
  auto builder = ChannelUriBuilder::from("aeron:udp?endpoint=a:1|mtu=1408|linger=0");
  ASSERT_TRUE(builder);
  EXPECT_EQ(*builder->mtu(8192).clear("linger").build(), "aeron:udp?endpoint=a:1|mtu=8192");
  EXPECT_EQ(ChannelUriBuilder::from("aeron:tcp?endpoint=a:1").error().code, ErrorCode::kInvalidChannel);
  EXPECT_EQ(*with_session_id("aeron:ipc?session-id=4|alias=x", -1), "aeron:ipc?session-id=-1|alias=x");
  EXPECT_FALSE(with_session_id("ipc", 1));
}

class Refused : public ::testing::TestWithParam<Written> {};
TEST_P(Refused, with_the_parameter_its_value_and_the_rule) {
  ChannelUriBuilder builder = ChannelUriBuilder::udp().endpoint("a:1");
  GetParam().write(builder);
  const auto channel = builder.alias("after the mistake").build();
  ASSERT_FALSE(channel);
  EXPECT_EQ(channel.error().code, ErrorCode::kInvalidChannel);
  EXPECT_NE(channel.error().message.find(GetParam().text), std::string::npos) << channel.error().message;
}
INSTANTIATE_TEST_SUITE_P(
    Values, Refused,
    ::testing::Values(Written{"endpoint=nowhere", [](B& b) { b.endpoint("nowhere"); }}, Written{"endpoint=a:65536", [](B& b) { b.endpoint("a:65536"); }},
                      Written{"control=a:1|x=y", [](B& b) { b.control("a:1|x=y"); }}, Written{"term-length=65537", [](B& b) { b.term_length(65537); }},
                      Written{"term-length=-65536", [](B& b) { b.term_length(-65536); }}, Written{"mtu=1400", [](B& b) { b.mtu(1400); }}, Written{"mtu=32", [](B& b) { b.mtu(32); }},
                      Written{"ttl=256", [](B& b) { b.ttl(256); }}, Written{"term-offset=33", [](B& b) { b.term_offset(33); }}, Written{"max-resend=0", [](B& b) { b.max_resend(0); }},
                      Written{"linger=-1ns", [](B& b) { b.linger(-1ns); }}, Written{"pub-wnd=-1", [](B& b) { b.publication_window(-1); }},
                      Written{"position=33", [](B& b) { b.initial_position(33, 0, 65536); }}, Written{"fc=min,g:/-1", [](B& b) { b.min_flow_control(-1); }},
                      Written{"fc=tagged,g:1,t:0ns", [](B& b) { b.tagged_flow_control(1, {}, 0ns); }}, Written{"channel-snd-ts-offset=-2", [](B& b) { b.channel_send_timestamp_offset(-2); }},
                      Written{"response-correlation-id=-2", [](B& b) { b.response_correlation_id(-2); }}, Written{"alias=", [](B& b) { b.alias(""); }},
                      Written{"a|b=c", [](B& b) { b.set("a|b", "c"); }}, Written{"go together", [](B& b) { b.term_id(4); }}));

TEST(ChannelUriBuilder, refuses_channels_that_lead_nowhere) {
  EXPECT_FALSE(ChannelUriBuilder::udp().build());
  EXPECT_FALSE(ChannelUriBuilder::udp().control_mode(ControlMode::kDynamic).endpoint("a:1").build());
  EXPECT_FALSE(ChannelUriBuilder::ipc().alias(std::string(5000, 'x')).build());
}

}  // namespace
}  // namespace thalweg::client::test
