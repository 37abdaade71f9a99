#include "tests/support/hex.hpp"

#include <stdexcept>

namespace thalweg::test {
namespace {

int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  throw std::invalid_argument{std::string{"not a hex digit: "} + c};
}

}  // namespace

ByteVector from_hex(std::string_view text) {
  ByteVector bytes;
  int high = -1;
  for (const char c : text) {
    if (c == ' ' || c == '\n') continue;
    if (high < 0) {
      high = digit(c);
    } else {
      bytes.push_back(static_cast<std::byte>(high * 16 + digit(c)));
      high = -1;
    }
  }
  if (high >= 0) throw std::invalid_argument{"odd number of hex digits"};
  return bytes;
}

std::string to_hex(std::span<const std::byte> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (i != 0 && i % 4 == 0) text += ' ';
    text += kDigits[std::to_integer<std::size_t>(bytes[i]) >> 4];
    text += kDigits[std::to_integer<std::size_t>(bytes[i]) & 15];
  }
  return text;
}

}  // namespace thalweg::test
