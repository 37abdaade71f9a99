#include "dataplane/client/publication.hpp"

#include "dataplane/base/planted.hpp"
#include "dataplane/client/detail/conductor.hpp"
#include "dataplane/client/detail/local_addresses.hpp"

namespace thalweg::client {

namespace detail {
void close_publication(PublicationCore& core, bool revoke) noexcept { core.conductor->release(core, revoke); }
}  // namespace detail

ChannelStatus PublicationHandle::channel_status() const noexcept {
  return is_closed() ? ChannelStatus::kClosing : detail::channel_status(core_->channel_status);
}
std::vector<std::string> PublicationHandle::local_addresses() const {
  return detail::local_addresses(core_->conductor->counters(), core_->channel_status_id);
}
void PublicationHandle::close() noexcept {
  if (core_ != nullptr) detail::close_publication(*core_, false);
}
void PublicationHandle::revoke() noexcept {
  if (core_ != nullptr) detail::close_publication(*core_, true);
}

// Step 5 of 7.5. Only the claimer whose offset still lies inside the term owns the rest of it and pads.
OfferStatus Publication::end_of_term(int index, std::int64_t offset, std::int32_t term_count, std::int32_t term_id) const noexcept {
  const detail::PublicationCore& core = *core_;
  const std::int32_t term_length = core.log.term_length();
  if (offset < term_length && offset % frame::kAlignment == 0 && !planted(Bug::kPaddingForgotten)) {
    detail::write_padding(core.log.term(index), static_cast<std::int32_t>(offset), term_length, core.identity, term_id);
  }
  if (((static_cast<std::int64_t>(term_count) + 1) << core.log.position_bits()) >= core.position_max) return OfferStatus::kMaxPositionExceeded;
  shm::rotate_log(core.log, term_count, term_id);
  return OfferStatus::kAdminAction;
}

ExclusivePublication::ExclusivePublication(std::shared_ptr<detail::PublicationCore> core) noexcept : PublicationHandle{std::move(core)} {
  const shm::LogBuffer& log = core_->log;
  index_ = static_cast<int>(static_cast<std::uint32_t>(log.active_term_count()) % wire::kPartitionCount);
  const std::int64_t raw = log.raw_tail(index_);
  term_id_ = shm::tail_term_id(raw);
  term_offset_ = shm::tail_offset(raw, log.term_length()) & ~(frame::kAlignment - 1);
  const auto count = static_cast<std::uint32_t>(wire::wrapping_sub(term_id_, core_->initial_term_id));
  // The count comes from the file, where others can write: position and partition are both derived from this one value.
  index_ = static_cast<int>(count % wire::kPartitionCount);
  term_begin_position_ = static_cast<std::int64_t>(count) << log.position_bits();
  term_ = log.term(index_);
}

OfferResult ExclusivePublication::offer_block(Bytes frames) noexcept {
  const detail::PublicationCore& core = *core_;
  const std::int32_t span = detail::block_span(frames, core.max_payload_length, core.log.term_length());
  if (span == 0) return OfferStatus::kInvalidBlock;
  const std::int32_t at = term_offset_;
  const OfferResult result = reserve(span - frame::kHeaderLength, span);
  if (result) detail::write_block(term_, at, span, core_->max_payload_length, core.identity, term_id_, frames);
  return result;
}

OfferStatus ExclusivePublication::end_of_term() noexcept {
  const detail::PublicationCore& core = *core_;
  const std::int32_t term_length = core.log.term_length();
  if (term_offset_ < term_length) {
    const std::int32_t at = term_offset_;
    term_offset_ = term_length;
    core.log.store<std::int64_t>(tail_at(index_), shm::pack_tail(term_id_, term_length));
    detail::write_padding(term_, at, term_length, core.identity, term_id_);
  }
  const std::int64_t next_begin = term_begin_position_ + term_length;
  if (next_begin >= core.position_max) return OfferStatus::kMaxPositionExceeded;

  index_ = index_ + 1 == wire::kPartitionCount ? 0 : index_ + 1;
  term_ = core.log.term(index_);
  term_begin_position_ = next_begin;
  term_id_ = wire::wrapping_add(term_id_, 1);
  term_offset_ = 0;
  core.log.store<std::int64_t>(tail_at(index_), shm::pack_tail(term_id_, 0), std::memory_order_relaxed);
  // Release: whoever sees the new count sees the new tail.
  core.log.store<std::int32_t>(shm::meta::kActiveTermCount, wire::wrapping_sub(term_id_, core.initial_term_id));
  return OfferStatus::kAdminAction;
}

}  // namespace thalweg::client
