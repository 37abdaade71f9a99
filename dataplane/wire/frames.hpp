#pragma once
#include <bit>
#include <optional>
#include <span>

#include "dataplane/base/bytes.hpp"
#include "dataplane/wire/positions.hpp"

// Frames of the wire protocol as checked views and builders (wire-protocol section 1). A view is valid only as long as the bytes it
// was parsed from. parse() checks everything that can be checked without knowing the stream; later code assumes it.
namespace thalweg::wire {

inline constexpr std::int32_t kFrameAlignment = 32;
inline constexpr std::int32_t kDataHeaderLength = 32;
inline constexpr std::int32_t kMtuMin = 64;        // a header and something behind it (1.12)
inline constexpr std::int32_t kMtuMax = 65504;
inline constexpr std::int32_t kMtuDefault = 1408;
inline constexpr std::int32_t kTermLengthMin = 64 << 10;
inline constexpr std::int32_t kTermLengthMax = 1 << 30;
inline constexpr std::int32_t kMessageLengthMax = 16 << 20;
inline constexpr std::int32_t kErrorTextMax = 1023;

enum class FrameType : std::uint16_t {
  kPad = 0x00,
  kData = 0x01,
  kNak = 0x02,
  kStatusMessage = 0x03,
  kError = 0x04,
  kSetup = 0x05,
  kRttMeasurement = 0x06,
  kResolution = 0x07,
  kResponseSetup = 0x0B,
};

namespace flag {
inline constexpr std::uint8_t kBegin = 0x80;           // DATA
inline constexpr std::uint8_t kEnd = 0x40;             // DATA
inline constexpr std::uint8_t kUnfragmented = 0xC0;    // DATA
inline constexpr std::uint8_t kEndOfStream = 0x20;     // DATA heartbeat
inline constexpr std::uint8_t kRevoked = 0x10;         // DATA heartbeat, with EOS
inline constexpr std::uint8_t kSetupSendResponse = 0x80;
inline constexpr std::uint8_t kSetupGroup = 0x40;
inline constexpr std::uint8_t kSmSendSetup = 0x80;
inline constexpr std::uint8_t kSmEndOfStream = 0x40;
inline constexpr std::uint8_t kErrorHasGroupTag = 0x08;
inline constexpr std::uint8_t kRttReply = 0x80;        // set means "this is a request, please reply" (1.9)
}  // namespace flag

[[nodiscard]] constexpr std::int32_t align_frame(std::int32_t length) noexcept { return align_up(length, kFrameAlignment); }

// Common 8-byte header (1.1) and the packet-level validity rules of 1.3.
class FrameHeader {
 public:
  static constexpr std::size_t kLength = 8;
  // False: caller counts an invalid packet. Checks the whole of 1.3 for the type found.
  [[nodiscard]] static bool is_valid(std::span<const std::byte> datagram) noexcept {
    if (datagram.size() < kLength) return false;
    const FrameHeader h{datagram.data()};
    if (h.version() != 0 || h.frame_length() < 0) return false;
    if (h.raw_type() <= static_cast<std::uint16_t>(FrameType::kData)) {
      return datagram.size() >= static_cast<std::size_t>(kDataHeaderLength) && datagram.size() % kFrameAlignment == 0;
    }
    const std::size_t least = min_length(h.raw_type());
    return least != 0 && datagram.size() >= least && static_cast<std::size_t>(h.frame_length()) <= datagram.size();
  }
  [[nodiscard]] static std::optional<FrameHeader> parse(std::span<const std::byte> datagram) noexcept {
    if (!is_valid(datagram)) return std::nullopt;
    return FrameHeader{datagram.data()};
  }
  // For the path of every frame: an optional goes through memory, and is read in other widths than it was written.
  // Precondition: is_valid().
  [[nodiscard]] static FrameHeader of_valid(std::span<const std::byte> datagram) noexcept { return FrameHeader{datagram.data()}; }
  [[nodiscard]] std::int32_t frame_length() const noexcept { return load_le<std::int32_t>(p_); }
  [[nodiscard]] std::int8_t version() const noexcept { return load_le<std::int8_t>(p_ + 4); }
  [[nodiscard]] std::uint8_t flags() const noexcept { return load_le<std::uint8_t>(p_ + 5); }
  [[nodiscard]] FrameType type() const noexcept { return static_cast<FrameType>(raw_type()); }

 private:
  explicit FrameHeader(const std::byte* p) noexcept : p_{p} {}
  [[nodiscard]] std::uint16_t raw_type() const noexcept { return load_le<std::uint16_t>(p_ + 6); }
  // Minimum packet size of a type (1.2); 0 for types that are invalid on receipt.
  [[nodiscard]] static constexpr std::size_t min_length(std::uint16_t type) noexcept {
    switch (type) {
      case 0x02: return 28;
      case 0x03: return 36;
      case 0x04: return 40;
      case 0x05: return 40;
      case 0x06: return 40;
      case 0x07: return 22;
      case 0x0B: return 20;
      default: return 0;
    }
  }
  const std::byte* p_;
};

// Writes a common header; used by every builder below.
inline void put_header(std::byte* p, std::int32_t length, std::uint8_t flags, FrameType type) noexcept {
  store_le<std::int32_t>(p, length);
  store_le<std::uint8_t>(p + 4, 0);
  store_le<std::uint8_t>(p + 5, flags);
  store_le<std::uint16_t>(p + 6, static_cast<std::uint16_t>(type));
}

// First DATA/PAD frame of a datagram (1.4). The walk over all frames is the receiver's (wire-protocol 3.5).
// Precondition: FrameHeader::parse() accepted the datagram and said DATA or PAD.
class DataView {
 public:
  explicit DataView(const std::byte* p) noexcept : p_{p} {}
  [[nodiscard]] std::int32_t frame_length() const noexcept { return load_le<std::int32_t>(p_); }
  [[nodiscard]] std::uint8_t flags() const noexcept { return load_le<std::uint8_t>(p_ + 5); }
  [[nodiscard]] FrameType type() const noexcept { return load_le<FrameType>(p_ + 6); }
  [[nodiscard]] std::int32_t term_offset() const noexcept { return load_le<std::int32_t>(p_ + 8); }  // bytes
  [[nodiscard]] std::int32_t session_id() const noexcept { return load_le<std::int32_t>(p_ + 12); }
  [[nodiscard]] std::int32_t stream_id() const noexcept { return load_le<std::int32_t>(p_ + 16); }
  [[nodiscard]] std::int32_t term_id() const noexcept { return load_le<std::int32_t>(p_ + 20); }
  [[nodiscard]] std::int64_t reserved_value() const noexcept { return load_le<std::int64_t>(p_ + 24); }

 private:
  const std::byte* p_;
};

struct DataHeader {
  std::int32_t frame_length{};  // bytes, header included, not aligned; 0 in a heartbeat
  std::uint8_t flags{flag::kUnfragmented};
  FrameType type{FrameType::kData};
  std::int32_t term_offset{};
  std::int32_t session_id{};
  std::int32_t stream_id{};
  std::int32_t term_id{};
  std::int64_t reserved_value{};
};
// Writes a 32-byte DATA or PAD header.
inline void build(std::byte* p, const DataHeader& f) noexcept {
  put_header(p, f.frame_length, f.flags, f.type);
  store_le(p + 8, f.term_offset);
  store_le(p + 12, f.session_id);
  store_le(p + 16, f.stream_id);
  store_le(p + 20, f.term_id);
  store_le(p + 24, f.reserved_value);
}

// SETUP (1.5): 40 bytes.
struct Setup {
  static constexpr std::size_t kLength = 40;
  std::uint8_t flags{};
  std::int32_t term_offset{};  // bytes, of the active term
  std::int32_t session_id{};
  std::int32_t stream_id{};
  std::int32_t initial_term_id{};
  std::int32_t active_term_id{};
  std::int32_t term_length{};  // bytes
  std::int32_t mtu{};          // bytes of UDP payload
  std::int32_t ttl{};

  // Precondition: FrameHeader::parse() accepted it. nullopt: caller counts an invalid packet.
  [[nodiscard]] static std::optional<Setup> parse(std::span<const std::byte> d) noexcept {
    if (d.size() < kLength) return std::nullopt;
    const std::byte* p = d.data();
    Setup s;
    s.flags = load_le<std::uint8_t>(p + 5);
    s.term_offset = load_le<std::int32_t>(p + 8);
    s.session_id = load_le<std::int32_t>(p + 12);
    s.stream_id = load_le<std::int32_t>(p + 16);
    s.initial_term_id = load_le<std::int32_t>(p + 20);
    s.active_term_id = load_le<std::int32_t>(p + 24);
    s.term_length = load_le<std::int32_t>(p + 28);
    s.mtu = load_le<std::int32_t>(p + 32);
    s.ttl = load_le<std::int32_t>(p + 36);
    if (s.term_length < kTermLengthMin || s.term_length > kTermLengthMax ||
        !std::has_single_bit(static_cast<std::uint32_t>(s.term_length))) return std::nullopt;
    if (s.term_offset < 0 || s.term_offset >= s.term_length || s.term_offset % kFrameAlignment != 0) return std::nullopt;
    if (s.mtu < kMtuMin || s.mtu > kMtuMax || s.mtu % kFrameAlignment != 0) return std::nullopt;
    if (wrapping_sub(s.active_term_id, s.initial_term_id) < 0) return std::nullopt;  // no position (1.13): an image there has no memory
    return s;
  }
};
inline void build(std::byte* p, const Setup& s) noexcept {
  put_header(p, Setup::kLength, s.flags, FrameType::kSetup);
  store_le(p + 8, s.term_offset);
  store_le(p + 12, s.session_id);
  store_le(p + 16, s.stream_id);
  store_le(p + 20, s.initial_term_id);
  store_le(p + 24, s.active_term_id);
  store_le(p + 28, s.term_length);
  store_le(p + 32, s.mtu);
  store_le(p + 36, s.ttl);
}

// Status message (1.6): 36 bytes, 44 with a group tag. Position and window validity need the publication's term length: valid_for().
struct StatusMessage {
  static constexpr std::size_t kLength = 36;
  static constexpr std::size_t kLengthWithTag = 44;
  std::uint8_t flags{};
  std::int32_t session_id{};
  std::int32_t stream_id{};
  std::int32_t consumption_term_id{};
  std::int32_t consumption_term_offset{};  // bytes
  std::int32_t window_length{};            // bytes
  std::int64_t receiver_id{};
  std::optional<std::int64_t> group_tag{};

  [[nodiscard]] static std::optional<StatusMessage> parse(std::span<const std::byte> d) noexcept {
    if (d.size() < kLength) return std::nullopt;
    const std::byte* p = d.data();
    StatusMessage s;
    s.flags = load_le<std::uint8_t>(p + 5);
    s.session_id = load_le<std::int32_t>(p + 8);
    s.stream_id = load_le<std::int32_t>(p + 12);
    s.consumption_term_id = load_le<std::int32_t>(p + 16);
    s.consumption_term_offset = load_le<std::int32_t>(p + 20);
    s.window_length = load_le<std::int32_t>(p + 24);
    s.receiver_id = load_le<std::int64_t>(p + 28);
    if (load_le<std::int32_t>(p) == static_cast<std::int32_t>(kLengthWithTag) && d.size() >= kLengthWithTag) {
      s.group_tag = load_le<std::int64_t>(p + 36);
    }
    return s;
  }
  // The validity column of 1.6. Unknown publication: pass kTermLengthMax.
  [[nodiscard]] bool valid_for(std::int32_t term_length) const noexcept {
    return consumption_term_offset >= 0 && consumption_term_offset < term_length && consumption_term_offset % kFrameAlignment == 0 &&
           window_length >= 0 && window_length <= term_length / 2;
  }
  [[nodiscard]] std::size_t length() const noexcept { return group_tag ? kLengthWithTag : kLength; }
};
inline void build(std::byte* p, const StatusMessage& s) noexcept {
  put_header(p, static_cast<std::int32_t>(s.length()), s.flags, FrameType::kStatusMessage);
  store_le(p + 8, s.session_id);
  store_le(p + 12, s.stream_id);
  store_le(p + 16, s.consumption_term_id);
  store_le(p + 20, s.consumption_term_offset);
  store_le(p + 24, s.window_length);
  store_le(p + 28, s.receiver_id);
  if (s.group_tag) store_le(p + 36, *s.group_tag);
}

// NAK (1.7): 28 bytes.
struct Nak {
  static constexpr std::size_t kLength = 28;
  std::int32_t session_id{};
  std::int32_t stream_id{};
  std::int32_t term_id{};
  std::int32_t term_offset{};  // bytes
  std::int32_t length{};       // bytes of the gap

  [[nodiscard]] static std::optional<Nak> parse(std::span<const std::byte> d) noexcept {
    if (d.size() < kLength) return std::nullopt;
    const std::byte* p = d.data();
    return Nak{load_le<std::int32_t>(p + 8), load_le<std::int32_t>(p + 12), load_le<std::int32_t>(p + 16),
               load_le<std::int32_t>(p + 20), load_le<std::int32_t>(p + 24)};
  }
  [[nodiscard]] bool valid_for(std::int32_t term_length) const noexcept {
    return term_offset >= 0 && term_offset < term_length && term_offset % kFrameAlignment == 0 && length >= 0 &&
           length <= term_length - term_offset;
  }
};
inline void build(std::byte* p, const Nak& n) noexcept {
  put_header(p, Nak::kLength, 0, FrameType::kNak);
  store_le(p + 8, n.session_id);
  store_le(p + 12, n.stream_id);
  store_le(p + 16, n.term_id);
  store_le(p + 20, n.term_offset);
  store_le(p + 24, n.length);
}

// ERR (1.8): 40 + n bytes. `text` points into the datagram.
struct ErrorFrame {
  static constexpr std::size_t kHeaderLength = 40;
  std::int32_t session_id{};
  std::int32_t stream_id{};
  std::int64_t receiver_id{};
  std::optional<std::int64_t> group_tag{};
  std::int32_t code{};
  std::span<const std::byte> text{};

  [[nodiscard]] static std::optional<ErrorFrame> parse(std::span<const std::byte> d) noexcept {
    if (d.size() < kHeaderLength) return std::nullopt;
    const std::byte* p = d.data();
    const auto frame_length = load_le<std::int32_t>(p);
    const auto n = load_le<std::int32_t>(p + 36);
    if (n < 0 || n > kErrorTextMax || 40 + n > frame_length || static_cast<std::size_t>(40 + n) > d.size()) return std::nullopt;
    ErrorFrame e;
    e.session_id = load_le<std::int32_t>(p + 8);
    e.stream_id = load_le<std::int32_t>(p + 12);
    e.receiver_id = load_le<std::int64_t>(p + 16);
    if ((load_le<std::uint8_t>(p + 5) & flag::kErrorHasGroupTag) != 0) e.group_tag = load_le<std::int64_t>(p + 24);
    e.code = load_le<std::int32_t>(p + 32);
    e.text = d.subspan(kHeaderLength, static_cast<std::size_t>(n));
    return e;
  }
  [[nodiscard]] std::size_t length() const noexcept { return kHeaderLength + text.size(); }
};
inline void build(std::byte* p, const ErrorFrame& e) noexcept {
  put_header(p, static_cast<std::int32_t>(e.length()), e.group_tag ? flag::kErrorHasGroupTag : std::uint8_t{0}, FrameType::kError);
  store_le(p + 8, e.session_id);
  store_le(p + 12, e.stream_id);
  store_le(p + 16, e.receiver_id);
  store_le<std::int64_t>(p + 24, e.group_tag.value_or(-1));
  store_le(p + 32, e.code);
  store_le(p + 36, static_cast<std::int32_t>(e.text.size()));
  if (!e.text.empty()) std::memcpy(p + ErrorFrame::kHeaderLength, e.text.data(), e.text.size());
}

// RTT measurement (1.9): 40 bytes. `is_request` is the REPLY flag: "please reply".
struct RttMeasurement {
  static constexpr std::size_t kLength = 40;
  bool is_request{};
  std::int32_t session_id{};
  std::int32_t stream_id{};
  std::int64_t echo_timestamp_ns{};   // opaque clock of the requester
  std::int64_t reception_delta_ns{};
  std::int64_t receiver_id{};

  [[nodiscard]] static std::optional<RttMeasurement> parse(std::span<const std::byte> d) noexcept {
    if (d.size() < kLength) return std::nullopt;
    const std::byte* p = d.data();
    return RttMeasurement{(load_le<std::uint8_t>(p + 5) & flag::kRttReply) != 0, load_le<std::int32_t>(p + 8), load_le<std::int32_t>(p + 12),
                          load_le<std::int64_t>(p + 16), load_le<std::int64_t>(p + 24), load_le<std::int64_t>(p + 32)};
  }
};
inline void build(std::byte* p, const RttMeasurement& r) noexcept {
  put_header(p, RttMeasurement::kLength, r.is_request ? flag::kRttReply : std::uint8_t{0}, FrameType::kRttMeasurement);
  store_le(p + 8, r.session_id);
  store_le(p + 12, r.stream_id);
  store_le(p + 16, r.echo_timestamp_ns);
  store_le(p + 24, r.reception_delta_ns);
  store_le(p + 32, r.receiver_id);
}

// RSP_SETUP (1.10): 20 bytes.
struct ResponseSetup {
  static constexpr std::size_t kLength = 20;
  std::int32_t session_id{};           // of the request publication
  std::int32_t stream_id{};
  std::int32_t response_session_id{};

  [[nodiscard]] static std::optional<ResponseSetup> parse(std::span<const std::byte> d) noexcept {
    if (d.size() < kLength) return std::nullopt;
    const std::byte* p = d.data();
    return ResponseSetup{load_le<std::int32_t>(p + 8), load_le<std::int32_t>(p + 12), load_le<std::int32_t>(p + 16)};
  }
};
inline void build(std::byte* p, const ResponseSetup& r) noexcept {
  put_header(p, ResponseSetup::kLength, 0, FrameType::kResponseSetup);
  store_le(p + 8, r.session_id);
  store_le(p + 12, r.stream_id);
  store_le(p + 16, r.response_session_id);
}

// One entry of a RES frame (6.1). `name` points into the datagram.
struct ResolutionEntry {
  static constexpr std::uint8_t kIpv4 = 1;
  static constexpr std::uint8_t kIpv6 = 2;
  std::uint8_t address_type{kIpv4};
  bool is_self{};
  std::uint16_t port{};      // little-endian on the wire
  std::int32_t age_ms{};
  std::byte address[16]{};   // network order; IPv4 in the first four
  std::span<const std::byte> name{};

  [[nodiscard]] std::size_t address_length() const noexcept { return address_type == kIpv4 ? 4 : 16; }
  [[nodiscard]] std::size_t length() const noexcept { return align_up<std::size_t>(8 + address_length() + 2 + name.size(), 8); }

  // Parses the entry at the front of `d`; the next one starts length() bytes later. nullopt: invalid, stop parsing the datagram.
  [[nodiscard]] static std::optional<ResolutionEntry> parse(std::span<const std::byte> d) noexcept {
    if (d.size() < 14) return std::nullopt;
    ResolutionEntry e;
    e.address_type = load_le<std::uint8_t>(d.data());
    if (e.address_type != kIpv4 && e.address_type != kIpv6) return std::nullopt;
    const std::size_t name_at = 8 + e.address_length() + 2;
    if (d.size() < name_at) return std::nullopt;
    e.is_self = (load_le<std::uint8_t>(d.data() + 1) & 0x80) != 0;
    e.port = load_le<std::uint16_t>(d.data() + 2);
    e.age_ms = load_le<std::int32_t>(d.data() + 4);
    std::memcpy(e.address, d.data() + 8, e.address_length());
    const auto n = load_le<std::int16_t>(d.data() + name_at - 2);
    if (n < 1 || n > 512 || name_at + static_cast<std::size_t>(n) > d.size()) return std::nullopt;
    e.name = d.subspan(name_at, static_cast<std::size_t>(n));
    if (e.length() > d.size()) return std::nullopt;
    return e;
  }
};
// Writes one entry, padding zeroed; the caller wrote the RES header with put_header().
inline void build(std::byte* p, const ResolutionEntry& e) noexcept {
  std::memset(p, 0, e.length());
  store_le(p, e.address_type);
  store_le<std::uint8_t>(p + 1, e.is_self ? 0x80 : 0);
  store_le(p + 2, e.port);
  store_le(p + 4, e.age_ms);
  std::memcpy(p + 8, e.address, e.address_length());
  store_le(p + 8 + e.address_length(), static_cast<std::int16_t>(e.name.size()));
  if (!e.name.empty()) std::memcpy(p + 10 + e.address_length(), e.name.data(), e.name.size());
}

}  // namespace thalweg::wire
