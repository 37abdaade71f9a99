#include "controlplane/archive/late_counter.hpp"

#include "dataplane/shm/counters.hpp"

namespace thalweg::archive {

void LateCounter::ask(client::Client& client, std::int32_t type, std::span<const std::byte> key, const std::string& label) {
  if (auto wanted = client.async_add_counter(type, key, label.substr(0, shm::kCounterLabelMax))) wanted_ = *wanted;
}

bool LateCounter::has_come(client::Client& client) {
  if (!wanted_) return false;
  auto found = client.find_counter(*wanted_);
  if (found && !*found) return false;
  wanted_.reset();
  if (!found) return false;  // the counters file is full: the driver's error log says so
  counter_ = std::move(**found);
  return true;
}

void LateCounter::close() noexcept {
  wanted_.reset();
  counter_.close();
}

}  // namespace thalweg::archive
