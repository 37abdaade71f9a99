#pragma once
#include <cstdint>
#include <memory>

#include "dataplane/base/assert.hpp"

namespace thalweg::core {

// Two words that identify something; (0, 0) is a key like any other.
struct Key {
  std::uint64_t high{};
  std::uint64_t low{};
  friend bool operator==(const Key&, const Key&) = default;
};

// Open-addressing hash table of fixed capacity with linear probing; at most half full, so probes stay short. No allocation after
// construction; erase() moves entries back instead of leaving tombstones. One thread.
template <typename Value>
class FlatMap {
 public:
  // Holds up to `entries`; rounds the table up to a power of two twice that size.
  explicit FlatMap(std::uint32_t entries) : limit_{entries} {
    std::uint32_t size = 16;
    while (size < 2 * entries) size *= 2;
    mask_ = size - 1;
    cells_ = std::make_unique<Cell[]>(size);
  }
  [[nodiscard]] Value* find(const Key& key) noexcept {
    for (std::uint32_t i = slot_of(key);; i = (i + 1) & mask_) {
      Cell& cell = cells_[i];
      if (!cell.is_used) return nullptr;
      if (cell.key == key) return &cell.value;
    }
  }
  // Replaces the value of a known key. False: full.
  bool insert(const Key& key, const Value& value) noexcept {
    std::uint32_t i = slot_of(key);
    for (; cells_[i].is_used; i = (i + 1) & mask_) {
      if (cells_[i].key == key) {
        cells_[i].value = value;
        return true;
      }
    }
    if (count_ == limit_) return false;
    cells_[i] = Cell{key, value, true};
    ++count_;
    return true;
  }
  bool erase(const Key& key) noexcept {
    std::uint32_t hole = slot_of(key);
    for (;; hole = (hole + 1) & mask_) {
      if (!cells_[hole].is_used) return false;
      if (cells_[hole].key == key) break;
    }
    for (std::uint32_t i = (hole + 1) & mask_; cells_[i].is_used; i = (i + 1) & mask_) {
      const std::uint32_t home = slot_of(cells_[i].key);
      if (((i - home) & mask_) >= ((i - hole) & mask_)) {  // the hole lies between its home and where it stands
        cells_[hole] = cells_[i];
        hole = i;
      }
    }
    cells_[hole] = Cell{};
    --count_;
    return true;
  }
  [[nodiscard]] std::uint32_t count() const noexcept { return count_; }

 private:
  struct Cell {
    Key key{};
    Value value{};
    bool is_used{};
  };
  [[nodiscard]] std::uint32_t slot_of(const Key& key) const noexcept {
    std::uint64_t x = (key.high + 0x9E3779B97F4A7C15U) * 0xBF58476D1CE4E5B9U ^ key.low;
    x = (x ^ x >> 32) * 0x94D049BB133111EBU;
    return static_cast<std::uint32_t>(x >> 32) & mask_;
  }
  std::unique_ptr<Cell[]> cells_;
  std::uint32_t mask_{};
  std::uint32_t count_{};
  std::uint32_t limit_{};
};

}  // namespace thalweg::core
