#include "tests/support/appliance.hpp"

#include <gtest/gtest.h>

#include <filesystem>

namespace thalweg::test {
namespace {

constexpr std::int64_t kEpoch_ms = 1'700'000'000'000;

template <typename T>
T must(Result<T>&& result) {
  if (!result) {
    std::fprintf(stderr, "test set-up: %s\n", result.error().message.c_str());
    std::abort();
  }
  return std::move(*result);
}

}  // namespace

std::int64_t epoch_ms_at(std::int64_t now_ns) { return kEpoch_ms + now_ns / kMillisecond_ns; }

Appliance::Appliance(Options options, core::Dataplane::Cables cables, std::int64_t start_ns)
    : options_{std::move(options)}, cables_{std::move(cables)}, now_ns_{start_ns} {
  options_.settings.directory = directory.path() + "/instance";
  options_.logs.directory = options_.settings.directory;
  start_control_plane();
  start_data_plane();
}

void Appliance::start_control_plane() {
  host::InstanceOptions instance;
  instance.directory = options_.settings.directory;
  instance.cnc.counter_values_length = 1 << 20;
  files = std::make_unique<host::InstanceFiles>(must(host::InstanceFiles::open(instance, epoch_ms_at(now_ns_), now_ns_)));
  worker = std::make_unique<host::Worker>();
  control = must(conductor::Conductor::create(options_.settings, *files, options_.logs, *worker, {now_ns_, epoch_ms_at(now_ns_)}));
}

void Appliance::start_data_plane() {
  core::DataplaneOptions options;
  options.directory = path();
  options.lanes.resize(options_.lanes);
  options.ports = options_.ports;
  options.packet_buffers = options_.packet_buffers;
  options.wrap_port = options_.wrap_port;
  options.sender_ports = options_.sender_ports;
  options.receiver_ports = options_.receiver_ports;
  options.timer_interval_ns = options_.settings.timer_interval_ns;
  plane_registry_ = must(shm::RegistryFile::open(path()));
  plane_cnc_ = must(shm::CncFile::open(path(), shm::MappedFile::Access::kReadWrite, false));
  plane = must(core::Dataplane::create(options, *plane_registry_, {plane_cnc_.counter_metadata(), plane_cnc_.counter_values()}, cables_));
  plane->attach();
  while (plane->steward().has_pending()) plane->step(now_ns_);
  plane_registry_->header.data_plane.heartbeat_ns.store(now_ns_);
  plane_registry_->header.data_plane.state.store(shm::Observed::kActive, std::memory_order_release);
}

void Appliance::kill_control_plane() {
  control.reset();
  worker.reset();
  files.reset();
}

void Appliance::step(std::int64_t now_ns) {
  now_ns_ = now_ns;
  if (control) control->poll({now_ns, epoch_ms_at(now_ns)});
  while (worker && worker->run_one()) {
  }
  if (plane) plane->step(now_ns);
}

std::vector<std::string> Appliance::labels() const {
  std::vector<std::string> result;
  counters().for_each([&](const shm::CountersReader::View& view) {
    if (view.id >= shm::kSystemCounterCount) result.emplace_back(view.label);
  });
  return result;
}

std::vector<std::string> Appliance::log_files() const {
  std::vector<std::string> result;
  for (const char* folder : {"/publications", "/images"}) {
    for (const auto& entry : std::filesystem::directory_iterator{path() + folder}) result.push_back(entry.path().filename().string());
  }
  return result;
}

std::string Appliance::errors() const {
  std::string text;
  shm::read_error_log(std::span<const std::byte>{files->cnc.error_log()}, [&text](const shm::ErrorLogEntry& entry) { text += std::string{entry.text} + "\n"; });
  return text;
}

std::string Appliance::leftovers() {
  conductor::World& world = control->world();
  std::string text;
  const auto count = [&text](const char* what, std::size_t used) {
    if (used != 0) text += std::string{what} + ": " + std::to_string(used) + "\n";
  };
  count("endpoints", world.endpoints.used().size());
  count("publications", world.publications.used().size());
  count("images", world.images.used().size());
  count("interests", world.interests.used().size());
  count("links", world.links.used().size());
  count("clients", world.clients.used().size());
  count("subscriptions", world.subscriptions.used().size());
  count("publication references", world.refs.used().size());
  return text;
}

// ---- TwoAppliances ----

Appliance::Options TwoAppliances::options_of(const Options& options, bool is_a) {
  Appliance::Options o;
  o.lanes = options.lanes;
  o.settings.streams.term_length = 64 << 10;
  o.settings.streams.ipc_term_length = 64 << 10;
  o.settings.random_seed = is_a ? 11 : 12;
  o.logs.pool = options.pool;
  if (!is_a) o.settings.relays = options.relays_b;
  o.settings.names = is_a ? options.names_a : options.names_b;
  pmd::PortOptions cable;
  cable.name = is_a ? "cable-a" : "cable-b";
  cable.peer = is_a ? "cable-b" : "cable-a";
  cable.kind = shm::PortKind::kPatch;
  cable.address = is_a ? 0x0A000001 : 0x0A000002;
  cable.prefix_length = 24;
  cable.impairment = is_a ? options.impair_a : options.impair_b;
  pmd::PortOptions loopback;
  loopback.name = is_a ? "lo-a" : "lo-b";
  loopback.kind = shm::PortKind::kLoopback;
  loopback.address = 0x7F000001;
  loopback.prefix_length = 8;
  o.ports = {cable, loopback};
  return o;
}

TwoAppliances::TwoAppliances(const Options& options)
    : a{options_of(options, true), cables_, now_ns}, b{options_of(options, false), cables_, now_ns} {}

void TwoAppliances::step_appliances(std::int64_t step_ns) {
  a.step(now_ns);
  b.step(now_ns);
  now_ns += step_ns;
}

void TwoAppliances::turn(std::int64_t step_ns) {
  for (const auto& weak : clients_) {
    if (const auto client = weak.lock()) client->do_work();
  }
  step_appliances(step_ns);
}

std::shared_ptr<client::Client> TwoAppliances::connect(Appliance& appliance, client::Context context) {
  context.directory = appliance.path();
  context.mode = client::ConductorMode::kInvoker;
  context.clock = {[this] { return now_ns; }, [this] { return epoch_ms_at(now_ns); }};
  context.idle = [this] { step_appliances(kStep_ns); };
  auto connected = client::Client::connect(std::move(context));
  if (!connected) {
    ADD_FAILURE() << connected.error().message;
    return nullptr;
  }
  auto client = std::make_shared<client::Client>(std::move(*connected));
  clients_.push_back(client);
  return client;
}

void TwoAppliances::stop_turning(const client::Client& client) {
  std::erase_if(clients_, [&client](const auto& weak) { return weak.lock().get() == &client; });
}

TakenUdpPort::TakenUdpPort(std::uint16_t port) : fd_{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)} {
  struct sockaddr_in address {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(::bind(fd_, reinterpret_cast<const struct sockaddr*>(&address), sizeof address), 0);
}
TakenUdpPort::~TakenUdpPort() { ::close(fd_); }

}  // namespace thalweg::test
