#pragma once
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dataplane/client/detail/subscription_core.hpp"
#include "dataplane/client/image.hpp"
#include "dataplane/client/publication.hpp"

namespace thalweg::client {

// Interest in one stream of one channel, and the images that match it. A move-only handle; destruction closes. One thread polls (and
// closes); the rest may be asked from any thread. Precondition of all but operator bool and close(): the handle is not empty.
class Subscription {
 public:
  Subscription() noexcept = default;
  explicit Subscription(std::shared_ptr<detail::SubscriptionCore> core) noexcept : core_{std::move(core)} {}
  Subscription(Subscription&&) noexcept = default;
  Subscription& operator=(Subscription&& other) noexcept {
    if (this != &other) {
      close();
      core_ = std::move(other.core_);
    }
    return *this;
  }
  ~Subscription() { close(); }

  [[nodiscard]] explicit operator bool() const noexcept { return core_ != nullptr; }
  [[nodiscard]] std::int64_t registration_id() const noexcept { return core_->registration_id; }
  [[nodiscard]] std::int32_t stream_id() const noexcept { return core_->stream_id; }
  [[nodiscard]] const std::string& channel() const noexcept { return core_->channel; }
  [[nodiscard]] bool is_closed() const noexcept { return core_->is_closed.load(std::memory_order_acquire); }
  [[nodiscard]] std::int32_t channel_status_id() const noexcept { return core_->channel_status_id; }
  [[nodiscard]] ChannelStatus channel_status() const noexcept;
  // Endpoints this subscription really listens on (tells the port of `endpoint=host:0`). Empty while the channel is not active.
  [[nodiscard]] std::vector<std::string> local_addresses() const;
  // The first of them; nullopt while there is none.
  [[nodiscard]] std::optional<std::string> resolved_endpoint() const;
  // The channel with the port that `endpoint=host:0` has become; the channel as it is where no port was left open. nullopt: not known yet.
  [[nodiscard]] std::optional<std::string> try_resolve_channel_endpoint_port() const;

  // Fragments from all images to `handler(payload, header)`, at most `limit` in all; returns how many. The image that goes first changes
  // with each call, so that none starves. Polling thread.
  template <FragmentHandler Handler>
  int poll(Handler&& handler, int limit) {
    return over_images(limit, [&](Image& image, int room) { return image.poll(handler, room); });
  }
  // As poll(), with a handler that decides after each fragment. kBreak and kAbort end the poll of that image only. Polling thread.
  template <ControlledFragmentHandler Handler>
  int controlled_poll(Handler&& handler, int limit) {
    return over_images(limit, [&](Image& image, int room) { return image.controlled_poll(handler, room); });
  }
  // One block of at most `block_length_limit` bytes per image; returns bytes consumed. Polling thread.
  template <BlockHandler Handler>
  std::int64_t block_poll(Handler&& handler, std::int32_t block_length_limit) {
    std::int64_t bytes = 0;
    for (const auto& image : core_->acquire().images) bytes += image->block_poll(handler, block_length_limit);
    return bytes;
  }

  // Polling thread: at least one image is there.
  [[nodiscard]] bool is_connected() const noexcept { return !core_->acquire().images.empty(); }
  // Polling thread.
  [[nodiscard]] std::size_t image_count() const noexcept { return core_->acquire().images.size(); }
  // The images of this moment. Any thread; takes the client's lock.
  [[nodiscard]] std::vector<std::shared_ptr<Image>> images() const { return detail::copy_images(*core_); }
  // The image of a session; null if there is none. Any thread; takes the client's lock.
  [[nodiscard]] std::shared_ptr<Image> image_by_session(std::int32_t session_id) const;
  // The image with that correlation id; null if there is none. Any thread; takes the client's lock.
  [[nodiscard]] std::shared_ptr<Image> image_by_correlation_id(std::int64_t correlation_id) const;
  // Calls visit(Image&) for each image. Polling thread; no lock.
  template <typename Visit>
  void for_each_image(Visit&& visit) {
    for (const auto& image : core_->acquire().images) visit(*image);
  }

  // Gives the subscription back; its images close. Idempotent. Polling thread.
  void close() noexcept;

 private:
  friend class Client;

  template <typename PollImage>
  int over_images(int limit, PollImage&& poll_image) {
    const auto& images = core_->acquire().images;
    const std::size_t count = images.size();
    const std::size_t start = core_->rotate(count);
    int fragments = 0;
    for (std::size_t i = start; i < count && fragments < limit; ++i) fragments += poll_image(*images[i], limit - fragments);
    for (std::size_t i = 0; i < start && fragments < limit; ++i) fragments += poll_image(*images[i], limit - fragments);
    return fragments;
  }

  std::shared_ptr<detail::SubscriptionCore> core_;
};

}  // namespace thalweg::client
