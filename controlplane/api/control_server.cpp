#include "controlplane/api/control_server.hpp"

#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "controlplane/api/control_client.hpp"

namespace thalweg::api {
namespace {

constexpr std::size_t kConnectionsMax = 32;   // more wait in the listen queue
constexpr int kListenBacklog = 16;

bool is_in_group(uid_t uid, gid_t gid, const std::string& group) {
  std::vector<char> buffer(16384);
  struct group entry {};
  struct group* found = nullptr;
  if (::getgrnam_r(group.c_str(), &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr) return false;
  const gid_t wanted = found->gr_gid;
  if (gid == wanted) return true;
  struct passwd user {};
  struct passwd* user_found = nullptr;
  if (::getpwuid_r(uid, &user, buffer.data(), buffer.size(), &user_found) != 0 || user_found == nullptr) return false;
  std::vector<gid_t> groups(256);
  int count = static_cast<int>(groups.size());
  if (::getgrouplist(user.pw_name, user.pw_gid, groups.data(), &count) < 0) return false;
  return std::find(groups.begin(), groups.begin() + count, wanted) != groups.begin() + count;
}

bool send_all(int fd, const std::string& bytes) {
  for (std::size_t sent = 0; sent < bytes.size();) {
    const ssize_t n = ::send(fd, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    sent += static_cast<std::size_t>(n);
  }
  return true;
}

}  // namespace

struct ControlServer::Connection {
  int fd{-1};
  std::string received;
};

Result<std::unique_ptr<ControlServer>> ControlServer::start(Options options, Handler handler) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (options.path.size() >= sizeof address.sun_path) {
    return fail(ErrorCode::kInvalidArgument, "control socket path is too long: " + options.path, "set control-plane.socket to a shorter one");
  }
  struct stat existing {};
  if (::lstat(options.path.c_str(), &existing) == 0 && !S_ISSOCK(existing.st_mode) && !S_ISLNK(existing.st_mode)) {
    return fail(ErrorCode::kInUse, options.path + " exists and is not a socket", "name another path in control-plane.socket");
  }
  if (ControlClient::connect(options.path)) return fail(ErrorCode::kInUse, "another control plane listens on " + options.path);
  ::unlink(options.path.c_str());
  std::memcpy(address.sun_path, options.path.data(), options.path.size());
  const int listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (listener < 0) return fail_errno(ErrorCode::kIo, "control socket", errno);
  const bool is_bound = ::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
                        ::chmod(options.path.c_str(), options.group.empty() ? 0600 : 0660) == 0 && ::listen(listener, kListenBacklog) == 0;
  const int stop_event = ::eventfd(0, EFD_CLOEXEC);
  if (!is_bound || stop_event < 0) {
    const int saved = errno;
    ::close(listener);
    if (stop_event >= 0) ::close(stop_event);
    return fail_errno(ErrorCode::kPermission, "listen on " + options.path, saved);
  }
  std::unique_ptr<ControlServer> server{new ControlServer{std::move(options), std::move(handler), listener, stop_event}};
  server->thread_ = std::thread{[raw = server.get()] { raw->loop(); }};
  pthread_setname_np(server->thread_.native_handle(), "tw-control");
  return server;
}

ControlServer::ControlServer(Options options, Handler handler, int listener, int stop_event) noexcept
    : options_{std::move(options)}, handler_{std::move(handler)}, listener_{listener}, stop_event_{stop_event} {}

ControlServer::~ControlServer() {
  const std::uint64_t one = 1;
  if (::write(stop_event_, &one, sizeof one) != sizeof one) std::abort();  // an eventfd below its maximum always takes it
  if (thread_.joinable()) thread_.join();
  ::close(listener_);
  ::close(stop_event_);
  ::unlink(options_.path.c_str());
}

bool ControlServer::is_welcome(int fd) const {
  ucred peer{};
  socklen_t length = sizeof peer;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return false;
  if (peer.uid == 0 || peer.uid == ::geteuid()) return true;
  return !options_.group.empty() && is_in_group(peer.uid, peer.gid, options_.group);
}

void ControlServer::accept_one(std::vector<Connection>& connections) {
  const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
  if (fd < 0) return;
  if (!is_welcome(fd)) {
    ::close(fd);
    return;
  }
  timeval patience{1, 0};  // a peer that does not read its answer is given up
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  connections.push_back({fd, {}});
}

bool ControlServer::serve(Connection& connection) {
  char buffer[16384];
  const ssize_t n = ::recv(connection.fd, buffer, sizeof buffer, MSG_DONTWAIT);
  if (n < 0) return errno == EAGAIN || errno == EINTR;
  if (n == 0) return false;
  connection.received.append(buffer, static_cast<std::size_t>(n));
  for (;;) {
    auto body = take_record(connection.received);
    if (!body) {
      static_cast<void>(send_all(connection.fd, encode_response(tl::unexpected{body.error()})));  // hung up on either way
      return false;
    }
    if (!*body) return true;
    const auto request = decode_request(**body);
    const std::string answer = request ? encode_response(handler_(*request)) : encode_response(tl::unexpected{request.error()});
    if (!send_all(connection.fd, answer)) return false;
  }
}

void ControlServer::loop() {
  std::vector<Connection> connections;
  std::vector<pollfd> fds;
  for (;;) {
    const bool has_room = connections.size() < kConnectionsMax;
    fds.assign({{stop_event_, POLLIN, 0}, {listener_, static_cast<short>(has_room ? POLLIN : 0), 0}});
    for (const Connection& connection : connections) fds.push_back({connection.fd, POLLIN, 0});
    if (::poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) break;
    if (fds[0].revents != 0) break;
    for (std::size_t i = connections.size(); i-- > 0;) {
      if (fds[i + 2].revents == 0 || serve(connections[i])) continue;
      ::close(connections[i].fd);
      connections.erase(connections.begin() + static_cast<std::ptrdiff_t>(i));
    }
    if (fds[1].revents != 0) accept_one(connections);
  }
  for (const Connection& connection : connections) ::close(connection.fd);
}

}  // namespace thalweg::api
