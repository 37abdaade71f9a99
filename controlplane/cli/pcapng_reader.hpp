#pragma once
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/base/result.hpp"

// Frames of a pcapng file, also of one that still grows: what a capture of ours writes, and little-endian files of other tools with one Ethernet
// interface. Spec: draft-ietf-opsawg-pcapng.
namespace thalweg::cli {

struct PcapngFrame {
  std::int64_t epoch_ns{};
  bool is_outbound{};
  std::uint32_t original_length{};
  std::vector<std::byte> bytes;     // as many as were kept
};

class PcapngReader {
 public:
  // Errors: kNotFound, kPermission.
  [[nodiscard]] static Result<PcapngReader> open(const std::string& path);
  // The next frame; nullopt: no whole one is there, yet or at all. Errors: kUnsupported, kIo (damaged), and then for good.
  [[nodiscard]] Result<std::optional<PcapngFrame>> next();

 private:
  PcapngReader(std::ifstream file, std::string path) : file_{std::move(file)}, path_{std::move(path)} {}
  [[nodiscard]] bool read_at(std::uint64_t at, std::size_t count);
  [[nodiscard]] Result<void> take_interface();
  [[nodiscard]] std::optional<PcapngFrame> take_frame() const;
  [[nodiscard]] Error damaged(const std::string& what) const;

  std::ifstream file_;
  std::string path_;
  std::uint64_t at_{};              // of the next block
  std::vector<std::byte> block_;
  std::int64_t ns_per_unit_{1'000}; // pcapng's default are microseconds
};

}  // namespace thalweg::cli
