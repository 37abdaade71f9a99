#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/hex.hpp"

// What was recorded of the reference driver (tests/data, see the README there).
namespace thalweg::test {

struct RecordedFrame {
  std::int64_t time_ns{};
  ByteVector bytes;  // from the Ethernet header on
};

// Full path of a file in tests/data; the environment variable THALWEG_TEST_DATA overrides the source tree.
[[nodiscard]] std::string data_path(const std::string& name);
// All packets of a classic little-endian pcap file of link type Ethernet. Throws std::runtime_error for anything else.
[[nodiscard]] std::vector<RecordedFrame> read_pcap(const std::string& path);
// Names of all pcap files in tests/data, sorted.
[[nodiscard]] std::vector<std::string> recorded_pcaps();
// Unpacks a gzip file. Throws std::runtime_error.
[[nodiscard]] ByteVector read_gzip(const std::string& path);

}  // namespace thalweg::test
