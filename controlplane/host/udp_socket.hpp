#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "dataplane/base/result.hpp"

namespace thalweg::host {

// An ordinary kernel UDP socket over IPv4 for the control plane's own conversations. Never blocks. One thread.
class UdpSocket {
 public:
  struct Peer {
    std::uint32_t address{};  // host order
    std::uint16_t port{};
  };
  struct Received {
    std::size_t length{};     // of the datagram; longer than the buffer: it was cut
    Peer from;
  };
  UdpSocket() noexcept = default;
  UdpSocket(UdpSocket&& other) noexcept;
  UdpSocket& operator=(UdpSocket&& other) noexcept;
  ~UdpSocket();

  // Binds `local`; port 0 takes a free one. Errors: kInUse, kPermission, kIo (no interface has the address).
  [[nodiscard]] static Result<UdpSocket> open(const Peer& local);
  [[nodiscard]] const Peer& bound() const noexcept { return bound_; }
  // The next datagram, as much of it as `buffer` holds; nullopt: none is there.
  [[nodiscard]] std::optional<Received> receive(std::span<std::byte> buffer) noexcept;
  // False: the kernel did not take it (no route, no buffer); whoever sends datagrams sends them again some day.
  [[nodiscard]] bool send(const Peer& to, std::span<const std::byte> datagram) noexcept;

 private:
  int fd_{-1};
  Peer bound_;
};

}  // namespace thalweg::host
