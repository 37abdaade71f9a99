#pragma once
#include <cstdint>

#include "dataplane/base/assert.hpp"

namespace thalweg::client {

// Why an offer or a claim did not go through. Values are those of the field (client-protocol 7.5), so that logs can be compared.
enum class OfferStatus : std::int8_t {
  kAccepted = 0,
  kNotConnected = -1,         // nobody subscribes; try again later
  kBackPressured = -2,        // the slowest subscriber or the flow-control window holds the stream; try again
  kAdminAction = -3,          // a term is being rotated; try again at once
  kClosed = -4,               // this publication or its client is closed; final
  kMaxPositionExceeded = -5,  // the stream's 2^31 terms are used up; final
  kMessageTooLong = -6,       // longer than max_message_length(), or max_payload_length() for a claim; final for this message
  kInvalidBlock = -7,         // no run of whole frames, or longer than a term; final for this block
};

// The name of a status in the operator's words ("back pressured"). Never null.
[[nodiscard]] constexpr const char* to_string(OfferStatus status) noexcept {
  switch (status) {
    case OfferStatus::kAccepted: return "accepted";
    case OfferStatus::kNotConnected: return "not connected";
    case OfferStatus::kBackPressured: return "back pressured";
    case OfferStatus::kAdminAction: return "admin action";
    case OfferStatus::kClosed: return "closed";
    case OfferStatus::kMaxPositionExceeded: return "max position exceeded";
    case OfferStatus::kMessageTooLong: return "message too long";
    case OfferStatus::kInvalidBlock: return "invalid block";
  }
  return "unknown";
}

// Outcome of an offer: the stream position behind the message, or the reason it was not taken. One machine word.
class [[nodiscard]] OfferResult {
 public:
  constexpr OfferResult(OfferStatus refusal) noexcept : value_{static_cast<std::int64_t>(refusal)} {}
  // Precondition: position > 0.
  [[nodiscard]] static constexpr OfferResult accepted(std::int64_t position) noexcept { return OfferResult{position}; }

  [[nodiscard]] constexpr bool ok() const noexcept { return value_ > 0; }
  [[nodiscard]] constexpr explicit operator bool() const noexcept { return ok(); }
  // Bytes since stream start, behind the message and its padding. Precondition: ok().
  [[nodiscard]] constexpr std::int64_t position() const noexcept { return value_; }
  [[nodiscard]] constexpr OfferStatus status() const noexcept { return ok() ? OfferStatus::kAccepted : static_cast<OfferStatus>(value_); }
  // The same offer may succeed later: not connected, back pressured or admin action.
  [[nodiscard]] constexpr bool is_retryable() const noexcept { return value_ <= -1 && value_ >= -3; }

 private:
  constexpr explicit OfferResult(std::int64_t position) noexcept : value_{position} {}
  std::int64_t value_;
};

}  // namespace thalweg::client
