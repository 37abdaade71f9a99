#pragma once
#include <optional>
#include <string>
#include <vector>

#include "controlplane/cli/cli.hpp"
#include "dataplane/shm/cnc.hpp"
#include "dataplane/shm/counters.hpp"
#include "dataplane/shm/registry.hpp"

// A running (or dead) instance, mapped read-only. Its figures change while they are read: each is right by itself, and two of them may be
// of different moments.
namespace thalweg::cli {

class Instance {
 public:
  // Maps cnc.dat. kUnreachable when there is none or it is not ready; a dead instance opens, with a note on standard error, because its
  // last figures are what an operator looks for.
  [[nodiscard]] static Result<Instance> open(Context& context);
  // Maps registry.dat as well. kPermission for users other than the instance's own (the file is mode 0600).
  [[nodiscard]] static Result<Instance> open_with_registry(Context& context);

  [[nodiscard]] const std::string& directory() const noexcept { return directory_; }
  [[nodiscard]] const shm::CncFile& cnc() const noexcept { return cnc_; }
  [[nodiscard]] shm::CountersReader counters() const noexcept { return {cnc_.counter_metadata(), cnc_.counter_values()}; }
  [[nodiscard]] bool is_active() const noexcept { return is_active_; }
  // Precondition: open_with_registry(), or has_registry().
  [[nodiscard]] const shm::Registry& registry() const noexcept { return **registry_; }
  [[nodiscard]] bool has_registry() const noexcept { return registry_.has_value(); }
  [[nodiscard]] std::string text(std::uint32_t slot) const { return std::string{registry_->text(slot)}; }
  // The value of a counter by id; nullopt when it is not allocated.
  [[nodiscard]] std::optional<std::int64_t> counter(std::int32_t id) const noexcept;

 private:
  std::string directory_;
  shm::CncFile cnc_;
  std::optional<shm::RegistryFile> registry_;
  bool is_active_{};
};

// One publication or image, as `stream list` and `top` show it.
struct StreamView {
  std::string_view kind;       // "publication", "ipc", "image"
  std::uint32_t slot{};        // in its table, with `generation` the stream's identity
  std::uint32_t generation{};
  std::int64_t id{};           // registration or correlation id
  std::int32_t session_id{};
  std::int32_t stream_id{};
  std::string channel;
  std::string source;          // images: whose stream it is, address:port
  std::string_view state;      // "waiting", "active", "draining", "linger", "done", "failed"
  bool is_connected{};
  std::int64_t position{};     // produced (publications) or received without a gap (images)
  std::int64_t limit{};        // how far the producer may go
  std::int64_t backlog_bytes{};  // produced and not sent, or received and not consumed
  std::int64_t window_left_bytes{};
  std::uint32_t consumers{};   // receivers, or subscribers on this machine
  struct Consumer {            // on this machine: a subscriber of an image or an IPC publication, a spy, a relay
    std::int32_t counter_id{-1};  // of its position; -1: a relay
    std::int64_t client_id{};     // or the relay's registration id
    std::int64_t position{};
    std::string name;
  };
  std::optional<Consumer> slowest;  // of them
  std::string held_by;         // who keeps it from going faster; "" = nobody
  struct Side {
    std::string channel;       // of the destination
    std::int64_t silent_ns{};  // behind the side that was heard last
    std::int64_t frames_won{}, bytes_won{}, fills{}, copies{}, late_ns_mean{}, late_ns_max{};
  };
  std::vector<Side> sides;     // images of multi-destination subscriptions: what each destination brought
};
[[nodiscard]] std::vector<StreamView> streams_of(const Instance& instance);

// Something is to be sent, and the receivers' window has no room for a whole datagram of it.
[[nodiscard]] bool is_window_shut(const shm::PublicationSlot& slot, std::int64_t backlog_bytes) noexcept;
// The receiver whose limit is the sender's: the one that lets it go farthest with max flow control, else the one that lets it go least far, of
// those that count. nullptr: none is live.
[[nodiscard]] const shm::ReceiverState* limiting_receiver(const shm::PublicationSlot& slot) noexcept;

// Name of a port's type as the configuration spells it.
[[nodiscard]] std::string_view name_of(shm::PortKind kind) noexcept;
// Text of a fixed-size field that another process wrote; ends at its NUL or its end.
template <std::size_t N>
[[nodiscard]] std::string text_of(const char (&field)[N]) {
  return {field, ::strnlen(field, N)};
}
// Sum of one lane counter over all lanes.
[[nodiscard]] std::uint64_t lane_total(const shm::Registry& registry, std::size_t counter) noexcept;
[[nodiscard]] std::uint64_t lane_value(const shm::LaneSlot& lane, std::size_t counter) noexcept;
// Counts written by the data plane, clamped to the tables.
[[nodiscard]] std::uint32_t lane_count(const shm::Registry& registry) noexcept;
[[nodiscard]] std::uint32_t port_count(const shm::Registry& registry) noexcept;

}  // namespace thalweg::cli
