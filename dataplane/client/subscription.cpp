#include "dataplane/client/subscription.hpp"

#include <algorithm>

#include "dataplane/client/detail/conductor.hpp"
#include "dataplane/client/detail/local_addresses.hpp"

namespace thalweg::client {

namespace detail {
namespace {
constexpr std::size_t kAddressOffset = 8;  // in the key: status counter id, length, then the text
}  // namespace

ChannelStatus channel_status(shm::Counter counter) noexcept {
  if (!counter) return ChannelStatus::kNone;
  const std::int64_t value = counter.get();
  return value >= shm::channel_status::kErrored && value <= shm::channel_status::kClosing ? static_cast<ChannelStatus>(value)
                                                                                         : ChannelStatus::kErrored;
}

std::vector<std::string> local_addresses(const shm::CountersReader& counters, std::int32_t status_counter_id) {
  std::vector<std::string> addresses;
  if (status_counter_id == shm::kNullCounterId) return addresses;
  counters.for_each([&](const shm::CountersReader::View& view) {
    if (view.type_id != shm::counter_type::kLocalSockaddr || view.value != shm::channel_status::kActive) return;
    if (load_le<std::int32_t>(view.key.data()) != status_counter_id) return;
    const auto length = std::clamp<std::int64_t>(load_le<std::int32_t>(view.key.data() + 4), 0,
                                                 static_cast<std::int64_t>(view.key.size() - kAddressOffset));
    addresses.emplace_back(reinterpret_cast<const char*>(view.key.data() + kAddressOffset), static_cast<std::size_t>(length));
  });
  return addresses;
}

void close_subscription(SubscriptionCore& core) noexcept { core.conductor->release(core); }
void close_counter(CounterCore& core) noexcept { core.conductor->release(core); }
std::vector<std::shared_ptr<Image>> copy_images(const SubscriptionCore& core) { return core.conductor->images(core); }
}  // namespace detail

ChannelStatus Subscription::channel_status() const noexcept {
  return is_closed() ? ChannelStatus::kClosing : detail::channel_status(core_->channel_status);
}
std::vector<std::string> Subscription::local_addresses() const {
  return detail::local_addresses(core_->conductor->counters(), core_->channel_status_id);
}
std::shared_ptr<Image> Subscription::image_by_session(std::int32_t session_id) const {
  for (auto& image : images()) {
    if (image->session_id() == session_id) return image;
  }
  return nullptr;
}
void Subscription::close() noexcept {
  if (core_ != nullptr) detail::close_subscription(*core_);
}

}  // namespace thalweg::client
