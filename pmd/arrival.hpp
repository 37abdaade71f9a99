#pragma once
#include <cstdint>

#include "dataplane/base/result.hpp"

struct rte_mbuf;

// When a frame arrived, where its port knows better than the lane that takes it: the receive timestamp of the kernel or of a device
// (wire-protocol 5.11). It rides in a dynamic field of the mbuf, that of copies included. Frames of ports that note nothing cost nothing.
namespace thalweg::pmd {

// Takes the field and its flag. Errors: kNoSpace (every dynamic field is taken). Eal::start() does it once, before any frame is received.
[[nodiscard]] Result<void> register_arrivals();
// Ports, for frames that they received. Without register_arrivals() it does nothing.
void set_arrival(rte_mbuf& frame, std::int64_t epoch_ns) noexcept;
// Nanoseconds since the epoch; 0: its port did not note it. Lanes.
[[nodiscard]] std::int64_t arrival_of(const rte_mbuf& frame) noexcept;

}  // namespace thalweg::pmd
