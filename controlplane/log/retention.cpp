#include "controlplane/log/retention.hpp"

#include <string>

namespace thalweg::log {
namespace {

enum class Verdict : std::uint8_t { kMust, kMay, kHeld };

// Times of entries are the user's and may be any: the difference is taken where it cannot overflow.
bool is_older(std::int64_t then_ns, std::int64_t age_ns, std::int64_t now_ns) noexcept {
  return now_ns > then_ns && static_cast<std::uint64_t>(now_ns) - static_cast<std::uint64_t>(then_ns) > static_cast<std::uint64_t>(age_ns);
}

class Planner {
 public:
  Planner(std::span<const RetentionShard> shards, const RetentionRules& rules, const FileSystem::Space& space, std::int64_t now_ns)
      : shards_{shards}, rules_{rules}, now_ns_{now_ns}, plans_(shards.size()), shard_bytes_(shards.size()) {
    for (std::size_t i = 0; i < shards.size(); ++i) {
      shard_bytes_[i] = shards[i].active_bytes;
      for (const RetentionSegment& segment : shards[i].closed) shard_bytes_[i] += segment.bytes;
      total_bytes_ += shard_bytes_[i];
    }
    const auto wanted = static_cast<std::uint64_t>(rules.free_fraction_min * static_cast<double>(space.total_bytes));
    missing_bytes_ = wanted > space.free_bytes ? wanted - space.free_bytes : 0;
  }

  std::vector<RetentionPlan> run() {
    for (std::size_t i = 0; i < shards_.size(); ++i) {
      while (const RetentionSegment* oldest = oldest_of(i)) {
        const Verdict verdict = judge(i, *oldest);
        if (verdict != Verdict::kMust && !wants_of_shard(i, *oldest)) break;
        if (!take(i, *oldest, verdict)) break;
      }
    }
    for (;;) {  // what all shards together take, the oldest first
      std::optional<std::size_t> next;
      for (std::size_t i = 0; i < shards_.size(); ++i) {
        const RetentionSegment* const oldest = oldest_of(i);
        if (oldest == nullptr || !is_over_total()) continue;
        if (const Verdict verdict = judge(i, *oldest); verdict == Verdict::kHeld) continue;
        if (!next || oldest->newest_ns < oldest_of(*next)->newest_ns) next = i;
      }
      if (!next) return std::move(plans_);
      static_cast<void>(take(*next, *oldest_of(*next), Verdict::kMay));  // it is not held
    }
  }

 private:
  const RetentionSegment* oldest_of(std::size_t shard) const noexcept {
    const std::size_t at = plans_[shard].delete_count;
    return at < shards_[shard].closed.size() ? &shards_[shard].closed[at] : nullptr;
  }

  Verdict judge(std::size_t shard, const RetentionSegment& segment) noexcept {
    RetentionPlan& plan = plans_[shard];
    const auto held = [&](RetentionHold why) {
      plan.hold = why;
      return Verdict::kHeld;
    };
    plan.hold = RetentionHold::kNone;
    if (segment.is_pinned) return held(RetentionHold::kPinned);
    if (rules_.force_after_ns != 0 && is_older(segment.newest_ns, rules_.force_after_ns, now_ns_)) return Verdict::kMust;
    if (shards_[shard].closed.size() - plan.delete_count <= rules_.segments_min) return held(RetentionHold::kSegmentsMin);
    const auto& committed = shards_[shard].lowest_committed;
    if (rules_.is_unconsumed_kept && committed && segment.end_entry > *committed) return held(RetentionHold::kUnconsumed);
    if (rules_.grace_ns != 0 && !is_older(segment.closed_ns, rules_.grace_ns, now_ns_)) return held(RetentionHold::kGrace);
    return Verdict::kMay;
  }

  bool wants_of_shard(std::size_t shard, const RetentionSegment& oldest) noexcept {
    const bool is_forced = rules_.force_after_ns != 0 && is_older(oldest.newest_ns, rules_.force_after_ns, now_ns_);
    const bool is_wanted = is_forced || (rules_.age_max_ns != 0 && is_older(oldest.newest_ns, rules_.age_max_ns, now_ns_)) ||
                           (rules_.shard_bytes_max != 0 && shard_bytes_[shard] > rules_.shard_bytes_max);
    if (!is_wanted && !is_over_total()) plans_[shard].hold = RetentionHold::kNone;  // nobody asked for it
    return is_wanted;
  }
  bool is_over_total() const noexcept { return missing_bytes_ > 0 || (rules_.total_bytes_max != 0 && total_bytes_ > rules_.total_bytes_max); }

  // false: it is held, and so is everything behind it.
  bool take(std::size_t shard, const RetentionSegment& segment, Verdict verdict) noexcept {
    if (verdict == Verdict::kHeld) return false;
    RetentionPlan& plan = plans_[shard];
    ++plan.delete_count;
    plan.bytes += segment.bytes;
    if (verdict == Verdict::kMust) ++plan.forced_count;
    shard_bytes_[shard] -= segment.bytes;
    total_bytes_ -= segment.bytes;
    missing_bytes_ -= segment.bytes < missing_bytes_ ? segment.bytes : missing_bytes_;
    return true;
  }

  std::span<const RetentionShard> shards_;
  const RetentionRules& rules_;
  std::int64_t now_ns_;
  std::vector<RetentionPlan> plans_;
  std::vector<std::uint64_t> shard_bytes_;
  std::uint64_t total_bytes_{0};
  std::uint64_t missing_bytes_{0};
};

}  // namespace

Result<void> validate(const RetentionRules& rules) {
  const auto bad = [](const char* what) { return fail(ErrorCode::kInvalidArgument, std::string{"retention: "} + what); };
  if (rules.age_max_ns < 0 || rules.force_after_ns < 0 || rules.grace_ns < 0) return bad("a time below 0");
  if (!(rules.free_fraction_min >= 0 && rules.free_fraction_min < 1)) return bad("the part of the file system to keep free must be from 0 to below 1");
  if (rules.force_after_ns != 0 && rules.force_after_ns <= rules.age_max_ns) return bad("force_after must be longer than age_max");
  return {};
}

std::vector<RetentionPlan> plan_retention(std::span<const RetentionShard> shards, const RetentionRules& rules, const FileSystem::Space& space, std::int64_t now_ns) {
  return Planner{shards, rules, space, now_ns}.run();
}

}  // namespace thalweg::log
