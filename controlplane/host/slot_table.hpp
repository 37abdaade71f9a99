#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "dataplane/shm/registry.hpp"

namespace thalweg::host {

// Reads what the owner of a slot answered to the present generation; an answer to an older one is none.
template <typename Slot>
[[nodiscard]] shm::Observed observed_state(const Slot& slot) noexcept {
  const shm::ObservedHead& head = slot.observed;  // streams hide its `state` behind their own
  const shm::Observed state = head.state.load(std::memory_order_acquire);  // pairs with the owner's release store
  return head.generation == slot.desired.generation ? state : shm::Observed::kNone;
}

// One table of the registry together with what the control plane keeps about each slot in its own memory. allocate() only marks a slot as
// taken here; the data plane sees it when publish() stores the desired state. Thread: the conductor.
template <typename Slot, std::size_t kCount, typename Record>
class SlotTable {
 public:
  explicit SlotTable(std::array<Slot, kCount>& slots) : slots_{&slots}, records_(kCount), place_(kCount, kUnused) {
    free_.reserve(kCount);
    for (std::size_t i = kCount; i-- > 0;) free_.push_back(static_cast<std::uint32_t>(i));
  }

  // Takes a free slot with every desired field at its default. nullopt: the table is full.
  [[nodiscard]] std::optional<std::uint32_t> allocate() {
    if (free_.empty()) return std::nullopt;
    const std::uint32_t index = free_.back();
    free_.pop_back();
    reset(index);
    take(index);
    return index;
  }
  // Makes the filled slot visible to its owner. Release: pairs with the owner's acquire load of desired.state.
  void publish(std::uint32_t index, shm::Desired state = shm::Desired::kActive) noexcept { head(index).state.store(state, std::memory_order_release); }
  // Asks the owner to let go. The record stays until release().
  void close(std::uint32_t index) noexcept { head(index).state.store(shm::Desired::kClosing, std::memory_order_release); }
  // Frees the slot. Precondition: its owner let go, or never saw it.
  void release(std::uint32_t index) {
    head(index).state.store(shm::Desired::kFree, std::memory_order_release);
    records_[index] = Record{};
    const std::uint32_t at = place_[index];
    used_[at] = used_.back();
    place_[used_[at]] = at;
    used_.pop_back();
    place_[index] = kUnused;
    free_.push_back(index);
  }
  // Takes over every slot that a predecessor left in use: a control plane that restarted.
  void recover() {
    free_.clear();
    for (std::size_t i = kCount; i-- > 0;) {
      const auto index = static_cast<std::uint32_t>(i);
      if (head(index).state.load(std::memory_order_acquire) == shm::Desired::kFree) {
        free_.push_back(index);
      } else {
        take(index);
      }
    }
  }

  [[nodiscard]] bool is_used(std::uint32_t index) const noexcept { return index < kCount && place_[index] != kUnused; }
  [[nodiscard]] shm::Desired desired(std::uint32_t index) const noexcept { return head(index).state.load(std::memory_order_relaxed); }
  [[nodiscard]] Slot& slot(std::uint32_t index) const noexcept { return (*slots_)[index]; }
  [[nodiscard]] Record& record(std::uint32_t index) noexcept { return records_[index]; }
  [[nodiscard]] const Record& record(std::uint32_t index) const noexcept { return records_[index]; }
  // Slots in use, in no order. Invalid after allocate() and release(); iterate over a copy where those may happen.
  [[nodiscard]] const std::vector<std::uint32_t>& used() const noexcept { return used_; }
  [[nodiscard]] std::size_t free_count() const noexcept { return free_.size(); }

 private:
  static constexpr std::uint32_t kUnused = 0xFFFFFFFF;

  [[nodiscard]] shm::DesiredHead& head(std::uint32_t index) const noexcept {
    if constexpr (requires(Slot& s) { s.desired.state; }) {
      return (*slots_)[index].desired;
    } else {
      return (*slots_)[index].head;
    }
  }
  void reset(std::uint32_t index) noexcept {
    Slot& slot = (*slots_)[index];
    const std::uint32_t generation = head(index).generation;
    if constexpr (requires(Slot& s) { s.desired.state; }) {
      std::construct_at(&slot.desired);
      shm::ObservedHead& observed = slot.observed;
      observed.state.store(shm::Observed::kNone, std::memory_order_relaxed);  // an old answer must not pass for a new one
    } else {
      std::construct_at(&slot);
    }
    head(index).generation = generation + 1;
  }
  void take(std::uint32_t index) {
    place_[index] = static_cast<std::uint32_t>(used_.size());
    used_.push_back(index);
  }

  std::array<Slot, kCount>* slots_;
  std::vector<Record> records_;
  std::vector<std::uint32_t> place_;  // index in used_
  std::vector<std::uint32_t> used_;
  std::vector<std::uint32_t> free_;
};

// Rings the steward's door bell; the system call that wakes it is made once per duty cycle. Thread: the conductor.
class Bells {
 public:
  explicit Bells(shm::RegistryHeader& header) noexcept : header_{&header} {}
  void ring(shm::SlotKind kind, std::uint32_t index) noexcept {
    header_->control_to_steward.ring({kind, index});
    has_rung_ = true;
  }
  // True: somebody was rung for.
  bool flush() noexcept {
    if (!has_rung_) return false;
    has_rung_ = false;
    shm::wake(header_->steward_wake);
    return true;
  }

 private:
  shm::RegistryHeader* header_;
  bool has_rung_{false};
};

}  // namespace thalweg::host
