#pragma once
#include "dataplane/shm/registry.hpp"
#include "dataplane/wire/frames.hpp"

// Sender-side flow control: how far may a publication send (wire-protocol section 4.1 to 4.5). Functions over the registry's state;
// receivers are found and kept by Publication, which lets go of one that is_flow_controlling through on_idle() alone. Thread: owning lane.
namespace thalweg::proto::flow {

// Does this SM belong to a receiver that the strategy waits for, once it is admitted? Never with max.
[[nodiscard]] bool is_wanted(const shm::PublicationSlot::Wanted& desired, const wire::StatusMessage& sm) noexcept;

// The sender limit after an accepted SM. `receiver`: the sender's table entry, nullptr when the table has none.
[[nodiscard]] std::int64_t on_status_message(const shm::PublicationSlot::Wanted& desired, shm::PublicationState& state,
                                             shm::ReceiverState* receiver, const wire::StatusMessage& sm, std::int64_t position,
                                             std::int64_t now_ns) noexcept;

// Cycles that sent nothing: silent and leaving receivers stop counting; the limit may fall (4.3).
[[nodiscard]] std::int64_t on_idle(const shm::PublicationSlot::Wanted& desired, shm::PublicationState& state, std::int64_t now_ns) noexcept;

// Setup hold of 4.4: an eliciting SM came, its SETUP went out.
void on_elicited(const shm::PublicationSlot::Wanted& desired, shm::PublicationState& state, const wire::StatusMessage& sm) noexcept;
void on_setup_sent(const shm::PublicationSlot::Wanted& desired, shm::PublicationState& state, std::int64_t now_ns) noexcept;

[[nodiscard]] bool has_required_receivers(const shm::PublicationSlot::Wanted& desired, const shm::PublicationState& state) noexcept;

}  // namespace thalweg::proto::flow
