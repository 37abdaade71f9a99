#include "dataplane/core/igmp_host.hpp"

#include <algorithm>
#include <array>

namespace thalweg::core {

using wire::IgmpRecord;
using wire::IgmpView;

namespace {

Key key_of(std::uint32_t group) noexcept { return {0, group}; }

}  // namespace

IgmpHost::IgmpHost(const Options& options, Output& output) : options_{options}, output_{output}, random_{options.seed} {
  groups_.reserve(kGroupsMax);
}

IgmpHost::Group* IgmpHost::find(std::uint32_t group) noexcept {
  const std::uint32_t* const at = index_.find(key_of(group));
  return at == nullptr ? nullptr : &groups_[*at];
}

bool IgmpHost::has(std::uint32_t group) noexcept {
  const Group* const known = find(group);
  return known != nullptr && known->members != 0;
}

bool IgmpHost::join(std::uint32_t group, std::int64_t now_ns) noexcept {
  Group* known = find(group);
  if (known == nullptr) {
    if (groups_.size() == kGroupsMax) remove_left();
    if (groups_.size() == kGroupsMax) return false;
    index_.insert(key_of(group), static_cast<std::uint32_t>(groups_.size()));
    known = &groups_.emplace_back(Group{.address = group});
  }
  if (++known->members == 1) begin_change(*known, now_ns);
  return true;
}

void IgmpHost::leave(std::uint32_t group, std::int64_t now_ns) noexcept {
  Group* const known = find(group);
  if (known == nullptr || known->members == 0) return;
  if (--known->members == 0) begin_change(*known, now_ns);
}

void IgmpHost::report_all(std::int64_t now_ns) noexcept {
  for (Group& group : groups_) {
    if (group.members != 0) begin_change(group, now_ns);
  }
}

// RFC 3376 5.1: at once, and again robustness - 1 times at random intervals. A change that comes before takes the place of the one under way.
void IgmpHost::begin_change(Group& group, std::int64_t now_ns) noexcept {
  const bool is_told = !options_.is_silent && group.address != kAllHosts;
  group.changes_left = is_told ? robustness_ : 0;
  if (is_told && group.members == 0) ++statistics_.leaves;
  group.change_ns = is_told ? now_ns : kNever_ns;
  if (group.members == 0) group.answer_ns = kNever_ns;
  if (is_told) send_change(group, now_ns);
  if (group.members == 0 && group.changes_left == 0) remove_left();
  schedule();
}

void IgmpHost::send_change(Group& group, std::int64_t now_ns) noexcept {
  const bool is_joined = group.members != 0;
  const bool is_v2 = speaks_v2(now_ns);
  if (!is_v2) {
    send_v3(is_joined ? IgmpRecord::kToExclude : IgmpRecord::kToInclude, {&group.address, 1});
  } else if (is_joined) {
    send_v2(IgmpView::kReportV2, group.address);
    group.is_last_reporter = true;
  } else {
    if (group.is_last_reporter) send_v2(IgmpView::kLeave, group.address);  // RFC 2236 3: whoever reported last says goodbye, once
    group.changes_left = 1;
  }
  --group.changes_left;
  group.change_ns = group.changes_left == 0 ? kNever_ns : now_ns + random_delay(is_v2 ? kUnsolicitedV2_ns : kUnsolicitedV3_ns);
}

bool IgmpHost::on_message(const IgmpView& message, std::uint32_t destination, std::int64_t now_ns) noexcept {
  if (options_.is_silent) return false;
  if (message.type == IgmpView::kQuery) {
    on_query({message.group, message.max_response_ns(), message.robustness, !message.is_v3_query}, now_ns);
    return true;
  }
  const bool is_older_report = message.type == IgmpView::kReportV2 || message.type == IgmpView::kReportV1;
  if (!is_older_report) return message.type == IgmpView::kReportV3 || message.type == IgmpView::kLeave;  // for routers
  if (destination == message.group) on_older_report(message.group, now_ns);
  return true;
}

// RFC 2236 3: one answer is enough for a group. IGMPv3 hosts are all heard, so they do not hold back.
void IgmpHost::on_older_report(std::uint32_t address, std::int64_t now_ns) noexcept {
  Group* const group = find(address);
  if (group == nullptr || !speaks_v2(now_ns)) return;
  group->answer_ns = kNever_ns;
  group->is_last_reporter = false;
  schedule();
}

void IgmpHost::on_query(const Query& query, std::int64_t now_ns) noexcept {
  ++statistics_.queries;
  const std::int64_t limit_ns = query.max_response_ns;
  if (!query.is_older) {
    if (query.robustness != 0) robustness_ = query.robustness;
  } else {
    // RFC 3376 8.12: the older version is spoken for as long as its querier may be silent.
    v2_until_ns_ = now_ns + robustness_ * kQueryInterval_ns + limit_ns;
    general_ns_ = kNever_ns;
  }
  // In a storm of queries this runs for each: it looks at no group that is not asked for, and most change nothing.
  const auto due = [&] { return std::max(now_ns + random_delay(limit_ns), quiet_until_ns_); };
  const auto answer_at = [this](std::int64_t& at, std::int64_t due_ns) {
    at = std::min(at, due_ns);
    next_ns_ = std::min(next_ns_, at);
  };
  if (query.group != 0) {
    // A query for sources is answered like one for the group: we take every source, so the answer says the same (RFC 3376 5.2).
    Group* const group = find(query.group);
    if (group != nullptr && group->members != 0 && group->address != kAllHosts) answer_at(group->answer_ns, due());
  } else if (!speaks_v2(now_ns)) {
    answer_at(general_ns_, due());
  } else {
    // This one looks at every group, so one that asks for no more than the one just before is answered with it.
    if (now_ns < asked_until_ns_ && limit_ns >= asked_limit_ns_) return;
    asked_until_ns_ = now_ns + kQuiet_ns;
    asked_limit_ns_ = limit_ns;
    for (Group& group : groups_) {
      if (group.members != 0 && group.address != kAllHosts) answer_at(group.answer_ns, due());
    }
  }
}

void IgmpHost::serve(std::int64_t now_ns) noexcept {
  bool has_answered = now_ns >= general_ns_;
  if (has_answered) {
    general_ns_ = kNever_ns;
    answer_all();
  }
  bool has_left = false;
  for (Group& group : groups_) {
    if (now_ns >= group.answer_ns) {
      answer(group, now_ns);
      has_answered = true;
    }
    if (now_ns >= group.change_ns) send_change(group, now_ns);
    has_left |= group.members == 0 && group.changes_left == 0;
  }
  if (has_left) remove_left();
  if (has_answered) quiet_until_ns_ = now_ns + kQuiet_ns;
  schedule();
}

void IgmpHost::answer(Group& group, std::int64_t now_ns) noexcept {
  group.answer_ns = kNever_ns;
  if (!speaks_v2(now_ns)) return send_v3(IgmpRecord::kIsExclude, {&group.address, 1});
  send_v2(IgmpView::kReportV2, group.address);
  group.is_last_reporter = true;
}

void IgmpHost::answer_all() noexcept {
  std::array<std::uint32_t, kRecordsMax> addresses;
  std::size_t count = 0;
  for (Group& group : groups_) {
    if (group.members == 0 || group.address == kAllHosts) continue;
    group.answer_ns = kNever_ns;  // this says it, too
    addresses[count++] = group.address;
    if (count < kRecordsMax) continue;
    send_v3(IgmpRecord::kIsExclude, addresses);
    count = 0;
  }
  if (count != 0) send_v3(IgmpRecord::kIsExclude, {addresses.data(), count});
}

// Groups whose goodbye is said.
void IgmpHost::remove_left() noexcept {
  for (std::size_t i = groups_.size(); i > 0; --i) {
    Group& group = groups_[i - 1];
    if (group.members != 0 || group.changes_left != 0) continue;
    index_.erase(key_of(group.address));
    if (i != groups_.size()) {
      group = groups_.back();
      index_.insert(key_of(group.address), static_cast<std::uint32_t>(i - 1));
    }
    groups_.pop_back();
  }
}

void IgmpHost::schedule() noexcept {
  next_ns_ = general_ns_;
  for (const Group& group : groups_) next_ns_ = std::min({next_ns_, group.answer_ns, group.change_ns});
}

void IgmpHost::send_v2(std::uint8_t type, std::uint32_t group) noexcept {
  if (type != IgmpView::kLeave) ++statistics_.reports;
  if (options_.is_ipv6) return output_.send_listener_v1(type == IgmpView::kLeave, group);
  std::array<std::byte, wire::kIgmpV2Length> message;
  wire::build_igmp_v2(message.data(), type, group);
  output_.send_igmp(type == IgmpView::kLeave ? kAllRouters : group, message);
}

void IgmpHost::send_v3(IgmpRecord record, std::span<const std::uint32_t> groups) noexcept {
  ++statistics_.reports;
  if (options_.is_ipv6) return output_.send_listener_report(record, groups);
  std::array<std::byte, wire::igmp_v3_report_length(kRecordsMax)> message;
  wire::build_igmp_v3_report(message.data(), record, groups);
  output_.send_igmp(kReportTo, std::span{message}.first(wire::igmp_v3_report_length(groups.size())));
}

}  // namespace thalweg::core
