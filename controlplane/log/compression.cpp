#include "controlplane/log/compression.hpp"

#include <lz4.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>

#include "controlplane/log/crc32c.hpp"
#include "dataplane/base/assert.hpp"

namespace thalweg::log {
namespace {

// What a byte of compressed data can become at most. lz4: a byte that lengthens a match stands for 255. zstd: a block of 128 KiB that repeats one
// byte takes four.
constexpr std::uint64_t kLz4RatioMax = 255;
constexpr std::uint64_t kZstdRatioMax = 32'768;
constexpr int kZstdLevelMax = 19;  // those above need hundreds of MiB
constexpr std::size_t kPackedHeaderBytes = 16;

struct PackedHeader {
  std::uint32_t magic{};
  std::uint32_t original_bytes{};
  std::uint32_t packed_bytes{};
  std::uint32_t crc{};
};
static_assert(sizeof(PackedHeader) == kPackedHeaderBytes);
constexpr std::uint32_t kPackedMagic = 0x005A4C54U;  // "TLZ" and the codec as a digit

constexpr std::uint32_t packed_magic(Codec codec) noexcept { return kPackedMagic | (static_cast<std::uint32_t>('0') + static_cast<std::uint32_t>(codec)) << 24U; }

struct FreeContext {
  void operator()(ZSTD_CCtx* context) const noexcept { ZSTD_freeCCtx(context); }
  void operator()(ZSTD_DCtx* context) const noexcept { ZSTD_freeDCtx(context); }
};

ZSTD_CCtx* compression_context() noexcept {
  thread_local const std::unique_ptr<ZSTD_CCtx, FreeContext> context{ZSTD_createCCtx()};
  return context.get();
}

ZSTD_DCtx* decompression_context() noexcept {
  thread_local const std::unique_ptr<ZSTD_DCtx, FreeContext> context{ZSTD_createDCtx()};
  return context.get();
}

tl::unexpected<Error> bad(const std::string& what) { return fail(ErrorCode::kIo, "compressed data: " + what); }

const char* chars(std::span<const std::byte> bytes) noexcept { return reinterpret_cast<const char*>(bytes.data()); }

// Before anything is allocated: whether so few bytes can become so many.
Result<void> check_sizes(Codec codec, std::span<const std::byte> from, std::uint64_t original_bytes, std::uint64_t limit_bytes) {
  if (original_bytes > limit_bytes) return bad(std::to_string(original_bytes) + " bytes are beyond the limit of " + std::to_string(limit_bytes));
  if (codec != Codec::kLz4 && codec != Codec::kZstd) return fail(ErrorCode::kUnsupported, "compressed data: unknown codec " + std::to_string(static_cast<int>(codec)));
  const std::uint64_t ratio = codec == Codec::kLz4 ? kLz4RatioMax : kZstdRatioMax;
  if (original_bytes / ratio > from.size()) return bad(std::to_string(from.size()) + " bytes cannot become " + std::to_string(original_bytes));
  if (codec == Codec::kZstd && ZSTD_getFrameContentSize(from.data(), from.size()) != original_bytes) return bad("the frame says another size than " + std::to_string(original_bytes));
  return {};
}

}  // namespace

Result<void> validate(const CompressionOptions& options) {
  if (options.codec != Codec::kNone && options.codec != Codec::kLz4 && options.codec != Codec::kZstd) return fail(ErrorCode::kInvalidArgument, "compression: none, lz4 and zstd are possible");
  if (options.level < 0 || options.level > kZstdLevelMax) return fail(ErrorCode::kInvalidArgument, "compression level " + std::to_string(options.level) + ": 0 to 19 are possible");
  if (options.level != 0 && options.codec != Codec::kZstd) return fail(ErrorCode::kInvalidArgument, "a compression level is for zstd alone");
  return {};
}

std::size_t compressed_bytes_max(std::size_t bytes) noexcept {
  // lz4: a byte in 255 more, and 16; zstd: a byte in 256 more, and 64 for little ones.
  return bytes + bytes / 255 + 128;
}

std::size_t compress(Codec codec, int level, std::span<const std::byte> from, std::span<std::byte> into) noexcept {
  THALWEG_DCHECK(from.size() <= kPackedMax);
  if (from.empty()) return 0;
  into = into.first(std::min(into.size(), from.size() - 1));
  if (codec == Codec::kLz4)
    return static_cast<std::size_t>(std::max(0, LZ4_compress_default(chars(from), reinterpret_cast<char*>(into.data()), static_cast<int>(from.size()), static_cast<int>(into.size()))));
  ZSTD_CCtx* const context = compression_context();
  if (context == nullptr) return 0;  // out of memory: stored as it is
  const std::size_t bytes = ZSTD_compressCCtx(context, into.data(), into.size(), from.data(), from.size(), level);
  return ZSTD_isError(bytes) != 0 ? 0 : bytes;
}

Result<void> decompress(Codec codec, std::span<const std::byte> from, std::uint64_t original_bytes, std::uint64_t limit_bytes, std::vector<std::byte>& into) {
  if (auto checked = check_sizes(codec, from, original_bytes, std::min(limit_bytes, kPackedMax)); !checked) return checked;
  into.resize(original_bytes);
  if (codec == Codec::kLz4) {
    const int bytes = LZ4_decompress_safe(chars(from), reinterpret_cast<char*>(into.data()), static_cast<int>(from.size()), static_cast<int>(into.size()));
    if (bytes < 0 || static_cast<std::uint64_t>(bytes) != original_bytes) return bad("no lz4 block of " + std::to_string(original_bytes) + " bytes");
    return {};
  }
  ZSTD_DCtx* const context = decompression_context();
  if (context == nullptr) return fail(ErrorCode::kNoSpace, "compressed data: no memory for zstd");
  const std::size_t bytes = ZSTD_decompressDCtx(context, into.data(), into.size(), from.data(), from.size());
  if (ZSTD_isError(bytes) != 0) return bad(std::string{"zstd: "} + ZSTD_getErrorName(bytes));
  if (bytes != original_bytes) return bad("zstd: " + std::to_string(bytes) + " bytes instead of " + std::to_string(original_bytes));
  return {};
}

std::vector<std::byte> pack(Codec codec, int level, std::span<const std::byte> from) {
  std::vector<std::byte> packed(kPackedHeaderBytes + from.size());
  const std::span<std::byte> body = std::span{packed}.subspan(kPackedHeaderBytes);
  std::size_t bytes = codec == Codec::kNone ? 0 : compress(codec, level, from, body);
  if (bytes == 0) {
    codec = Codec::kNone;
    bytes = from.size();
    std::copy(from.begin(), from.end(), body.begin());
  }
  const PackedHeader header{packed_magic(codec), static_cast<std::uint32_t>(from.size()), static_cast<std::uint32_t>(bytes), crc32c(from)};
  std::memcpy(packed.data(), &header, sizeof header);
  packed.resize(kPackedHeaderBytes + bytes);
  return packed;
}

Result<std::vector<std::byte>> unpack(std::span<const std::byte> packed, std::uint64_t limit_bytes) {
  PackedHeader header;
  if (packed.size() < sizeof header) return bad("header too short");
  std::memcpy(&header, packed.data(), sizeof header);
  const std::span<const std::byte> body = packed.subspan(sizeof header);
  if (header.packed_bytes != body.size()) return bad(std::to_string(body.size()) + " bytes are there instead of " + std::to_string(header.packed_bytes));
  std::vector<std::byte> original;
  if (header.magic == packed_magic(Codec::kNone)) {
    if (header.original_bytes != body.size() || body.size() > limit_bytes) return bad("impossible size");
    original.assign(body.begin(), body.end());
  } else {
    const auto codec = header.magic == packed_magic(Codec::kLz4) ? Codec::kLz4 : Codec::kZstd;
    if (header.magic != packed_magic(codec)) return bad("bad magic");
    if (auto done = decompress(codec, body, header.original_bytes, limit_bytes, original); !done) return tl::unexpected{std::move(done.error())};
  }
  if (crc32c(original) != header.crc) return bad("wrong checksum");
  return original;
}

}  // namespace thalweg::log
