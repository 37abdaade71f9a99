// Every recorded datagram of the reference driver is read by our views and rebuilt by our builders, bit for bit.
#include <gtest/gtest.h>

#include <map>

#include "dataplane/wire/frames.hpp"
#include "dataplane/wire/ip.hpp"
#include "tests/support/recorded.hpp"

namespace thalweg::wire {
namespace {

using test::ByteVector;

template <typename Frame>
ByteVector built(const Frame& frame, std::size_t length) {
  ByteVector bytes(length);
  build(bytes.data(), frame);
  return bytes;
}

// DATA and PAD frames of one datagram, one behind the other; payload and alignment are copied.
ByteVector rebuild_data(std::span<const std::byte> datagram, std::map<FrameType, int>& frames) {
  ByteVector bytes(datagram.size());
  for (std::size_t at = 0; at < datagram.size();) {
    const DataView view{datagram.data() + at};
    const auto length = static_cast<std::size_t>(view.type() == FrameType::kPad ? kDataHeaderLength : std::max(view.frame_length(), kDataHeaderLength));
    if (at + length > datagram.size()) throw std::runtime_error{"a frame is longer than its datagram"};
    build(bytes.data() + at, DataHeader{view.frame_length(), view.flags(), view.type(), view.term_offset(), view.session_id(), view.stream_id(),
                                        view.term_id(), view.reserved_value()});
    std::copy_n(datagram.data() + at + kDataHeaderLength, length - kDataHeaderLength, bytes.data() + at + kDataHeaderLength);
    ++frames[view.type()];
    at += static_cast<std::size_t>(align_frame(static_cast<std::int32_t>(length)));
  }
  return bytes;
}

ByteVector rebuild_resolution(std::span<const std::byte> datagram) {
  ByteVector bytes(datagram.size());
  put_header(bytes.data(), static_cast<std::int32_t>(datagram.size()), 0, FrameType::kResolution);
  for (std::size_t at = FrameHeader::kLength; at < datagram.size();) {
    const auto entry = ResolutionEntry::parse(datagram.subspan(at)).value();
    build(bytes.data() + at, entry);
    at += entry.length();
  }
  return bytes;
}

ByteVector rebuild(std::span<const std::byte> d, std::map<FrameType, int>& frames) {
  const FrameType type = FrameHeader::parse(d).value().type();
  if (type == FrameType::kData || type == FrameType::kPad) return rebuild_data(d, frames);
  ++frames[type];
  switch (type) {
    case FrameType::kSetup: return built(Setup::parse(d).value(), Setup::kLength);
    case FrameType::kStatusMessage: return built(StatusMessage::parse(d).value(), StatusMessage::parse(d)->length());
    case FrameType::kNak: return built(Nak::parse(d).value(), Nak::kLength);
    case FrameType::kError: return built(ErrorFrame::parse(d).value(), ErrorFrame::parse(d)->length());
    case FrameType::kRttMeasurement: return built(RttMeasurement::parse(d).value(), RttMeasurement::kLength);
    case FrameType::kResponseSetup: return built(ResponseSetup::parse(d).value(), ResponseSetup::kLength);
    case FrameType::kResolution: return rebuild_resolution(d);
    default: throw std::runtime_error{"unknown type"};
  }
}

// A kernel numbers its datagrams; ours are never fragments and carry 0.
ByteVector rebuild_headers(const EthernetView& ethernet, const Ipv4View& ip, const UdpView& udp, std::span<const std::byte> recorded) {
  const UdpFrameTemplate frame_template{{.source_mac = ethernet.source, .destination_mac = ethernet.destination,
                                         .source = {ip.source, udp.source_port}, .destination = {ip.destination, udp.destination_port},
                                         .ttl = ip.ttl, .vlan = ethernet.vlan}};
  ByteVector frame(frame_template.length() + udp.payload.size() + 6);
  frame_template.write(frame.data(), udp.payload.size());
  std::copy(udp.payload.begin(), udp.payload.end(), frame.data() + frame_template.length());
  frame_template.write_udp_checksum(frame.data(), udp.payload.size());
  frame.resize(frame_template.length() + udp.payload.size());
  const std::span<std::byte> header = std::span{frame}.subspan(ethernet.header_length, kIpv4HeaderLength);
  EXPECT_EQ(checksum_fold(checksum_add(header, 0)), 0) << "our own header, before it takes the kernel's number";
  std::copy_n(recorded.data() + ethernet.header_length + 4, 2, header.data() + 4);
  store_be16(header.data() + 10, 0);
  store_be16(header.data() + 10, checksum_fold(checksum_add(header, 0)));
  return frame;
}

class RecordedTraffic : public testing::TestWithParam<std::string> {};

// proves 1.1/1, 1.8/2, 6.1/1, 6.1/2
TEST_P(RecordedTraffic, is_read_and_rebuilt_bit_for_bit) {
  std::map<FrameType, int> frames;
  const auto recorded = test::read_pcap(test::data_path(GetParam()));
  ASSERT_FALSE(recorded.empty());
  for (std::size_t i = 0; i < recorded.size(); ++i) {
    SCOPED_TRACE("packet " + std::to_string(i + 1));
    const ByteVector& bytes = recorded[i].bytes;
    const auto ethernet = EthernetView::parse(bytes);
    ASSERT_TRUE(ethernet && ethernet->type == kEtherTypeIpv4);
    const Ipv4View ip = Ipv4View::parse(std::span{bytes}.subspan(ethernet->header_length));
    ASSERT_EQ(ip.bad, Ipv4View::Bad::kNone);
    const auto udp = UdpView::parse(ip.payload);
    ASSERT_TRUE(udp);
    ASSERT_EQ(test::to_hex(rebuild_headers(*ethernet, ip, *udp, bytes)), test::to_hex(bytes));
    ASSERT_EQ(test::to_hex(rebuild(udp->payload, frames)), test::to_hex(udp->payload));
  }
  EXPECT_EQ(frames.count(FrameType::kSetup), 1U);
}

TEST_P(RecordedTraffic, holds_the_frames_its_description_promises) {
  const std::map<std::string, std::map<FrameType, int>> promised{
      {"02-fragmented-100KB.pcap", {{FrameType::kData, 84}, {FrameType::kSetup, 1}, {FrameType::kStatusMessage, 6}}},
      {"03-term-rollover-padding.pcap", {{FrameType::kData, 158}, {FrameType::kPad, 2}, {FrameType::kSetup, 1}, {FrameType::kStatusMessage, 26}}},
      {"07-loss-10pct-incl-lost-retransmits.pcap",
       {{FrameType::kData, 128}, {FrameType::kPad, 1}, {FrameType::kSetup, 1}, {FrameType::kNak, 153}, {FrameType::kStatusMessage, 18}}},
      {"13-cubic-rttm.pcap",
       {{FrameType::kData, 78}, {FrameType::kSetup, 1}, {FrameType::kRttMeasurement, 127}, {FrameType::kStatusMessage, 21}}},
      {"14-err-image-rejected.pcap",
       {{FrameType::kData, 80}, {FrameType::kSetup, 3}, {FrameType::kError, 17}, {FrameType::kStatusMessage, 15}}},
      {"16-batched-frames-in-one-datagram.pcap", {{FrameType::kData, 209}, {FrameType::kSetup, 1}, {FrameType::kStatusMessage, 6}}},
      {"20-response-channels.pcap",
       {{FrameType::kData, 94}, {FrameType::kSetup, 3}, {FrameType::kResponseSetup, 1}, {FrameType::kStatusMessage, 52}}},
      {"21-name-resolution-res-frames.pcap",
       {{FrameType::kData, 17}, {FrameType::kSetup, 1}, {FrameType::kResolution, 30}, {FrameType::kStatusMessage, 7}}}};
  const auto expected = promised.find(GetParam());
  if (expected == promised.end()) return;  // its count is not part of the protocol
  std::map<FrameType, int> frames;
  for (const auto& packet : test::read_pcap(test::data_path(GetParam()))) {
    rebuild(std::span{packet.bytes}.subspan(kUdpFrameHeaderLength), frames);
  }
  EXPECT_EQ(frames, expected->second);
}

INSTANTIATE_TEST_SUITE_P(Reference, RecordedTraffic, testing::ValuesIn(test::recorded_pcaps()), [](const auto& test_case) {
  std::string name = test_case.param.substr(0, test_case.param.find('.'));
  for (char& c : name) c = c == '-' ? '_' : c;
  return name;
});

TEST(RecordedFiles, are_all_here) { EXPECT_EQ(test::recorded_pcaps().size(), 21U); }

}  // namespace
}  // namespace thalweg::wire
