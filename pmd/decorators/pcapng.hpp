#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "dataplane/base/result.hpp"

// Writes pcapng with nanosecond timestamps: one section, one Ethernet interface. Only what a capture needs.
// Spec: draft-ietf-opsawg-pcapng.
namespace thalweg::pmd {

enum class Direction : std::uint8_t { kInbound = 1, kOutbound = 2 };  // values of epb_flags

struct CapturedFrame {
  std::int64_t epoch_ns{};
  std::span<const std::byte> bytes;   // as many as were kept
  std::uint32_t original_length{};
  std::uint32_t dropped_before{};     // frames lost since the one before
  Direction direction{};
};

class PcapngFile {
 public:
  // Makes or empties the file and writes its headers. `snap_length` 0: frames are whole. A path that ends in a symbolic link or is no regular
  // file is refused. Errors: kPermission, kNotFound (directory), kInvalidArgument, kNoSpace, kIo.
  [[nodiscard]] static Result<PcapngFile> create(const std::string& path, const std::string& interface_name, std::uint32_t snap_length);
  PcapngFile(PcapngFile&& other) noexcept;
  PcapngFile& operator=(PcapngFile&&) = delete;
  ~PcapngFile();

  void add(const CapturedFrame& frame);
  // The interface's totals: the last block of a finished capture.
  void add_statistics(std::int64_t epoch_ns, std::uint64_t received, std::uint64_t dropped);
  // Hands what was added to the kernel. Errors: kNoSpace, kIo; the file then ends with the last whole flush.
  [[nodiscard]] Result<void> flush();
  // Bytes added so far, headers included.
  [[nodiscard]] std::uint64_t size() const noexcept { return size_ + buffer_.size(); }
  // Those of them that wait for flush().
  [[nodiscard]] std::size_t waiting_bytes() const noexcept { return buffer_.size(); }

 private:
  PcapngFile(int fd, std::string path) noexcept : fd_{fd}, path_{std::move(path)} {}
  void add_headers(const std::string& interface_name, std::uint32_t snap_length);
  std::size_t begin_block(std::uint32_t type);
  void end_block(std::size_t begin);
  void put32(std::uint32_t value);
  void put_padded(std::span<const std::byte> bytes);
  void put_option(std::uint16_t code, std::span<const std::byte> value);
  void put_option64(std::uint16_t code, std::uint64_t value);

  int fd_{-1};
  std::string path_;
  std::uint64_t size_{};               // flushed
  std::vector<std::byte> buffer_;
};

}  // namespace thalweg::pmd
