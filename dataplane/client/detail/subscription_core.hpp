#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/base/bytes.hpp"
#include "dataplane/client/image.hpp"

namespace thalweg::client {
using ImageHandler = std::function<void(const std::shared_ptr<Image>&)>;
}

namespace thalweg::client::detail {

// An immutable list of images. The conductor replaces it as a whole; the polling thread sees one or the other.
struct ImageList {
  std::int64_t version{};
  std::vector<std::shared_ptr<Image>> images;
};

// What the conductor and the handle of one subscription share.
//
// Reclamation without locks: the polling thread announces the version of the list it is about to use. The conductor frees a replaced list
// once a later version has been announced, for then the polling thread has let go of it. A subscription that is never polled keeps its
// old lists until it is closed.
struct SubscriptionCore {
  std::atomic<const ImageList*> current{nullptr};  // release by the conductor, acquire by the polling thread
  std::atomic<bool> is_closed{false};
  std::int64_t registration_id{};
  std::int32_t stream_id{};
  shm::Counter channel_status;
  std::int32_t channel_status_id{shm::kNullCounterId};
  std::string channel;
  ImageHandler on_available_image;
  ImageHandler on_unavailable_image;
  std::shared_ptr<const shm::CncFile> cnc;
  std::shared_ptr<Conductor> conductor;
  std::unique_ptr<const ImageList> owned;                  // what `current` points to; conductor, under its lock
  std::vector<std::unique_ptr<const ImageList>> retired;   // oldest first; conductor, under its lock

  alignas(kCacheLine) std::atomic<std::int64_t> announced{0};  // release by the polling thread; pairs with Conductor::reclaim
  std::int64_t announced_local{0};                             // polling thread
  std::size_t next_image{0};                                   // polling thread: where the next poll starts

  [[nodiscard]] const ImageList& acquire() noexcept {
    const ImageList* list = current.load(std::memory_order_acquire);
    if (list->version != announced_local) [[unlikely]] {
      announced_local = list->version;
      announced.store(announced_local, std::memory_order_release);
    }
    return *list;
  }
  [[nodiscard]] std::size_t rotate(std::size_t count) noexcept {
    const std::size_t start = next_image < count ? next_image : 0;
    next_image = start + 1;
    return start;
  }
};

// Any thread; idempotent. Sends REMOVE_SUBSCRIPTION.
void close_subscription(SubscriptionCore& core) noexcept;
// Copy of the current list. Any thread; takes the client's lock.
[[nodiscard]] std::vector<std::shared_ptr<Image>> copy_images(const SubscriptionCore& core);

}  // namespace thalweg::client::detail
