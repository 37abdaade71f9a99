#pragma once
#include <bit>
#include <cstdint>

#include "dataplane/base/wrap.hpp"

// Position arithmetic of wire-protocol 1.13. Position = bytes since stream start; offset = bytes inside a term. Term ids wrap.
namespace thalweg::wire {

inline constexpr int kPartitionCount = 3;

using thalweg::wrapping_add;
using thalweg::wrapping_sub;

[[nodiscard]] constexpr int position_bits(std::int32_t term_length) noexcept {
  return std::countr_zero(static_cast<std::uint32_t>(term_length));
}
// Precondition: wrapping_sub(term_id, initial_term_id) >= 0.
[[nodiscard]] constexpr std::int64_t position_of(std::int32_t term_id, std::int32_t term_offset, std::int32_t initial_term_id, int bits) noexcept {
  return (static_cast<std::int64_t>(wrapping_sub(term_id, initial_term_id)) << bits) + term_offset;
}
[[nodiscard]] constexpr std::int32_t term_count_of(std::int64_t position, int bits) noexcept { return static_cast<std::int32_t>(position >> bits); }
[[nodiscard]] constexpr std::int32_t term_id_of(std::int64_t position, std::int32_t initial_term_id, int bits) noexcept {
  return wrapping_add(initial_term_id, term_count_of(position, bits));
}
[[nodiscard]] constexpr std::int32_t term_offset_of(std::int64_t position, int bits) noexcept {
  return static_cast<std::int32_t>(position & ((std::int64_t{1} << bits) - 1));
}
[[nodiscard]] constexpr int partition_of(std::int64_t position, int bits) noexcept {
  return static_cast<int>((position >> bits) % kPartitionCount);
}
[[nodiscard]] constexpr std::int64_t max_position(std::int32_t term_length) noexcept { return static_cast<std::int64_t>(term_length) << 31; }
[[nodiscard]] constexpr std::int32_t max_message_length(std::int32_t term_length) noexcept {
  return term_length / 8 < (16 << 20) ? term_length / 8 : (16 << 20);
}
// The most that one claim can take in a log, and so the longest PAD at the end of a term: the longest message in fragments (1.14), or one
// full frame where the MTU is larger than that.
[[nodiscard]] constexpr std::int32_t longest_claim(std::int32_t term_length, std::int32_t mtu) noexcept {
  constexpr std::int32_t kHeader = 32;
  const std::int32_t payload = mtu - kHeader;
  if (payload <= 0) return kHeader;  // carries empty messages only
  const std::int32_t length = max_message_length(term_length);
  if (length <= payload) return mtu;
  const std::int32_t rest = length % payload;
  return length / payload * mtu + (rest > 0 ? (rest + kHeader + 31) & ~31 : 0);
}

}  // namespace thalweg::wire
