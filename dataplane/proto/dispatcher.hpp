#pragma once
#include <cstdint>
#include <memory>

#include "dataplane/wire/frames.hpp"

// Which session of which stream does a receive endpoint want, and what is known of it (wire-protocol 3.2, 3.3, 3.12). One per receive
// endpoint; fixed capacity, no allocation after construction. Thread: owning lane.
namespace thalweg::proto {

enum class SessionState : std::uint8_t { kUnknown, kLive, kPendingSetup, kInitInProgress, kCoolDown, kNoInterest };

enum class Dispatch : std::uint8_t {
  kImage,        // `image` is live: insert, or refresh its connection
  kIgnore,       // nothing to do, nothing to count as an error (caller counts drop_no_interest)
  kElicitSetup,  // send an eliciting SM (3.3)
  kCreateImage,  // ask the control plane for an image (3.4)
  kFull,         // table full: caller counts drop_image_limit
};

class Dispatcher {
 public:
  explicit Dispatcher(std::uint32_t session_capacity);   // power of two
  ~Dispatcher();
  Dispatcher(Dispatcher&&) noexcept;
  Dispatcher& operator=(Dispatcher&&) noexcept;

  // Interests: reference counted per (stream) and (stream, session).
  bool add_interest(std::int32_t stream_id, bool has_session, std::int32_t session_id);
  void remove_interest(std::int32_t stream_id, bool has_session, std::int32_t session_id);
  [[nodiscard]] bool has_interest() const noexcept;

  struct Decision { Dispatch what; std::uint32_t image; };
  // Hot: one hash look-up. `is_end_of_stream`: EOS flag of the first frame.
  [[nodiscard]] Decision on_data(std::int32_t stream_id, std::int32_t session_id, bool is_end_of_stream, std::int64_t now_ns) noexcept;
  [[nodiscard]] Decision on_setup(std::int32_t stream_id, std::int32_t session_id, std::int64_t now_ns) noexcept;
  [[nodiscard]] Decision find(std::int32_t stream_id, std::int32_t session_id) const noexcept;

  void image_live(std::int32_t stream_id, std::int32_t session_id, std::uint32_t image) noexcept;
  void image_refused(std::int32_t stream_id, std::int32_t session_id) noexcept;   // clears kInitInProgress
  void image_removed(std::int32_t stream_id, std::int32_t session_id, std::uint32_t image, bool was_end_of_stream, bool rejoin) noexcept;
  // 3.3: a pending setup older than 1 s is forgotten, so that the next DATA elicits again.
  void tick(std::int64_t now_ns) noexcept;

 private:
  struct Tables;
  std::unique_ptr<Tables> tables_;
};

}  // namespace thalweg::proto
