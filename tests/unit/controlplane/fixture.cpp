#include "tests/unit/controlplane/fixture.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "dataplane/base/time.hpp"

namespace thalweg::conductor::testing {

using shm::Desired;
using shm::Observed;
using shm::SlotKind;

TempDirectory::TempDirectory() {
  char name[] = "/dev/shm/thalweg-unit-XXXXXX";
  path_ = ::mkdtemp(name);
}
TempDirectory::~TempDirectory() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
}

// ---- FakeDataPlane ----

void FakeDataPlane::become_active(std::int64_t now_ns) {
  auto& header = (*registry_)->header;
  header.lane_count = 1;
  header.data_plane.pid.store(static_cast<std::uint32_t>(::getpid()));
  header.data_plane.heartbeat_ns.store(now_ns);
  header.data_plane.state.store(Observed::kActive);
}

template <typename Slot>
void FakeDataPlane::reply(Slot& slot, SlotKind kind, std::uint32_t index, bool is_willing) {
  shm::DesiredHead& desired = slot.desired;
  shm::ObservedHead& observed = slot.observed;
  const Desired wanted = desired.state.load(std::memory_order_acquire);
  if (wanted == Desired::kFree || !is_willing) return;
  const Observed answer = wanted == Desired::kActive ? Observed::kActive : Observed::kDone;
  if (observed.generation == desired.generation && (observed.state.load() == answer || observed.state.load() == Observed::kFailed)) {
    if (wanted == Desired::kActive) return;
  }
  observed.generation = desired.generation;
  observed.state.store(answer, std::memory_order_release);
  ring(kind, index);
}

void FakeDataPlane::answer(shm::SlotRef ref) {
  shm::Registry& registry = **registry_;
  switch (ref.kind) {
    case SlotKind::kLog: return reply(registry.logs[ref.index], ref.kind, ref.index, answers_logs);
    case SlotKind::kEndpoint: {
      auto& slot = registry.endpoints[ref.index];
      if (endpoint_error && slot.desired.state.load() == Desired::kActive) {
        slot.observed.error = *endpoint_error;
        slot.observed.generation = slot.desired.generation;
        slot.observed.state.store(Observed::kFailed);
        return ring(ref.kind, ref.index);
      }
      if (slot.observed.generation != slot.desired.generation) {
        slot.observed.bound_address = slot.desired.local_address != 0 ? slot.desired.local_address : 0x7F000001;
        slot.observed.bound_port = slot.desired.local_port != 0 ? slot.desired.local_port : next_port++;
        slot.observed.lane = 0;
      }
      return reply(slot, ref.kind, ref.index, answers_endpoints);
    }
    case SlotKind::kPublication: {
      auto& slot = registry.publications[ref.index];
      if (publication_error && slot.desired.state.load() == Desired::kActive) {
        slot.observed.error = *publication_error;
        slot.observed.generation = slot.desired.generation;
        slot.observed.ObservedHead::state.store(Observed::kFailed);
        return ring(ref.kind, ref.index);
      }
      const bool is_new = slot.observed.generation != slot.desired.generation;
      if (is_new && answers_publications) {
        slot.observed.state = shm::PublicationState{};
        slot.observed.state.lifecycle = shm::Lifecycle::kActive;
      }
      if (slot.desired.state.load() == Desired::kActive) return reply(slot, ref.kind, ref.index, answers_publications);
      if (is_new) return reply(slot, ref.kind, ref.index, answers_publications);  // closed before it was seen
      slot.observed.state.lifecycle = shm::Lifecycle::kDraining;                  // until the test ends it; a failed one is not answered again
      return;
    }
    case SlotKind::kDestination: {
      auto& slot = registry.destinations[ref.index];
      if (destination_error && slot.desired.state.load() == Desired::kActive) {
        slot.observed.error = *destination_error;
        slot.observed.generation = slot.desired.generation;
        slot.observed.state.store(Observed::kFailed);
        return ring(ref.kind, ref.index);
      }
      return reply(slot, ref.kind, ref.index, answers_destinations);
    }
    case SlotKind::kInterest: return reply(registry.interests[ref.index], ref.kind, ref.index, answers_endpoints);
    case SlotKind::kLink: {
      auto& slot = registry.links[ref.index];
      if (slot.desired.state.load() == Desired::kActive && slot.observed.generation != slot.desired.generation && answers_links) {
        slot.observed.join_position = join_position;
        slot.observed.tether_changes = 0;
        counters_.counter(slot.desired.counter_id).set(join_position);
      }
      return reply(slot, ref.kind, ref.index, answers_links);
    }
    case SlotKind::kImage: return reply(registry.images[ref.index], ref.kind, ref.index, answers_images);
    case SlotKind::kSetup: {
      auto& setup = registry.lanes[ref.index / shm::kSetupsPerLane].setups[ref.index % shm::kSetupsPerLane];
      setup.state.store(shm::SetupState::kFree);
      return;
    }
    default: return;
  }
}

// What a control plane died before it rang for it.
void FakeDataPlane::rescan() {
  shm::Registry& registry = **registry_;
  const auto look = [this](const auto& slots, SlotKind kind) {
    for (std::uint32_t index = 0; index < slots.size(); ++index) {
      const shm::DesiredHead& desired = slots[index].desired;
      const shm::ObservedHead& observed = slots[index].observed;
      const Desired wanted = desired.state.load(std::memory_order_acquire);
      const bool is_news = observed.generation != desired.generation || (wanted == Desired::kClosing && observed.state.load() == Observed::kActive);
      if (wanted != Desired::kFree && is_news) answer({kind, index});
    }
  };
  look(registry.logs, SlotKind::kLog);
  look(registry.endpoints, SlotKind::kEndpoint);
  look(registry.destinations, SlotKind::kDestination);
  look(registry.publications, SlotKind::kPublication);
  look(registry.interests, SlotKind::kInterest);
  look(registry.images, SlotKind::kImage);
  look(registry.links, SlotKind::kLink);
  for (std::uint32_t index = 0; index < shm::kSetupsPerLane; ++index) {
    const shm::SetupState state = registry.lanes[0].setups[index].state.load();
    if (state == shm::SetupState::kAccepted || state == shm::SetupState::kRefused) answer({SlotKind::kSetup, index});
  }
}

bool FakeDataPlane::step() {
  bool has_worked = false;
  shm::SlotRef ref;
  if ((*registry_)->header.control_to_steward.take_rescan()) rescan();
  while ((*registry_)->header.control_to_steward.take(ref)) {
    answer(ref);
    has_worked = true;
  }
  return has_worked;
}

void FakeDataPlane::end_publication(std::uint32_t index) {
  (*registry_)->publications[index].observed.state.lifecycle = shm::Lifecycle::kLinger;
  ring(SlotKind::kPublication, index);
}
void FakeDataPlane::finish_publication(std::uint32_t index) {
  auto& slot = (*registry_)->publications[index];
  slot.observed.state.lifecycle = shm::Lifecycle::kDone;
  slot.observed.ObservedHead::state.store(Observed::kDone);
  ring(SlotKind::kPublication, index);
}

std::uint32_t FakeDataPlane::request_image(std::uint32_t endpoint, std::int32_t stream_id, std::int32_t session_id, std::int32_t term_length) {
  const std::uint32_t index = next_setup_++ % shm::kSetupsPerLane;
  auto& setup = (*registry_)->lanes[0].setups[index];
  setup.endpoint = endpoint;
  setup.endpoint_generation = endpoint < shm::kEndpointsMax ? (*registry_)->endpoints[endpoint].desired.generation : 0;
  setup.source_address = 0x7F000001;
  setup.source_port = 55'555;
  setup.session_id = session_id;
  setup.stream_id = stream_id;
  setup.initial_term_id = 7;
  setup.active_term_id = 7;
  setup.term_offset = 0;
  setup.term_length = term_length;
  setup.mtu = 1408;
  setup.state.store(shm::SetupState::kRequested);
  (*registry_)->lanes[0].to_control.ring({SlotKind::kSetup, index});
  return index;
}
void FakeDataPlane::make_unavailable(std::uint32_t image) {
  (*registry_)->images[image].observed.is_unavailable.store(1);
  ring(SlotKind::kImage, image);
}
void FakeDataPlane::finish_image(std::uint32_t image) {
  (*registry_)->images[image].observed.ObservedHead::state.store(Observed::kDone);
  ring(SlotKind::kImage, image);
}
void FakeDataPlane::set_tether(std::uint32_t link, shm::Tether tether) {
  auto& observed = (*registry_)->links[link].observed;
  observed.tether.store(tether);
  ++observed.tether_changes;
  ring(SlotKind::kLink, link);
}
void FakeDataPlane::ring_all() { (*registry_)->header.steward_to_control.rescan.store(1); }

// ---- ConductorTest ----

ConductorTest::ConductorTest() {
  settings.directory = directory.path() + "/instance";
  settings.streams.term_length = 64 << 10;
  settings.streams.ipc_term_length = 64 << 10;
  settings.random_seed = 42;
  log_options.directory = settings.directory;
  instance.directory = settings.directory;
  instance.cnc.counter_values_length = 1 << 20;
}
ConductorTest::~ConductorTest() = default;

void ConductorTest::start(bool is_data_plane_up) {
  auto opened = host::InstanceFiles::open(instance, now.now_ms, now.now_ns);
  ASSERT_TRUE(opened) << opened.error().message;
  files_ = std::make_unique<host::InstanceFiles>(std::move(*opened));
  worker = std::make_unique<host::Worker>();
  data_plane = std::make_unique<FakeDataPlane>(files_->registry, files_->cnc);
  receiver_ = std::make_unique<shm::BroadcastReceiver>(files_->cnc.to_clients());
  std::int32_t ignored_type = 0;
  shm::Bytes ignored;
  while (receiver_->receive(ignored_type, ignored)) {  // a new receiver begins with the latest message, which the old one has seen
  }
  if (is_data_plane_up) data_plane->become_active(now.now_ns);
  auto created = Conductor::create(settings, *files_, log_options, *worker, now, lookups);
  ASSERT_TRUE(created) << created.error().message;
  conductor = std::move(*created);
  run();
}

void ConductorTest::crash_and_restart() {
  collect();
  conductor.reset();
  worker.reset();
  data_plane.reset();
  receiver_.reset();
  files_.reset();
  start(false);
}

void ConductorTest::run() {
  for (int quiet = 0; quiet < 2;) {
    bool has_worked = conductor->poll(now) > 0;
    while (worker->run_one()) has_worked = true;
    has_worked = data_plane->step() || has_worked;
    quiet = has_worked ? 0 : quiet + 1;
  }
  collect();
}

void ConductorTest::advance(std::int64_t duration_ns) {
  now.now_ns += duration_ns;
  now.now_ms += duration_ns / kMillisecond_ns;
  files_->registry->header.data_plane.heartbeat_ns.store(now.now_ns);
  run();
}

void ConductorTest::send_raw(std::int32_t type, shm::Bytes bytes) { ASSERT_TRUE(ring().write(type, bytes)); }

std::int64_t ConductorTest::add_publication(const std::string& channel, std::int32_t stream_id, bool is_exclusive, std::int64_t client) {
  const std::int64_t id = next_id();
  shm::AddPublication command;
  command.client_id = client;
  command.correlation_id = id;
  command.stream_id = stream_id;
  command.channel = channel;
  send(is_exclusive ? shm::Command::kAddExclusivePublication : shm::Command::kAddPublication, command);
  run();
  return id;
}

std::int64_t ConductorTest::add_subscription(const std::string& channel, std::int32_t stream_id, std::int64_t client) {
  const std::int64_t id = next_id();
  shm::AddSubscription command;
  command.client_id = client;
  command.correlation_id = id;
  command.stream_id = stream_id;
  command.channel = channel;
  send(shm::Command::kAddSubscription, command);
  run();
  return id;
}

std::int64_t ConductorTest::remove_publication(std::int64_t registration_id, bool revoke, std::int64_t client) {
  const std::int64_t id = next_id();
  shm::RemovePublication command;
  command.client_id = client;
  command.correlation_id = id;
  command.registration_id = registration_id;
  command.revoke = revoke;
  send(shm::Command::kRemovePublication, command);
  run();
  return id;
}

std::int64_t ConductorTest::remove_subscription(std::int64_t registration_id, std::int64_t client) {
  const std::int64_t id = next_id();
  shm::RemoveRegistration command;
  command.client_id = client;
  command.correlation_id = id;
  command.registration_id = registration_id;
  send(shm::Command::kRemoveSubscription, command);
  run();
  return id;
}

std::int64_t ConductorTest::add_counter(std::int32_t type_id, const std::string& label, std::int64_t client) {
  const std::int64_t id = next_id();
  shm::AddCounter command;
  command.client_id = client;
  command.correlation_id = id;
  command.type_id = type_id;
  command.label = label;
  send(shm::Command::kAddCounter, command);
  run();
  return id;
}

void ConductorTest::collect() {
  std::int32_t type = 0;
  shm::Bytes body;
  while (receiver_->receive(type, body)) pending_.push_back({type, shm::Buffer(body.begin(), body.end())});
}

const Received* ConductorTest::pop() {
  if (pending_.empty()) return nullptr;
  taken_.push_back(std::move(pending_.front()));
  pending_.pop_front();
  return &taken_.back();
}

std::string ConductorTest::describe(const Received& received) {
  std::string text = fmt::format("{:x}", received.type);
  if (received.type == static_cast<std::int32_t>(shm::Response::kError)) {
    if (const auto error = shm::decode<shm::OnError>(received.body)) text += fmt::format(" ({}: {})", error->code, error->text);
  }
  return text;
}

shm::OnError ConductorTest::expect_error(std::int64_t correlation_id, shm::ClientError code) {
  const auto error = expect<shm::OnError>(shm::Response::kError);
  EXPECT_EQ(error.offending_correlation_id, correlation_id);
  EXPECT_EQ(error.code, static_cast<std::int32_t>(code)) << error.text;
  return error;
}

void ConductorTest::expect_nothing() {
  const Received* received = pop();
  if (received != nullptr) ADD_FAILURE() << "unexpected response " << describe(*received);
}

void ConductorTest::skip_all() { pending_.clear(); }

std::vector<std::int32_t> ConductorTest::response_types() {
  std::vector<std::int32_t> types;
  for (const Received& received : pending_) types.push_back(received.type);
  pending_.clear();
  return types;
}

std::vector<Received> ConductorTest::take_all() {
  std::vector<Received> all{pending_.begin(), pending_.end()};
  pending_.clear();
  return all;
}

std::string ConductorTest::label(std::int32_t counter_id) {
  const auto view = counters().find(counter_id);
  return view ? std::string{view->label} : std::string{"(none)"};
}

std::vector<std::string> ConductorTest::labels() {
  std::vector<std::string> result;
  counters().for_each([&](const shm::CountersReader::View& view) {
    if (view.id >= shm::kSystemCounterCount) result.emplace_back(view.label);
  });
  return result;
}

std::string ConductorTest::errors() {
  std::string text;
  shm::read_error_log(std::span<const std::byte>{files().cnc.error_log()}, [&text](const shm::ErrorLogEntry& entry) { text += std::string{entry.text} + "\n"; });
  return text;
}

std::uint32_t ConductorTest::only_image() {
  EXPECT_EQ(world().images.used().size(), 1U);
  return world().images.used().empty() ? 0 : world().images.used().front();
}

}  // namespace thalweg::conductor::testing
