#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace thalweg::test {

// What a pcapng file says; strict, because it reads files of our own making. Throws std::runtime_error at the first thing that is wrong.
struct Pcapng {
  struct Frame {
    std::uint64_t epoch_ns{};
    std::uint32_t original_length{};
    std::string bytes;
    std::uint32_t direction{};                    // 1 in, 2 out
    std::optional<std::uint64_t> dropped_before;
  };
  std::string interface_name;
  std::uint32_t link_type{};
  std::uint32_t snap_length{};
  unsigned timestamp_digits{};                    // if_tsresol
  std::vector<Frame> frames;
  std::optional<std::uint64_t> received, dropped; // of the interface statistics
};
[[nodiscard]] Pcapng read_pcapng(const std::string& path);

}  // namespace thalweg::test
