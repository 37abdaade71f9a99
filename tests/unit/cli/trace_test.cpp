// thalweg trace: frames in words, and pcapng files however they end.
#include <fstream>

#include "controlplane/cli/frame_text.hpp"
#include "controlplane/cli/pcapng_reader.hpp"
#include "dataplane/wire/frames.hpp"
#include "dataplane/wire/ipv6.hpp"
#include "tests/unit/cli/instance_fixture.hpp"

namespace thalweg::cli {
namespace {

using Bytes = std::vector<std::byte>;

// A datagram from 10.0.0.1:5000 to 10.0.0.2:40123, in an Ethernet frame.
Bytes datagram(const Bytes& payload) {
  constexpr std::size_t kHeaders = wire::kEthernetHeaderLength + 20 + 8;
  Bytes frame(kHeaders + payload.size());
  wire::build_ethernet(frame.data(), {}, {}, wire::kEtherTypeIpv4);
  wire::build_ipv4(frame.data() + wire::kEthernetHeaderLength, wire::kIpProtocolUdp, 64, 0x0A000001, 0x0A000002, 8 + payload.size(), false);
  std::byte* const udp = frame.data() + wire::kEthernetHeaderLength + 20;
  store_be16(udp, 5000);
  store_be16(udp + 2, 40123);
  store_be16(udp + 4, static_cast<std::uint16_t>(8 + payload.size()));
  std::copy(payload.begin(), payload.end(), udp + 8);
  return frame;
}
template <typename Frame>
Bytes built(const Frame& frame, std::size_t length) {
  Bytes bytes(length);
  wire::build(bytes.data(), frame);
  return bytes;
}
Bytes data_frames() {
  Bytes bytes(96);
  wire::build(bytes.data(), wire::DataHeader{.frame_length = 40, .term_offset = 128, .session_id = 7, .stream_id = 1001, .term_id = 3});
  wire::build(bytes.data() + 64, wire::DataHeader{.frame_length = 32, .flags = wire::flag::kEnd, .term_offset = 192, .session_id = 7, .stream_id = 1001, .term_id = 3});
  return bytes;
}
const wire::Nak kNak{.session_id = 7, .stream_id = 1001, .term_id = 3, .term_offset = 128, .length = 64};

FrameText only(const Bytes& payload) {
  const DatagramText text = text_of_frame(datagram(payload));
  EXPECT_EQ(text.frames.size(), 1U);
  EXPECT_EQ(text.source, "10.0.0.1:5000");
  EXPECT_EQ(text.destination, "10.0.0.2:40123");
  return text.frames.front();
}

TEST(FrameText, each_type_of_frame_is_told_with_what_it_says) {
  const FrameText nak = only(built(kNak, wire::Nak::kLength));
  EXPECT_EQ(nak.type, "NAK");
  EXPECT_EQ(nak.session_id, 7);
  EXPECT_EQ(nak.stream_id, 1001);
  EXPECT_EQ(nak.text, "term 3, offset 128, 64 bytes");
  const wire::Setup setup{.flags = wire::flag::kSetupGroup, .session_id = 7, .stream_id = 1001, .initial_term_id = 3, .active_term_id = 4, .term_length = 65536, .mtu = 1408, .ttl = 2};
  EXPECT_EQ(only(built(setup, wire::Setup::kLength)).text, "terms of 64KiB, initial term 3, active term 4, offset 0, mtu 1408, ttl 2, group");
  const wire::StatusMessage sm{.flags = wire::flag::kSmSendSetup, .session_id = 7, .stream_id = 1001, .consumption_term_id = 3, .window_length = 4096, .receiver_id = 9, .group_tag = -2};
  EXPECT_EQ(only(built(sm, sm.length())).text, "term 3, offset 0, window 4096, receiver 9, group tag -2, wants a SETUP");
  const wire::RttMeasurement rtt{.is_request = true, .session_id = 7, .stream_id = 1001, .echo_timestamp_ns = 5, .reception_delta_ns = 6, .receiver_id = 9};
  EXPECT_EQ(only(built(rtt, wire::RttMeasurement::kLength)).text, "request, echo 5, delta 6 ns, receiver 9");
  EXPECT_EQ(only(built(wire::ResponseSetup{7, 1001, 8}, wire::ResponseSetup::kLength)).text, "response session 8");
  const std::string_view words = "go \x1b[2J";
  const wire::ErrorFrame error{.session_id = 7, .stream_id = 1001, .receiver_id = 9, .code = 11, .text = std::as_bytes(std::span{words.data(), words.size()})};
  EXPECT_EQ(only(built(error, error.length())).text, "code 11, receiver 9: go ?[2J") << "no control characters";
}

TEST(FrameText, a_datagram_with_several_data_frames_is_several_lines) {
  const DatagramText text = text_of_frame(datagram(data_frames()));
  ASSERT_EQ(text.frames.size(), 2U);
  EXPECT_EQ(text.frames[0].text, "term 3, offset 128, 8 bytes");
  EXPECT_EQ(text.frames[1].text, "term 3, offset 192, 0 bytes, ends a message");
  Bytes heartbeat(32);
  wire::build(heartbeat.data(), wire::DataHeader{.frame_length = 0, .flags = wire::flag::kUnfragmented | wire::flag::kEndOfStream, .session_id = 7, .stream_id = 1001, .term_id = 3});
  EXPECT_EQ(only(heartbeat).type, "HEARTBEAT");
  EXPECT_EQ(only(heartbeat).text, "term 3, offset 0, 0 bytes, end of stream");
}

TEST(FrameText, ipv6_is_told_as_well) {
  const wire::Ipv6Address ours = *wire::parse_ipv6("2001:db8::1"), theirs = *wire::parse_ipv6("2001:db8::2");
  const auto frame = [&](std::uint8_t protocol, const Bytes& payload) {
    Bytes bytes(wire::kEthernetHeaderLength + wire::kIpv6HeaderLength);
    wire::build_ethernet(bytes.data(), {}, {}, wire::kEtherTypeIpv6);
    wire::build_ipv6(bytes.data() + wire::kEthernetHeaderLength, protocol, 255, ours, theirs, payload.size(), false);
    bytes.insert(bytes.end(), payload.begin(), payload.end());
    return bytes;
  };
  Bytes udp(8);
  store_be16(udp.data(), 5000);
  store_be16(udp.data() + 2, 40123);
  const Bytes nak = built(kNak, wire::Nak::kLength);
  store_be16(udp.data() + 4, static_cast<std::uint16_t>(8 + nak.size()));
  udp.insert(udp.end(), nak.begin(), nak.end());
  const DatagramText text = text_of_frame(frame(wire::kIpProtocolUdp, udp));
  EXPECT_EQ(text.source, "[2001:db8::1]:5000");
  EXPECT_EQ(text.destination, "[2001:db8::2]:40123");
  EXPECT_EQ(text.frames.at(0).type, "NAK");
  wire::NeighbourMessage message;
  message.target = theirs;
  Bytes solicitation(message.length());
  build(solicitation.data(), message, ours, theirs);
  EXPECT_EQ(text_of_frame(frame(wire::kIpProtocolIcmpv6, solicitation)).frames.at(0).text, "who has 2001:db8::2? 2001:db8::1 asks");
  message.is_advertisement = true;
  message.mac = wire::MacAddress{{2, 0, 0, 0, 0, 9}};
  Bytes advertisement(message.length());
  build(advertisement.data(), message, ours, theirs);
  EXPECT_EQ(text_of_frame(frame(wire::kIpProtocolIcmpv6, advertisement)).frames.at(0).text, "2001:db8::2 is at 02:00:00:00:00:09");
  advertisement.back() ^= std::byte{1};
  EXPECT_EQ(text_of_frame(frame(wire::kIpProtocolIcmpv6, advertisement)).frames.at(0).text, "ICMPv6, damaged");
  EXPECT_EQ(text_of_frame(frame(0, {})).frames.at(0).text, "IPv6, cut short, damaged or with other headers");
}

TEST(FrameText, whatever_is_no_frame_of_the_protocol_is_told_as_what_it_is) {
  EXPECT_EQ(only(Bytes(5)).text, "UDP, 5 bytes, no frame of the protocol");
  EXPECT_EQ(text_of_frame({}).frames.at(0).type, "OTHER");
  Bytes arp(wire::kEthernetHeaderLength + wire::ArpPacket::kLength);
  wire::build_ethernet(arp.data(), {}, {}, wire::kEtherTypeArp);
  wire::build(arp.data() + wire::kEthernetHeaderLength, wire::ArpPacket{wire::ArpPacket::kRequest, {}, 0x0A000001, {}, 0x0A000002});
  EXPECT_EQ(text_of_frame(arp).frames.at(0).text, "who has 10.0.0.2? 10.0.0.1 asks");
}

TEST(FrameText, a_frame_cut_anywhere_does_no_harm) {
  for (const Bytes& whole : {datagram(data_frames()), datagram(built(kNak, wire::Nak::kLength))}) {
    for (std::size_t length = 0; length <= whole.size(); ++length) {
      const Bytes cut{whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length)};
      EXPECT_FALSE(text_of_frame(cut).frames.empty());
    }
    for (std::size_t at = 0; at < whole.size(); ++at) {
      Bytes changed = whole;
      changed[at] ^= std::byte{0xFF};
      EXPECT_FALSE(text_of_frame(changed).frames.empty());
    }
  }
}

class Trace : public ::testing::Test {
 protected:
  void block(std::uint32_t type, const Bytes& body) {
    const auto length = static_cast<std::uint32_t>(12 + align_up<std::size_t>(body.size(), 4));
    Bytes bytes(length);
    store_le(bytes.data(), type);
    store_le(bytes.data() + 4, length);
    std::copy(body.begin(), body.end(), bytes.begin() + 8);
    store_le(bytes.data() + length - 4, length);
    file_.insert(file_.end(), bytes.begin(), bytes.end());
  }
  void headers() {
    Bytes section(16);
    store_le<std::uint32_t>(section.data(), 0x1A2B3C4D);
    store_le<std::uint16_t>(section.data() + 4, 1);
    block(0x0A0D0D0A, section);
    Bytes interface(8 + 8 + 4);
    store_le<std::uint16_t>(interface.data(), 1);
    store_le<std::uint16_t>(interface.data() + 8, 9);
    store_le<std::uint16_t>(interface.data() + 10, 1);
    store_le<std::uint8_t>(interface.data() + 12, 9);
    block(1, interface);
  }
  void frame(const Bytes& bytes, std::int64_t epoch_ns, std::uint32_t direction) {
    const std::size_t padded = align_up<std::size_t>(bytes.size(), 4);
    Bytes body(20 + padded + 12);
    store_le(body.data() + 4, static_cast<std::uint32_t>(epoch_ns >> 32));
    store_le(body.data() + 8, static_cast<std::uint32_t>(epoch_ns));
    store_le(body.data() + 12, static_cast<std::uint32_t>(bytes.size()));
    store_le(body.data() + 16, static_cast<std::uint32_t>(bytes.size()));
    std::copy(bytes.begin(), bytes.end(), body.begin() + 20);
    store_le<std::uint16_t>(body.data() + 20 + padded, 2);
    store_le<std::uint16_t>(body.data() + 22 + padded, 4);
    store_le(body.data() + 24 + padded, direction);
    block(6, body);
  }
  std::string save(std::size_t length) {
    std::ofstream out{directory_.file("a.pcapng"), std::ios::binary};
    out.write(reinterpret_cast<const char*>(file_.data()), static_cast<std::streamsize>(length));
    return directory_.file("a.pcapng");
  }
  std::string save() { return save(file_.size()); }

  thalweg::test::TemporaryDirectory directory_{"trace"};
  Bytes file_;
};

TEST_F(Trace, a_file_is_told_line_by_line_and_filtered) {
  headers();
  frame(datagram(data_frames()), 1'500'000'000'123'456'789, 1);
  frame(datagram(built(kNak, wire::Nak::kLength)), 1'500'000'001'000'000'000, 2);
  const std::string path = save();
  const test::Outcome all = test::thalweg({"trace", "--file", path});
  EXPECT_EQ(all.exit, 0) << all.err;
  EXPECT_EQ(all.out, "02:40:00.123456789  in 10.0.0.1:5000 > 10.0.0.2:40123 DATA session 7 stream 1001: term 3, offset 128, 8 bytes\n"
                     "02:40:00.123456789  in 10.0.0.1:5000 > 10.0.0.2:40123 DATA session 7 stream 1001: term 3, offset 192, 0 bytes, ends a message\n"
                     "02:40:01.000000000 out 10.0.0.1:5000 > 10.0.0.2:40123 NAK session 7 stream 1001: term 3, offset 128, 64 bytes\n");
  const auto nak = test::thalweg({"trace", "--file", path, "--type", "nak", "--json"}).json();
  EXPECT_EQ(nak["epoch_ns"], 1'500'000'001'000'000'000);
  EXPECT_EQ(nak["direction"], "out");
  EXPECT_EQ(nak["session_id"], 7);
  EXPECT_EQ(test::thalweg({"trace", "--file", path, "--count", "1", "--json"}).json()["type"], "DATA");
  EXPECT_EQ(test::thalweg({"trace", "--file", path, "--session", "8"}).out, "");
  EXPECT_EQ(test::thalweg({"trace", "--file", path, "--stream", "1001", "--type", "setup"}).out, "");
}

TEST_F(Trace, a_reader_goes_on_where_a_growing_file_ended) {
  headers();
  const std::size_t before = file_.size();
  frame(datagram(built(kNak, wire::Nak::kLength)), 1, 1);
  auto reader = PcapngReader::open(save(before + 10));
  ASSERT_TRUE(reader);
  auto none = reader->next();
  ASSERT_TRUE(none);
  EXPECT_FALSE(*none) << "half a frame";
  save();
  const auto one = reader->next();
  ASSERT_TRUE(one);
  ASSERT_TRUE(*one);
  EXPECT_EQ((*one)->epoch_ns, 1);
}

TEST_F(Trace, files_that_are_damaged_or_none_of_ours_are_refused_with_a_place) {
  EXPECT_EQ(test::thalweg({"trace"}).exit, static_cast<int>(Exit::kUsage));
  EXPECT_EQ(test::thalweg({"trace", "--file", directory_.file("none")}).exit, static_cast<int>(exit_of(ErrorCode::kNotFound)));
  headers();
  const std::size_t before = file_.size();
  frame(datagram(data_frames()), 1, 1);
  const Bytes whole = file_;
  for (std::size_t at = 0; at < whole.size(); ++at) {
    file_ = whole;
    file_[at] ^= std::byte{0x7F};
    static_cast<void>(test::thalweg({"trace", "--file", save()}));  // whatever it says
  }
  file_ = whole;
  file_[before + 4] = std::byte{0xFF};
  const test::Outcome damaged = test::thalweg({"trace", "--file", save()});
  EXPECT_NE(damaged.exit, 0);
  EXPECT_NE(damaged.err.find("at byte " + std::to_string(before)), std::string::npos) << damaged.err;
}

TEST(SupportBundle, an_archive_is_made_even_where_no_instance_runs) {
  const thalweg::test::TemporaryDirectory directory{"bundle"};
  const test::Outcome outcome = test::thalweg({"support-bundle", "-o", directory.file("b.tar.gz"), "--directory", directory.path() + "/none", "--json"});
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_EQ(outcome.json()["file"], directory.file("b.tar.gz"));
  EXPECT_GT(outcome.json()["parts"].size(), 20U);
  std::ifstream archive{directory.file("b.tar.gz"), std::ios::binary};
  EXPECT_EQ(archive.get(), 0x1F);
  EXPECT_EQ(archive.get(), 0x8B);
}

}  // namespace
}  // namespace thalweg::cli
