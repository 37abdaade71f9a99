#pragma once
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/base/time.hpp"
#include "dataplane/shm/broadcast.hpp"
#include "dataplane/shm/cnc.hpp"
#include "dataplane/shm/commands.hpp"
#include "dataplane/shm/counters.hpp"
#include "dataplane/shm/log_buffer.hpp"
#include "dataplane/shm/mapped_file.hpp"
#include "dataplane/shm/ring_buffer.hpp"

namespace thalweg::test {

// A media driver for tests and benchmarks of clients: real cnc.dat, real log files, IPC only (every channel is treated as IPC, matched by
// its text, or by the session id that a subscription names; of its other parameters only the initial position counts), and a script: it can be mute, refuse, lie and die. Nothing here is used by the product. One thread.
class IpcDriver {
 public:
  struct Options {
    std::string directory;
    std::int32_t term_length{64 << 10};
    std::int32_t mtu{1408};
    std::int32_t initial_term_id{7};
    std::int32_t start_term_count{0};  // streams start at this term, offset 0
    std::int32_t to_clients_length{(1 << 16) + 128};
    std::int32_t counter_count{256};
    std::int64_t client_liveness_timeout_ns{10'000'000'000};
    std::function<std::int64_t()> epoch_ms{thalweg::epoch_ms};
    std::int64_t control_protocol_version{1 << 16};  // 1.0.0
    bool is_ready{true};  // false: cnc.dat exists but its version is 0
  };
  explicit IpcDriver(Options options);

  // Commands, then limits, connection states and cleaning of every publication. Returns commands handled.
  int do_work();
  // Only the part that streams need: limits and cleaning. Cheap enough for a benchmark's loop.
  void update_publications();

  // ---- script ----
  void set_mute(bool is_mute) noexcept { is_mute_ = is_mute; }   // commands are read and forgotten
  void fail_next(std::int32_t code, std::string text) { failures_.push_back({code, std::move(text)}); }
  void hold_answers(bool hold) noexcept { is_holding_ = hold; }  // commands stay in the ring
  void mark_ready() { cnc_.mark_ready(); }
  void beat() { ring_.consumer_heartbeat(options_.epoch_ms()); }
  void set_heartbeat(std::int64_t ms) { ring_.consumer_heartbeat(ms); }
  void set_log_path_for_next(std::string path) { next_log_path_ = std::move(path); }
  void set_limit_counter_for_next(std::int32_t id) { next_limit_counter_ = id; }
  template <typename M>
  void transmit(shm::Response type, const M& message) {
    shm::encode(scratch_, message);
    broadcast_.transmit(static_cast<std::int32_t>(type), scratch_);
  }
  void transmit_raw(std::int32_t type, std::span<const std::byte> body) { broadcast_.transmit(type, body); }
  // Takes the heartbeat counter of a client away, as a driver does that timed it out.
  void forget_client(std::int64_t client_id);
  // Ends an image as seen by one subscription.
  void drop_image(std::int64_t publication_id, std::int64_t subscription_id);

  // ---- what happened ----
  struct Seen {
    shm::Command type;
    std::vector<std::byte> body;
  };
  [[nodiscard]] const std::vector<Seen>& seen() const noexcept { return seen_; }
  [[nodiscard]] int count(shm::Command type) const;

  struct Subscriber {
    std::int64_t subscription_id{};
    std::int32_t position_counter{};
  };
  struct Stream {
    std::int64_t id{};
    std::int32_t session_id{};
    std::int32_t stream_id{};
    std::int32_t initial_term_id{};
    std::string channel;
    bool is_exclusive{};
    bool is_draining{};
    shm::MappedFile file;
    shm::LogBuffer log;
    std::int32_t limit_counter{};
    std::int32_t status_counter{};
    std::vector<std::int64_t> links;  // registration ids
    std::vector<Subscriber> subscribers;
    std::int64_t consumed{};
    std::int64_t cleaned{};
  };
  [[nodiscard]] Stream& stream(std::size_t index) { return *std::next(streams_.begin(), static_cast<std::ptrdiff_t>(index))->second; }
  [[nodiscard]] std::size_t stream_count() const noexcept { return streams_.size(); }
  [[nodiscard]] shm::CountersManager& counters() noexcept { return counters_; }
  [[nodiscard]] shm::ManyToOneRing& ring() noexcept { return ring_; }
  [[nodiscard]] const shm::CncFile& cnc() const noexcept { return cnc_; }
  [[nodiscard]] std::string path() const { return options_.directory; }

 private:
  struct Interest {
    std::int64_t id{};
    std::int32_t stream_id{};
    std::string channel;
  };
  struct Failure {
    std::int32_t code;
    std::string text;
  };
  void handle(shm::Command type, shm::Bytes body);
  void add_publication(const shm::AddPublication& m, bool is_exclusive);
  void remove_publication(const shm::RemovePublication& m);
  void add_subscription(const shm::AddSubscription& m);
  void remove_subscription(const shm::RemoveRegistration& m);
  void add_counter(const shm::AddCounter& m);
  void add_static_counter(const shm::AddStaticCounter& m);
  void remove_counter(const shm::RemoveRegistration& m);
  Stream& create_stream(const shm::AddPublication& m, bool is_exclusive);
  void link(Stream& stream, const Interest& interest);
  bool update(Stream& stream);
  void know_client(std::int64_t client_id);
  bool refuse(std::int64_t correlation_id);
  std::int32_t allocate(std::int32_t type, std::int64_t registration_id, std::int64_t reference_id, std::int64_t value,
                        std::span<const std::byte> key = {}, std::string_view label = "test");

  Options options_;
  shm::CncFile cnc_;
  shm::ManyToOneRing ring_;
  shm::BroadcastTransmitter broadcast_;
  shm::CountersManager counters_;
  shm::Buffer scratch_;
  std::map<std::int64_t, std::unique_ptr<Stream>> streams_;
  std::vector<std::unique_ptr<Stream>> ended_;
  std::map<std::int64_t, Interest> interests_;
  std::map<std::int64_t, std::int32_t> heartbeats_;
  std::map<std::int64_t, std::int32_t> client_counters_;
  std::deque<Failure> failures_;
  std::vector<Seen> seen_;
  std::string next_log_path_;
  std::int32_t next_limit_counter_{shm::kNullCounterId};
  std::int32_t next_session_id_{100};
  bool is_mute_{};
  bool is_holding_{};
};

}  // namespace thalweg::test
