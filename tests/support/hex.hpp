#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace thalweg::test {

using ByteVector = std::vector<std::byte>;

// "28000000 00000500" -> bytes; white space is skipped. Throws std::invalid_argument for anything that is not pairs of hex digits.
[[nodiscard]] ByteVector from_hex(std::string_view text);
// Lower case, in groups of four bytes, as the specs print them.
[[nodiscard]] std::string to_hex(std::span<const std::byte> bytes);

[[nodiscard]] inline ByteVector to_bytes(std::string_view text) {
  const auto* const p = reinterpret_cast<const std::byte*>(text.data());
  return {p, p + text.size()};
}
[[nodiscard]] inline std::string_view to_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace thalweg::test
