#pragma once
#include <cstdint>
#include <memory>

#include "dataplane/wire/frames.hpp"

// Which session of which stream does a receive endpoint want, and what is known of it (wire-protocol 3.2, 3.3, 3.12). One per receive
// endpoint; fixed capacity, no allocation after construction. Thread: owning lane.
namespace thalweg::proto {

// kNoInterest is never stored: what is not wanted is asked for again, so that strange sessions cannot fill the table.
enum class SessionState : std::uint8_t { kUnknown, kLive, kPendingSetup, kInitInProgress, kCoolDown, kNoInterest, kEnded };

enum class Dispatch : std::uint8_t {
  kImage,        // `image` is live: insert, or refresh its connection
  kIgnore,       // nothing to do, nothing to count as an error (caller counts drop_no_interest)
  kElicitSetup,  // send an eliciting SM (3.3)
  kCreateImage,  // ask the control plane for an image (3.4)
  kFull,         // table full: caller counts drop_image_limit
  kSessionLimit, // the stream has all the images it may have: caller counts drop_session_limit
  kLateSide,     // of an A/B stream that has ended: caller counts drop_late_side
};

inline constexpr std::int64_t kPendingSetupTimeout_ns = 1'000'000'000;  // 1.12, a constant of the protocol

inline constexpr std::uint32_t kNoSessionLimit = 0x7FFFFFFF;            // section 7: the stock default

class Dispatcher {
 public:
  // Sessions known at once, and interests, each at most `session_capacity` (a power of two).
  // `session_limit`: images of one stream, those being made included (3.2).
  explicit Dispatcher(std::uint32_t session_capacity, std::uint32_t session_limit = kNoSessionLimit);
  ~Dispatcher();
  Dispatcher(Dispatcher&&) noexcept;
  Dispatcher& operator=(Dispatcher&&) noexcept;

  // Interests: reference counted per (stream) and (stream, session). add: false when the table is full. remove: what only that interest
  // wanted is forgotten, live images included (they drain by their own timers, but their packets are strangers from then on).
  bool add_interest(std::int32_t stream_id, bool has_session, std::int32_t session_id);
  void remove_interest(std::int32_t stream_id, bool has_session, std::int32_t session_id);
  [[nodiscard]] bool has_interest() const noexcept;

  struct Decision { Dispatch what; std::uint32_t image; };
  // Hot: one hash look-up. `is_end_of_stream`: EOS flag of the first frame.
  [[nodiscard]] Decision on_data(std::int32_t stream_id, std::int32_t session_id, bool is_end_of_stream, std::int64_t now_ns) noexcept;
  [[nodiscard]] Decision on_setup(std::int32_t stream_id, std::int32_t session_id, std::int32_t initial_term_id, std::int64_t now_ns) noexcept;
  // kImage or kIgnore; changes nothing.
  [[nodiscard]] Decision find(std::int32_t stream_id, std::int32_t session_id) const noexcept;
  [[nodiscard]] SessionState session_state(std::int32_t stream_id, std::int32_t session_id) const noexcept;

  // An image is ready. Also after a restart, without a SETUP before. False: table full.
  bool image_live(std::int32_t stream_id, std::int32_t session_id, std::uint32_t image) noexcept;
  void image_refused(std::int32_t stream_id, std::int32_t session_id) noexcept;   // clears kInitInProgress
  // 3.12. Ignored when another image has taken the session over.
  void image_removed(std::int32_t stream_id, std::int32_t session_id, std::uint32_t image, bool was_end_of_stream, bool rejoin) noexcept;
  // The same of an A/B stream that has ended (ours): its other side may be far behind, and what it brings was heard before. Until `until_ns` that
  // is no reason for a new image; a SETUP with another initial term id is, because the stream has begun anew.
  void stream_ended(std::int32_t stream_id, std::int32_t session_id, std::uint32_t image, std::int32_t initial_term_id, std::int64_t until_ns) noexcept;
  // 3.3: a pending setup older than 1 s is forgotten, so that the next DATA elicits again; and so is the end of a stream. Cheap while there is none.
  void tick(std::int64_t now_ns) noexcept;

 private:
  struct Tables;
  std::unique_ptr<Tables> tables_;
};

}  // namespace thalweg::proto
