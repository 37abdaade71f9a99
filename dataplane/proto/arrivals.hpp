#pragma once
#include <array>
#include <cstdint>

// When the datagrams of streams that come by several destinations were here first, and by which of them: tells how late a second copy is.
// Direct-mapped, so that it costs one line per datagram: a newer arrival displaces an older one, whose copy then counts without a time.
// One for each multi-destination endpoint. Thread: owning lane.
namespace thalweg::proto {

class Arrivals {
 public:
  struct Arrival {
    std::int64_t at_ns{};
    std::uint32_t connection{};
  };
  // `stream`: whatever tells the streams of one endpoint apart.
  void note(std::uint32_t stream, std::int64_t position, Arrival arrival) noexcept {
    const std::uint64_t key = key_of(stream, position);
    slot_of(key) = {key, arrival};
  }
  // nullptr: it was displaced, or never here.
  [[nodiscard]] const Arrival* find(std::uint32_t stream, std::int64_t position) const noexcept {
    const std::uint64_t key = key_of(stream, position);
    const Slot& slot = slots_[key >> kShift];
    return slot.key == key ? &slot.arrival : nullptr;
  }

 private:
  struct Slot {
    std::uint64_t key{};
    Arrival arrival;
  };
  static constexpr int kBits = 12;    // copies that are some thousand datagrams late are timed
  static constexpr int kShift = 64 - kBits;

  // A bijection for each stream; the high bits pick the slot.
  static std::uint64_t key_of(std::uint32_t stream, std::int64_t position) noexcept {
    constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15U;
    return (static_cast<std::uint64_t>(position) + 1 + (std::uint64_t{stream} << 44)) * kGolden;
  }
  Slot& slot_of(std::uint64_t key) noexcept { return slots_[key >> kShift]; }

  std::array<Slot, std::size_t{1} << kBits> slots_{};
};

}  // namespace thalweg::proto
