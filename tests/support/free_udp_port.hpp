#pragma once
#include <cstdint>

namespace thalweg::test {

// A UDP port of 127.0.0.1 that nobody used a moment ago.
[[nodiscard]] std::uint16_t free_udp_port();

}  // namespace thalweg::test
