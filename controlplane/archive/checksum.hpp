#pragma once
#include <map>

#include "controlplane/archive/recording.hpp"
#include "controlplane/log/frame_reader.hpp"

namespace thalweg::archive {

// Of the frames of a range of positions: of data their header and payload, of padding the header; what lies between frames does not count. CRC-32C.
struct RangeChecksum {
  std::uint64_t end{};  // behind the last frame
  std::uint32_t crc{};
};

// Of the whole frames from `from` on that end at or before `to`, until `bytes_max` or more are done; at least one. `seed`: of what came before. Errors: those of
// FrameReader.
[[nodiscard]] Result<RangeChecksum> checksum_frames(log::FrameReader& reader, std::uint64_t from, std::uint64_t to, std::uint64_t bytes_max, std::uint32_t seed = 0);

// Answers checksums of recordings bit by bit, and keeps the last ones open. The archive's thread.
class Checksums {
 public:
  static constexpr std::uint64_t kBytesMax = 1U << 20;  // in one go: recording waits for it
  Checksums(log::FileSystem& files, std::string archive_directory) : files_{files}, directory_{std::move(archive_directory)} {}
  // Errors: kNotFound, kInvalidArgument (no frame begins at `from`), kIo.
  [[nodiscard]] Result<RangeChecksum> of(const Recording& recording, std::uint64_t from, std::uint64_t to);
  // Lets go of what it has of a recording that is about to be cut or deleted.
  void forget(std::int64_t recording) { readers_.erase(recording); }

 private:
  log::FileSystem& files_;
  std::string directory_;
  std::map<std::int64_t, log::FrameReader> readers_;
};

}  // namespace thalweg::archive
