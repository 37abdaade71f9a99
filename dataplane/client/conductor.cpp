#include "dataplane/client/detail/conductor.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "dataplane/base/time.hpp"

namespace thalweg::client::detail {
namespace {
constexpr std::int64_t kDriverIsShutDown = -1;                              // consumer heartbeat after a clean close (1.7)
constexpr std::int64_t kConnectPoll_ns = kMillisecond_ns;                   // 1.5
constexpr auto kPendingPoll = std::chrono::microseconds{200};               // own thread, while an answer is out
constexpr std::size_t kAbandonedMax = 1024;                                 // forgotten above that; the driver cleans up with the client
constexpr std::int64_t kKeepalivesPerTimeout = 4;                           // at least: one that comes late is no reason to give us up
constexpr std::size_t kClientNameMax = 100;                                 // 9.1

void sleep_ns(std::int64_t duration_ns) { std::this_thread::sleep_for(std::chrono::nanoseconds{duration_ns}); }

// The driver's mapping once it is alive, or why not. kNotFound, kUnreachable and kPermission may pass with time.
Result<shm::CncFile> open_live(const std::string& directory, std::int64_t now_ms, std::int64_t driver_timeout_ms) {
  auto cnc = shm::CncFile::open(directory, shm::MappedFile::Access::kReadWrite);
  if (!cnc) return cnc;
  if (!shm::ManyToOneRing::is_valid_length(cnc->to_driver().size()) ||
      !shm::BroadcastTransmitter::is_valid_length(cnc->to_clients().size())) {
    return fail(ErrorCode::kVersion, directory + "/cnc.dat has buffers of an impossible length");
  }
  const std::int64_t heartbeat_ms = shm::ManyToOneRing{cnc->to_driver()}.consumer_heartbeat();
  if (heartbeat_ms <= 0 || heartbeat_ms < now_ms - driver_timeout_ms) {
    return fail(ErrorCode::kUnreachable, "the media driver in " + directory + " shows no heartbeat",
                "start one with 'thalweg up', or name the directory of a running one");
  }
  return cnc;
}
bool may_pass(ErrorCode code) {
  return code == ErrorCode::kNotFound || code == ErrorCode::kUnreachable || code == ErrorCode::kPermission || code == ErrorCode::kIo;
}
}  // namespace

Result<std::shared_ptr<Conductor>> Conductor::connect(Context context) {
  if (auto valid = context.validate(); !valid) return tl::unexpected<Error>{std::move(valid.error())};
  if (context.directory.empty()) context.directory = shm::default_directory();
  const auto monotonic = [&] { return context.clock.monotonic_ns ? context.clock.monotonic_ns() : monotonic_ns(); };
  const auto epoch = [&] { return context.clock.epoch_ms ? context.clock.epoch_ms() : epoch_ms(); };
  const std::int64_t deadline_ns = monotonic() + context.connect_timeout.count();
  for (;;) {
    auto cnc = open_live(context.directory, epoch(), context.driver_timeout.count() / kMillisecond_ns);
    if (cnc) {
      auto conductor = std::make_shared<Conductor>(std::move(context), std::move(*cnc));
      if (conductor->context_.mode == ConductorMode::kOwnThread) conductor->thread_ = std::thread{[conductor] { conductor->run(); }};
      return conductor;
    }
    if (!may_pass(cnc.error().code)) return tl::unexpected<Error>{std::move(cnc.error()).with_context("connect")};
    if (monotonic() >= deadline_ns) {
      Error error = std::move(cnc.error()).with_context("connect");
      if (error.code == ErrorCode::kNotFound || error.code == ErrorCode::kIo) error.code = ErrorCode::kUnreachable;
      if (error.hint.empty()) error.hint = "is a media driver running with directory " + context.directory + "?";
      return tl::unexpected<Error>{std::move(error)};
    }
    if (context.mode == ConductorMode::kInvoker && context.idle) {
      context.idle();
    } else {
      sleep_ns(kConnectPoll_ns);
    }
  }
}

Conductor::Conductor(Context context, shm::CncFile cnc)
    : context_{std::move(context)},
      cnc_{std::make_shared<const shm::CncFile>(std::move(cnc))},
      to_driver_{cnc_->to_driver()},
      from_driver_{cnc_->to_clients()},
      counters_{cnc_->counter_metadata(), cnc_->counter_values()},
      client_id_{to_driver_.next_correlation_id()},
      inter_service_timeout_ns_{cnc_->layout().client_liveness_timeout_ns} {
  if (inter_service_timeout_ns_ > 0) context_.keepalive_interval = std::min(context_.keepalive_interval, std::chrono::nanoseconds{inter_service_timeout_ns_ / kKeepalivesPerTimeout});
  if (context_.client_name.size() > kClientNameMax) context_.client_name.resize(kClientNameMax);
  if (context_.on_available_counter) available_counter_.add(0, std::move(context_.on_available_counter));
  if (context_.on_unavailable_counter) unavailable_counter_.add(0, std::move(context_.on_unavailable_counter));
  if (context_.on_close) closing_.add(0, std::move(context_.on_close));
  last_turn_ns_ = monotonic();
  next_keepalive_ns_ = last_turn_ns_ + context_.keepalive_interval.count();
}

std::int64_t Conductor::monotonic() const { return context_.clock.monotonic_ns ? context_.clock.monotonic_ns() : monotonic_ns(); }
std::int64_t Conductor::epoch() const { return context_.clock.epoch_ms ? context_.clock.epoch_ms() : epoch_ms(); }

void Conductor::report(const Error& error) {
  if (context_.on_error) {
    context_.on_error(error);
  } else {
    std::fprintf(stderr, "thalweg client: %s\n", error.message.c_str());
  }
}

// ---- turning ---------------------------------------------------------------------------------------------------------------------------

void Conductor::run() {
  for (;;) {
    const int work = do_work();
    std::unique_lock lock{mutex_};
    if (stop_) return;
    if (work == 0) {
      const auto pause = pending_count_ > 0 ? std::chrono::nanoseconds{kPendingPoll} : context_.idle_sleep;
      wanted_.wait_for(lock, pause, [this] { return stop_ || is_kicked_; });
    }
    is_kicked_ = false;
  }
}

void Conductor::wake() {
  is_kicked_ = true;
  wanted_.notify_one();
}

int Conductor::do_work() {
  if (is_turning_.exchange(true, std::memory_order_acquire)) return 0;  // another thread's turn, or a handler called us
  turner_.store(std::this_thread::get_id(), std::memory_order_relaxed);
  const int work = turn();
  turner_.store(std::thread::id{}, std::memory_order_relaxed);
  is_turning_.store(false, std::memory_order_release);  // pairs with the exchange above
  return work;
}

int Conductor::turn() {
  if (is_closed()) return 0;
  const std::int64_t now_ns = monotonic();
  if (now_ns - last_turn_ns_ > inter_service_timeout_ns_) {
    force_close(CloseReason::kServiceTimeout,
                {client_error::kServiceTimeout, "the client's conductor was not run for " + std::to_string((now_ns - last_turn_ns_) / kMillisecond_ns) +
                                          " ms; the driver has given this client up",
                 "call do_work() more often, or let the library run its own thread"});
    return 1;
  }
  last_turn_ns_ = now_ns;
  int work = receive();
  if (now_ns >= next_keepalive_ns_) {
    next_keepalive_ns_ = now_ns + context_.keepalive_interval.count();
    check_liveness();
    report_malformed_images();
    ++work;
  }
  return work + housekeep(now_ns);
}

int Conductor::housekeep(std::int64_t now_ns) {
  std::vector<Error> errors;
  int work = 0;
  {
    const std::lock_guard lock{mutex_};
    while (!unsent_.empty() && to_driver_.write(static_cast<std::int32_t>(unsent_.front().type), unsent_.front().message)) {
      unsent_.pop_front();
      ++work;
    }
    if (pending_count_ > 0) expire_registrations(now_ns);
    if (has_unattended_) {
      has_unattended_ = false;
      std::erase_if(registrations_, [](const auto& entry) { return entry.second.is_unattended && entry.second.state != Registration::State::kPending; });
      errors.swap(unattended_errors_);
    }
    reclaim(now_ns);
  }
  for (const Error& error : errors) report(error);
  return work;
}

void Conductor::expire_registrations(std::int64_t now_ns) {
  for (auto& [id, registration] : registrations_) {
    if (registration.state != Registration::State::kPending || now_ns < registration.deadline_ns) continue;
    if (abandoned_.size() < kAbandonedMax) abandoned_.insert(id);
    settle(registration, fail(ErrorCode::kTimeout, "the media driver did not answer in time"));
  }
}

// Frees image lists that the polling thread has let go of, and mappings whose linger is over.
void Conductor::reclaim(std::int64_t now_ns) {
  for (auto& [id, subscription] : subscriptions_) {
    if (subscription->retired.empty()) continue;
    const std::int64_t announced = subscription->announced.load(std::memory_order_acquire);  // pairs with SubscriptionCore::acquire
    std::erase_if(subscription->retired, [&](const auto& list) { return list->version < announced; });
  }
  std::erase_if(lingering_, [&](const Lingering& l) { return now_ns >= l.deadline_ns; });
}

void Conductor::linger(std::shared_ptr<const MappedLog> mapping) {
  lingering_.push_back({monotonic() + context_.resource_linger.count(), std::move(mapping)});
}

void Conductor::report_malformed_images() {
  std::vector<Error> errors;
  {
    const std::lock_guard lock{mutex_};
    for (auto& [id, subscription] : subscriptions_) {
      for (const auto& image : subscription->owned->images) {
        if (!image->is_malformed() || image->is_malformed_reported_) continue;
        image->is_malformed_reported_ = true;
        errors.push_back({ErrorCode::kIo, "image " + std::to_string(image->correlation_id()) + " of " + subscription->channel +
                                              " holds a frame of impossible length at position " + std::to_string(image->position()) +
                                              "; it is not read any further", {}});
      }
    }
    std::erase_if(logs_, [](const auto& entry) { return entry.second.expired(); });
  }
  for (const Error& error : errors) report(error);
}

// ---- liveness (1.6) --------------------------------------------------------------------------------------------------------------------

void Conductor::check_liveness() {
  const std::int64_t now_ms = epoch();
  const std::int64_t heartbeat_ms = to_driver_.consumer_heartbeat();
  if (heartbeat_ms == kDriverIsShutDown) {
    force_close(CloseReason::kDriverShutDown, {ErrorCode::kUnreachable, "the media driver has been shut down", {}});
  } else if (now_ms - heartbeat_ms > context_.driver_timeout.count() / kMillisecond_ns) {
    force_close(CloseReason::kDriverTimeout,
                {ErrorCode::kUnreachable, "the media driver shows no heartbeat since " + std::to_string(now_ms - heartbeat_ms) + " ms", {}});
  } else if (!keep_heartbeat(now_ms)) {
    force_close(CloseReason::kClientTimeout, {client_error::kClientTimeout, "the driver took this client's heartbeat counter away", {}});
  }
}

// False: the counter we had is no longer ours.
bool Conductor::keep_heartbeat(std::int64_t now_ms) {
  const auto is_ours = [this](const shm::CountersReader::View& view) {
    return view.type_id == shm::counter_type::kClientHeartbeat && load_le<std::int64_t>(view.key.data()) == client_id_;
  };
  if (heartbeat_id_ == shm::kNullCounterId) {
    counters_.for_each([&](const shm::CountersReader::View& view) {
      if (heartbeat_id_ == shm::kNullCounterId && is_ours(view)) heartbeat_id_ = view.id;
    });
    if (heartbeat_id_ == shm::kNullCounterId) return true;  // the driver learns of us by our first ADD
    announce_name(heartbeat_id_);
  } else {
    const auto view = counters_.find(heartbeat_id_);
    if (!view || !is_ours(*view)) return false;
  }
  counters_.counter(heartbeat_id_).set(now_ms);
  return true;
}

// Appends who we are to the label of our heartbeat counter; clients of the field do that themselves.
void Conductor::announce_name(std::int32_t counter_id) noexcept {
  constexpr std::size_t kLabelLengthOffset = 128;
  constexpr std::size_t kLabelOffset = 132;
  std::byte* record = cnc_->counter_metadata().data() + static_cast<std::size_t>(counter_id) * shm::kCounterMetadataLength;
  std::atomic_ref<std::int32_t> length{*reinterpret_cast<std::int32_t*>(record + kLabelLengthOffset)};
  const auto used = static_cast<std::size_t>(std::clamp<std::int32_t>(length.load(std::memory_order_acquire), 0, shm::kCounterLabelMax));
  const std::string text = " name=" + context_.client_name + " version=" THALWEG_VERSION " commit=libthalweg";
  const std::size_t added = std::min(text.size(), shm::kCounterLabelMax - used);
  std::memcpy(record + kLabelOffset + used, text.data(), added);
  length.store(static_cast<std::int32_t>(used + added), std::memory_order_release);  // readers load the length first (5.5)
}

// ---- closing ---------------------------------------------------------------------------------------------------------------------------

void Conductor::close_resources(Closed& closed) {
  for (auto& [id, registration] : registrations_) {
    if (registration.state == Registration::State::kPending) settle(registration, fail(ErrorCode::kClosed, "the client is closed"));
    registration.publication.reset();  // handles not picked up would keep us alive in a circle
    registration.subscription.reset();
    registration.counter.reset();
  }
  for (auto& [id, weak] : publications_) {
    if (const auto core = weak.lock()) core->is_closed.store(true, std::memory_order_release);
  }
  for (auto& [id, core] : subscriptions_) {
    core->is_closed.store(true, std::memory_order_release);
    for (const auto& image : core->owned->images) {
      image->close();
      closed.images.push_back(image);
    }
  }
  for (auto& [id, weak] : counter_handles_) {
    const auto core = weak.lock();
    if (core == nullptr) continue;
    core->is_closed.store(true, std::memory_order_release);
    if (!core->is_static) closed.counters.emplace_back(core->registration_id, core->counter_id);
  }
  closed.subscriptions.swap(subscriptions_);
  publications_.clear();
  counter_handles_.clear();
  receive_destinations_.clear();
  unattended_errors_.clear();
  unsent_.clear();
  lingering_.clear();
  answered_.notify_all();
}

void Conductor::force_close(CloseReason reason, Error error) {
  Closed closed;
  {
    const std::lock_guard lock{mutex_};
    if (is_closed()) return;
    close_reason_.store(reason, std::memory_order_release);  // before the flag: who sees that sees why
    is_closed_.store(true, std::memory_order_release);
    close_resources(closed);
  }
  report(error);
  for (const auto& image : closed.images) {
    const auto it = closed.subscriptions.find(image->subscription_registration_id());
    if (it != closed.subscriptions.end() && it->second->on_unavailable_image) it->second->on_unavailable_image(image);
  }
  for (const auto& counter : closed.counters) unavailable_counter_.call(counter.first, counter.second);
  closing_.call();
}

void Conductor::close() {
  Closed closed;  // freed without the lock
  {
    const std::lock_guard lock{mutex_};
    stop_ = true;
    wake();
    if (is_closed()) return;
    close_reason_.store(CloseReason::kApplication, std::memory_order_release);
    is_closed_.store(true, std::memory_order_release);
    // Cannot be queued any more; if the ring is full the driver notices our silence instead.
    send_close();
    close_resources(closed);
  }
  for (const auto& counter : closed.counters) unavailable_counter_.call(counter.first, counter.second);
  closing_.call();
}

HandlerId Conductor::add_available_counter_handler(CounterHandler handler) {
  if (is_closed()) return HandlerId{};
  const std::int64_t id = next_handler_id_.fetch_add(1, std::memory_order_relaxed);
  available_counter_.add(id, std::move(handler));
  return static_cast<HandlerId>(id);
}
HandlerId Conductor::add_unavailable_counter_handler(CounterHandler handler) {
  if (is_closed()) return HandlerId{};
  const std::int64_t id = next_handler_id_.fetch_add(1, std::memory_order_relaxed);
  unavailable_counter_.add(id, std::move(handler));
  return static_cast<HandlerId>(id);
}
HandlerId Conductor::add_close_handler(CloseHandler handler) {
  if (is_closed()) return HandlerId{};
  const std::int64_t id = next_handler_id_.fetch_add(1, std::memory_order_relaxed);
  closing_.add(id, std::move(handler));
  return static_cast<HandlerId>(id);
}
bool Conductor::remove_handler(HandlerId handler) {
  const auto id = static_cast<std::int64_t>(handler);
  return available_counter_.remove(id) || unavailable_counter_.remove(id) || closing_.remove(id);
}

void Conductor::stop_thread() {
  if (!thread_.joinable()) return;
  if (thread_.get_id() == std::this_thread::get_id()) {
    thread_.detach();  // a handler destroyed the client; the thread holds us until it leaves
  } else {
    thread_.join();
  }
}

}  // namespace thalweg::client::detail
