#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/host/udp_socket.hpp"
#include "controlplane/names/gossip.hpp"
#include "dataplane/base/result.hpp"

namespace thalweg::conductor {

class Lookup;
struct World;

// Driver names at work (wire-protocol 6): the gossip with its socket, counters (client-protocol 5.7) and the lookups of bootstrap hosts. It
// does not block and does a bounded piece of work each time. Thread: the conductor.
class NameService {
 public:
  // Binds the socket of world.settings.names, whose `name` must not be empty. Errors: those of UdpSocket::open, kNoSpace (counters).
  [[nodiscard]] static Result<std::unique_ptr<NameService>> create(World& world);
  ~NameService();
  NameService(const NameService&) = delete;
  NameService& operator=(const NameService&) = delete;

  // Once in each duty cycle; acts every 10 ms. Returns how many datagrams moved.
  int poll();
  // Address of the driver called `name`: its IPv4 one, host order, or else the handle of its IPv6 one.
  [[nodiscard]] std::optional<std::uint32_t> find(const std::string& name) const;

  [[nodiscard]] const names::Gossip& gossip() const noexcept { return gossip_; }
  [[nodiscard]] std::uint64_t send_failures() const noexcept { return send_failures_; }

 private:
  struct BootstrapLookup {
    std::size_t index{};
    std::uint16_t port{};
    std::unique_ptr<Lookup> lookup;
  };
  NameService(World& world, host::UdpSocket socket, names::GossipOptions options);
  [[nodiscard]] Result<void> allocate_counters();
  int receive();
  int send();
  void start_lookups();
  void finish_lookups();
  void set_bootstrap(std::size_t index, std::uint32_t address, std::uint16_t port);
  void update_counters();

  World* world_;
  host::UdpSocket socket_;
  names::Gossip gossip_;
  std::vector<BootstrapLookup> lookups_;
  std::int64_t next_step_ns_{};
  std::uint64_t send_failures_{};
  std::uint64_t invalid_counted_{};
  bool is_full_reported_{false};
  std::int32_t neighbors_id_{-1};
  std::int32_t entries_id_{-1};
  std::vector<std::int32_t> bootstrap_ids_;
};

}  // namespace thalweg::conductor
