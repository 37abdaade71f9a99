#pragma once
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "dataplane/client/buffer_claim.hpp"
#include "dataplane/client/detail/publication_core.hpp"
#include "dataplane/client/offer_result.hpp"

namespace thalweg::client {

// State of a channel as the driver reports it through its channel-status counter (client-protocol 5.7).
enum class ChannelStatus : std::int8_t { kErrored = -1, kInitializing = 0, kActive = 1, kClosing = 2, kNone = 3 };

// What both kinds of publication have in common. A move-only handle; destruction closes. Any method but close(), revoke() and moving may be
// called from any thread. Precondition of all but operator bool and close(): the handle is not empty.
class PublicationHandle {
 public:
  [[nodiscard]] explicit operator bool() const noexcept { return core_ != nullptr; }

  [[nodiscard]] std::int32_t session_id() const noexcept { return core_->identity.session_id; }
  [[nodiscard]] std::int32_t stream_id() const noexcept { return core_->identity.stream_id; }
  [[nodiscard]] const std::string& channel() const noexcept { return core_->channel; }
  [[nodiscard]] std::int64_t registration_id() const noexcept { return core_->registration_id; }
  // Id of the shared publication behind this handle; names its log file.
  [[nodiscard]] std::int64_t original_registration_id() const noexcept { return core_->original_registration_id; }
  // False: somebody else had added it before, and this handle shares it. Exclusive ones are always original.
  [[nodiscard]] bool is_original() const noexcept { return core_->original_registration_id == core_->registration_id; }
  [[nodiscard]] std::int32_t initial_term_id() const noexcept { return core_->initial_term_id; }
  [[nodiscard]] std::int32_t term_length() const noexcept { return core_->log.term_length(); }              // bytes
  [[nodiscard]] std::int32_t max_payload_length() const noexcept { return core_->max_payload_length; }      // bytes in one fragment
  [[nodiscard]] std::int32_t max_message_length() const noexcept { return core_->max_message_length; }      // bytes
  [[nodiscard]] std::int64_t max_position() const noexcept { return core_->position_max; }
  [[nodiscard]] std::int32_t channel_status_id() const noexcept { return core_->channel_status_id; }

  // True once a subscriber consumes the stream.
  [[nodiscard]] bool is_connected() const noexcept { return core_->is_connected(); }
  // True after close(), or when the client closed because the driver went away.
  [[nodiscard]] bool is_closed() const noexcept { return core_->is_closed.load(std::memory_order_acquire); }
  // Position up to which the driver lets publishers write. 0 when closed.
  [[nodiscard]] std::int64_t position_limit() const noexcept { return is_closed() ? 0 : core_->limit.get(); }
  [[nodiscard]] ChannelStatus channel_status() const noexcept;
  [[nodiscard]] std::int32_t position_limit_id() const noexcept { return core_->limit_counter_id; }  // counter id
  // Endpoints this publication sends from ("10.0.0.1:40123"), from the driver's counters. Empty while the channel is not active.
  [[nodiscard]] std::vector<std::string> local_addresses() const;

  // Gives the publication back; later offers answer kClosed. Idempotent. Not while another thread uses this handle's close() or moves it.
  void close() noexcept;
  // Like close(), but subscribers drop the stream at once instead of draining it (7.6).
  void revoke() noexcept;

 protected:
  PublicationHandle() noexcept = default;
  explicit PublicationHandle(std::shared_ptr<detail::PublicationCore> core) noexcept : core_{std::move(core)} {}
  PublicationHandle(PublicationHandle&&) noexcept = default;
  PublicationHandle& operator=(PublicationHandle&& other) noexcept {
    if (this != &other) {
      close();
      core_ = std::move(other.core_);
    }
    return *this;
  }
  ~PublicationHandle() { close(); }

  std::shared_ptr<detail::PublicationCore> core_;
};

// A publication that any number of threads, and other clients of the driver, may offer to at once. Lock-free. Spec: client-protocol 7.5.
class Publication : public PublicationHandle {
 public:
  using Bytes = detail::Bytes;

  Publication() noexcept = default;
  explicit Publication(std::shared_ptr<detail::PublicationCore> core) noexcept : PublicationHandle{std::move(core)} {}

  // Copies one message into the stream, fragmented if it is longer than max_payload_length(). `reserved_value` travels in each frame header.
  OfferResult offer(Bytes message, std::int64_t reserved_value = 0) const noexcept {
    const auto limit = static_cast<std::size_t>(core_->max_message_length);
    if (message.size() > limit) [[unlikely]] return OfferStatus::kMessageTooLong;
    return publish(static_cast<std::int32_t>(message.size()), reserved_value, detail::SpanSource{message});
  }
  // The same for a message in several pieces, sent as one.
  OfferResult offer(std::span<const Bytes> parts, std::int64_t reserved_value = 0) const noexcept {
    const auto limit = static_cast<std::size_t>(core_->max_message_length);
    const std::size_t length = detail::total_length(parts, limit);
    if (length > limit) [[unlikely]] return OfferStatus::kMessageTooLong;
    return publish(static_cast<std::int32_t>(length), reserved_value, detail::GatherSource{parts});
  }
  // Reserves room for a message of `length` <= max_payload_length() bytes to be written in place; `claim` is open iff the result is ok.
  OfferResult try_claim(std::size_t length, BufferClaim& claim) const noexcept {
    if (length > static_cast<std::size_t>(core_->max_payload_length)) [[unlikely]] return OfferStatus::kMessageTooLong;
    const std::int32_t frame_length = static_cast<std::int32_t>(length) + frame::kHeaderLength;
    const Space space = reserve(static_cast<std::int32_t>(length), frame::aligned(frame_length));
    if (!space.result) return space.result;
    std::byte* at = space.term + space.offset;
    detail::open_frame(at, frame_length, frame::kUnfragmented, frame::kTypeData, space.offset, core_->identity, space.term_id, 0);
    claim = BufferClaim{at, frame_length};
    return space.result;
  }

  // Position of the next message. 0 when closed.
  [[nodiscard]] std::int64_t position() const noexcept {
    return is_closed() ? 0 : shm::producer_position(core_->log, core_->initial_term_id);
  }
  // Bytes that may be written before back pressure; 0 or less when there is some, or when closed. Others may take them first.
  [[nodiscard]] std::int64_t available_window() const noexcept { return is_closed() ? 0 : position_limit() - position(); }

 private:
  struct Space {
    OfferResult result;
    std::byte* term{};
    std::int32_t offset{};
    std::int32_t term_id{};
  };

  template <typename Source>
  OfferResult publish(std::int32_t length, std::int64_t reserved_value, Source source) const noexcept {
    const Space space = reserve(length, detail::framed_length(length, core_->max_payload_length));
    if (space.result) {
      detail::write_message(space.term, space.offset, length, core_->max_payload_length, core_->identity, space.term_id, reserved_value,
                            source);
    }
    return space.result;
  }

  // Steps 1 to 5 of 7.5: claims `required` bytes with one fetch-add, or says why not.
  Space reserve(std::int32_t length, std::int32_t required) const noexcept {
    const detail::PublicationCore& core = *core_;
    if (core.is_closed.load(std::memory_order_acquire)) return {OfferStatus::kClosed};
    const std::int64_t limit = core.limit.get();  // pairs with the driver's release store, which follows its cleaning of the term
    const std::int32_t term_count = core.log.active_term_count();
    const int index = partition(term_count);
    const std::int64_t raw = core.log.raw_tail(index);
    if (term_count != wire::wrapping_sub(shm::tail_term_id(raw), core.initial_term_id)) return {OfferStatus::kAdminAction};
    const std::int64_t position =
        (static_cast<std::int64_t>(term_count) << core.log.position_bits()) + shm::tail_offset(raw, core.log.term_length());
    if (position >= limit) return {core.refusal(position, length)};

    const std::int64_t old = tail(index).fetch_add(required, std::memory_order_seq_cst);
    return place(old, index, required);
  }

  // Where a claim that found the tail at `old` lies; beyond the term's end it pads and rotates.
  Space place(std::int64_t old, int index, std::int32_t required) const noexcept {
    const detail::PublicationCore& core = *core_;
    const std::int64_t term_length = core.log.term_length();
    const std::int64_t offset = old & 0xFFFFFFFF;
    const std::int32_t term_id = shm::tail_term_id(old);
    const std::int32_t term_count = wire::wrapping_sub(term_id, core.initial_term_id);
    // A tail is a sum of frame lengths, so a crooked one was scribbled by another process: nothing of ours may be written there.
    if (offset + required > term_length || (offset & (frame::kAlignment - 1)) != 0) [[unlikely]] return {end_of_term(index, offset, term_count, term_id)};
    const auto at = static_cast<std::int32_t>(offset);
    const std::int64_t end = (static_cast<std::int64_t>(term_count) << core.log.position_bits()) + at + required;
    return {OfferResult::accepted(end), core.log.term(index), at, term_id};
  }

  OfferStatus end_of_term(int index, std::int64_t offset, std::int32_t term_count, std::int32_t term_id) const noexcept;

  [[nodiscard]] static int partition(std::int32_t term_count) noexcept {
    return static_cast<int>(static_cast<std::uint32_t>(term_count) % wire::kPartitionCount);
  }
  [[nodiscard]] std::atomic_ref<std::int64_t> tail(int index) const noexcept {
    return std::atomic_ref<std::int64_t>{
        *reinterpret_cast<std::int64_t*>(core_->log.metadata() + shm::meta::kTails + 8 * static_cast<std::size_t>(index))};
  }
};

// A publication with one writer thread at a time: no atomic read-modify-write on its path, and never shared with another handle.
class ExclusivePublication : public PublicationHandle {
 public:
  using Bytes = detail::Bytes;

  ExclusivePublication() noexcept = default;
  explicit ExclusivePublication(std::shared_ptr<detail::PublicationCore> core) noexcept;

  // As Publication::offer, by the one writer thread.
  OfferResult offer(Bytes message, std::int64_t reserved_value = 0) noexcept {
    const auto limit = static_cast<std::size_t>(core_->max_message_length);
    if (message.size() > limit) [[unlikely]] return OfferStatus::kMessageTooLong;
    return publish(static_cast<std::int32_t>(message.size()), reserved_value, detail::SpanSource{message});
  }
  OfferResult offer(std::span<const Bytes> parts, std::int64_t reserved_value = 0) noexcept {
    const auto limit = static_cast<std::size_t>(core_->max_message_length);
    const std::size_t length = detail::total_length(parts, limit);
    if (length > limit) [[unlikely]] return OfferStatus::kMessageTooLong;
    return publish(static_cast<std::int32_t>(length), reserved_value, detail::GatherSource{parts});
  }
  // As Publication::try_claim, by the one writer thread.
  OfferResult try_claim(std::size_t length, BufferClaim& claim) noexcept {
    if (length > static_cast<std::size_t>(core_->max_payload_length)) [[unlikely]] return OfferStatus::kMessageTooLong;
    const std::int32_t frame_length = static_cast<std::int32_t>(length) + frame::kHeaderLength;
    const std::int32_t at = term_offset_;
    const OfferResult result = reserve(static_cast<std::int32_t>(length), frame::aligned(frame_length));
    if (!result) return result;
    detail::open_frame(term_ + at, frame_length, frame::kUnfragmented, frame::kTypeData, at, core_->identity, term_id_, 0);
    claim = BufferClaim{term_ + at, frame_length};
    return result;
  }

  // Appends whole frames, one behind the other with their headers, as Image::block_poll() and recordings hand them over. Session, stream, term id
  // and offset become those of this publication; type, flags, reserved value and payload stay. Padding may be among them; of the last one, when it is
  // padding, the header is enough. Subscribers see all of a block at once. As with offer(), one that does not fit into the rest of the term leads to
  // padding and kAdminAction: whoever wants to keep positions gives blocks that end with their term. kInvalidBlock: empty; cut off inside a
  // frame; a data frame longer than max_payload_length() with its header; another type; longer than a term. The writer thread.
  OfferResult offer_block(Bytes frames) noexcept;

  // Position of the next message. 0 when closed. The writer thread.
  [[nodiscard]] std::int64_t position() const noexcept { return is_closed() ? 0 : term_begin_position_ + term_offset_; }
  // Bytes that may be written before back pressure; 0 or less when there is some, or when closed. The writer thread.
  [[nodiscard]] std::int64_t available_window() const noexcept { return is_closed() ? 0 : position_limit() - position(); }

 private:
  template <typename Source>
  OfferResult publish(std::int32_t length, std::int64_t reserved_value, Source source) noexcept {
    const std::int32_t at = term_offset_;
    const OfferResult result = reserve(length, detail::framed_length(length, core_->max_payload_length));
    if (result) detail::write_message(term_, at, length, core_->max_payload_length, core_->identity, term_id_, reserved_value, source);
    return result;
  }

  OfferResult reserve(std::int32_t length, std::int32_t required) noexcept {
    const detail::PublicationCore& core = *core_;
    if (core.is_closed.load(std::memory_order_acquire)) return OfferStatus::kClosed;
    const std::int64_t position = term_begin_position_ + term_offset_;
    if (position >= core.limit.get()) return core.refusal(position, length);  // pairs with the driver's release store
    if (required > core.log.term_length() - term_offset_) [[unlikely]] return end_of_term();
    term_offset_ += required;
    // Before the frame: the driver and whoever unblocks must know the space is taken (7.5).
    core.log.store<std::int64_t>(tail_at(index_), shm::pack_tail(term_id_, term_offset_));
    return OfferResult::accepted(position + required);
  }

  OfferStatus end_of_term() noexcept;

  [[nodiscard]] static std::size_t tail_at(int index) noexcept { return shm::meta::kTails + 8 * static_cast<std::size_t>(index); }

  std::byte* term_{};
  std::int64_t term_begin_position_{};
  std::int32_t term_id_{};
  std::int32_t term_offset_{};
  int index_{};
};

}  // namespace thalweg::client
