#include "dataplane/proto/flow_control.hpp"

#include <algorithm>
#include <limits>

#include "dataplane/base/planted.hpp"

namespace thalweg::proto::flow {
namespace {

using shm::FlowControl;
using Wanted = shm::PublicationSlot::Wanted;
constexpr std::int64_t kNoMinimum = std::numeric_limits<std::int64_t>::max();

// Of the receivers that count: the least position + window, and the least position.
struct Group {
  std::int64_t limit{kNoMinimum};
  std::int64_t position{kNoMinimum};
};
Group group_of(const shm::PublicationState& state) noexcept {
  Group group;
  for (const shm::ReceiverState& r : state.receivers) {
    if (!r.is_flow_controlling) continue;
    group.limit = planted(Bug::kFlowControlIgnoresSlowest) ? r.last_limit : std::min(group.limit, r.last_limit);
    group.position = std::min(group.position, r.last_position);
  }
  return group;
}

bool has_group(const Wanted& desired, const shm::PublicationState& state) noexcept {
  return planted(Bug::kGroupSizeIgnored) || static_cast<std::int64_t>(state.flow_receiver_count) >= desired.flow_control_group_min_size;
}

bool is_hold_active(const Wanted& desired, const shm::PublicationState& state, std::int64_t now_ns) noexcept {
  return state.setup_hold_since_ns != 0 && now_ns - state.setup_hold_since_ns <= desired.flow_control_receiver_timeout_ns;
}

}  // namespace

bool is_wanted(const Wanted& desired, const wire::StatusMessage& sm) noexcept {
  if (desired.flow_control == FlowControl::kMin) return true;
  if (planted(Bug::kGroupTagIgnored)) return desired.flow_control == FlowControl::kTagged;
  return desired.flow_control == FlowControl::kTagged && sm.group_tag && *sm.group_tag == desired.flow_control_group_tag;
}

std::int64_t on_status_message(const Wanted& desired, shm::PublicationState& state, shm::ReceiverState* receiver,
                               const wire::StatusMessage& sm, std::int64_t position, std::int64_t now_ns) noexcept {
  const std::int64_t limit = position + sm.window_length;
  if (desired.flow_control == FlowControl::kMax) return std::max(state.sender_limit, limit);
  const bool is_end = (sm.flags & wire::flag::kSmEndOfStream) != 0;
  const bool matches = is_wanted(desired, sm) && receiver != nullptr;
  if (matches && receiver->is_flow_controlling) {
    receiver->is_end_of_stream = is_end ? 1 : 0;
    receiver->last_position = std::max(receiver->last_position, position);
    receiver->last_limit = limit;
  }
  const Group group = group_of(state);
  std::int64_t least = std::min(group.limit, is_hold_active(desired, state, now_ns) ? state.setup_hold_position : kNoMinimum);
  // A newcomer too far behind is not admitted, so that it cannot stall the group (4.3 step 4). One that has got as far as a member has is
  // not behind, however small its window: the reference driver would keep it out for as long as nobody sends, and a required group, for
  // which nobody can, would never be complete.
  const bool is_near = state.flow_receiver_count == 0 || limit >= least - sm.window_length || position >= group.position;
  if (matches && !receiver->is_flow_controlling && !is_end && is_near) {
    receiver->is_flow_controlling = 1;
    receiver->is_end_of_stream = 0;
    receiver->last_position = position;
    receiver->last_limit = limit;
    ++state.flow_receiver_count;
    state.setup_hold_since_ns = 0;
    least = std::min(least, limit);
  }
  if (!has_group(desired, state)) return state.sender_limit;
  return std::max(state.sender_limit, state.flow_receiver_count == 0 ? limit : least);
}

std::int64_t on_idle(const Wanted& desired, shm::PublicationState& state, std::int64_t now_ns) noexcept {
  if (desired.flow_control == FlowControl::kMax) return state.sender_limit;
  for (shm::ReceiverState& r : state.receivers) {
    const bool is_leaving = r.is_end_of_stream && !planted(Bug::kLeavingReceiverKept);
    const bool is_silent = r.last_sm_ns + desired.flow_control_receiver_timeout_ns < now_ns && !planted(Bug::kSilentReceiverKept);
    if (r.is_flow_controlling && (is_leaving || is_silent)) {
      r.is_flow_controlling = 0;
      --state.flow_receiver_count;
    }
  }
  if (!is_hold_active(desired, state, now_ns)) state.setup_hold_since_ns = 0;
  if (state.flow_receiver_count == 0 || !has_group(desired, state)) return state.sender_limit;
  const std::int64_t least = planted(Bug::kLimitNeverFalls) ? std::max(state.sender_limit, group_of(state).limit) : group_of(state).limit;
  return state.setup_hold_since_ns != 0 ? std::min(least, state.setup_hold_position) : least;
}

void on_elicited(const Wanted& desired, shm::PublicationState& state, const wire::StatusMessage& sm) noexcept {
  if (is_wanted(desired, sm)) state.is_setup_hold_wanted = 1;
}

void on_setup_sent(const Wanted& desired, shm::PublicationState& state, std::int64_t now_ns) noexcept {
  if (desired.flow_control == FlowControl::kMax || !state.is_setup_hold_wanted) return;
  state.is_setup_hold_wanted = 0;
  if (state.flow_receiver_count == 0 || planted(Bug::kSetupHoldForgotten)) return;
  state.setup_hold_position = state.sender_limit;
  state.setup_hold_since_ns = now_ns;
}

bool has_required_receivers(const Wanted& desired, const shm::PublicationState& state) noexcept {
  return desired.flow_control == FlowControl::kMax || has_group(desired, state);
}

}  // namespace thalweg::proto::flow
