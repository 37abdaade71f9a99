#include "controlplane/log/crc32c.hpp"

#include <nmmintrin.h>

#include <array>

#include "dataplane/base/bytes.hpp"

namespace thalweg::log {
namespace {

constexpr std::uint32_t kPolynomial = 0x82F63B78U;  // reflected
// The instruction takes a word each cycle but has its result three cycles later: long inputs run as three streams of this many bytes, and what is left of
// them of the shorter ones: of a page of 4096 bytes, which both kinds of log read most, 16 bytes run alone.
constexpr std::size_t kLane = 1024;
constexpr std::size_t kShortLane = 336;

// What a lane of zero bytes behind it makes of a CRC, for each value of each of its four bytes.
struct ShiftTable {
  std::array<std::array<std::uint32_t, 256>, 4> by_byte{};
};

constexpr std::uint32_t shift_bits(std::uint32_t crc, std::size_t bits) noexcept {
  for (std::size_t i = 0; i < bits; ++i) crc = (crc >> 1U) ^ ((crc & 1U) != 0 ? kPolynomial : 0U);
  return crc;
}

ShiftTable make_shift_table(std::size_t lane) noexcept {
  ShiftTable table;
  std::array<std::uint32_t, 32> of_bit{};  // the operation is linear: a bit at a time is enough
  for (std::size_t bit = 0; bit < 32; ++bit) of_bit[bit] = shift_bits(1U << bit, lane * 8);
  for (std::size_t byte = 0; byte < 4; ++byte)
    for (std::size_t value = 0; value < 256; ++value)
      for (std::size_t bit = 0; bit < 8; ++bit)
        if ((value >> bit & 1U) != 0) table.by_byte[byte][value] ^= of_bit[byte * 8 + bit];
  return table;
}

const ShiftTable kShift = make_shift_table(kLane);
const ShiftTable kShortShift = make_shift_table(kShortLane);

std::uint32_t shift_lane(const ShiftTable& table, std::uint32_t crc) noexcept {
  return table.by_byte[0][crc & 0xFFU] ^ table.by_byte[1][crc >> 8U & 0xFFU] ^ table.by_byte[2][crc >> 16U & 0xFFU] ^ table.by_byte[3][crc >> 24U];
}

template <std::size_t lane>
std::uint32_t three_lanes(const ShiftTable& table, const std::byte* p, std::uint32_t crc) noexcept {
  std::uint64_t a = crc;
  std::uint64_t b = 0;
  std::uint64_t c = 0;
  for (std::size_t i = 0; i < lane; i += 8) {
    a = _mm_crc32_u64(a, load_le<std::uint64_t>(p + i));
    b = _mm_crc32_u64(b, load_le<std::uint64_t>(p + lane + i));
    c = _mm_crc32_u64(c, load_le<std::uint64_t>(p + 2 * lane + i));
  }
  const std::uint32_t ab = shift_lane(table, static_cast<std::uint32_t>(a)) ^ static_cast<std::uint32_t>(b);
  return shift_lane(table, ab) ^ static_cast<std::uint32_t>(c);
}

}  // namespace

std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t crc) noexcept {
  const std::byte* p = bytes.data();
  std::size_t left = bytes.size();
  crc = ~crc;
  for (; left >= 3 * kLane; p += 3 * kLane, left -= 3 * kLane) crc = three_lanes<kLane>(kShift, p, crc);
  for (; left >= 3 * kShortLane; p += 3 * kShortLane, left -= 3 * kShortLane) crc = three_lanes<kShortLane>(kShortShift, p, crc);
  std::uint64_t wide = crc;
  for (; left >= 8; p += 8, left -= 8) wide = _mm_crc32_u64(wide, load_le<std::uint64_t>(p));
  crc = static_cast<std::uint32_t>(wide);
  for (; left > 0; ++p, --left) crc = _mm_crc32_u8(crc, static_cast<std::uint8_t>(*p));
  return ~crc;
}

}  // namespace thalweg::log
