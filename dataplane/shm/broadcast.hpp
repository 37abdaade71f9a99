#pragma once
#include <span>
#include <vector>

#include "dataplane/base/bytes.hpp"

// To-clients broadcast buffer: one transmitter, many receivers (client-protocol section 4). Views over shared memory; byte-exact.
namespace thalweg::shm {

inline constexpr std::size_t kBroadcastTrailerLength = 128;

class BroadcastTransmitter {
 public:
  BroadcastTransmitter() noexcept = default;
  explicit BroadcastTransmitter(std::span<std::byte> section) noexcept;
  [[nodiscard]] static bool is_valid_length(std::size_t section_length) noexcept;
  [[nodiscard]] std::size_t max_message_length() const noexcept;
  // False: longer than max_message_length(). Thread: the conductor alone.
  bool transmit(std::int32_t type_id, std::span<const std::byte> message) noexcept;

 private:
  std::byte* data_{};
  std::byte* trailer_{};
  std::size_t capacity_{};
};

class BroadcastReceiver {
 public:
  BroadcastReceiver() = default;
  explicit BroadcastReceiver(std::span<std::byte> section);
  // Next message copied to scratch and validated; false: none. `type_id` and `body` stay valid until the next call. One thread.
  bool receive(std::int32_t& type_id, std::span<const std::byte>& body) noexcept;
  // How often this receiver was overtaken by the transmitter; messages were lost each time.
  [[nodiscard]] std::int64_t lapped_count() const noexcept { return lapped_; }

 private:
  std::byte* data_{};
  std::byte* trailer_{};
  std::size_t capacity_{};
  std::int64_t cursor_{};
  std::int64_t next_{};
  std::int64_t lapped_{};
  std::vector<std::byte> scratch_;
};

}  // namespace thalweg::shm
