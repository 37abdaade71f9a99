#pragma once
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/shm/cnc.hpp"
#include "dataplane/shm/counters.hpp"
#include "dataplane/shm/log_buffer.hpp"
#include "dataplane/shm/registry.hpp"
#include "dataplane/wire/frames.hpp"
#include "dataplane/wire/ip.hpp"

// The control plane's side of the registry for component tests: fills slots as docs/develop/registry.md says and answers SETUPs. It
// allocates slots upwards and never reuses one, and maps each log itself to play the application.
namespace thalweg::test {

// Application side of a publication: one producer, appends committed frames.
class Publisher {
 public:
  Publisher() = default;
  Publisher(shm::LogBuffer log, shm::Counter limit, std::int32_t session_id, std::int32_t stream_id, std::int32_t initial_term_id,
            std::int32_t mtu, std::int64_t position = 0)
      : log_{log}, limit_{limit}, session_id_{session_id}, stream_id_{stream_id}, initial_term_id_{initial_term_id}, mtu_{mtu}, position_{position} {}
  // False: back-pressure (publisher limit). Fragments what is longer than one frame; pads and rotates at the end of a term.
  bool offer(std::span<const std::byte> message);
  [[nodiscard]] std::int64_t position() const noexcept { return position_; }
  [[nodiscard]] shm::LogBuffer log() const noexcept { return log_; }

 private:
  void append(std::int32_t offset, std::span<const std::byte> payload, std::uint8_t flags, wire::FrameType type, std::int32_t length);
  shm::LogBuffer log_;
  shm::Counter limit_;
  std::int32_t session_id_{}, stream_id_{}, initial_term_id_{}, mtu_{};
  std::int64_t position_{};
};

// Application side of an image: reads frames at its position, puts fragments together.
class Subscriber {
 public:
  Subscriber() = default;
  Subscriber(shm::LogBuffer log, shm::Counter position) : log_{log}, position_{position} {}
  // Reads what is there; returns messages completed. `limit_bytes`: stop consuming after about this many.
  int poll(std::int64_t limit_bytes = 1 << 30);
  [[nodiscard]] const std::vector<std::string>& messages() const noexcept { return messages_; }
  [[nodiscard]] std::int64_t position() const noexcept { return position_.get(); }
  [[nodiscard]] bool is_end_of_stream() const noexcept {
    return position_.get() >= log_.load<std::int64_t>(shm::meta::kEndOfStreamPosition);
  }
  void discard() { messages_.clear(); }
  [[nodiscard]] shm::LogBuffer log() const noexcept { return log_; }
  // Bytes seen without keeping messages: benchmarks.
  std::uint64_t keep_nothing{};

 private:
  shm::LogBuffer log_;
  shm::Counter position_;
  std::string partial_;
  std::vector<std::string> messages_;
};

class FakeControl {
 public:
  // Creates the instance directory with registry and cnc.
  explicit FakeControl(const std::string& name, std::int32_t counters = 8'192);
  ~FakeControl();
  FakeControl(const FakeControl&) = delete;
  FakeControl& operator=(const FakeControl&) = delete;

  struct PublicationOptions {
    wire::UdpEndpoint remote;
    std::int32_t stream_id{1001};
    std::int32_t session_id{0x5E55};
    std::int32_t initial_term_id{100};
    std::int32_t term_length{64 << 10};
    std::int32_t mtu{1408};
    bool is_ipc{};
    std::uint32_t endpoint{shm::kNoSlot};   // share one
    shm::EndpointMode mode{};               // dynamic and manual: many destinations, heard at `local`
    wire::UdpEndpoint local{};
    std::int64_t linger_ns{5'000'000'000};
    std::int64_t start_position{};
    std::int64_t retransmit_linger_ns{10'000'000};
    bool is_retransmit_linger_auto{};
    bool signals_eos{true};
    std::uint32_t lane{};                   // IPC
  };
  struct SubscriptionOptions {
    wire::UdpEndpoint local;
    std::int32_t stream_id{1001};
    bool is_reliable{true};
    std::int32_t window_length{128 << 10};
    bool naks_all_gaps{};
    std::int64_t nak_delay_ns{1'000};
    std::int64_t nak_retry_ns{100'000};
    std::int64_t liveness_timeout_ns{10'000'000'000};
    std::vector<wire::UdpEndpoint> destinations;   // any: `local` is not bound, these are (wire-protocol 5.6)
    std::uint32_t group_interface{};               // of destinations that are groups
  };
  struct RelayOptions {
    std::uint32_t image{};
    wire::UdpEndpoint remote;
    bool drops{};
    std::int32_t session_id{};              // 0: the image's
    std::int32_t stream_id{};
    std::int64_t linger_ns{5'000'000'000};
  };
  std::uint32_t add_publication(const PublicationOptions& options);      // slot
  std::uint32_t add_relay(const RelayOptions& options);                  // publication slot
  std::uint32_t add_subscription(const SubscriptionOptions& options);    // interest slot; images follow by SETUP
  std::uint32_t add_ipc_subscriber(std::uint32_t publication);           // link slot
  std::uint32_t add_image_subscriber(std::uint32_t image);
  // Of a manual publication; address 0: of a name that is not resolved yet.
  std::uint32_t add_destination(std::uint32_t publication, const wire::UdpEndpoint& remote);
  void move_destination(std::uint32_t slot, std::uint32_t address);
  void remove_destination(std::uint32_t slot);
  void close_publication(std::uint32_t slot);
  void revoke_publication(std::uint32_t slot);
  void close_link(std::uint32_t slot);
  void close_image(std::uint32_t slot);      // and its links: what the conductor does when it is unavailable
  void reject_image(std::uint32_t slot);
  void close_endpoint(std::uint32_t slot);
  void close_interest(std::uint32_t slot);

  // Answers SETUPs with images and links; takes door bells. Call it as the conductor would be woken.
  void step();
  bool refuses_images{};
  bool is_sparse{};  // logs have memory for their first partition only, of whatever length
  bool is_lean{};   // log files have holes, streams only the counters clients need: for tests with thousands

  [[nodiscard]] shm::Registry& registry() noexcept { return *registry_; }
  [[nodiscard]] shm::CncFile& cnc() noexcept { return cnc_; }
  [[nodiscard]] shm::CountersReader counters() const noexcept { return {cnc_.counter_metadata(), cnc_.counter_values()}; }
  [[nodiscard]] const std::string& directory() const noexcept { return directory_; }
  [[nodiscard]] Publisher& publisher(std::uint32_t slot) { return publishers_.at(slot); }
  [[nodiscard]] Subscriber& subscriber(std::uint32_t link) { return subscribers_.at(link); }
  [[nodiscard]] const std::vector<std::uint32_t>& images() const noexcept { return images_; }
  // Links of images made so far, in order.
  [[nodiscard]] const std::vector<std::uint32_t>& image_links() const noexcept { return image_links_; }
  [[nodiscard]] shm::PublicationState& publication_state(std::uint32_t slot) { return registry_->publications[slot].observed.state; }
  [[nodiscard]] shm::ImageState& image_state(std::uint32_t slot) { return registry_->images[slot].observed.state; }
  [[nodiscard]] std::uint64_t lane_counter(shm::LaneCounter counter, std::uint32_t lane = 0) const {
    return registry_->lanes[lane].counters[static_cast<std::size_t>(counter)];
  }
  // Loses all door bells that nobody answered yet.
  void forget_bells();
  void ask_for_rescan();
  [[nodiscard]] Result<std::uint32_t> put_text(std::string_view text) { return registry_.put_text(text); }

 private:
  std::uint32_t add_send_endpoint(const wire::UdpEndpoint& remote, shm::EndpointMode mode = shm::EndpointMode::kPlain, const wire::UdpEndpoint& local = {});
  std::uint32_t add_receive_endpoint(const SubscriptionOptions& options);
  static void set_stock_rules(shm::PublicationSlot::Wanted& desired);
  struct Receive { std::uint32_t endpoint; SubscriptionOptions options; };
  std::uint32_t make_log(std::int32_t term_length, shm::LogUse use, const shm::LogMetadata& metadata, std::int64_t position);
  std::int32_t make_counter();
  void ring(shm::SlotKind kind, std::uint32_t index);
  void create_image(std::uint32_t lane, std::uint32_t setup);
  std::uint32_t add_link(shm::LinkTarget target, std::uint32_t slot, shm::LogBuffer log);

  std::string directory_;
  shm::RegistryFile registry_;
  shm::CncFile cnc_;
  std::unique_ptr<shm::CountersManager> manager_;
  std::deque<shm::MappedFile> maps_;
  std::map<std::uint32_t, shm::LogBuffer> logs_;
  std::map<std::uint32_t, Publisher> publishers_;
  std::map<std::uint32_t, Subscriber> subscribers_;
  std::vector<Receive> receives_;
  std::vector<std::uint32_t> images_, image_links_;
  std::uint32_t next_log_{}, next_endpoint_{}, next_publication_{}, next_image_{}, next_interest_{}, next_link_{}, next_destination_{};
  std::int64_t next_id_{1};
};

}  // namespace thalweg::test
