#include "controlplane/archive/checksum.hpp"

#include <algorithm>

#include "controlplane/log/crc32c.hpp"
#include "dataplane/base/bytes.hpp"

namespace thalweg::archive {
namespace {

constexpr std::uint64_t kBlockBytes = 64U << 10;
constexpr std::size_t kReadersMax = 8;

std::uint32_t checksum_block(const log::FrameBlock& block, std::uint32_t crc) {
  if (block.is_padding) return log::crc32c(block.frames, crc);
  for (std::uint64_t at = 0; at + log::kFrameHeaderBytes <= block.frames.size();) {
    const auto length = load_le<std::uint32_t>(block.frames.data() + at);
    crc = log::crc32c(block.frames.subspan(at, length), crc);
    at += align_up<std::uint64_t>(length, log::kFrameAlignment);
  }
  return crc;
}

}  // namespace

Result<RangeChecksum> checksum_frames(log::FrameReader& reader, std::uint64_t from, std::uint64_t to, std::uint64_t bytes_max, std::uint32_t seed) {
  RangeChecksum sum{from, seed};
  if (from >= to) return sum;
  if (reader.position() != from)
    if (auto found = reader.seek(from); !found) return tl::unexpected{std::move(found.error())};
  while (sum.end < to && sum.end - from < bytes_max) {
    const auto block = reader.next(std::min(kBlockBytes, to - sum.end));
    if (!block) return tl::unexpected{block.error()};
    if (!*block || (*block)->end() > to) break;
    sum.crc = checksum_block(**block, sum.crc);
    sum.end = (*block)->end();
  }
  return sum;
}

Result<RangeChecksum> Checksums::of(const Recording& recording, std::uint64_t from, std::uint64_t to) {
  auto reader = readers_.find(recording.id);
  if (reader == readers_.end()) {
    auto opened = log::FrameReader::open(files_, frames_path(directory_, recording.id), {.stream = recording.stream, .is_uncommitted = true});
    if (!opened) return tl::unexpected{std::move(opened.error())};
    if (readers_.size() >= kReadersMax) readers_.erase(readers_.begin());
    reader = readers_.emplace(recording.id, std::move(*opened)).first;
  }
  auto sum = checksum_frames(reader->second, from, std::min(to, reader->second.limit()), kBytesMax);
  if (!sum) forget(recording.id);
  return sum;
}

}  // namespace thalweg::archive
