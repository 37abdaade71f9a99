#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "controlplane/api/records.hpp"

namespace thalweg::api {

// Listens on a UNIX socket and answers records on its own thread. Peers must be our user, root, or of the configured group; others are
// hung up on before a byte is read.
class ControlServer {
 public:
  struct Options {
    std::string path;
    std::string group;   // "" = no group
  };
  using Handler = std::function<Result<Json>(const Request&)>;  // called on the server's thread

  // Binds (replacing a socket file nobody listens on any more) and starts the thread. Errors: kInUse, kPermission, kInvalidArgument.
  [[nodiscard]] static Result<std::unique_ptr<ControlServer>> start(Options options, Handler handler);
  ~ControlServer();
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

 private:
  struct Connection;
  ControlServer(Options options, Handler handler, int listener, int stop_event) noexcept;
  void loop();
  void accept_one(std::vector<Connection>& connections);
  // False: the connection is over.
  bool serve(Connection& connection);
  [[nodiscard]] bool is_welcome(int fd) const;

  Options options_;
  Handler handler_;
  int listener_;
  int stop_event_;
  std::thread thread_;
};

}  // namespace thalweg::api
