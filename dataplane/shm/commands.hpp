#pragma once
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "dataplane/base/bytes.hpp"

// Commands (client -> driver) and responses (driver -> clients) of client-protocol section 6: plain structs with encode() and decode().
// decode() checks every embedded length against the message; nullopt means malformed. Strings point into the message.
namespace thalweg::shm {

enum class Command : std::int32_t {
  kAddPublication = 0x01, kRemovePublication = 0x02, kAddExclusivePublication = 0x03, kAddSubscription = 0x04, kRemoveSubscription = 0x05,
  kClientKeepalive = 0x06, kAddDestination = 0x07, kRemoveDestination = 0x08, kAddCounter = 0x09, kRemoveCounter = 0x0A, kClientClose = 0x0B,
  kAddReceiveDestination = 0x0C, kRemoveReceiveDestination = 0x0D, kTerminateDriver = 0x0E, kAddStaticCounter = 0x0F, kRejectImage = 0x10,
  kRemoveDestinationById = 0x11, kGetNextAvailableSessionId = 0x12,
};
enum class Response : std::int32_t {
  kError = 0x0F01, kAvailableImage = 0x0F02, kPublicationReady = 0x0F03, kOperationSuccess = 0x0F04, kUnavailableImage = 0x0F05,
  kExclusivePublicationReady = 0x0F06, kSubscriptionReady = 0x0F07, kCounterReady = 0x0F08, kUnavailableCounter = 0x0F09,
  kClientTimeout = 0x0F0A, kStaticCounter = 0x0F0B, kPublicationError = 0x0F0C, kNextAvailableSessionId = 0x0F0D,
};
// Error codes sent to clients (6.4).
enum class ClientError : std::int32_t {
  kUnknown = -1, kInvalidChannel = 1, kUnknownSubscription = 2, kUnknownPublication = 3, kChannelEndpointError = 4, kUnknownCounter = 5,
  kUnknownCommandType = 6, kMalformedCommand = 7, kNotSupported = 8, kUnknownHost = 9, kResourceTemporarilyUnavailable = 10,
  kGeneric = 11, kStorageSpace = 12, kImageRejected = 13, kPublicationRevoked = 14,
};

struct CommandHeader {  // first 16 bytes of every command
  std::int64_t client_id{};
  std::int64_t correlation_id{};
};
using Bytes = std::span<const std::byte>;
using Buffer = std::vector<std::byte>;

struct AddPublication : CommandHeader {  // also ADD_EXCLUSIVE_PUBLICATION
  std::int32_t stream_id{};
  std::string_view channel;
};
struct RemovePublication : CommandHeader {
  std::int64_t registration_id{};
  bool revoke{};  // absent in 24-byte commands
};
struct AddSubscription : CommandHeader {
  std::int64_t registration_correlation_id{-1};
  std::int32_t stream_id{};
  std::string_view channel;
};
struct RemoveRegistration : CommandHeader {  // REMOVE_SUBSCRIPTION, REMOVE_COUNTER
  std::int64_t registration_id{};
};
struct DestinationCommand : CommandHeader {  // ADD/REMOVE_DESTINATION, ADD/REMOVE_RCV_DESTINATION
  std::int64_t registration_id{};
  std::string_view channel;
};
struct RemoveDestinationById : CommandHeader {
  std::int64_t publication_registration_id{};
  std::int64_t destination_registration_id{};
};
struct AddCounter : CommandHeader {
  std::int32_t type_id{};
  Bytes key;
  std::string_view label;
};
struct AddStaticCounter : CommandHeader {
  std::int64_t registration_id{};
  std::int32_t type_id{};
  Bytes key;
  std::string_view label;
};
struct ClientCommand : CommandHeader {};  // CLIENT_KEEPALIVE, CLIENT_CLOSE
struct TerminateDriver : CommandHeader {
  Bytes token;
};
struct RejectImage : CommandHeader {
  std::int64_t image_correlation_id{};
  std::int64_t position{};
  std::string_view reason;
};
struct GetNextAvailableSessionId : CommandHeader {
  std::int32_t stream_id{};
};

template <typename T>
[[nodiscard]] std::optional<T> decode(Bytes message);  // specialised in commands.cpp for every struct of this header
template <> std::optional<CommandHeader> decode(Bytes);
template <> std::optional<AddPublication> decode(Bytes);
template <> std::optional<RemovePublication> decode(Bytes);
template <> std::optional<AddSubscription> decode(Bytes);
template <> std::optional<RemoveRegistration> decode(Bytes);
template <> std::optional<DestinationCommand> decode(Bytes);
template <> std::optional<RemoveDestinationById> decode(Bytes);
template <> std::optional<AddCounter> decode(Bytes);
template <> std::optional<AddStaticCounter> decode(Bytes);
template <> std::optional<ClientCommand> decode(Bytes);
template <> std::optional<TerminateDriver> decode(Bytes);
template <> std::optional<RejectImage> decode(Bytes);
template <> std::optional<GetNextAvailableSessionId> decode(Bytes);
void encode(Buffer& out, const AddPublication& m);  // replaces the contents of out
void encode(Buffer& out, const RemovePublication& m);
void encode(Buffer& out, const AddSubscription& m);
void encode(Buffer& out, const RemoveRegistration& m);
void encode(Buffer& out, const DestinationCommand& m);
void encode(Buffer& out, const RemoveDestinationById& m);
void encode(Buffer& out, const AddCounter& m);
void encode(Buffer& out, const AddStaticCounter& m);
void encode(Buffer& out, const ClientCommand& m);
void encode(Buffer& out, const TerminateDriver& m);
void encode(Buffer& out, const RejectImage& m);
void encode(Buffer& out, const GetNextAvailableSessionId& m);

struct OnError {
  std::int64_t offending_correlation_id{};
  std::int32_t code{};
  std::string_view text;
};
struct OnPublicationReady {  // also ON_EXCLUSIVE_PUBLICATION_READY
  std::int64_t correlation_id{};
  std::int64_t original_registration_id{};
  std::int32_t session_id{};
  std::int32_t stream_id{};
  std::int32_t publisher_limit_counter_id{};
  std::int32_t channel_status_counter_id{};
  std::string_view log_path;
};
struct OnSubscriptionReady {
  std::int64_t correlation_id{};
  std::int32_t channel_status_counter_id{};
};
struct OnAvailableImage {
  std::int64_t correlation_id{};
  std::int32_t session_id{};
  std::int32_t stream_id{};
  std::int64_t subscription_registration_id{};
  std::int32_t subscriber_position_counter_id{};
  std::string_view log_path;
  std::string_view source_identity;
};
struct OnUnavailableImage {
  std::int64_t correlation_id{};
  std::int64_t subscription_registration_id{};
  std::int32_t stream_id{};
  std::string_view channel;
};
struct OnOperationSuccess {
  std::int64_t correlation_id{};
};
struct OnCounter {  // ON_COUNTER_READY, ON_UNAVAILABLE_COUNTER, ON_STATIC_COUNTER
  std::int64_t correlation_id{};
  std::int32_t counter_id{};
};
struct OnClientTimeout {
  std::int64_t client_id{};
};
struct OnNextAvailableSessionId {
  std::int64_t correlation_id{};
  std::int32_t session_id{};
};
struct OnPublicationError {
  std::int64_t registration_id{};
  std::int64_t destination_registration_id{-1};
  std::int32_t session_id{};
  std::int32_t stream_id{};
  std::int64_t receiver_id{};
  std::int64_t group_tag{-1};
  std::int16_t address_type{};  // 1 IPv4, 2 IPv6, 0 other
  std::uint16_t source_port{};  // host order
  std::byte address[16]{};      // network order
  std::int32_t code{};
  std::string_view text;        // the body is padded to 72 bytes for the C client
};
template <> std::optional<OnError> decode(Bytes);
template <> std::optional<OnPublicationReady> decode(Bytes);
template <> std::optional<OnSubscriptionReady> decode(Bytes);
template <> std::optional<OnAvailableImage> decode(Bytes);
template <> std::optional<OnUnavailableImage> decode(Bytes);
template <> std::optional<OnOperationSuccess> decode(Bytes);
template <> std::optional<OnCounter> decode(Bytes);
template <> std::optional<OnClientTimeout> decode(Bytes);
template <> std::optional<OnNextAvailableSessionId> decode(Bytes);
template <> std::optional<OnPublicationError> decode(Bytes);
void encode(Buffer& out, const OnError& m);
void encode(Buffer& out, const OnPublicationReady& m);
void encode(Buffer& out, const OnSubscriptionReady& m);
void encode(Buffer& out, const OnAvailableImage& m);
void encode(Buffer& out, const OnUnavailableImage& m);
void encode(Buffer& out, const OnOperationSuccess& m);
void encode(Buffer& out, const OnCounter& m);
void encode(Buffer& out, const OnClientTimeout& m);
void encode(Buffer& out, const OnNextAvailableSessionId& m);
void encode(Buffer& out, const OnPublicationError& m);

}  // namespace thalweg::shm
