#pragma once
#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "dataplane/client/counters_reader.hpp"
#include "dataplane/shm/cnc.hpp"
#include "dataplane/shm/error_log.hpp"
#include "dataplane/shm/loss_report.hpp"

namespace thalweg::client {

// A driver's directory seen from outside, without being its client: `cnc.dat` and `loss-report.dat`, mapped read-only. What monitoring reads.
// Works on a driver that is gone, too, as long as its files are there. Any thread. Spec: client-protocol 2, 5.
class Cnc {
 public:
  // `directory` empty: AERON_DIR, else /dev/shm/aeron-<user>. Errors: kNotFound (no such file), kUnreachable (the driver is still starting),
  // kVersion, kPermission, kIo.
  [[nodiscard]] static Result<Cnc> open(std::string directory = {});

  [[nodiscard]] const std::string& directory() const noexcept { return directory_; }
  [[nodiscard]] std::int32_t version() const noexcept { return file_.version(); }          // major << 16 | minor << 8 | patch
  [[nodiscard]] std::int64_t pid() const noexcept { return file_.pid(); }
  [[nodiscard]] std::int64_t start_ms() const noexcept { return file_.start_ms(); }        // epoch ms
  [[nodiscard]] std::int32_t page_size() const noexcept { return file_.layout().page_size; }
  [[nodiscard]] std::chrono::nanoseconds client_liveness_timeout() const noexcept { return std::chrono::nanoseconds{file_.layout().client_liveness_timeout_ns}; }
  // When the driver was last seen alive, epoch ms; -1 after a clean end.
  [[nodiscard]] std::int64_t heartbeat_ms() const noexcept;
  // Whether a heartbeat is at most `timeout` old. `now_ms` is epoch ms, 0 for now.
  [[nodiscard]] bool is_driver_alive(std::chrono::milliseconds timeout = std::chrono::seconds{10}, std::int64_t now_ms = 0) const noexcept;
  // Bytes of commands that wait for the driver; it reads them as they come, so that more than a few say that it does not.
  [[nodiscard]] std::int64_t command_backlog() const noexcept;

  // Valid as long as this object. The memory is read-only: a Counter of it must not be stored to.
  [[nodiscard]] CountersReader counters() const noexcept { return CountersReader{shm::CountersReader{file_.counter_metadata(), file_.counter_values()}}; }
  // Calls visit(const shm::ErrorLogEntry&) for each distinct error that the driver recorded, oldest first; the text is valid inside the call.
  template <typename Visit>
  void for_each_error(Visit&& visit) const {
    shm::read_error_log(std::span<const std::byte>{file_.error_log()}, visit);
  }
  // Calls visit(const shm::LossReportEntry&) for each image that lost something. None where the driver keeps no report.
  template <typename Visit>
  void for_each_loss(Visit&& visit) const {
    using Plain = std::remove_reference_t<Visit>;
    shm::read_loss_report({loss_.data(), static_cast<std::size_t>(loss_.length())},
                          [](void* to, const shm::LossReportEntry& entry) { (*static_cast<Plain*>(to))(entry); },
                          const_cast<void*>(static_cast<const void*>(&visit)));
  }

 private:
  Cnc() = default;
  std::string directory_;
  shm::CncFile file_;
  shm::MappedFile loss_;
};

// Whether a driver lives in a directory: its heartbeat is at most `timeout` old. Waits for one that is just starting, up to `timeout`.
// Errors: kVersion, kPermission, kIo, kTimeout (it never finished starting).
[[nodiscard]] Result<bool> is_driver_active(const std::string& directory, std::chrono::milliseconds timeout = std::chrono::seconds{10});

// Asks the driver to end itself; whether it does is up to its validator, and there is no answer. `token` goes to the validator.
// Errors: kUnreachable (no driver alive in there, or it reads no commands), kNotFound, kVersion, kPermission, kInvalidArgument (token too long).
[[nodiscard]] Result<> request_driver_termination(const std::string& directory, std::span<const std::byte> token = {});

}  // namespace thalweg::client
