#pragma once
#include <cstdint>
#include <ostream>
#include <span>

// Writes pcapng with nanosecond timestamps: one section, one Ethernet interface. The data plane's captures have a writer of their own, in pmd, which
// this folder does not know. Spec: draft-ietf-opsawg-pcapng.
namespace thalweg::cli {

class PcapngWriter {
 public:
  // Writes the headers. What cannot be written shows in the stream's state.
  explicit PcapngWriter(std::ostream& out);
  void add(std::int64_t epoch_ns, std::span<const std::byte> frame);

 private:
  std::ostream& out_;
};

}  // namespace thalweg::cli
