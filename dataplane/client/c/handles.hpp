#pragma once
#include <string>
#include <utility>

#include "dataplane/client/c/thalweg.h"
#include "dataplane/client/thalweg.hpp"

// What is behind the opaque handles of thalweg.h. Internal to libthalweg.
struct thalweg_context {
  thalweg::client::Context context;
};
struct thalweg_counters {
  thalweg::client::CountersReader reader;
};
struct thalweg_client {
  thalweg::client::Client client;
  thalweg_counters counters;
};
// Both kinds; the other one is empty.
struct thalweg_publication {
  bool is_exclusive;
  thalweg::client::Publication shared;
  thalweg::client::ExclusivePublication alone;
  [[nodiscard]] const thalweg::client::PublicationHandle& handle() const noexcept {
    return is_exclusive ? static_cast<const thalweg::client::PublicationHandle&>(alone) : shared;
  }
  [[nodiscard]] thalweg::client::PublicationHandle& handle() noexcept {
    return is_exclusive ? static_cast<thalweg::client::PublicationHandle&>(alone) : shared;
  }
};
struct thalweg_subscription {
  thalweg::client::Subscription subscription;
};
struct thalweg_image {
  std::shared_ptr<thalweg::client::Image> image;
};
struct thalweg_counter {
  thalweg::client::ClientCounter counter;
};
struct thalweg_cnc {
  thalweg::client::Cnc cnc;
  thalweg_counters counters;
};
struct thalweg_uri {
  thalweg::client::ChannelUriBuilder builder;
};

namespace thalweg::client::c {

// Remembers what went wrong for this thread; answers its code.
thalweg_error_t failed(const Error& error) noexcept;
inline thalweg_error_t invalid(const char* what) noexcept { return failed(Error{ErrorCode::kInvalidArgument, what, {}}); }

// What a function without an outcome of its own answers.
template <typename T>
[[nodiscard]] thalweg_error_t status(const Result<T>& result) noexcept {
  return result ? THALWEG_OK : failed(result.error());
}
// The id of something asynchronous; `id` may be null.
[[nodiscard]] inline thalweg_error_t give_id(const Result<RegistrationId>& result, std::int64_t* id) noexcept {
  if (!result) return failed(result.error());
  if (id != nullptr) *id = static_cast<std::int64_t>(*result);
  return THALWEG_OK;
}
// As snprintf does: as much as there is room for, with a NUL; the length of the whole.
inline std::size_t copy_text(std::string_view text, char* buffer, std::size_t capacity) noexcept {
  if (buffer != nullptr && capacity > 0) {
    const std::size_t length = text.size() < capacity ? text.size() : capacity - 1;
    if (length != 0) std::memcpy(buffer, text.data(), length);
    buffer[length] = '\0';
  }
  return text.size();
}
[[nodiscard]] inline std::string_view text_or_empty(const char* text) noexcept { return text != nullptr ? text : ""; }
[[nodiscard]] inline std::span<const std::byte> bytes_of(const void* data, std::size_t length) noexcept {
  return {static_cast<const std::byte*>(data), data != nullptr ? length : 0};
}
[[nodiscard]] inline const std::uint8_t* octets(std::span<const std::byte> bytes) noexcept { return reinterpret_cast<const std::uint8_t*>(bytes.data()); }
[[nodiscard]] inline const thalweg_header_t* opaque(const Header& header) noexcept { return reinterpret_cast<const thalweg_header_t*>(&header); }
[[nodiscard]] inline const Header& header_of(const thalweg_header_t* header) noexcept { return *reinterpret_cast<const Header*>(header); }

// C handlers as handlers of ours. A null one becomes an empty one.
[[nodiscard]] inline ImageHandler image_handler(thalweg_image_handler_t handler, void* clientd) {
  if (handler == nullptr) return {};
  return [handler, clientd](const std::shared_ptr<Image>& image) {
    thalweg_image borrowed{image};
    handler(clientd, &borrowed);
  };
}
[[nodiscard]] inline CounterHandler counter_handler(thalweg_counter_handler_t handler, void* clientd) {
  if (handler == nullptr) return {};
  return [handler, clientd](std::int64_t registration_id, std::int32_t id) { handler(clientd, registration_id, id); };
}
[[nodiscard]] inline CloseHandler close_handler(thalweg_close_handler_t handler, void* clientd) {
  if (handler == nullptr) return {};
  return [handler, clientd] { handler(clientd); };
}

// C handlers of fragments, as polls take them.
struct OnFragment {
  thalweg_fragment_handler_t handler;
  void* clientd;
  void operator()(std::span<const std::byte> payload, const Header& header) const { handler(clientd, octets(payload), payload.size(), opaque(header)); }
};
struct OnControlled {
  thalweg_controlled_handler_t handler;
  void* clientd;
  PollAction operator()(std::span<const std::byte> payload, const Header& header) const {
    return static_cast<PollAction>(handler(clientd, octets(payload), payload.size(), opaque(header)));
  }
};
struct OnBlock {
  thalweg_block_handler_t handler;
  void* clientd;
  void operator()(std::span<const std::byte> frames, std::int32_t session_id, std::int32_t term_id) const {
    handler(clientd, octets(frames), frames.size(), session_id, term_id);
  }
};

}  // namespace thalweg::client::c
