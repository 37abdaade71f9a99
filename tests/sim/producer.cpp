#include "tests/sim/producer.hpp"

#include <algorithm>
#include <atomic>

#include "dataplane/base/time.hpp"
#include "dataplane/wire/frames.hpp"
#include "dataplane/wire/positions.hpp"

namespace thalweg::sim {
namespace {

constexpr std::int64_t kRetry_ns = 100 * kMicrosecond_ns;

// What a message takes up in the log, headers and alignment included (wire-protocol 1.14).
std::int32_t framed_length(std::int32_t length, std::int32_t mtu) {
  const std::int32_t payload = mtu - wire::kDataHeaderLength;
  const std::int32_t rest = length % payload;
  return length / payload * mtu + (rest > 0 || length == 0 ? wire::align_frame(rest + wire::kDataHeaderLength) : 0);
}

std::int64_t fetch_add_tail(const shm::LogBuffer& log, int partition, std::int64_t delta) {
  auto* tail = reinterpret_cast<std::int64_t*>(log.metadata() + shm::meta::kTails + 8 * static_cast<std::size_t>(partition));
  return std::atomic_ref<std::int64_t>{*tail}.fetch_add(delta, std::memory_order_acq_rel);
}

}  // namespace

Producer::Producer(const StreamPlan& plan, const LogMemory& log, shm::Counter publisher_limit, Ledger& ledger, std::uint64_t seed,
                   std::int64_t start_ns, Verdict& verdict)
    : plan_{plan}, memory_{log}, log_{log.view()}, publisher_limit_{publisher_limit}, ledger_{ledger}, random_{seed}, verdict_{verdict}, next_ns_{start_ns},
      exclusive_term_id_{wire::wrapping_add(plan.initial_term_id, plan.start_term_count)}, exclusive_offset_{plan.start_term_offset} {}

bool Producer::is_connected() const noexcept { return log_.load<std::int32_t>(shm::meta::kIsConnected) == 1; }

std::int64_t Producer::next_due_ns() const noexcept {
  std::int64_t due = sent_ >= plan_.messages || is_at_max_position_ || is_stopped_ ? INT64_MAX : next_ns_;
  for (const Held& held : held_) due = std::min(due, held.commit_ns);
  return due;
}

bool Producer::poll(std::int64_t now_ns) {
  bool has_worked = false;
  for (std::size_t i = 0; i < held_.size();) {
    if (held_[i].commit_ns > now_ns) {
      ++i;
      continue;
    }
    commit_or_abort(held_[i]);
    held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(i));
    has_worked = true;
  }
  if (is_finished() || is_stopped_ || now_ns < next_ns_) return has_worked;
  if (!has_paused_ && now_ns >= plan_.producer_pause_at_ns) {
    has_paused_ = true;
    next_ns_ = now_ns + plan_.producer_pause_ns;
    return true;
  }
  next_ns_ += plan_.message_interval_ns;
  if (next_ns_ < now_ns) next_ns_ = now_ns + plan_.message_interval_ns;  // it was held up: no catching up
  for (std::uint32_t i = 0; i < plan_.burst && sent_ < plan_.messages && !is_at_max_position_ && !is_stopped_; ++i) {
    Offer result = offer(now_ns);
    for (int retry = 0; result == Offer::kRetry && retry < 3; ++retry) result = offer(now_ns);
    if (result == Offer::kMaxPosition) is_at_max_position_ = true;
    if (result != Offer::kDone) {
      next_ns_ = now_ns + kRetry_ns;
      break;
    }
    has_worked = true;
  }
  return has_worked;
}

std::int32_t Producer::draw_length() {
  const std::int32_t max = wire::max_message_length(plan_.term_length);
  const std::int32_t payload_max = plan_.mtu - wire::kDataHeaderLength;
  if (random_.chance_ppm(plan_.large_ppm)) {
    switch (random_.below(6)) {  // the edges of fragmentation are worth more than their share
      case 0: return max;
      case 1: return std::min(max, payload_max + 1);
      case 2: return std::min(max, payload_max * 2);
      default: return static_cast<std::int32_t>(random_.below(static_cast<std::uint64_t>(max) + 1));
    }
  }
  switch (random_.below(16)) {
    case 0: return 0;
    case 1: return payload_max;
    case 2: return 8;
    default: return static_cast<std::int32_t>(random_.below(static_cast<std::uint64_t>(std::min(payload_max, 480)) + 1));
  }
}

Producer::Offer Producer::offer(std::int64_t now_ns) {
  if (next_length_ < 0) next_length_ = draw_length();
  Claim c;
  const Offer result = claim(framed_length(next_length_, plan_.mtu), c);
  if (result != Offer::kDone) return result;
  check_clean(c);
  const std::size_t record = write_down(Record{c.position, c.position + c.required, static_cast<std::uint64_t>(sent_), next_length_, false});
  position_ = std::max(position_, c.position + c.required);
  next_length_ = -1;
  ++sent_;
  const bool may_hold = c.required <= plan_.mtu;  // try-claim serves single frames only
  if (random_.chance_ppm(plan_.dying_claim_ppm)) {
    die(c, record);
  } else if (may_hold && random_.chance_ppm(plan_.aborted_claim_ppm)) {
    ledger_.at(record).is_dead = true;
    verdict_.faults.add(Fault::kMessageAborted);
    shm::frame_length_release(log_.term(c.partition) + c.offset, -c.required);
    held_.push_back({c, record, now_ns + static_cast<std::int64_t>(random_.below(2 * kMillisecond_ns)), true});
  } else if (may_hold && random_.chance_ppm(plan_.held_claim_ppm)) {
    verdict_.faults.add(Fault::kClaimHeld);
    if (random_.below(2) == 0) shm::frame_length_release(log_.term(c.partition) + c.offset, -(ledger_.at(record).length + wire::kDataHeaderLength));
    held_.push_back({c, record, now_ns + static_cast<std::int64_t>(random_.below(50 * kMillisecond_ns)), false});
  } else {
    write(c, ledger_.at(record), INT32_MAX);
  }
  return Offer::kDone;
}

std::size_t Producer::write_down(const Record& record) {
  const std::size_t index = recorded_++;
  if (index == ledger_.size()) return ledger_.add(record);
  const Record& known = ledger_.at(index);
  if (known.position != record.position || known.sequence != record.sequence || known.length != record.length) {
    verdict_.fail("stream {}: the two sides differ in message {} at {} and {}", plan_.session_id, index, known.position, record.position);
  }
  return index;
}

Producer::Offer Producer::claim(std::int32_t required, Claim& out) {
  const std::int64_t limit = publisher_limit_.get();
  const std::int32_t term_count = log_.active_term_count();
  const int partition = static_cast<int>(term_count % wire::kPartitionCount);
  const int bits = log_.position_bits();
  std::int32_t term_id;
  std::int32_t tail;
  if (plan_.is_exclusive) {
    term_id = exclusive_term_id_;
    tail = exclusive_offset_;
  } else {
    const std::int64_t raw = log_.raw_tail(partition);
    term_id = shm::tail_term_id(raw);
    tail = shm::tail_offset(raw, plan_.term_length);
    if (term_count != wire::wrapping_sub(term_id, plan_.initial_term_id)) return Offer::kRetry;
  }
  const std::int64_t position = wire::position_of(term_id, tail, plan_.initial_term_id, bits);
  position_ = std::max(position_, position);
  if (position >= limit) {
    return position + required >= wire::max_position(plan_.term_length) ? Offer::kMaxPosition : Offer::kBlocked;
  }
  std::int64_t offset = tail;
  if (plan_.is_exclusive) {
    if (tail + required > plan_.term_length) {
      exclusive_offset_ = plan_.term_length;
      log_.store<std::int64_t>(shm::meta::kTails + 8 * static_cast<std::size_t>(partition), shm::pack_tail(term_id, plan_.term_length));
      return trip(partition, term_id, term_count, tail);
    }
    exclusive_offset_ = tail + required;
    log_.store<std::int64_t>(shm::meta::kTails + 8 * static_cast<std::size_t>(partition), shm::pack_tail(term_id, exclusive_offset_));
  } else {
    const std::int64_t old = fetch_add_tail(log_, partition, required);
    offset = old & 0xFFFF'FFFF;
    if (offset + required > plan_.term_length) return trip(partition, term_id, term_count, static_cast<std::int32_t>(std::min<std::int64_t>(offset, plan_.term_length)));
  }
  out = Claim{partition, term_id, static_cast<std::int32_t>(offset), required,
              wire::position_of(term_id, static_cast<std::int32_t>(offset), plan_.initial_term_id, bits)};
  return Offer::kDone;
}

Producer::Offer Producer::trip(int partition, std::int32_t term_id, std::int32_t term_count, std::int32_t offset) {
  const int bits = log_.position_bits();
  if (offset < plan_.term_length) {
    Claim pad{partition, term_id, offset, plan_.term_length - offset, wire::position_of(term_id, offset, plan_.initial_term_id, bits)};
    check_clean(pad);
    std::byte* frame = log_.term(partition) + offset;
    shm::frame_length_release(frame, -pad.required);
    write_header(frame, pad, offset, pad.required, true);
    shm::frame_length_release(frame, pad.required);
    // A process may die right here, between padding and rotation; the lane then rotates, or the next producer does.
    if (!plan_.is_exclusive && random_.chance_ppm(plan_.dying_claim_ppm)) {
      verdict_.faults.add(Fault::kClaimDied);
      return Offer::kBlocked;
    }
  }
  if (wire::position_of(term_id, plan_.term_length, plan_.initial_term_id, bits) >= wire::max_position(plan_.term_length)) return Offer::kMaxPosition;
  if (plan_.is_exclusive) {
    const std::int32_t next_term_id = wire::wrapping_add(term_id, 1);
    const auto next = static_cast<std::size_t>((partition + 1) % wire::kPartitionCount);
    log_.store<std::int64_t>(shm::meta::kTails + 8 * next, shm::pack_tail(next_term_id, 0), std::memory_order_relaxed);
    log_.store<std::int32_t>(shm::meta::kActiveTermCount, term_count + 1);
    exclusive_term_id_ = next_term_id;
    exclusive_offset_ = 0;
  } else {
    shm::rotate_log(log_, term_count, term_id);
  }
  return Offer::kRetry;
}

void Producer::check_clean(const Claim& claim) {
  const std::int64_t dirty = memory_.first_dirty(claim.position, claim.position + claim.required);
  if (dirty >= 0) {
    verdict_.fail("stream {}: claimed [{}, {}) but the log is not clean at {} (limit {})", plan_.session_id, claim.position,
                  claim.position + claim.required, dirty, publisher_limit_.get());
  }
}

void Producer::write_header(std::byte* frame, const Claim& claim, std::int32_t offset, std::int32_t length, bool is_pad) const {
  wire::DataHeader header{.frame_length = length, .type = is_pad ? wire::FrameType::kPad : wire::FrameType::kData, .term_offset = offset,
                          .session_id = plan_.session_id, .stream_id = plan_.stream_id, .term_id = claim.term_id};
  std::byte scratch[wire::kDataHeaderLength];
  wire::build(scratch, header);
  std::memcpy(frame + 4, scratch + 4, wire::kDataHeaderLength - 4);  // the length word is the caller's
}

void Producer::write(const Claim& claim, const Record& record, std::int32_t frames_max) {
  const std::int32_t payload_max = plan_.mtu - wire::kDataHeaderLength;
  std::vector<std::byte> message(static_cast<std::size_t>(record.length));
  ledger_.fill(record.sequence, message);
  std::int32_t offset = claim.offset;
  std::int32_t done = 0;
  for (std::int32_t frame_index = 0; frame_index < frames_max; ++frame_index) {
    const std::int32_t n = std::min(record.length - done, payload_max);
    std::byte* frame = log_.term(claim.partition) + offset;
    shm::frame_length_release(frame, -(n + wire::kDataHeaderLength));
    write_header(frame, claim, offset, n + wire::kDataHeaderLength, false);
    const bool is_last = done + n == record.length;
    const auto flags = static_cast<std::uint8_t>((done == 0 ? wire::flag::kBegin : 0) | (is_last ? wire::flag::kEnd : 0));
    store_le<std::uint8_t>(frame + 5, flags);
    store_le<std::uint64_t>(frame + 24, record.sequence);
    if (n > 0) std::memcpy(frame + wire::kDataHeaderLength, message.data() + done, static_cast<std::size_t>(n));
    shm::frame_length_release(frame, n + wire::kDataHeaderLength);
    offset += wire::align_frame(n + wire::kDataHeaderLength);
    done += n;
    if (is_last) return;
  }
}

void Producer::commit_or_abort(const Held& held) {
  std::byte* frame = log_.term(held.claim.partition) + held.claim.offset;
  if (!held.is_abort) return write(held.claim, ledger_.at(held.record), INT32_MAX);
  write_header(frame, held.claim, held.claim.offset, held.claim.required, true);
  shm::frame_length_release(frame, held.claim.required);
}

void Producer::die(const Claim& claim, std::size_t record) {
  ledger_.at(record).is_dead = true;
  verdict_.faults.add(Fault::kClaimDied);
  std::byte* frame = log_.term(claim.partition) + claim.offset;
  switch (static_cast<Step>(random_.below(3))) {
    case Step::kNothing: break;
    case Step::kLengthOnly: shm::frame_length_release(frame, -std::min(claim.required, plan_.mtu)); break;
    case Step::kSomeFragments: {
      const std::int32_t fragments = claim.required / plan_.mtu;
      if (fragments > 0) write(claim, ledger_.at(record), static_cast<std::int32_t>(random_.below(static_cast<std::uint64_t>(fragments))));
      break;
    }
  }
  if (plan_.is_exclusive) is_exclusive_dead_ = is_stopped_ = true;  // there is nobody else to go on
}

}  // namespace thalweg::sim
