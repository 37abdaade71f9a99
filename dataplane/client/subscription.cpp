#include "dataplane/client/subscription.hpp"

#include <algorithm>

#include "dataplane/client/detail/conductor.hpp"
#include "dataplane/client/detail/local_addresses.hpp"
#include "dataplane/shm/channel_uri.hpp"

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

shm::CounterState ClientCounter::state() const noexcept {
  return is_closed() ? shm::CounterState::kReclaimed : core_->conductor->counters().state(core_->counter_id);
}
std::string ClientCounter::label() const {
  const auto view = is_closed() ? std::nullopt : core_->conductor->counters().find(core_->counter_id);
  return view ? std::string{view->label} : std::string{};
}

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
std::shared_ptr<Image> Subscription::image_by_correlation_id(std::int64_t correlation_id) const {
  for (auto& image : images()) {
    if (image->correlation_id() == correlation_id) return image;
  }
  return nullptr;
}

std::optional<std::string> Subscription::resolved_endpoint() const {
  if (channel_status() != ChannelStatus::kActive) return std::nullopt;
  std::vector<std::string> addresses = local_addresses();
  if (addresses.empty()) return std::nullopt;
  return std::move(addresses.front());
}

std::optional<std::string> Subscription::try_resolve_channel_endpoint_port() const {
  auto uri = shm::ChannelUri::parse(channel());
  if (!uri) return std::nullopt;  // the driver took it, but we do not understand it
  const auto endpoint = uri->get("endpoint");
  const auto address = endpoint ? shm::parse_host_port(*endpoint) : std::nullopt;
  if (!address || address->port != 0) return channel();
  const auto bound = resolved_endpoint();
  if (!bound) return std::nullopt;
  // The host stays as it was: it may be a name, or 0.0.0.0.
  uri->set("endpoint", std::string{endpoint->substr(0, endpoint->rfind(':'))} + bound->substr(bound->rfind(':')));
  return uri->to_string();
}

void Subscription::close() noexcept {
  if (core_ != nullptr) detail::close_subscription(*core_);
}

}  // namespace thalweg::client
