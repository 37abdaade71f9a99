#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

// What was put into a stream: one record per claim, in the order of the log. The bytes of a message follow from its sequence number, so
// that a reader checks every byte without a second copy.
namespace thalweg::sim {

struct Record {
  std::int64_t position{};      // of the first frame
  std::int64_t end_position{};  // behind the last frame
  std::uint64_t sequence{};
  std::int32_t length{};        // bytes of the message
  bool is_dead{};               // its producer died or gave up: it must never be delivered
};

class Ledger {
 public:
  explicit Ledger(std::uint64_t key) noexcept : key_{key} {}

  std::size_t add(const Record& record) {
    records_.push_back(record);
    return records_.size() - 1;
  }
  [[nodiscard]] Record& at(std::size_t index) noexcept { return records_[index]; }
  [[nodiscard]] const Record& at(std::size_t index) const noexcept { return records_[index]; }
  [[nodiscard]] std::size_t size() const noexcept { return records_.size(); }
  // Index of the first record at or behind `position`.
  [[nodiscard]] std::size_t find(std::int64_t position) const noexcept {
    std::size_t low = 0;
    std::size_t high = records_.size();
    while (low < high) {
      const std::size_t middle = (low + high) / 2;
      if (records_[middle].position < position) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  // Bytes of message `sequence`: the sequence number first where there is room, then a cheap keyed stream of noise.
  void fill(std::uint64_t sequence, std::span<std::byte> out) const noexcept {
    std::uint64_t word = sequence;
    for (std::size_t at = 0; at < out.size(); at += 8) {
      std::memcpy(out.data() + at, &word, out.size() - at < 8 ? out.size() - at : 8);
      word = (word ^ key_) * 0x9E3779B97F4A7C15U + 0x2545F4914F6CDD1DU;
      word ^= word >> 29;
    }
  }
  // True when `bytes` are what fill() writes. Works through a small window, not a copy of the message.
  [[nodiscard]] bool is_message(std::uint64_t sequence, std::span<const std::byte> bytes) const noexcept {
    std::uint64_t word = sequence;
    for (std::size_t at = 0; at < bytes.size(); at += 8) {
      if (std::memcmp(bytes.data() + at, &word, bytes.size() - at < 8 ? bytes.size() - at : 8) != 0) return false;
      word = (word ^ key_) * 0x9E3779B97F4A7C15U + 0x2545F4914F6CDD1DU;
      word ^= word >> 29;
    }
    return true;
  }

 private:
  std::uint64_t key_;
  std::vector<Record> records_;
};

}  // namespace thalweg::sim
