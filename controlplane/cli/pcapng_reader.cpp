#include "controlplane/cli/pcapng_reader.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "dataplane/base/bytes.hpp"

namespace thalweg::cli {
namespace {

constexpr std::uint32_t kSectionHeader = 0x0A0D0D0A;
constexpr std::uint32_t kInterface = 1;
constexpr std::uint32_t kEnhancedPacket = 6;
constexpr std::uint32_t kByteOrder = 0x1A2B3C4D;
constexpr std::uint16_t kEthernet = 1;
constexpr std::uint32_t kBlockMax = 1U << 20;  // a frame and its options are far smaller
constexpr std::size_t kFrameAt = 28;           // of an enhanced packet block
constexpr std::uint16_t kFlags = 2;            // option of a packet block
constexpr std::uint16_t kResolution = 9;       // option of an interface block

// The value of option `code` in the options from `at` on, before the block's last four bytes; nullptr: it is not there.
const std::byte* find_option(const std::vector<std::byte>& block, std::size_t at, std::uint16_t code, std::size_t length) {
  const std::size_t end = block.size() - 4;
  while (at + 4 <= end) {
    const auto found = load_le<std::uint16_t>(block.data() + at);
    const std::size_t size = load_le<std::uint16_t>(block.data() + at + 2);
    if (found == 0 || at + 4 + size > end) return nullptr;
    if (found == code) return size >= length ? block.data() + at + 4 : nullptr;
    at += 4 + align_up<std::size_t>(size, 4);
  }
  return nullptr;
}

}  // namespace

Result<PcapngReader> PcapngReader::open(const std::string& path) {
  std::ifstream file{path, std::ios::binary};
  if (!file) return fail_errno(errno == EACCES ? ErrorCode::kPermission : ErrorCode::kNotFound, "read " + path, errno);
  return PcapngReader{std::move(file), path};
}

bool PcapngReader::read_at(std::uint64_t at, std::size_t count) {
  file_.clear();  // the end of a file that grows is not for good
  file_.seekg(static_cast<std::streamoff>(at));
  block_.resize(count);
  file_.read(reinterpret_cast<char*>(block_.data()), static_cast<std::streamsize>(count));
  return static_cast<std::size_t>(file_.gcount()) == count;
}

Error PcapngReader::damaged(const std::string& what) const {
  return {ErrorCode::kIo, fmt::format("{}: {} at byte {}", path_, what, at_), "is it a pcapng file? thalweg capture writes them"};
}

Result<std::optional<PcapngFrame>> PcapngReader::next() {
  while (read_at(at_, 12)) {
    const auto type = load_le<std::uint32_t>(block_.data());
    const auto length = load_le<std::uint32_t>(block_.data() + 4);
    if (at_ == 0 && type != kSectionHeader) return tl::unexpected{damaged("no section header")};
    if (type == kSectionHeader && load_le<std::uint32_t>(block_.data() + 8) != kByteOrder) return fail(ErrorCode::kUnsupported, path_ + " is of the other byte order");
    if (length < 12 || length % 4 != 0 || length > kBlockMax) return tl::unexpected{damaged(fmt::format("a block of {} bytes", length))};
    if (!read_at(at_, length)) return std::nullopt;
    if (load_le<std::uint32_t>(block_.data() + length - 4) != length) return tl::unexpected{damaged("the two lengths of a block differ")};
    if (type == kInterface) {
      if (auto taken = take_interface(); !taken) return tl::unexpected{taken.error()};
    }
    std::optional<PcapngFrame> frame;
    if (type == kEnhancedPacket) {
      frame = take_frame();
      if (!frame) return tl::unexpected{damaged("a frame that is longer than its block")};
    }
    at_ += length;
    if (frame) return frame;
  }
  return std::nullopt;
}

Result<void> PcapngReader::take_interface() {
  if (block_.size() < 20 || load_le<std::uint16_t>(block_.data() + 8) != kEthernet) return fail(ErrorCode::kUnsupported, path_ + " is not of an Ethernet interface");
  ns_per_unit_ = 1'000;
  const std::byte* const resolution = find_option(block_, 16, kResolution, 1);
  if (resolution == nullptr) return {};
  const auto digits = std::to_integer<unsigned>(*resolution);
  if (digits > 9) return fail(ErrorCode::kUnsupported, fmt::format("{} has timestamps of another kind ({})", path_, digits));
  ns_per_unit_ = 1;
  for (unsigned i = digits; i < 9; ++i) ns_per_unit_ *= 10;
  return {};
}

std::optional<PcapngFrame> PcapngReader::take_frame() const {
  if (block_.size() < kFrameAt + 4) return std::nullopt;
  const std::byte* const p = block_.data();
  const auto kept = load_le<std::uint32_t>(p + 20);
  if (kept > block_.size() - kFrameAt - 4) return std::nullopt;
  PcapngFrame frame;
  const std::uint64_t time = std::uint64_t{load_le<std::uint32_t>(p + 12)} << 32 | load_le<std::uint32_t>(p + 16);
  frame.epoch_ns = static_cast<std::int64_t>(time * static_cast<std::uint64_t>(ns_per_unit_));
  frame.original_length = load_le<std::uint32_t>(p + 24);
  frame.bytes.assign(p + kFrameAt, p + kFrameAt + kept);
  const std::byte* const flags = find_option(block_, kFrameAt + align_up<std::size_t>(kept, 4), kFlags, 4);
  frame.is_outbound = flags != nullptr && (load_le<std::uint32_t>(flags) & 3) == 2;
  return frame;
}

}  // namespace thalweg::cli
