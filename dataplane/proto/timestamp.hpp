#pragma once
#include <span>

#include "dataplane/shm/registry.hpp"
#include "dataplane/wire/frames.hpp"

// Timestamps in frames (wire-protocol 5.11): nanoseconds since the epoch, at an offset of the payload or in the reserved value. Pure.
namespace thalweg::proto {

// Writes `epoch_ns` into one DATA frame of which `present` bytes are there; not, if its payload is too short for it.
// `offset`: of the payload, or kReservedValueTimestamp.
void stamp_frame(std::byte* frame, std::size_t present, std::int32_t offset, std::int64_t epoch_ns) noexcept;
// A datagram about to leave: its first frame, if it is DATA and no heartbeat.
void stamp_sent(std::span<std::byte> datagram, std::int32_t offset, std::int64_t epoch_ns) noexcept;
// A datagram that arrived: each DATA frame that begins a message and is there in full. Its lengths need not have been checked.
void stamp_received(std::span<std::byte> datagram, std::int32_t offset, std::int64_t epoch_ns) noexcept;

}  // namespace thalweg::proto
