#include "controlplane/log/crc32c.hpp"

#include <nmmintrin.h>

#include <array>

#include "dataplane/base/bytes.hpp"

namespace thalweg::log {
namespace {

constexpr std::uint32_t kPolynomial = 0x82F63B78U;  // reflected
// The instruction takes a word each cycle but has its result three cycles later: long inputs run as three streams of this many bytes.
constexpr std::size_t kLane = 1024;

// What `kLane` zero bytes behind it make of a CRC, for each value of each of its four bytes.
struct ShiftTable {
  std::array<std::array<std::uint32_t, 256>, 4> by_byte{};
};

constexpr std::uint32_t shift_bits(std::uint32_t crc, std::size_t bits) noexcept {
  for (std::size_t i = 0; i < bits; ++i) crc = (crc >> 1U) ^ ((crc & 1U) != 0 ? kPolynomial : 0U);
  return crc;
}

ShiftTable make_shift_table() noexcept {
  ShiftTable table;
  std::array<std::uint32_t, 32> of_bit{};  // the operation is linear: a bit at a time is enough
  for (std::size_t bit = 0; bit < 32; ++bit) of_bit[bit] = shift_bits(1U << bit, kLane * 8);
  for (std::size_t byte = 0; byte < 4; ++byte)
    for (std::size_t value = 0; value < 256; ++value)
      for (std::size_t bit = 0; bit < 8; ++bit)
        if ((value >> bit & 1U) != 0) table.by_byte[byte][value] ^= of_bit[byte * 8 + bit];
  return table;
}

const ShiftTable kShift = make_shift_table();

std::uint32_t shift_lane(std::uint32_t crc) noexcept {
  return kShift.by_byte[0][crc & 0xFFU] ^ kShift.by_byte[1][crc >> 8U & 0xFFU] ^ kShift.by_byte[2][crc >> 16U & 0xFFU] ^ kShift.by_byte[3][crc >> 24U];
}

std::uint32_t three_lanes(const std::byte* p, std::uint32_t crc) noexcept {
  std::uint64_t a = crc;
  std::uint64_t b = 0;
  std::uint64_t c = 0;
  for (std::size_t i = 0; i < kLane; i += 8) {
    a = _mm_crc32_u64(a, load_le<std::uint64_t>(p + i));
    b = _mm_crc32_u64(b, load_le<std::uint64_t>(p + kLane + i));
    c = _mm_crc32_u64(c, load_le<std::uint64_t>(p + 2 * kLane + i));
  }
  const std::uint32_t ab = shift_lane(static_cast<std::uint32_t>(a)) ^ static_cast<std::uint32_t>(b);
  return shift_lane(ab) ^ static_cast<std::uint32_t>(c);
}

}  // namespace

std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t crc) noexcept {
  const std::byte* p = bytes.data();
  std::size_t left = bytes.size();
  crc = ~crc;
  for (; left >= 3 * kLane; p += 3 * kLane, left -= 3 * kLane) crc = three_lanes(p, crc);
  std::uint64_t wide = crc;
  for (; left >= 8; p += 8, left -= 8) wide = _mm_crc32_u64(wide, load_le<std::uint64_t>(p));
  crc = static_cast<std::uint32_t>(wide);
  for (; left > 0; ++p, --left) crc = _mm_crc32_u8(crc, static_cast<std::uint8_t>(*p));
  return ~crc;
}

}  // namespace thalweg::log
