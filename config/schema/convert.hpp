#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "config/schema/config.hpp"
#include "pmd/port.hpp"

// From the decoded file to the plain structs that the data plane works with.
namespace thalweg::config {

// The ports of a valid configuration as pmd/ makes them, with a loopback port "loopback" (127.0.0.1/8) and a kernel port "kernel" behind
// them where the file lists none. Precondition: `config` came without errors from load_text() or load_file(). Any thread.
[[nodiscard]] std::vector<pmd::PortOptions> port_options(const Config& config);

// The words that ports[].impair.frames[].types takes, in the order of their numbers on the wire (wire-protocol 1.2).
struct FrameTypeWord {
  std::string_view word;
  std::uint32_t number{};
};
[[nodiscard]] std::span<const FrameTypeWord> frame_type_words() noexcept;
// 1 << the number of the frame type that is called so; nullopt: none is.
[[nodiscard]] std::optional<std::uint32_t> frame_type_bit(std::string_view word) noexcept;

}  // namespace thalweg::config
