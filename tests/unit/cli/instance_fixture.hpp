#pragma once
#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "controlplane/cli/cli.hpp"
#include "dataplane/base/time.hpp"
#include "dataplane/shm/cnc.hpp"
#include "dataplane/shm/counters.hpp"
#include "dataplane/shm/error_log.hpp"
#include "dataplane/shm/loss_report.hpp"
#include "dataplane/shm/registry.hpp"
#include "dataplane/shm/ring_buffer.hpp"
#include "tests/support/temporary_directory.hpp"

namespace thalweg::cli::test {

struct Outcome {
  int exit{};
  std::string out;
  std::string err;
  [[nodiscard]] nlohmann::json json() const { return nlohmann::json::parse(out); }
};

// Runs the command as a script would: standard output is no terminal.
inline Outcome thalweg(const std::vector<std::string>& arguments) {
  std::ostringstream out;
  std::ostringstream err;
  Context context{Output{out, err, {}}, {}, Exit::kOk};
  const int exit = run(context, arguments);
  return {exit, out.str(), err.str()};
}

// An instance directory made with the writers of the two processes; tests fill its slots as these would.
class InstanceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto registry = shm::RegistryFile::create(directory_.path());
    ASSERT_TRUE(registry) << registry.error().message;
    registry_ = std::move(*registry);
    shm::CncLayout layout;
    layout.counter_values_length = 64 << 10;
    layout.error_log_length = 64 << 10;
    auto cnc = shm::CncFile::create(directory_.path(), layout, 4711, epoch_ms());
    ASSERT_TRUE(cnc) << cnc.error().message;
    cnc_ = std::move(*cnc);
    counters_ = shm::CountersManager{cnc_.counter_metadata(), cnc_.counter_values(), 1000};
    beat(0);
    cnc_.mark_ready();
    registry_->header.control_plane.pid.store(4711);
    registry_->header.control_plane.state.store(shm::Observed::kActive);
    registry_->header.data_plane.pid.store(4712);
    registry_->header.data_plane.state.store(shm::Observed::kActive);
    registry_->header.lane_count = 2;
    registry_->lanes[1].cpu = 3;
    add_port("a", shm::PortKind::kPatch, 0x0A000001, 24);
    add_port("loopback", shm::PortKind::kLoopback, 0x7F000001, 8);
    add_port("kernel", shm::PortKind::kKernel, 0, 0);
  }

  // The control plane's sign of life, `age_ms` ago.
  void beat(std::int64_t age_ms) { shm::ManyToOneRing{cnc_.to_driver()}.consumer_heartbeat(epoch_ms() - age_ms); }

  void add_port(const char* name, shm::PortKind kind, std::uint32_t address, std::uint32_t prefix_length) {
    shm::PortSlot& port = registry_->ports[registry_->header.port_count++];
    std::strncpy(port.name, name, sizeof port.name - 1);
    port.kind = kind;
    port.address = address;
    port.prefix_length = prefix_length;
    port.is_link_up.store(1);
    port.state.store(shm::Observed::kActive);
  }

  std::int32_t add_counter(std::int32_t type, std::int64_t value, const std::string& label) {
    const auto id = counters_.allocate({.type_id = type, .label = label, .initial_value = value}, epoch_ms());
    EXPECT_TRUE(id);
    return id.value_or(-1);
  }

  template <typename Slot>
  static void activate(Slot& slot) {
    slot.desired.generation = 1;
    slot.desired.state.store(shm::Desired::kActive);
    shm::ObservedHead& head = slot.observed;
    head.generation = 1;
    head.state.store(shm::Observed::kActive);
  }

  // A connected network publication whose sender reached its limit while the application is 4096 bytes ahead.
  shm::PublicationSlot& add_stalled_publication() {
    shm::PublicationSlot& slot = registry_->publications[5];
    slot.desired.registration_id = 77;
    slot.desired.session_id = -9;
    slot.desired.stream_id = 1001;
    slot.desired.text = registry_.put_text("aeron:udp?endpoint=10.0.0.2:40123").value_or(shm::kNoSlot);
    slot.desired.pub_pos_id = add_counter(shm::counter_type::kPublisherPosition, 12288, "pub-pos");
    shm::PublicationState& state = slot.observed.state;
    state.lifecycle = shm::Lifecycle::kActive;
    state.is_connected = 1;
    state.sender_position = 8192;
    state.sender_limit = 8192;
    state.publisher_limit = 65536;
    state.receiver_count = 1;
    state.receivers[0] = {.receiver_id = 1, .last_limit = 8192, .address = 0x0A000002, .port = 40123, .is_live = 1};
    activate(slot);
    return slot;
  }

  [[nodiscard]] Outcome here(std::vector<std::string> arguments) const {
    arguments.insert(arguments.end(), {"--directory", directory_.path()});
    return thalweg(arguments);
  }

  thalweg::test::TemporaryDirectory directory_{"cli"};
  shm::RegistryFile registry_;
  shm::CncFile cnc_;
  shm::CountersManager counters_;
};

}  // namespace thalweg::cli::test
