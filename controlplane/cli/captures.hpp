#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "controlplane/api/control_client.hpp"
#include "dataplane/base/time.hpp"

// Captures of an instance through its control socket: started, watched and ended. The data plane writes the files.
namespace thalweg::cli {

// One capture as capture-status describes it.
struct CaptureState {
  std::string state;
  std::string error;
  std::uint64_t frames{};
  std::uint64_t dropped{};
};

struct CaptureWish {
  std::string port;
  std::string path;                  // absolute
  std::uint32_t snap_length{};       // 0: whole frames
  std::uint64_t frame_limit{};       // 0: none
  std::uint64_t byte_limit{};        // 0: none
};

class Captures {
 public:
  // Errors: those of ControlClient::connect().
  [[nodiscard]] static Result<Captures> connect(const std::string& socket);
  // Answers its number.
  [[nodiscard]] Result<std::uint32_t> start(const CaptureWish& wish);
  [[nodiscard]] Result<void> stop(std::uint32_t number);
  // The `captures` of capture-status.
  [[nodiscard]] Result<api::Json> list();
  // nullopt inside: the capture is over and forgotten.
  [[nodiscard]] Result<std::optional<CaptureState>> look(std::uint32_t number);

 private:
  explicit Captures(api::ControlClient client) : client_{std::move(client)} {}
  api::ControlClient client_;
};

// The capture number `number` from its start to its end; `last` is what it had when it was seen last.
class Recording {
 public:
  Recording(Captures& captures, std::uint32_t number) noexcept : captures_{captures}, number_{number} {}
  [[nodiscard]] const CaptureState& last() const noexcept { return last_; }
  [[nodiscard]] bool is_over() const noexcept { return last_.state != "active"; }

  // Waits for the file to be open. An error of the data plane is ours.
  [[nodiscard]] Result<void> wait_open();
  // One look at it.
  [[nodiscard]] Result<void> look();
  // Until it has its frames, the time is over (0: for ever) or the user interrupts.
  [[nodiscard]] Result<void> follow(std::int64_t duration_ns);
  [[nodiscard]] Result<void> end();

 private:
  template <typename Done>
  Result<void> look_until(Done&& is_done, std::int64_t patience_ns);

  Captures& captures_;
  std::uint32_t number_;
  CaptureState last_;
};

}  // namespace thalweg::cli
