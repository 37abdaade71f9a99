#include "controlplane/api/control_client.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "dataplane/base/time.hpp"

namespace thalweg::api {

Result<ControlClient> ControlClient::connect(const std::string& socket_path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket_path.size() >= sizeof address.sun_path) return fail(ErrorCode::kInvalidArgument, "control socket path is too long: " + socket_path);
  std::memcpy(address.sun_path, socket_path.data(), socket_path.size());
  ControlClient client{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  if (client.fd_ < 0) return fail_errno(ErrorCode::kIo, "control socket", errno);
  if (::connect(client.fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int saved = errno;
    const ErrorCode code = saved == EACCES || saved == EPERM ? ErrorCode::kPermission : ErrorCode::kUnreachable;
    return fail_errno(code, "connect to " + socket_path, saved, "is the instance running? thalweg up starts one");
  }
  return client;
}

ControlClient::ControlClient(ControlClient&& other) noexcept : fd_{std::exchange(other.fd_, -1)}, is_answered_{other.is_answered_}, received_{std::move(other.received_)} {}
ControlClient& ControlClient::operator=(ControlClient&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(is_answered_, other.is_answered_);
  received_.swap(other.received_);
  return *this;
}
ControlClient::~ControlClient() {
  if (fd_ >= 0) ::close(fd_);
}

tl::unexpected<Error> ControlClient::hung_up() const {
  if (is_answered_) return fail(ErrorCode::kClosed, "the control plane has ended", "thalweg stat shows the instance's last figures");
  return fail(ErrorCode::kPermission, "the control plane closed the connection", "only the instance's own user, root and its group may use it");
}

Result<Json> ControlClient::call(const std::string& verb, Json args, std::int64_t timeout_ms) {
  const std::string record = encode_request({verb, std::move(args)});
  for (std::size_t sent = 0; sent < record.size();) {
    const ssize_t n = ::send(fd_, record.data() + sent, record.size() - sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return hung_up();
    sent += static_cast<std::size_t>(n);
  }
  const std::int64_t deadline_ns = monotonic_ns() + timeout_ms * kMillisecond_ns;
  for (;;) {
    auto body = take_record(received_);
    if (!body) return tl::unexpected{std::move(body).error()};
    if (*body) {
      is_answered_ = true;
      return decode_response(**body);
    }
    const std::int64_t left_ms = (deadline_ns - monotonic_ns()) / kMillisecond_ns;
    if (left_ms <= 0) return fail(ErrorCode::kTimeout, "the control plane did not answer '" + verb + "' in time");
    pollfd wait{fd_, POLLIN, 0};
    if (::poll(&wait, 1, static_cast<int>(left_ms)) <= 0) continue;
    char buffer[16384];
    const ssize_t n = ::recv(fd_, buffer, sizeof buffer, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return hung_up();
    received_.append(buffer, static_cast<std::size_t>(n));
  }
}

}  // namespace thalweg::api
