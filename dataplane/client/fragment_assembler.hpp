#pragma once
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "dataplane/client/image.hpp"

namespace thalweg::client {

// Puts fragmented messages together (wire-protocol 1.14). One buffer per session, grown on demand and kept, at most as long as the
// image's longest message. A message with a missing piece is dropped whole. One thread.
class MessageBuilder {
 public:
  using Bytes = std::span<const std::byte>;

  // The whole message, if `payload` was all of it or its last piece; valid until the next call. Unfragmented messages are not copied.
  [[nodiscard]] std::optional<Bytes> add(Bytes payload, const Header& header) {
    if (header.is_unfragmented()) return payload;
    return append(payload, header);
  }
  // Takes back the last piece that add() completed a message with: its fragment will be delivered again.
  void undo(Bytes payload, const Header& header);
  // Frees the buffer of a session whose image is gone.
  void forget(std::int32_t session_id) { partials_.erase(session_id); }
  // Messages dropped because a fragment was missing or the whole would be longer than the stream allows.
  [[nodiscard]] std::int64_t dropped_count() const noexcept { return dropped_; }

 private:
  struct Partial {
    std::vector<std::byte> bytes;
    std::int64_t next_position{-1};  // where the next fragment must begin; -1: waiting for a first fragment
  };
  [[nodiscard]] std::optional<Bytes> append(Bytes payload, const Header& header);
  void drop(Partial& partial) noexcept;

  std::unordered_map<std::int32_t, Partial> partials_;
  std::int64_t dropped_{};
};

// Wraps a handler of whole messages for use in any poll; a controlled handler makes a controlled assembler.
//   FragmentAssembler assembler{[](std::span<const std::byte> message, const Header& header) { ... }};
//   subscription.poll(assembler, 10);
// The header of a reassembled message is that of its last fragment. One thread.
template <FragmentHandler Handler>
class FragmentAssembler {
 public:
  explicit FragmentAssembler(Handler handler) : handler_{std::move(handler)} {}

  auto operator()(std::span<const std::byte> payload, const Header& header) {
    const auto message = builder_.add(payload, header);
    if constexpr (ControlledFragmentHandler<Handler>) {
      if (!message) return PollAction::kContinue;
      const PollAction action = handler_(*message, header.assembled());
      if (action == PollAction::kAbort) builder_.undo(payload, header);
      return action;
    } else {
      if (message) handler_(*message, header.assembled());
    }
  }
  void forget(std::int32_t session_id) { builder_.forget(session_id); }
  [[nodiscard]] std::int64_t dropped_count() const noexcept { return builder_.dropped_count(); }

 private:
  Handler handler_;
  MessageBuilder builder_;
};

}  // namespace thalweg::client
