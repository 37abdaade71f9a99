#pragma once
#include <optional>
#include <span>
#include <string>

#include "dataplane/client/client.hpp"

namespace thalweg::archive {

// A counter that its owner shows something with and does without when the driver has no room for it. The thread of its owner.
class LateCounter {
 public:
  // Asks the driver for it. A label that is too long is cut.
  void ask(client::Client& client, std::int32_t type, std::span<const std::byte> key, const std::string& label);
  // True, once: it has come, and whoever asked for it sets it first.
  [[nodiscard]] bool has_come(client::Client& client);
  // Nothing while it is not there.
  void set(std::int64_t value) noexcept {
    if (counter_) counter_.set(value);
  }
  // Gives it back.
  void close() noexcept;

 private:
  std::optional<client::RegistrationId> wanted_;
  client::ClientCounter counter_;
};

}  // namespace thalweg::archive
