#pragma once
#include <concepts>
#include <cstddef>
#include <span>

namespace thalweg::proto {

// Where a state machine's datagrams go. Each call is one UDP payload. False: the transport would not take it now; nothing was sent and
// the machine tries again in a later turn.
//   send_log(bytes):     bytes lie in a term and stay unchanged while the frame is in flight (zero-copy is the sink's choice);
//   send_control(bytes): bytes are the caller's scratch and must be copied.
template <typename T>
concept DatagramSink = requires(T sink, std::span<const std::byte> bytes) {
  { sink.send_log(bytes) } -> std::same_as<bool>;
  { sink.send_control(bytes) } -> std::same_as<bool>;
};

}  // namespace thalweg::proto
