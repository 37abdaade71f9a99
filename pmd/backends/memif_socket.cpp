#include "pmd/backends/memif_socket.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <cstdlib>
#include <dirent.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <map>
#include <optional>
#include <string_view>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "pmd/backends/socket_table.hpp"
#include "pmd/eal.hpp"

namespace thalweg::pmd {
namespace {

constexpr std::uint32_t kListening = 10;  // TCP_LISTEN, which the kernel uses for sockets of every family
constexpr std::size_t kSocketMax = sizeof(sockaddr_un::sun_path) - 2;

bool is_path(const std::string& socket) noexcept { return socket.front() == '/'; }

// The driver's way of writing a socket's address. Precondition: check_memif_socket().
class Address {
 public:
  explicit Address(const std::string& socket) noexcept {
    address_.sun_family = AF_UNIX;
    const std::size_t length = std::min(socket.size(), kSocketMax);
    // An abstract name follows a zero byte and ends where the address ends.
    std::memcpy(address_.sun_path + (is_path(socket) ? 0 : 1), socket.data(), length);
    length_ = static_cast<socklen_t>(is_path(socket) ? sizeof address_ : offsetof(sockaddr_un, sun_path) + 1 + length);
  }
  [[nodiscard]] const sockaddr* get() const noexcept { return reinterpret_cast<const sockaddr*>(&address_); }
  [[nodiscard]] socklen_t length() const noexcept { return length_; }

 private:
  sockaddr_un address_{};
  socklen_t length_{};
};

// Who listens on a memif socket at this moment. Several ports of one process may share a socket; they differ by their id.
enum class Listener : std::uint8_t { kNone, kThisProcess, kForeign };
Result<Listener> listener_on(const std::string& socket) {
  const Address address{socket};
  const Fd probe{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
  if (::connect(probe.get(), address.get(), address.length()) != 0) {
    if (errno == EAGAIN) return Listener::kForeign;  // it is slow to accept
    if (errno == ECONNREFUSED || errno == ENOENT) return Listener::kNone;
    return fail_errno(ErrorCode::kIo, "memif socket " + socket, errno);
  }
  ucred owner{};
  socklen_t owner_length = sizeof owner;
  const bool is_known = ::getsockopt(probe.get(), SOL_SOCKET, SO_PEERCRED, &owner, &owner_length) == 0;
  return is_known && owner.pid == ::getpid() ? Listener::kThisProcess : Listener::kForeign;
}

// Whether a descriptor of this process is the socket that listens under this name.
bool is_listener(int fd, const std::string& socket) noexcept {
  int accepts = 0;
  socklen_t length = sizeof accepts;
  if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &length) != 0 || accepts == 0) return false;
  sockaddr_un bound{};
  length = sizeof bound;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &length) != 0 || bound.sun_family != AF_UNIX) return false;
  const char* const name = bound.sun_path + (is_path(socket) ? 0 : 1);
  return std::strncmp(name, socket.c_str(), sizeof bound.sun_path - 1) == 0;
}

// Closes the listening socket under the driver's nose: its number stays taken, by something that never has anything to say.
void silence_listener(const std::string& socket) noexcept {
  DIR* const descriptors = ::opendir("/proc/self/fd");
  if (descriptors == nullptr) return;
  while (const dirent* const entry = ::readdir(descriptors)) {
    const int fd = std::atoi(entry->d_name);
    if (fd <= STDERR_FILENO || !is_listener(fd, socket)) continue;
    const Fd idle{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    ::dup3(idle.get(), fd, O_CLOEXEC);
  }
  ::closedir(descriptors);
}

// How many clients wait to be accepted by the listening socket that the kernel tells of; nullopt: it has another name.
std::optional<std::uint32_t> clients_waiting(const nlmsghdr& message, const std::string& socket) noexcept {
  const auto* const told = static_cast<const unix_diag_msg*>(NLMSG_DATA(&message));
  const char* at = reinterpret_cast<const char*>(told + 1);
  std::size_t left = NLMSG_PAYLOAD(&message, sizeof *told);
  const std::string name = is_path(socket) ? socket : std::string{'\0'} + socket;
  bool is_this = false;
  std::uint32_t waiting = 0;
  for (rtattr attribute{}; left >= sizeof attribute;) {
    std::memcpy(&attribute, at, sizeof attribute);
    if (attribute.rta_len < sizeof attribute || attribute.rta_len > left) break;
    const std::string_view value{at + sizeof attribute, attribute.rta_len - sizeof attribute};
    if (attribute.rta_type == UNIX_DIAG_NAME) is_this = value.substr(0, name.size()) == name && value.find_first_not_of('\0', name.size()) == value.npos;
    if (attribute.rta_type == UNIX_DIAG_RQLEN && value.size() >= sizeof(unix_diag_rqlen)) std::memcpy(&waiting, value.data(), sizeof waiting);
    const std::size_t step = std::min<std::size_t>(RTA_ALIGN(attribute.rta_len), left);
    at += step;
    left -= step;
  }
  if (!is_this) return std::nullopt;
  return waiting;
}

// Servers of this process by socket.
std::map<std::string, unsigned>& holders() {
  static std::map<std::string, unsigned> the_holders;
  return the_holders;
}

}  // namespace

bool does_memif_server_accept(const std::string& socket) {
  const Fd kernel{::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG)};
  struct {
    nlmsghdr header;
    unix_diag_req query;
  } request{};
  request.header = {.nlmsg_len = sizeof request, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP, .nlmsg_seq = 0, .nlmsg_pid = 0};
  request.query.sdiag_family = AF_UNIX;
  request.query.udiag_states = 1U << kListening;
  request.query.udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_RQLEN;
  if (::send(kernel.get(), &request, sizeof request, 0) != static_cast<ssize_t>(sizeof request)) return true;
  alignas(nlmsghdr) std::array<std::byte, 16384> answer;
  while (true) {
    const ssize_t received = ::recv(kernel.get(), answer.data(), answer.size(), 0);
    if (received <= 0) return true;
    const auto end = static_cast<std::size_t>(received);
    for (std::size_t at = 0; at + sizeof(nlmsghdr) <= end;) {
      const auto& message = *static_cast<const nlmsghdr*>(static_cast<const void*>(answer.data() + at));  // the kernel aligns them
      if (message.nlmsg_len < sizeof message || message.nlmsg_len > end - at) return true;
      if (message.nlmsg_type != SOCK_DIAG_BY_FAMILY || message.nlmsg_len < NLMSG_LENGTH(sizeof(unix_diag_msg))) return true;  // the end, or an error
      if (const auto waiting = clients_waiting(message, socket); waiting && *waiting != 0) return false;
      at += NLMSG_ALIGN(message.nlmsg_len);
    }
  }
}

Result<void> check_memif_socket(const std::string& socket) {
  if (!socket.empty() && socket.size() <= kSocketMax) return {};
  return fail(ErrorCode::kInvalidConfig, "memif socket '" + socket + "' is empty or longer than " + std::to_string(kSocketMax) + " characters");
}

Result<void> prepare_memif_server(const std::string& socket) {
  struct stat info{};
  const bool has_file = is_path(socket) && ::lstat(socket.c_str(), &info) == 0;
  if (has_file && !S_ISSOCK(info.st_mode))
    return fail(ErrorCode::kInvalidConfig, socket + " exists and is not a socket", "choose another memif socket path");
  const auto listener = listener_on(socket);
  if (!listener) return tl::unexpected<Error>{listener.error()};
  if (*listener == Listener::kForeign)
    return fail(ErrorCode::kInUse, "another memif server listens on " + socket,
                (is_path(socket) ? "fuser " + socket : "ss -xlp | grep '@" + socket + "'") + " names its process");
  if (has_file && *listener == Listener::kNone && ::unlink(socket.c_str()) != 0)
    return fail_errno(ErrorCode::kPermission, "remove stale memif socket " + socket, errno);
  return {};
}

MemifServerHold::MemifServerHold(std::string socket) : socket_{std::move(socket)} {
  if (!socket_.empty()) ++holders()[socket_];
}

MemifServerHold::~MemifServerHold() {
  if (socket_.empty() || --holders()[socket_] != 0) return;
  holders().erase(socket_);
  silence_listener(socket_);
  keep_eal_memory_to_the_end();  // the interrupt thread's list of what it polls keeps pointing at the driver's
}

}  // namespace thalweg::pmd
