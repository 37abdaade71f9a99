#pragma once
#include <string>

#include "dataplane/base/result.hpp"

// What DPDK 22.11's memif driver leaves to others about the sockets of its servers. A socket is a path when it begins with '/', else an
// abstract name. Steward.
namespace thalweg::pmd {

// Errors: kInvalidConfig (empty, or longer than an address holds).
[[nodiscard]] Result<void> check_memif_socket(const std::string& socket);

// Makes sure that a server can listen: removes the file that a killed server left behind. Several ports of this process may share a socket.
// Errors: kInUse (another process listens), kInvalidConfig (a file that is no socket), kPermission, kIo.
[[nodiscard]] Result<void> prepare_memif_server(const std::string& socket);

// Whether a client may connect at once. False: a client waits there already to be accepted, so the server does not run just now (stopped, or
// in a debugger), and one more could have to wait with it. True also when nobody listens, or the kernel does not tell.
[[nodiscard]] bool does_memif_server_accept(const std::string& socket);

// A server's hold on its socket. The driver forgets the listening socket when the last server on it is closed, but leaves it open and
// polled: a client that came then would be served out of freed memory. So the last holder, which must go before its device is closed, puts an
// idle descriptor in its place.
class MemifServerHold {
 public:
  explicit MemifServerHold(std::string socket);  // "": holds nothing
  MemifServerHold(const MemifServerHold&) = delete;
  MemifServerHold& operator=(const MemifServerHold&) = delete;
  ~MemifServerHold();

 private:
  std::string socket_;
};

}  // namespace thalweg::pmd
