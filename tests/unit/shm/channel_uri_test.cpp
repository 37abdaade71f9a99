#include "dataplane/shm/channel_uri.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace thalweg::shm {
namespace {

ChannelUri parsed(std::string_view text) { return ChannelUri::parse(text).value(); }

class GoodChannel : public testing::TestWithParam<const char*> {};
// proves 5.1/1, 5.1/2
TEST_P(GoodChannel, is_parsed_and_printed_as_it_was) { EXPECT_EQ(parsed(GetParam()).to_string(), GetParam()); }
INSTANTIATE_TEST_SUITE_P(Spec, GoodChannel,
                         testing::Values("aeron:udp?endpoint=10.0.0.1:40123", "aeron:udp?endpoint=[::1]:40123|mtu=8k|term-length=64k", "aeron:ipc",
                                         "aeron:ipc?alias=x|term-length=64k", "aeron-spy:aeron:udp?endpoint=localhost:5", "aeron:udp?",
                                         "aeron:udp?unknown-key=a=b?c", "aeron:udp?tags=1,2|control-mode=manual", "aeron:udp?k=1|k=2"));

class BadChannel : public testing::TestWithParam<const char*> {};
// proves 5.1/1, 5.1/3
TEST_P(BadChannel, is_refused_with_a_sentence_that_names_it) {
  const auto uri = ChannelUri::parse(GetParam());
  ASSERT_FALSE(uri);
  EXPECT_EQ(uri.error().code, ErrorCode::kInvalidChannel);
  EXPECT_NE(uri.error().message.find(GetParam()), std::string::npos) << uri.error().message;
}
INSTANTIATE_TEST_SUITE_P(Spec, BadChannel,
                         testing::Values("", "aeron", "aeron:udp", "aeron:tcp?endpoint=a:1", "udp?endpoint=a:1", "aeron:ipcx", "aeron:ipc|a=b",
                                         "aeron-spy:aeron:ipc", "aeron-spy:udp?a=b", "aeron-spy:aeron-spy:aeron:udp?a=b", "aeron:udp?=v", "aeron:udp?k",
                                         "aeron:udp?k=", "aeron:udp?k=v|", "aeron:udp?|k=v", "aeron:udp?k=v||l=w", "aeron:udp?a|b=c", "AERON:udp?a=b",
                                         "aeron:udp?a=b|c"));

// proves 1.12/6
TEST(ChannelUri, at_most_4095_characters_are_taken) {
  const std::string prefix = "aeron:udp?k=";
  EXPECT_TRUE(ChannelUri::parse(prefix + std::string(kChannelUriLengthMax - prefix.size(), 'v')));
  EXPECT_FALSE(ChannelUri::parse(prefix + std::string(kChannelUriLengthMax - prefix.size() + 1, 'v')));
}

// proves 5.1/2, 5.1/4
TEST(ChannelUri, last_value_of_a_key_wins_and_keys_are_case_sensitive) {
  const ChannelUri uri = parsed("aeron:udp?mtu=1|MTU=2|mtu=3|mtu-x=4");
  EXPECT_EQ(uri.get("mtu"), "3");
  EXPECT_EQ(uri.get("MTU"), "2");
  EXPECT_FALSE(uri.get("mt"));
  EXPECT_TRUE(uri.has("mtu-x"));
  EXPECT_FALSE(uri.is_spy());
  EXPECT_EQ(parsed("aeron:ipc").media(), ChannelUri::Media::kIpc);
  EXPECT_TRUE(parsed("aeron-spy:aeron:udp?a=b").is_spy());
}

// proves 5.1/5, 5.1/6, 5.1/7, 5.1/8
TEST(ChannelUri, typed_values_follow_the_syntaxes_of_5_1) {
  const ChannelUri uri = parsed("aeron:udp?size=64K|duration=5ms|forever=9223372036854775807s|decimal=-12|hex=0xfF|octal=0777|zero=0|yes=true|"
                                "no=falsely|least=-9223372036854775808|most=9223372036854775807");
  EXPECT_EQ(uri.get_size("size").value(), 65536);
  EXPECT_EQ(uri.get_duration_ns("duration").value(), 5'000'000);
  EXPECT_EQ(uri.get_duration_ns("forever").value(), std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(uri.get_int32("decimal").value(), -12);
  EXPECT_EQ(uri.get_int64("hex").value(), 255);
  EXPECT_EQ(uri.get_int32("octal").value(), 511);
  EXPECT_EQ(uri.get_int32("zero").value(), 0);
  EXPECT_EQ(uri.get_bool("yes").value(), true);
  EXPECT_EQ(uri.get_bool("no").value(), false);
  EXPECT_EQ(uri.get_int64("least").value(), std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(uri.get_int64("most").value(), std::numeric_limits<std::int64_t>::max());
  EXPECT_FALSE(uri.get_size("absent").value());
  EXPECT_FALSE(uri.get_bool("absent").value());
}

// proves 5.1/5, 5.1/6, 5.1/8
TEST(ChannelUri, wrong_values_name_their_key) {
  const ChannelUri uri = parsed("aeron:udp?a=x|b=2147483648|c=9223372036854775808|d=08|e=0x|f=-|g=1 |h=TRUE|i=-1|j=--1|k=+-1|l=-9223372036854775809");
  for (const char* key : {"a", "b", "c", "d", "e", "f", "g", "j", "k", "l"}) {
    const auto value = uri.get_int32(key);
    ASSERT_FALSE(value) << key;
    EXPECT_EQ(value.error().code, ErrorCode::kInvalidChannel);
    EXPECT_NE(value.error().message.find("'" + std::string{key} + "="), std::string::npos) << value.error().message;
  }
  EXPECT_TRUE(uri.get_int64("b"));
  EXPECT_FALSE(uri.get_int64("c"));
  EXPECT_FALSE(uri.get_int64("l"));
  EXPECT_FALSE(uri.get_bool("h"));
  EXPECT_FALSE(uri.get_size("i"));
  EXPECT_FALSE(uri.get_duration_ns("a"));
}

TEST(ChannelUri, parameters_are_set_and_removed_in_place) {
  ChannelUri uri = parsed("aeron:udp?a=1|b=2|a=3");
  uri.set("a", "9");
  uri.set("c", "4");
  EXPECT_EQ(uri.to_string(), "aeron:udp?a=9|b=2|a=9|c=4");
  uri.remove("a");
  EXPECT_EQ(uri.to_string(), "aeron:udp?b=2|c=4");
  uri.remove("b");
  uri.remove("c");
  uri.remove("c");
  EXPECT_EQ(uri.to_string(), "aeron:udp?");
}

// proves 5.1/9
TEST(HostPort, port_is_mandatory_and_ipv6_stands_in_brackets) {
  const auto v4 = parse_host_port("10.0.0.1:40123");
  ASSERT_TRUE(v4);
  EXPECT_EQ(v4->host, "10.0.0.1");
  EXPECT_EQ(v4->port, 40123);
  EXPECT_FALSE(v4->is_ipv6);
  const auto v6 = parse_host_port("[fe80::1%eth0]:0");
  ASSERT_TRUE(v6);
  EXPECT_EQ(v6->host, "fe80::1%eth0");
  EXPECT_EQ(v6->port, 0);
  EXPECT_TRUE(v6->is_ipv6);
  EXPECT_EQ(parse_host_port("localhost:65535")->port, 65535);
  for (const char* text : {"", "localhost", "localhost:", ":5", "a:b", "a:65536", "a:-1", "a:+1", "a: 1", "a:1 ", "::1:5", "[::1]", "[::1]5", "[::1]:",
                           "[::1", "[]:5", "a:1:2"}) {
    EXPECT_FALSE(parse_host_port(text)) << text;
  }
}

}  // namespace
}  // namespace thalweg::shm
