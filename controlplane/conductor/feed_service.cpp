#include "controlplane/conductor/feed_service.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "controlplane/conductor/destination_table.hpp"

namespace thalweg::conductor {
namespace {

using shm::ClientError;

constexpr std::int64_t kRetry_ns = kSecond_ns;
constexpr std::array<std::string_view, 2> kSideNames{"a", "b"};
constexpr std::array<std::string_view, kFeedCounterCount> kCounterNames{"feed-frames-won", "feed-bytes-won", "feed-fills", "feed-copies", "feed-late-mean-ns",
                                                                        "feed-late-max-ns", "feed-silent"};

bool is_same(const std::optional<ChannelAddress>& a, const std::optional<ChannelAddress>& b) noexcept {
  return a.has_value() == b.has_value() && (!a || a->text == b->text);
}

const std::string& channel_of_side(const FeedSettings& feed, std::size_t side) noexcept { return side == 0 ? feed.a : feed.b; }

Outcome<UdpChannel> parse(const std::string& text) {
  const auto uri = shm::ChannelUri::parse(text);
  if (!uri) return tl::unexpected{to_command_error(uri.error())};
  return check_destination_channel(*uri);
}

}  // namespace

FeedService::FeedService(World& world, EndpointTable& endpoints) : world_{&world}, endpoints_{&endpoints} {
  for (const FeedSettings& settings : world.settings.feeds) {
    Feed feed;
    feed.settings = &settings;
    feeds_.push_back(std::move(feed));
  }
}

const FeedSettings* FeedService::find(const UdpChannel& channel) const {
  if (channel.control_mode != ControlMode::kNone) return nullptr;
  for (const Feed& feed : feeds_) {
    const auto uri = shm::ChannelUri::parse(feed.settings->channel);
    const auto own = uri ? parse_udp_channel(*uri) : Outcome<UdpChannel>{refuse_channel({})};
    if (!own || !is_same(own->endpoint, channel.endpoint) || !is_same(own->control, channel.control)) continue;
    const bool is_interface_wanted = own->has_interface || !own->interface_host.empty();
    const bool is_same_interface = own->interface_address == channel.interface_address && own->interface_host == channel.interface_host;
    if (!is_interface_wanted || is_same_interface) return feed.settings;
  }
  return nullptr;
}

std::uint32_t FeedService::parent_of(const Feed& feed) const {
  for (const std::uint32_t index : world_->endpoints.used()) {
    const EndpointRecord& record = world_->endpoints.record(index);
    if (record.channel.is_feed && record.status == Status::kActive && record.channel.uri == feed.settings->channel) return index;
  }
  return shm::kNoSlot;
}

std::uint32_t FeedService::children_of(std::uint32_t parent) const {
  return static_cast<std::uint32_t>(std::count_if(world_->endpoints.used().begin(), world_->endpoints.used().end(),
                                                  [&](std::uint32_t index) { return world_->endpoints.slot(index).desired.parent == parent; }));
}

// ---- sides ----

void FeedService::poll() {
  for (Feed& feed : feeds_) {
    const std::uint32_t parent = parent_of(feed);
    if (parent == shm::kNoSlot) continue;
    // Subscriptions and images hold the endpoint, too; with nobody but its sides it is to go.
    if (world_->endpoints.record(parent).references <= children_of(parent)) {
      close(feed);
      continue;
    }
    for (std::size_t side = 0; side < feed.sides.size(); ++side) open(feed, side, parent);
  }
}

void FeedService::recover() {
  for (const std::uint32_t index : world_->endpoints.used()) {
    const std::uint32_t parent = world_->endpoints.slot(index).desired.parent;
    const EndpointRecord& record = world_->endpoints.record(index);
    if (parent == shm::kNoSlot || record.status == Status::kClosing || !world_->endpoints.record(parent).channel.is_feed) continue;
    for (Feed& feed : feeds_) {
      if (feed.settings->channel != world_->endpoints.record(parent).channel.uri) continue;
      for (std::size_t side = 0; side < feed.sides.size(); ++side) {
        if (feed.sides[side].endpoint != shm::kNoSlot || record.channel.uri != channel_of_side(*feed.settings, side)) continue;
        feed.sides[side].endpoint = index;
        endpoints_->add_reference(index);
        break;
      }
    }
  }
}

void FeedService::open(Feed& feed, std::size_t side, std::uint32_t parent) {
  Side& state = feed.sides[side];
  if (world_->now.now_ns < state.retry_ns) return;
  const auto is_open = advance(feed, side, parent);
  if (is_open) return;
  if (state.endpoint != shm::kNoSlot) endpoints_->release(std::exchange(state.endpoint, shm::kNoSlot));
  state.retry_ns = world_->now.now_ns + kRetry_ns;
  world_->report({is_open.error().code, fmt::format("feed {}: side {} cannot be opened: {}", feed.settings->name, kSideNames[side], is_open.error().text)});
}

Outcome<bool> FeedService::advance(Feed& feed, std::size_t side, std::uint32_t parent) {
  Side& state = feed.sides[side];
  if (state.endpoint == shm::kNoSlot) {
    if (!state.is_parsed) {
      auto channel = parse(channel_of_side(*feed.settings, side));
      if (!channel) return tl::unexpected{channel.error()};
      state.channel = std::move(*channel);
      state.is_parsed = true;
    }
    const auto resolved = state.resolution.poll(*world_, state.channel);
    if (!resolved || !*resolved) return resolved;
    if (endpoints_->is_letting_go(state.channel, true)) return false;
    const auto& home = world_->endpoints.slot(parent).desired;
    const auto endpoint = endpoints_->acquire({.kind = shm::EndpointKind::kReceive,
                                               .channel = &state.channel,
                                               .registration_id = home.registration_id,
                                               .socket_sndbuf = home.socket_sndbuf,
                                               .socket_rcvbuf = home.socket_rcvbuf,
                                               .parent = parent});
    if (!endpoint) return tl::unexpected{endpoint.error()};
    state.endpoint = *endpoint;
  }
  if (endpoints_->status(state.endpoint) == Status::kFailed) return tl::unexpected{endpoints_->error(state.endpoint)};
  return endpoints_->status(state.endpoint) == Status::kActive;
}

void FeedService::close(Feed& feed) {
  for (Side& side : feed.sides) {
    if (side.endpoint != shm::kNoSlot) endpoints_->release(std::exchange(side.endpoint, shm::kNoSlot));
    side.is_silent = false;
  }
}

// ---- figures ----

void FeedService::publish() {
  constexpr std::int64_t kInterval_ns = 50 * kMillisecond_ns;
  if (feeds_.empty() || world_->now.now_ns < next_publish_ns_) return;
  next_publish_ns_ = world_->now.now_ns + kInterval_ns;
  free_ended();
  for (Feed& feed : feeds_) {
    const std::uint32_t parent = parent_of(feed);
    if (parent == shm::kNoSlot) continue;
    std::array<bool, 2> silent{};
    bool has_images = false;
    for (const std::uint32_t image : world_->images.used()) {
      if (world_->images.slot(image).desired.endpoint != parent || world_->images.record(image).status != Status::kActive) continue;
      if (world_->images.slot(image).observed.state.lifecycle != shm::Lifecycle::kActive) continue;
      has_images = true;
      publish_image(feed, image, silent);
    }
    for (std::size_t side = 0; has_images && side < feed.sides.size(); ++side) report_silence(feed, side, silent[side]);
  }
}

void FeedService::publish_image(Feed& feed, std::uint32_t image, std::array<bool, 2>& silent) {
  const shm::ImageState& state = world_->images.slot(image).observed.state;
  const ImageCounters* const counters = counters_of(feed, image);
  std::array<const shm::ConnectionState*, 2> sides{};
  std::int64_t latest_ns = 0;
  for (const shm::ConnectionState& connection : state.connections) {
    if (connection.is_used == 0) continue;
    latest_ns = std::max(latest_ns, connection.last_frame_ns);
    for (std::size_t side = 0; side < sides.size(); ++side) {
      if (connection.endpoint == feed.sides[side].endpoint) sides[side] = &connection;
    }
  }
  for (std::size_t side = 0; side < sides.size(); ++side) {
    // A side that never brought anything is silent since the image is there.
    const std::int64_t heard_ns = sides[side] != nullptr ? sides[side]->last_frame_ns : state.lifecycle_since_ns;
    const bool is_silent = latest_ns - heard_ns > feed.settings->side_timeout_ns;
    silent[side] |= is_silent;
    if (counters == nullptr) continue;
    const shm::ConnectionState figures = sides[side] != nullptr ? *sides[side] : shm::ConnectionState{};
    const std::int64_t mean_ns = figures.copies_timed > 0 ? figures.late_ns_sum / figures.copies_timed : 0;
    const std::array<std::int64_t, kFeedCounterCount> values{figures.frames_won, figures.bytes_won, figures.fills, figures.copies, mean_ns,
                                                             figures.late_ns_max, is_silent ? 1 : 0};
    for (std::size_t i = 0; i < kFeedCounterCount; ++i) {
      shm::Counter counter = world_->counters.counter(counters->ids[side][i]);
      if (counter.get_plain() != values[i]) counter.set(values[i]);
    }
  }
}

// Null: all counters are taken. Tried again ever more rarely; the stream does not need them.
FeedService::ImageCounters* FeedService::counters_of(Feed& feed, std::uint32_t image) {
  constexpr std::int64_t kRetryMax_ns = 60 * kSecond_ns;
  ImageCounters& counters = counters_[image];
  if (counters.are_there) return &counters;
  if (world_->now.now_ns < counters.retry_ns) return nullptr;
  counters.generation = world_->images.slot(image).desired.generation;
  counters.are_there = allocate_counters(feed, image, counters);
  if (counters.are_there) {
    feed.lacks_counters = false;
    return &counters;
  }
  counters.retry_interval_ns = std::clamp(2 * counters.retry_interval_ns, kRetry_ns, kRetryMax_ns);
  counters.retry_ns = world_->now.now_ns + counters.retry_interval_ns;
  if (!std::exchange(feed.lacks_counters, true)) {
    world_->report({ClientError::kGeneric, fmt::format("feed {}: its figures are not published: max counter id exceeded", feed.settings->name)});
  }
  return nullptr;
}

// All, or none.
bool FeedService::allocate_counters(const Feed& feed, std::uint32_t image, ImageCounters& counters) {
  const auto& wanted = world_->images.slot(image).desired;
  for (auto& ids : counters.ids) ids.fill(shm::kNullCounterId);
  for (std::size_t side = 0; side < kSideNames.size(); ++side) {
    for (std::size_t i = 0; i < kFeedCounterCount; ++i) {
      const auto key = shm::stream_key(wanted.correlation_id, wanted.session_id, wanted.stream_id, feed.settings->channel);
      const std::string label = fmt::format("{} side={}", shm::stream_label(kCounterNames[i], wanted.correlation_id, wanted.session_id, wanted.stream_id, feed.settings->channel),
                                            kSideNames[side]);
      counters.ids[side][i] = world_->allocate_counter({.type_id = kFeedCounterType + static_cast<std::int32_t>(i),
                                                        .key = key.span(),
                                                        .label = label,
                                                        .registration_id = wanted.correlation_id,
                                                        .reference_id = static_cast<std::int64_t>(side)});
      if (counters.ids[side][i] < 0) {
        free_counters(counters);
        return false;
      }
    }
  }
  return true;
}

void FeedService::free_counters(const ImageCounters& counters) {
  for (const auto& ids : counters.ids) {
    for (const std::int32_t id : ids) world_->free_counter(id);
  }
}

void FeedService::free_ended() {
  std::erase_if(counters_, [this](const auto& item) {
    const bool is_same = world_->images.is_used(item.first) && world_->images.slot(item.first).desired.generation == item.second.generation;
    if (!is_same && item.second.are_there) free_counters(item.second);
    return !is_same;
  });
}

// Without session and stream: the error log keeps each text once.
void FeedService::report_silence(Feed& feed, std::size_t side, bool is_silent) {
  Side& state = feed.sides[side];
  if (state.is_silent == is_silent) return;
  state.is_silent = is_silent;
  const std::string_view other = kSideNames[1 - side];
  const std::string text = is_silent ? fmt::format("feed {}: side {} is silent while side {} delivers: channel={}", feed.settings->name, kSideNames[side], other,
                                                   channel_of_side(*feed.settings, side))
                                     : fmt::format("feed {}: side {} is back: channel={}", feed.settings->name, kSideNames[side], channel_of_side(*feed.settings, side));
  world_->report({ClientError::kGeneric, text});
}

}  // namespace thalweg::conductor
