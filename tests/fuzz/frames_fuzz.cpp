// Every frame of the wire protocol, from one UDP payload as it would come off the network.
#include "dataplane/wire/frames.hpp"

#include <array>

#include "tests/fuzz/input.hpp"

namespace thalweg::fuzz {
namespace {
using namespace wire;

// A frame that was accepted must survive being built and read again.
template <typename Frame>
void round_trip(const std::optional<Frame>& frame) {
  if (!frame) return;
  std::array<std::byte, 2048> built{};
  build(built.data(), *frame);
  const auto header = FrameHeader::parse(built);
  require(header.has_value(), "a frame we build is accepted by us");
  const auto length = static_cast<std::size_t>(header->frame_length());
  require(Frame::parse(Bytes{built}.first(length)).has_value(), "a frame we build parses");
}

void parse_resolution(Bytes entries) {
  for (auto entry = ResolutionEntry::parse(entries); entry; entry = ResolutionEntry::parse(entries)) {
    std::array<std::byte, 600> built{};
    build(built.data(), *entry);
    const auto again = ResolutionEntry::parse(Bytes{built}.first(entry->length()));
    require(again && again->name.size() == entry->name.size() && again->port == entry->port, "a resolution entry survives");
    entries = entries.subspan(entry->length());
  }
}
}  // namespace

void run(Bytes input) {
  const auto header = FrameHeader::parse(input);
  // Parsers guard themselves: they are also run on what the header check refused.
  const auto setup = Setup::parse(input);
  const auto sm = StatusMessage::parse(input);
  const auto nak = Nak::parse(input);
  const auto error = ErrorFrame::parse(input);
  round_trip(setup);
  round_trip(sm);
  round_trip(nak);
  round_trip(error);
  round_trip(RttMeasurement::parse(input));
  round_trip(ResponseSetup::parse(input));
  if (input.size() >= 8) parse_resolution(input.subspan(8));
  if (sm && sm->valid_for(kTermLengthMax)) require(sm->consumption_term_offset >= 0 && sm->window_length >= 0, "a valid SM has no negative length");
  if (nak && nak->valid_for(kTermLengthMin)) {
    require(nak->term_offset + nak->length <= kTermLengthMin, "a valid NAK stays inside the term");
  }
  if (error) require(error->text.empty() || error->text.data() + error->text.size() <= input.data() + input.size(), "error text lies in the datagram");
  if (!header) return;
  require(input.size() >= FrameHeader::kLength, "a header has eight bytes");
  if (header->type() == FrameType::kData || header->type() == FrameType::kPad) {
    const DataView view{input.data()};
    require(view.reserved_value() == view.reserved_value() && view.frame_length() >= 0, "a data header can be read whole");
  }
}

}  // namespace thalweg::fuzz
