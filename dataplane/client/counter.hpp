#pragma once
#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "dataplane/shm/cnc.hpp"
#include "dataplane/shm/counters.hpp"

namespace thalweg::client {

namespace detail {
class Conductor;
struct CounterCore {
  shm::Counter value;
  std::int32_t counter_id{shm::kNullCounterId};
  std::int64_t registration_id{};
  std::int64_t correlation_id{};  // of the command that made it; a static one has a registration id of the application's choice
  bool is_static{};               // stays when we go
  std::atomic<bool> is_closed{false};
  std::shared_ptr<const shm::CncFile> cnc;
  std::shared_ptr<Conductor> conductor;
};
void close_counter(CounterCore& core) noexcept;
}  // namespace detail

// A counter that this client owns, or a static one, which nobody does. A move-only handle; destruction gives the counter back to the driver,
// unless it is static. Values may be changed from any thread; after close the changes go nowhere. Precondition of all but operator bool and
// close(): the handle is not empty.
class ClientCounter {
 public:
  ClientCounter() noexcept = default;
  explicit ClientCounter(std::shared_ptr<detail::CounterCore> core) noexcept : core_{std::move(core)} {}
  ClientCounter(ClientCounter&&) noexcept = default;
  ClientCounter& operator=(ClientCounter&& other) noexcept {
    if (this != &other) {
      close();
      core_ = std::move(other.core_);
    }
    return *this;
  }
  ~ClientCounter() { close(); }

  [[nodiscard]] explicit operator bool() const noexcept { return core_ != nullptr; }
  [[nodiscard]] std::int32_t id() const noexcept { return core_->counter_id; }
  [[nodiscard]] std::int64_t registration_id() const noexcept { return core_->registration_id; }
  [[nodiscard]] bool is_static() const noexcept { return core_->is_static; }
  [[nodiscard]] bool is_closed() const noexcept { return core_->is_closed.load(std::memory_order_acquire); }
  // The driver's state of it; a closed counter's record may belong to somebody else by now.
  [[nodiscard]] shm::CounterState state() const noexcept;
  // A copy of its label; empty after close.
  [[nodiscard]] std::string label() const;
  [[nodiscard]] std::int64_t get() const noexcept { return core_->value.get(); }
  void set(std::int64_t value) noexcept {
    if (!is_closed()) core_->value.set(value);
  }
  void add(std::int64_t delta) noexcept {
    if (!is_closed()) core_->value.add(delta);
  }
  void close() noexcept {
    if (core_ != nullptr) detail::close_counter(*core_);
  }

 private:
  std::shared_ptr<detail::CounterCore> core_;
};

}  // namespace thalweg::client
