#pragma once
#include <vector>

#include "dataplane/base/random.hpp"
#include "tests/fuzz/input.hpp"

namespace thalweg::fuzz {

inline constexpr std::size_t kInputMax = 64 << 10;  // bytes

// One to four small changes to `bytes`, the same ones for the same random state. `other` lends material.
inline void mutate(std::vector<std::byte>& bytes, Bytes other, Random& random) {
  constexpr std::int64_t kInteresting[] = {0, 1, -1, 7, 8, 31, 32, 33, 127, 128, 255, 256, 1023, 1024, 1408, 4096, 32767, 32768, 65504, 65535, 65536,
                                           1 << 24, 0x3FFFFFFF, 0x40000000, 0x7FFFFFFF, -0x7FFFFFFF - 1, INT64_MAX, INT64_MIN};
  const auto at = [&](std::size_t n) { return static_cast<std::size_t>(random.below(n)); };
  for (std::uint64_t changes = 1 + random.below(4); changes > 0; --changes) {
    if (bytes.empty()) bytes.push_back(static_cast<std::byte>(random.next()));
    const std::size_t here = at(bytes.size());
    switch (random.below(8)) {
      case 0: bytes[here] ^= static_cast<std::byte>(1U << random.below(8)); break;
      case 1: bytes[here] = static_cast<std::byte>(random.next()); break;
      case 2: {  // a telling number
        const std::int64_t value = kInteresting[at(std::size(kInteresting))];
        const std::size_t width = std::size_t{1} << random.below(4);
        for (std::size_t i = 0; i < width && here + i < bytes.size(); ++i) bytes[here + i] = static_cast<std::byte>(value >> (8 * i));
        break;
      }
      case 3: bytes.resize(here); break;
      case 4: bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(here), 1 + at(16), static_cast<std::byte>(random.next())); break;
      case 5: {  // a stretch of itself, elsewhere
        const std::size_t from = at(bytes.size());
        const std::size_t n = std::min(bytes.size() - std::max(from, here), 1 + at(64));
        std::memmove(bytes.data() + here, bytes.data() + from, n);
        break;
      }
      case 6: {  // the other one's tail
        if (other.empty()) break;
        const Bytes tail = other.subspan(at(other.size()));
        bytes.resize(here);
        bytes.insert(bytes.end(), tail.begin(), tail.end());
        break;
      }
      default: bytes[here] = static_cast<std::byte>(static_cast<std::int64_t>(bytes[here]) + static_cast<std::int64_t>(random.below(17)) - 8); break;
    }
    if (bytes.size() > kInputMax) bytes.resize(kInputMax);
  }
}

}  // namespace thalweg::fuzz
