#pragma once
#include <cstring>
#include <type_traits>
#include <utility>

#include "dataplane/client/fragment_assembler.hpp"
#include "dataplane/client/publication.hpp"
#include "dataplane/client/subscription.hpp"

namespace thalweg::client {

// A message that can travel as its own bytes: no pointers, fixed-width members, the same layout on both sides.
template <typename T>
concept Message = std::is_trivially_copyable_v<T> && std::is_default_constructible_v<T> && !std::is_pointer_v<T>;

// A publication of one message type. `P` is Publication (any thread) or ExclusivePublication (one thread).
template <Message T, typename P = Publication>
class TypedPublisher {
 public:
  explicit TypedPublisher(P publication) noexcept : publication_{std::move(publication)} {}

  // Offers one message; results as for the publication.
  OfferResult publish(const T& message, std::int64_t reserved_value = 0) noexcept {
    return publication_.offer(std::as_bytes(std::span<const T, 1>{&message, 1}), reserved_value);
  }
  [[nodiscard]] P& publication() noexcept { return publication_; }

 private:
  P publication_;
};

// A subscription to a stream that carries one message type. A message of another length is counted and skipped, never handed out.
template <Message T>
class TypedSubscriber {
 public:
  explicit TypedSubscriber(Subscription subscription) noexcept : subscription_{std::move(subscription)} {}

  // Up to `limit` fragments; whole messages go to `handler(const T&, const Header&)` as a copy on the stack. Returns fragments taken.
  template <typename Handler>
    requires std::invocable<Handler&, const T&, const Header&>
  int poll(Handler&& handler, int limit) {
    return subscription_.poll(
        [&](std::span<const std::byte> payload, const Header& header) {
          const auto bytes = builder_.add(payload, header);
          if (!bytes) return;
          if (bytes->size() != sizeof(T)) {
            ++mismatched_;
            return;
          }
          T message;
          std::memcpy(&message, bytes->data(), sizeof(T));
          handler(static_cast<const T&>(message), header.assembled());
        },
        limit);
  }
  // Messages whose length was not sizeof(T).
  [[nodiscard]] std::int64_t mismatched_count() const noexcept { return mismatched_; }
  [[nodiscard]] Subscription& subscription() noexcept { return subscription_; }

 private:
  Subscription subscription_;
  MessageBuilder builder_;
  std::int64_t mismatched_{};
};

}  // namespace thalweg::client
