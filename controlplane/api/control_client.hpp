#pragma once
#include <string>

#include "controlplane/api/records.hpp"

namespace thalweg::api {

// One connection to a control plane's socket. Blocks up to the time-out; one thread.
class ControlClient {
 public:
  // Errors: kUnreachable (no instance, nobody listens), kPermission.
  [[nodiscard]] static Result<ControlClient> connect(const std::string& socket_path);
  ControlClient(ControlClient&& other) noexcept;
  ControlClient& operator=(ControlClient&& other) noexcept;
  ~ControlClient();

  // Runs one verb. Errors: those of the verb, kTimeout, kClosed (the peer hung up, or does not want us), kInvalidArgument (it talks rubbish).
  [[nodiscard]] Result<Json> call(const std::string& verb, Json args = Json::object(), std::int64_t timeout_ms = 5000);

 private:
  explicit ControlClient(int fd) noexcept : fd_{fd} {}
  // The connection ended: refused before the first answer, or the control plane is gone.
  [[nodiscard]] tl::unexpected<Error> hung_up() const;

  int fd_{-1};
  bool is_answered_{};  // once at least
  std::string received_;
};

// Where an instance's socket is when the configuration does not say otherwise.
[[nodiscard]] inline std::string default_socket_path(const std::string& directory) { return directory + "/control.sock"; }

}  // namespace thalweg::api
