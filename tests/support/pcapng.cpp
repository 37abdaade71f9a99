#include "tests/support/pcapng.hpp"

#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>

namespace thalweg::test {
namespace {

void expect(bool condition, const char* what) {
  if (!condition) throw std::runtime_error{what};
}

template <typename T>
T load(const std::string& bytes, std::size_t at) {
  expect(at + sizeof(T) <= bytes.size(), "cut short");
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

// Options by code; `at` must lead exactly to the end of the body.
std::map<unsigned, std::string> options_of(const std::string& body, std::size_t at) {
  std::map<unsigned, std::string> options;
  while (true) {
    const auto code = load<std::uint16_t>(body, at);
    const auto length = load<std::uint16_t>(body, at + 2);
    at += 4;
    if (code == 0) break;
    expect(at + length <= body.size(), "option cut short");
    options[code] = body.substr(at, length);
    at += (length + 3U) & ~3U;
  }
  expect(at == body.size(), "bytes behind the last option");
  return options;
}

std::optional<std::uint64_t> number(const std::map<unsigned, std::string>& options, unsigned code) {
  const auto found = options.find(code);
  if (found == options.end()) return std::nullopt;
  if (found->second.size() == 4) return load<std::uint32_t>(found->second, 0);
  return load<std::uint64_t>(found->second, 0);
}

std::uint64_t timestamp(const std::string& body, std::size_t at) {
  return std::uint64_t{load<std::uint32_t>(body, at)} << 32 | load<std::uint32_t>(body, at + 4);
}

Pcapng::Frame frame_of(const std::string& body) {
  expect(load<std::uint32_t>(body, 0) == 0, "frame of another interface");
  Pcapng::Frame frame;
  frame.epoch_ns = timestamp(body, 4);
  const auto length = load<std::uint32_t>(body, 12);
  frame.original_length = load<std::uint32_t>(body, 16);
  expect(length <= frame.original_length, "more kept than there was");
  expect(20 + length <= body.size(), "frame cut short");
  frame.bytes = body.substr(20, length);
  const auto options = options_of(body, 20 + ((length + 3U) & ~3U));
  frame.direction = static_cast<std::uint32_t>(number(options, 2).value_or(0));
  frame.dropped_before = number(options, 4);
  return frame;
}

}  // namespace

Pcapng read_pcapng(const std::string& path) {
  std::ifstream file{path, std::ios::binary};
  expect(file.good(), "no such file");
  std::stringstream content;
  content << file.rdbuf();
  const std::string all = content.str();
  Pcapng result;
  for (std::size_t at = 0; at < all.size();) {
    const auto type = load<std::uint32_t>(all, at);
    const auto length = load<std::uint32_t>(all, at + 4);
    expect(length >= 12 && length % 4 == 0 && at + length <= all.size(), "block length");
    expect(load<std::uint32_t>(all, at + length - 4) == length, "the two lengths of a block differ");
    expect((at == 0) == (type == 0x0A0D0D0A), "the section header is not the first block, or not the only one");
    const std::string body = all.substr(at + 8, length - 12);
    if (type == 0x0A0D0D0A) {
      expect(load<std::uint32_t>(body, 0) == 0x1A2B3C4D && load<std::uint16_t>(body, 4) == 1, "section header");
      static_cast<void>(options_of(body, 16));
    } else if (type == 1) {
      result.link_type = load<std::uint16_t>(body, 0);
      result.snap_length = load<std::uint32_t>(body, 4);
      const auto options = options_of(body, 8);
      result.interface_name = options.at(2);
      result.timestamp_digits = static_cast<unsigned char>(options.at(9).at(0));
    } else if (type == 5) {
      const auto options = options_of(body, 12);
      result.received = number(options, 4);
      result.dropped = number(options, 5);
    } else {
      expect(type == 6, "unknown block");
      result.frames.push_back(frame_of(body));
    }
    at += length;
  }
  return result;
}

}  // namespace thalweg::test
