#pragma once
#include "dataplane/base/result.hpp"

namespace thalweg::client {

// Codes that only clients meet, beside those of base/result.hpp. Below 120 they are 100 + the code that the driver sent (client-protocol
// 6.4); what else the driver sends has a code of base/result.hpp: 1 kInvalidChannel, 6 and 8 kUnsupported, 9 kUnknownHost, 10 kInUse,
// 11 kGeneric, 12 kNoSpace. Values never change meaning.
namespace client_error {
inline constexpr ErrorCode kUnknownSubscription{102};
inline constexpr ErrorCode kUnknownPublication{103};
inline constexpr ErrorCode kChannelEndpoint{104};      // a channel failed after it was made
inline constexpr ErrorCode kUnknownCounter{105};
inline constexpr ErrorCode kMalformedCommand{107};
inline constexpr ErrorCode kImageRejected{113};        // a subscriber wants no more of a publication
inline constexpr ErrorCode kPublicationRevoked{114};
inline constexpr ErrorCode kClientTimeout{120};        // the driver gave this client up
inline constexpr ErrorCode kServiceTimeout{121};       // the client's conductor was not run for longer than the driver bears
}  // namespace client_error

// Why a client is closed.
enum class CloseReason : std::uint8_t {
  kOpen,            // it is not
  kApplication,     // close(), or the Client went away
  kDriverShutDown,  // the driver said goodbye
  kDriverTimeout,   // the driver shows no heartbeat
  kClientTimeout,   // as client_error::kClientTimeout
  kServiceTimeout,  // as client_error::kServiceTimeout
};

}  // namespace thalweg::client
