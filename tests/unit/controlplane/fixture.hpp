#pragma once
#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "controlplane/conductor/conductor.hpp"
#include "dataplane/shm/broadcast.hpp"
#include "dataplane/shm/commands.hpp"

// A conductor with hand-made neighbours, all in one thread and with injected time: a client that writes the ring and reads the broadcast
// buffer, and a data plane that answers the registry as docs/develop/registry.md says.
namespace thalweg::conductor::testing {

// A directory of its own, removed at the end.
class TempDirectory {
 public:
  TempDirectory();
  ~TempDirectory();
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 private:
  std::string path_;
};

// Plays steward and lane 0: answers every slot it is rung for.
class FakeDataPlane {
 public:
  FakeDataPlane(shm::RegistryFile& registry, shm::CncFile& cnc) : registry_{&registry}, counters_{cnc.counter_metadata(), cnc.counter_values()} {}
  void become_active(std::int64_t now_ns);
  // Handles the bells that are there; true: some were.
  bool step();

  bool answers_endpoints{true}, answers_publications{true}, answers_links{true}, answers_images{true}, answers_logs{true}, answers_destinations{true};
  std::optional<shm::SlotError> endpoint_error, publication_error, destination_error;
  std::uint16_t next_port{40'000};
  std::int64_t join_position{0};

  // What lanes do on their own.
  void end_publication(std::uint32_t index);   // leaves DRAINING
  void finish_publication(std::uint32_t index);  // answers kDone
  std::uint32_t request_image(std::uint32_t endpoint, std::int32_t stream_id, std::int32_t session_id, std::int32_t term_length = 64 << 10);
  void make_unavailable(std::uint32_t image);
  void finish_image(std::uint32_t image);
  void set_tether(std::uint32_t link, shm::Tether tether);
  void ring_all();  // as if it had restarted: the control plane rescans

 private:
  void answer(shm::SlotRef ref);
  void rescan();
  template <typename Slot>
  void reply(Slot& slot, shm::SlotKind kind, std::uint32_t index, bool is_willing);
  void ring(shm::SlotKind kind, std::uint32_t index) { (*registry_)->header.steward_to_control.ring({kind, index}); }

  shm::RegistryFile* registry_;
  shm::CountersReader counters_;
  std::uint32_t next_setup_{0};
};

struct Received {
  std::int32_t type{};
  shm::Buffer body;
};

class ConductorTest : public ::testing::Test {
 protected:
  ConductorTest();
  ~ConductorTest() override;

  // Called before start(): tests change these.
  Settings settings;
  host::LogStore::Options log_options;
  host::InstanceOptions instance;
  host::Worker* lookups{};  // none: run() also answers what is asked of the system's resolver

  // Creates the files and the conductor; the data plane is up unless told otherwise.
  void start(bool is_data_plane_up = true);
  // Drops the conductor and its memory without a clean end, then starts another one on the same directory.
  void crash_and_restart();
  // As at the end of the process: the lock goes with the files.
  void release_files() { receiver_.reset(), data_plane.reset(), files_.reset(); }
  // Everybody takes turns until nothing happens any more.
  void run();
  void advance(std::int64_t duration_ns);  // moves both clocks, then run()
  void tick() { advance(settings.timer_interval_ns + 1); }

  template <typename Message>
  void send(shm::Command type, const Message& message) {
    shm::Buffer buffer;
    shm::encode(buffer, message);
    send_raw(static_cast<std::int32_t>(type), buffer);
  }
  void send_raw(std::int32_t type, shm::Bytes bytes);

  // Commands with a fresh correlation id, which is returned; the conductor runs before that.
  std::int64_t add_publication(const std::string& channel, std::int32_t stream_id = 10, bool is_exclusive = false, std::int64_t client = kClient);
  std::int64_t add_subscription(const std::string& channel, std::int32_t stream_id = 10, std::int64_t client = kClient);
  std::int64_t remove_publication(std::int64_t registration_id, bool revoke = false, std::int64_t client = kClient);
  std::int64_t remove_subscription(std::int64_t registration_id, std::int64_t client = kClient);
  std::int64_t add_counter(std::int32_t type_id, const std::string& label, std::int64_t client = kClient);
  std::int64_t next_id() { return ring().next_correlation_id(); }

  // Next broadcast message; its type must be `type`. Strings stay valid until the fixture goes.
  template <typename Message>
  Message expect(shm::Response type) {
    const Received* received = pop();
    if (received == nullptr || received->type != static_cast<std::int32_t>(type)) {
      ADD_FAILURE() << "expected response " << std::hex << static_cast<std::int32_t>(type) << ", got " << (received ? describe(*received) : "nothing");
      return {};
    }
    const auto message = shm::decode<Message>(received->body);
    if (!message) ADD_FAILURE() << "response does not decode";
    return message.value_or(Message{});
  }
  shm::OnError expect_error(std::int64_t correlation_id, shm::ClientError code);
  void expect_nothing();
  void skip_all();  // forgets what was broadcast so far
  [[nodiscard]] std::vector<std::int32_t> response_types();  // takes everything
  [[nodiscard]] std::vector<Received> take_all();

  [[nodiscard]] shm::ManyToOneRing ring() { return shm::ManyToOneRing{files().cnc.to_driver()}; }
  [[nodiscard]] shm::CountersReader counters() { return {files().cnc.counter_metadata(), files().cnc.counter_values()}; }
  [[nodiscard]] std::string label(std::int32_t counter_id);
  [[nodiscard]] std::int64_t system(shm::SystemCounter id) { return counters().counter(static_cast<std::int32_t>(id)).get(); }
  // Labels of all allocated dynamic counters, in the order of their ids.
  [[nodiscard]] std::vector<std::string> labels();
  [[nodiscard]] std::string errors();  // texts of the distinct error log
  [[nodiscard]] host::InstanceFiles& files() { return *files_; }
  [[nodiscard]] shm::Registry& registry() { return *files_->registry; }
  [[nodiscard]] std::uint32_t only_image();
  [[nodiscard]] World& world() { return conductor->world(); }

  static constexpr std::int64_t kClient = 1000;
  static constexpr std::int64_t kOther = 2000;
  Time now{.now_ns = 1'000'000'000'000, .now_ms = 1'700'000'000'000};
  TempDirectory directory;
  std::unique_ptr<host::Worker> worker;
  std::unique_ptr<Conductor> conductor;
  std::unique_ptr<FakeDataPlane> data_plane;

 private:
  const Received* pop();
  void collect();
  static std::string describe(const Received& received);
  std::unique_ptr<host::InstanceFiles> files_;
  std::unique_ptr<shm::BroadcastReceiver> receiver_;
  std::deque<Received> pending_;
  std::deque<Received> taken_;
};

}  // namespace thalweg::conductor::testing
