#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "controlplane/log/record.hpp"
#include "dataplane/base/result.hpp"

// Compression of payloads with the libraries lz4 (block format) and zstd. Which one was used is written down, never guessed from the bytes.
// Spec: archive-log 11.
namespace thalweg::log {

inline constexpr std::uint64_t kPackedMax = 1U << 30;  // bytes that are compressed at once

struct CompressionOptions {
  Codec codec{Codec::kNone};       // kLz4 or kZstd
  int level{0};                    // of zstd: 1 to 19, 0 = its default; lz4 has none
  std::uint32_t min_bytes{4096};   // payloads below this stay as they are; 0 = all are tried
};
// Errors: kInvalidArgument.
[[nodiscard]] Result<void> validate(const CompressionOptions& options);

// A bound on what compressing `bytes` bytes may give, for any codec.
[[nodiscard]] std::size_t compressed_bytes_max(std::size_t bytes) noexcept;

// Compresses into `into`, which may be smaller than needed: the bytes written, or 0 when the result would not be smaller than `from`. Any thread;
// keeps a working memory for each thread. Precondition: kLz4 or kZstd; from.size() <= kPackedMax.
[[nodiscard]] std::size_t compress(Codec codec, int level, std::span<const std::byte> from, std::span<std::byte> into) noexcept;

// Undoes it. `original_bytes` is what somebody wrote down: it is refused before anything is allocated when it is beyond `limit_bytes`, or more than
// `from` can become. `into` has exactly that many bytes afterwards. Errors: kIo, saying what is wrong; kUnsupported for an unknown codec. Any thread.
[[nodiscard]] Result<void> decompress(Codec codec, std::span<const std::byte> from, std::uint64_t original_bytes, std::uint64_t limit_bytes, std::vector<std::byte>& into);

// Bytes on their own, for files and transfers: 16 bytes of header (magic, which names the codec; original bytes; compressed bytes; CRC-32C of the
// original) and the compressed bytes. What does not get smaller is stored as it is. Precondition: from.size() <= kPackedMax.
[[nodiscard]] std::vector<std::byte> pack(Codec codec, int level, std::span<const std::byte> from);
// Errors: kIo, naming what is wrong: header too short, magic, sizes, compressed bytes, checksum.
[[nodiscard]] Result<std::vector<std::byte>> unpack(std::span<const std::byte> packed, std::uint64_t limit_bytes = kPackedMax);

}  // namespace thalweg::log
