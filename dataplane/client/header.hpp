#pragma once
#include <cstdint>

#include "dataplane/base/bytes.hpp"
#include "dataplane/shm/log_buffer.hpp"

namespace thalweg::client {

class Image;

// Layout of a frame in a term (client-protocol 7.4).
namespace frame {
inline constexpr std::int32_t kHeaderLength = 32;  // bytes
inline constexpr std::int32_t kAlignment = 32;     // bytes
inline constexpr std::size_t kFlagsOffset = 5;
inline constexpr std::size_t kTypeOffset = 6;
inline constexpr std::size_t kTermOffsetOffset = 8;
inline constexpr std::size_t kSessionIdOffset = 12;
inline constexpr std::size_t kStreamIdOffset = 16;
inline constexpr std::size_t kTermIdOffset = 20;
inline constexpr std::size_t kReservedValueOffset = 24;
inline constexpr std::uint8_t kBegin = 0x80;
inline constexpr std::uint8_t kEnd = 0x40;
inline constexpr std::uint8_t kUnfragmented = kBegin | kEnd;
inline constexpr std::uint16_t kTypePad = 0;
inline constexpr std::uint16_t kTypeData = 1;

// Bytes a frame of `length` (header included) takes up in a term.
[[nodiscard]] constexpr std::int32_t aligned(std::int32_t length) noexcept { return align_up(length, kAlignment); }
}  // namespace frame

// What a handler learns about a fragment besides its payload. A view: valid only inside the handler. For a reassembled message it
// describes the last fragment, with flags() saying "unfragmented".
class Header {
 public:
  Header(const Image& image, const std::byte* frame, std::int64_t position) noexcept
      : image_{&image}, frame_{frame}, position_{position}, flags_{load_le<std::uint8_t>(frame + frame::kFlagsOffset)} {}

  [[nodiscard]] const Image& image() const noexcept { return *image_; }
  // Stream position behind this frame: what the subscriber position becomes once it is consumed.
  [[nodiscard]] std::int64_t position() const noexcept { return position_; }
  [[nodiscard]] std::int32_t session_id() const noexcept { return load_le<std::int32_t>(frame_ + frame::kSessionIdOffset); }
  [[nodiscard]] std::int32_t stream_id() const noexcept { return load_le<std::int32_t>(frame_ + frame::kStreamIdOffset); }
  [[nodiscard]] std::int32_t term_id() const noexcept { return load_le<std::int32_t>(frame_ + frame::kTermIdOffset); }
  [[nodiscard]] std::int32_t term_offset() const noexcept { return load_le<std::int32_t>(frame_ + frame::kTermOffsetOffset); }
  // The publisher's eight bytes of its own choice (0 if it chose none).
  [[nodiscard]] std::int64_t reserved_value() const noexcept { return load_le<std::int64_t>(frame_ + frame::kReservedValueOffset); }
  [[nodiscard]] std::uint8_t flags() const noexcept { return flags_; }
  [[nodiscard]] bool is_unfragmented() const noexcept { return (flags_ & frame::kUnfragmented) == frame::kUnfragmented; }

  // The same header for a message put together from fragments.
  [[nodiscard]] Header assembled() const noexcept {
    Header h{*this};
    h.flags_ |= frame::kUnfragmented;
    return h;
  }

 private:
  const Image* image_;
  const std::byte* frame_;
  std::int64_t position_;
  std::uint8_t flags_;
};

}  // namespace thalweg::client
