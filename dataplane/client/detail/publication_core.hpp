#pragma once
#include <atomic>
#include <memory>
#include <string>

#include "dataplane/client/detail/frame_writer.hpp"
#include "dataplane/client/detail/mapped_log.hpp"
#include "dataplane/client/offer_result.hpp"
#include "dataplane/shm/cnc.hpp"
#include "dataplane/shm/counters.hpp"

namespace thalweg::client::detail {

class Conductor;

// What the conductor and the handles of one publication share. Everything but `is_closed` is set before the handle is given out.
struct PublicationCore {
  // Read by every offer.
  shm::LogBuffer log;
  shm::Counter limit;  // publisher limit, written by the driver
  std::int64_t position_max{};
  FrameIdentity identity;
  std::int32_t initial_term_id{};
  std::int32_t max_payload_length{};
  std::int32_t max_message_length{};
  std::atomic<bool> is_closed{false};  // release by the conductor or close(); acquire by every offer

  // Read now and then.
  bool is_exclusive{};
  shm::Counter channel_status;  // null: the channel has none (IPC)
  std::int32_t channel_status_id{shm::kNullCounterId};
  std::int32_t limit_counter_id{shm::kNullCounterId};
  std::int64_t registration_id{};
  std::int64_t original_registration_id{};
  std::string channel;
  std::shared_ptr<const MappedLog> mapping;
  std::shared_ptr<const shm::CncFile> cnc;  // keeps the counters mapped
  std::shared_ptr<Conductor> conductor;

  [[nodiscard]] bool is_connected() const noexcept {
    return !is_closed.load(std::memory_order_acquire) && log.load<std::int32_t>(shm::meta::kIsConnected) == 1;
  }
  // Why `length` bytes at `position` were refused although the publication is open (7.5 step 3).
  [[nodiscard]] OfferStatus refusal(std::int64_t position, std::int32_t length) const noexcept {
    if (position + frame::aligned(length + frame::kHeaderLength) >= position_max) return OfferStatus::kMaxPositionExceeded;
    return log.load<std::int32_t>(shm::meta::kIsConnected) == 1 ? OfferStatus::kBackPressured : OfferStatus::kNotConnected;
  }
};

// Tells the conductor that the last handle went away; sends REMOVE_PUBLICATION. Any thread; idempotent.
void close_publication(PublicationCore& core, bool revoke) noexcept;

}  // namespace thalweg::client::detail
