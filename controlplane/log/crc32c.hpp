#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

namespace thalweg::log {

// CRC-32C (Castagnoli; RFC 3720 appendix B.4) with the CPU's instruction. `crc` is the result for the bytes before these, 0 at the start.
// Any thread; about 8 bytes a nanosecond for short inputs, three times that from some KiB on.
[[nodiscard]] std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t crc = 0) noexcept;

}  // namespace thalweg::log
