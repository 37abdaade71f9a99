#pragma once
#include <atomic>
#include <concepts>
#include <memory>
#include <string>
#include <utility>

#include "dataplane/client/detail/mapped_log.hpp"
#include "dataplane/client/header.hpp"
#include "dataplane/shm/cnc.hpp"
#include "dataplane/shm/counters.hpp"

namespace thalweg::client {

namespace detail {
class Conductor;
struct ImageSpec;
}  // namespace detail

// What a controlled handler wants to happen next.
enum class PollAction : std::uint8_t {
  kContinue,  // go on; the position moves when the poll ends
  kCommit,    // go on, and publish the position behind this fragment now
  kBreak,     // stop behind this fragment
  kAbort,     // stop before this fragment: it is delivered again by the next poll
};

template <typename T>
concept FragmentHandler = std::invocable<T&, std::span<const std::byte>, const Header&>;
template <typename T>
concept ControlledFragmentHandler = std::is_invocable_r_v<PollAction, T&, std::span<const std::byte>, const Header&>;
// (whole frames with their headers, session id, term id)
template <typename T>
concept BlockHandler = std::invocable<T&, std::span<const std::byte>, std::int32_t, std::int32_t>;

// One stream as one subscription sees it: a publisher session and how far we have read it. The poll functions belong to the one thread
// that polls the subscription; everything else may be asked from any thread. Spec: client-protocol 7.7.
class Image {
 public:
  explicit Image(detail::ImageSpec spec) noexcept;
  Image(const Image&) = delete;
  Image& operator=(const Image&) = delete;

  [[nodiscard]] std::int64_t correlation_id() const noexcept { return correlation_id_; }
  [[nodiscard]] std::int64_t subscription_registration_id() const noexcept { return subscription_registration_id_; }
  [[nodiscard]] std::int32_t session_id() const noexcept { return session_id_; }
  [[nodiscard]] std::int32_t stream_id() const noexcept { return stream_id_; }
  // "10.0.0.1:40123", or "aeron:ipc" for IPC and spies.
  [[nodiscard]] const std::string& source_identity() const noexcept { return source_identity_; }
  [[nodiscard]] std::int32_t initial_term_id() const noexcept { return mapping_->initial_term_id; }
  [[nodiscard]] std::int32_t term_length() const noexcept { return log_.term_length(); }                    // bytes
  [[nodiscard]] std::int32_t mtu_length() const noexcept { return mapping_->max_payload_length + frame::kHeaderLength; }  // bytes
  [[nodiscard]] std::int32_t max_message_length() const noexcept { return mapping_->max_message_length; }   // bytes
  [[nodiscard]] std::int32_t subscriber_position_id() const noexcept { return position_counter_id_; }
  [[nodiscard]] std::int64_t join_position() const noexcept { return join_position_; }

  // Consumed bytes; frozen when the image closes.
  [[nodiscard]] std::int64_t position() const noexcept {
    return is_closed() ? final_position_.load(std::memory_order_acquire) : position_.load(std::memory_order_acquire);
  }
  // Gone from its subscription: poll functions return 0.
  [[nodiscard]] bool is_closed() const noexcept { return is_closed_.load(std::memory_order_acquire); }
  // Where the stream ends; INT64_MAX while its publisher has not closed it.
  [[nodiscard]] std::int64_t end_of_stream_position() const noexcept {
    return is_closed() ? final_end_of_stream_.load(std::memory_order_acquire) : log_.load<std::int64_t>(shm::meta::kEndOfStreamPosition);
  }
  // Everything the publisher ever wrote has been consumed.
  [[nodiscard]] bool is_end_of_stream() const noexcept { return position() >= end_of_stream_position(); }
  [[nodiscard]] bool is_revoked() const noexcept { return log_.load<std::uint8_t>(shm::meta::kIsPublicationRevoked) != 0; }
  [[nodiscard]] std::int32_t active_transport_count() const noexcept { return log_.load<std::int32_t>(shm::meta::kActiveTransportCount); }
  // True after a frame with an impossible length was met: someone scribbled over the log. Polling has stopped for good.
  [[nodiscard]] bool is_malformed() const noexcept { return is_malformed_.load(std::memory_order_relaxed); }

  // Hands up to `limit` fragments to `handler(payload, header)`; returns how many. Padding is skipped, a poll ends at the end of a term.
  // A handler that throws has consumed its fragment. Polling thread.
  template <FragmentHandler Handler>
  int poll(Handler&& handler, int limit) {
    return poll_to(log_.term_length(), std::forward<Handler>(handler), limit);
  }

  // As poll(), but never beyond `limit_position`.
  template <FragmentHandler Handler>
  int bounded_poll(Handler&& handler, std::int64_t limit_position, int limit) {
    const std::int32_t end = end_offset(limit_position);
    return end == 0 ? 0 : poll_to(end, std::forward<Handler>(handler), limit);
  }

  // As poll(), and the handler decides after each fragment how to go on. Returns fragments consumed. Polling thread.
  template <ControlledFragmentHandler Handler>
  int controlled_poll(Handler&& handler, int limit) {
    return controlled_poll_to(log_.term_length(), std::forward<Handler>(handler), limit);
  }
  // As controlled_poll(), but never beyond `limit_position`.
  template <ControlledFragmentHandler Handler>
  int bounded_controlled_poll(Handler&& handler, std::int64_t limit_position, int limit) {
    const std::int32_t end = end_offset(limit_position);
    return end == 0 ? 0 : controlled_poll_to(end, std::forward<Handler>(handler), limit);
  }

  // Looks at what lies ahead without consuming it: hands over the fragments from `from` on until one begins at or behind `limit_position`,
  // or the term ends. `from` is position(), or what an earlier peek answered. Answers where the next peek may begin: behind the last
  // whole message that was not aborted, so that a message in fragments is never begun in its middle. kCommit does as kContinue. Answers `from`
  // where there is nothing to look at: behind position(), beyond its term, the image closed. Polling thread.
  template <ControlledFragmentHandler Handler>
  std::int64_t controlled_peek(std::int64_t from, Handler&& handler, std::int64_t limit_position) {
    if (!is_reachable(from)) return from;
    Cursor cursor{*this, from};
    std::int64_t reached = from;
    while (cursor.position() < limit_position) {
      std::byte* at = cursor.next(log_.term_length());
      if (at == nullptr) {
        if (cursor.is_at_end()) reached = cursor.position();  // padding fills the rest of the term
        break;
      }
      const Header header{*this, at, cursor.position()};
      const PollAction action = handler(cursor.payload(), header);
      if (action == PollAction::kAbort) break;
      if ((header.flags() & frame::kEnd) != 0) reached = cursor.position();
      if (action == PollAction::kBreak) break;
    }
    return reached;
  }

  // Consumes up to `position` unread. Errors: kInvalidArgument (behind position(), beyond the end of its term, no multiple of 32), kClosed.
  // Polling thread.
  [[nodiscard]] Result<> set_position(std::int64_t position);

  // Hands whole frames up to `block_length_limit` bytes to `handler(frames, session id, term id)` in one piece: for archives. Padding ends
  // a block, and is a block of its own (its header is handed over, its bytes are skipped). Returns bytes consumed. Polling thread.
  template <BlockHandler Handler>
  std::int64_t block_poll(Handler&& handler, std::int32_t block_length_limit) {
    Cursor cursor{*this};
    const Block block = scan_block(block_length_limit);
    if (block.length == 0) return 0;
    cursor.advance(block.length);
    handler(std::span<const std::byte>{block.data, static_cast<std::size_t>(block.visible)}, session_id_, block.term_id);
    return block.length;
  }

  // Tells the driver to stop receiving this stream; the publisher hears `reason`. Does not wait: what the driver has against it goes to
  // Context::on_error. Errors: kInvalidArgument (a reason of more than 1023 bytes), kClosed, kUnreachable. Any thread.
  [[nodiscard]] Result<> reject(std::string_view reason) const;

 private:
  friend class detail::Conductor;

  // Walks frames from the image's position; publishes how far it came when it goes out of scope, also by an exception.
  class Cursor {
   public:
    explicit Cursor(Image& image) noexcept : Cursor{image, image.next_, false} {}
    // One that consumes nothing. Precondition: `from` is in the term of the image's position.
    Cursor(Image& image, std::int64_t from) noexcept : Cursor{image, from, true} {}
    Cursor(const Cursor&) = delete;
    Cursor& operator=(const Cursor&) = delete;
    ~Cursor() { publish(); }

    // The next data frame that ends at or before `end`; null when there is none. Steps over padding.
    std::byte* next(std::int32_t end) noexcept {
      if (image_.is_closed() || image_.is_malformed()) [[unlikely]] return nullptr;
      while (offset_ < end) {
        std::byte* at = term_ + offset_;
        const std::int32_t length = shm::frame_length_acquire(at);  // pairs with the publisher's commit and the lane's insert
        if (length <= 0) return nullptr;
        // offset and term length are multiples of 32, so a frame that fits also fits when aligned.
        if (length < frame::kHeaderLength || length > image_.log_.term_length() - offset_) [[unlikely]] {
          image_.is_malformed_.store(true, std::memory_order_relaxed);
          return nullptr;
        }
        const std::int32_t aligned = frame::aligned(length);
        const bool is_padding = load_le<std::uint16_t>(at + frame::kTypeOffset) == frame::kTypePad;
        if (aligned > end - offset_ && !is_padding) return nullptr;
        before_ = offset_;
        offset_ += aligned;
        if (is_padding) continue;
        payload_ = {at + frame::kHeaderLength, static_cast<std::size_t>(length - frame::kHeaderLength)};
        return at;
      }
      return nullptr;
    }
    void advance(std::int32_t length) noexcept { offset_ += length; }
    void rewind(std::int64_t position) noexcept { offset_ = static_cast<std::int32_t>(position - begin_); }
    [[nodiscard]] std::int64_t position() const noexcept { return begin_ + offset_; }
    [[nodiscard]] bool is_at_end() const noexcept { return offset_ == image_.log_.term_length(); }
    [[nodiscard]] std::int64_t before() const noexcept { return begin_ + before_; }
    [[nodiscard]] std::span<const std::byte> payload() const noexcept { return payload_; }
    void publish() noexcept {
      const std::int64_t reached = begin_ + offset_;
      if (reached != image_.next_ && !is_peeking_) image_.publish_position(reached);
    }

   private:
    Cursor(Image& image, std::int64_t from, bool is_peeking) noexcept
        : image_{image}, is_peeking_{is_peeking}, offset_{wire::term_offset_of(from, image.log_.position_bits())},
          begin_{from - offset_}, term_{image.log_.at(begin_)} {}
    Image& image_;
    bool is_peeking_;
    std::int32_t offset_;
    std::int32_t before_{};
    std::int64_t begin_;
    std::byte* term_;
    std::span<const std::byte> payload_;
  };

  struct Block {
    const std::byte* data{};
    std::int32_t length{};   // bytes of position
    std::int32_t visible{};  // bytes shown to the handler
    std::int32_t term_id{};
  };
  [[nodiscard]] Block scan_block(std::int32_t length_limit) noexcept;

  template <typename Handler>
  int poll_to(std::int32_t end, Handler&& handler, int limit) {
    Cursor cursor{*this};
    int fragments = 0;
    while (fragments < limit) {
      std::byte* at = cursor.next(end);
      if (at == nullptr) break;
      ++fragments;
      handler(cursor.payload(), Header{*this, at, cursor.position()});
    }
    return fragments;
  }

  template <typename Handler>
  int controlled_poll_to(std::int32_t end, Handler&& handler, int limit) {
    Cursor cursor{*this};
    int fragments = 0;
    while (fragments < limit) {
      std::byte* at = cursor.next(end);
      if (at == nullptr) break;
      const std::int64_t before = cursor.before();
      const PollAction action = handler(cursor.payload(), Header{*this, at, cursor.position()});
      if (action == PollAction::kAbort) {
        cursor.rewind(before);
        break;
      }
      ++fragments;
      if (action == PollAction::kBreak) break;
      if (action == PollAction::kCommit) cursor.publish();
    }
    return fragments;
  }

  // Offset in the current term up to which `limit_position` lets a poll go; 0: nowhere.
  [[nodiscard]] std::int32_t end_offset(std::int64_t limit_position) const noexcept {
    if (limit_position <= next_) return 0;
    const std::int64_t end = wire::term_offset_of(next_, log_.position_bits()) + (limit_position - next_);
    return end < log_.term_length() ? static_cast<std::int32_t>(end) : log_.term_length();
  }
  // Whether a position lies ahead in the current term; its end belongs to the next one.
  [[nodiscard]] bool is_reachable(std::int64_t position) const noexcept {
    return !is_closed() && position >= next_ && position % frame::kAlignment == 0 && position >> log_.position_bits() == next_ >> log_.position_bits();
  }

  void publish_position(std::int64_t reached) noexcept {
    next_ = reached;
    position_.store(reached, std::memory_order_release);
    // A closed image's counter may already belong to somebody else.
    if (!is_closed()) position_counter_.set(reached);  // release; pairs with the driver's limit and cleaning work
  }
  // Conductor: after the driver said "unavailable", or the client closes.
  void close() noexcept;

  shm::LogBuffer log_;
  shm::Counter position_counter_;
  std::int64_t next_{};  // polling thread alone; the shared counter is never read back, others could write it
  std::atomic<bool> is_closed_{false};
  std::atomic<bool> is_malformed_{false};
  std::atomic<std::int64_t> position_{};
  std::atomic<std::int64_t> final_position_{};
  std::atomic<std::int64_t> final_end_of_stream_{};

  std::int64_t correlation_id_{};
  std::int64_t subscription_registration_id_{};
  std::int64_t join_position_{};
  std::int32_t session_id_{};
  std::int32_t stream_id_{};
  std::int32_t position_counter_id_{};
  bool is_malformed_reported_{};  // conductor
  std::string source_identity_;
  std::shared_ptr<const detail::MappedLog> mapping_;
  std::shared_ptr<const shm::CncFile> cnc_;
  std::weak_ptr<detail::Conductor> conductor_;
};

namespace detail {
// Everything the conductor knows about a new image, already checked.
struct ImageSpec {
  std::int64_t correlation_id{};
  std::int64_t subscription_registration_id{};
  std::int64_t join_position{};
  std::int32_t session_id{};
  std::int32_t stream_id{};
  std::int32_t position_counter_id{};
  shm::Counter position_counter;
  std::string source_identity;
  std::shared_ptr<const MappedLog> mapping;
  std::shared_ptr<const shm::CncFile> cnc;
  std::weak_ptr<Conductor> conductor;
};
}  // namespace detail

}  // namespace thalweg::client
