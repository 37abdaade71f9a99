#pragma once
#include <functional>
#include <string>

#include "controlplane/api/records.hpp"
#include "controlplane/conductor/conductor.hpp"

namespace thalweg::conductor {

// The verbs of the control socket: status, names, resolve, config, capture-start, capture-stop, capture-status, terminate, log-level,
// and those of the archive.
// run() is called on the socket's thread; what touches the registry runs on the conductor's.
class ControlVerbs {
 public:
  struct Options {
    std::string effective_config;                                  // YAML, as the process runs it
    std::function<void()> terminate;                               // any thread
    std::function<Result<void>(const std::string& level)> set_log_level;
    std::function<Result<api::Json>(const api::Request&)> archive;  // verbs that begin with "archive-"; may be empty. Any thread
  };
  ControlVerbs(Conductor& conductor, Options options);
  // Errors: kInvalidArgument (unknown verb or argument), kNotFound (port, capture), kTimeout (the conductor hangs), those of the verb.
  [[nodiscard]] Result<api::Json> run(const api::Request& request);

 private:
  struct NoRecord {};
  using Captures = host::SlotTable<shm::CaptureSlot, shm::kCapturesMax, NoRecord>;
  [[nodiscard]] Result<api::Json> on_conductor(std::function<Result<api::Json>(World&)> task);
  [[nodiscard]] Result<api::Json> resolve(const api::Json& args);
  [[nodiscard]] Result<api::Json> start_capture(World& world, const api::Json& args);
  [[nodiscard]] Result<api::Json> stop_capture(World& world, const api::Json& args);
  [[nodiscard]] api::Json list_captures(World& world);
  void free_finished_captures() noexcept;

  Conductor* conductor_;
  Options options_;
  Captures captures_;  // conductor's thread
};

}  // namespace thalweg::conductor
