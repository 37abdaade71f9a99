#include "dataplane/proto/flow_control.hpp"

#include <algorithm>
#include <limits>

#include "dataplane/base/planted.hpp"

namespace thalweg::proto::flow {
namespace {

using shm::FlowControl;
using Wanted = shm::PublicationSlot::Wanted;
constexpr std::int64_t kNoMinimum = std::numeric_limits<std::int64_t>::max();

// Least position + window of the receivers that count, and how many those are.
struct Group {
  std::int64_t min_limit{kNoMinimum};
  std::int32_t size{};
};
Group group_of(const shm::PublicationState& state) noexcept {
  Group group;
  for (const shm::ReceiverState& r : state.receivers) {
    if (!r.is_flow_controlling) continue;
    group.min_limit = planted(Bug::kFlowControlIgnoresSlowest) ? r.last_limit : std::min(group.min_limit, r.last_limit);
    ++group.size;
  }
  return group;
}

bool is_hold_active(const Wanted& desired, const shm::PublicationState& state, std::int64_t now_ns) noexcept {
  return state.setup_hold_since_ns != 0 && now_ns - state.setup_hold_since_ns <= desired.flow_control_receiver_timeout_ns;
}

}  // namespace

bool is_match(const Wanted& desired, const wire::StatusMessage& sm) noexcept {
  if (desired.flow_control != FlowControl::kTagged) return true;
  return sm.group_tag && *sm.group_tag == desired.flow_control_group_tag;
}

std::int64_t on_status_message(const Wanted& desired, shm::PublicationState& state, shm::ReceiverState* receiver,
                               const wire::StatusMessage& sm, std::int64_t position, std::int64_t now_ns) noexcept {
  const std::int64_t limit = position + sm.window_length;
  if (desired.flow_control == FlowControl::kMax) return std::max(state.sender_limit, limit);
  const bool is_end = (sm.flags & wire::flag::kSmEndOfStream) != 0;
  const bool matches = is_match(desired, sm) && receiver != nullptr;
  if (matches && receiver->is_flow_controlling) {
    receiver->is_end_of_stream = is_end ? 1 : 0;
    receiver->last_position = std::max(receiver->last_position, position);
    receiver->last_limit = limit;
  }
  Group group = group_of(state);
  std::int64_t least = std::min(group.min_limit, is_hold_active(desired, state, now_ns) ? state.setup_hold_position : kNoMinimum);
  // A newcomer too far behind is not admitted, so that it cannot stall the group (4.3 step 4).
  if (matches && !receiver->is_flow_controlling && !is_end && (group.size == 0 || limit >= least - sm.window_length)) {
    receiver->is_flow_controlling = 1;
    receiver->is_end_of_stream = 0;
    receiver->last_position = position;
    receiver->last_limit = limit;
    ++group.size;
    state.setup_hold_since_ns = 0;
    least = std::min(least, limit);
  }
  if (group.size < desired.flow_control_group_min_size) return state.sender_limit;
  return std::max(state.sender_limit, group.size == 0 ? limit : least);
}

std::int64_t on_idle(const Wanted& desired, shm::PublicationState& state, std::int64_t now_ns) noexcept {
  if (desired.flow_control == FlowControl::kMax) return state.sender_limit;
  for (shm::ReceiverState& r : state.receivers) {
    if (r.is_flow_controlling && (r.is_end_of_stream || r.last_sm_ns + desired.flow_control_receiver_timeout_ns < now_ns)) {
      r.is_flow_controlling = 0;
    }
  }
  if (!is_hold_active(desired, state, now_ns)) state.setup_hold_since_ns = 0;
  const Group group = group_of(state);
  if (group.size == 0 || group.size < desired.flow_control_group_min_size) return state.sender_limit;
  return state.setup_hold_since_ns != 0 ? std::min(group.min_limit, state.setup_hold_position) : group.min_limit;
}

void on_elicited(const Wanted& desired, shm::PublicationState& state, const wire::StatusMessage& sm) noexcept {
  if (desired.flow_control != FlowControl::kMax && is_match(desired, sm)) state.is_setup_hold_wanted = 1;
}

void on_setup_sent(const Wanted& desired, shm::PublicationState& state, std::int64_t now_ns) noexcept {
  if (desired.flow_control == FlowControl::kMax || !state.is_setup_hold_wanted) return;
  state.is_setup_hold_wanted = 0;
  if (group_of(state).size == 0) return;
  state.setup_hold_position = state.sender_limit;
  state.setup_hold_since_ns = now_ns;
}

bool has_required_receivers(const Wanted& desired, const shm::PublicationState& state) noexcept {
  return desired.flow_control == FlowControl::kMax || group_of(state).size >= desired.flow_control_group_min_size;
}

}  // namespace thalweg::proto::flow
