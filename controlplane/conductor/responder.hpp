#pragma once
#include <cstdint>
#include <string_view>

#include "controlplane/conductor/command_error.hpp"
#include "dataplane/shm/broadcast.hpp"
#include "dataplane/shm/commands.hpp"

namespace thalweg::conductor {

// Broadcasts the responses of client-protocol 6.3. Thread: the conductor, the buffer's only transmitter.
class Responder {
 public:
  explicit Responder(shm::BroadcastTransmitter transmitter) noexcept : transmitter_{transmitter} {}

  void error(std::int64_t correlation_id, const CommandError& error) {
    send(shm::Response::kError, shm::OnError{correlation_id, static_cast<std::int32_t>(error.code), std::string_view{error.text}.substr(0, kTextMax)});
  }
  void success(std::int64_t correlation_id) { send(shm::Response::kOperationSuccess, shm::OnOperationSuccess{correlation_id}); }
  void publication_ready(const shm::OnPublicationReady& ready, bool is_exclusive) {
    send(is_exclusive ? shm::Response::kExclusivePublicationReady : shm::Response::kPublicationReady, ready);
  }
  void subscription_ready(std::int64_t correlation_id, std::int32_t status_id) {
    send(shm::Response::kSubscriptionReady, shm::OnSubscriptionReady{correlation_id, status_id});
  }
  void available_image(const shm::OnAvailableImage& image) { send(shm::Response::kAvailableImage, image); }
  void unavailable_image(const shm::OnUnavailableImage& image) { send(shm::Response::kUnavailableImage, image); }
  void counter_ready(std::int64_t correlation_id, std::int32_t counter_id) { send(shm::Response::kCounterReady, shm::OnCounter{correlation_id, counter_id}); }
  void static_counter(std::int64_t correlation_id, std::int32_t counter_id) {
    send(shm::Response::kStaticCounter, shm::OnCounter{correlation_id, counter_id});
  }
  void unavailable_counter(std::int64_t registration_id, std::int32_t counter_id) {
    send(shm::Response::kUnavailableCounter, shm::OnCounter{registration_id, counter_id});
  }
  void client_timeout(std::int64_t client_id) { send(shm::Response::kClientTimeout, shm::OnClientTimeout{client_id}); }
  void publication_error(const shm::OnPublicationError& error) { send(shm::Response::kPublicationError, error); }
  void next_session_id(std::int64_t correlation_id, std::int32_t session_id) {
    send(shm::Response::kNextAvailableSessionId, shm::OnNextAvailableSessionId{correlation_id, session_id});
  }

 private:
  static constexpr std::size_t kTextMax = 8191;  // longest error text of the reference driver (6.4)

  template <typename Message>
  void send(shm::Response type, const Message& message) {
    shm::encode(buffer_, message);
    transmitter_.transmit(static_cast<std::int32_t>(type), buffer_);
  }
  shm::BroadcastTransmitter transmitter_;
  shm::Buffer buffer_;
};

}  // namespace thalweg::conductor
