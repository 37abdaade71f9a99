#include "pmd/decorators/pcapng.hpp"

#include <bit>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "pmd/backends/socket_table.hpp"

namespace thalweg::pmd {
namespace {

static_assert(std::endian::native == std::endian::little, "blocks are written in the machine's order, which the section header tells");

constexpr std::uint32_t kSectionHeader = 0x0A0D0D0A;
constexpr std::uint32_t kInterfaceDescription = 1;
constexpr std::uint32_t kInterfaceStatistics = 5;
constexpr std::uint32_t kEnhancedPacket = 6;
constexpr std::uint32_t kByteOrderMagic = 0x1A2B3C4D;
constexpr std::uint32_t kLinkTypeEthernet = 1;
constexpr std::uint16_t kOptionEnd = 0;
constexpr std::uint16_t kOptionIfName = 2, kOptionIfTsResol = 9;
constexpr std::uint16_t kOptionEpbFlags = 2, kOptionEpbDropCount = 4;
constexpr std::uint16_t kOptionIsbReceived = 4, kOptionIsbDropped = 5;
constexpr std::uint16_t kOptionUserApplication = 4;
constexpr std::byte kNanoseconds{9};  // 10^-9

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span{text.data(), text.size()}); }

}  // namespace

Result<PcapngFile> PcapngFile::create(const std::string& path, const std::string& interface_name, std::uint32_t snap_length) {
  Fd fd{::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0640)};
  if (fd.get() < 0) {
    const ErrorCode code = errno == ENOENT ? ErrorCode::kNotFound : errno == EACCES || errno == EPERM ? ErrorCode::kPermission
                                                                : errno == ENOSPC ? ErrorCode::kNoSpace : ErrorCode::kIo;
    return fail_errno(code, "capture file " + path, errno, "the data plane writes it: give an existing directory that its user may write");
  }
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode))
    return fail(ErrorCode::kInvalidArgument, "capture file " + path + " is not a regular file");
  // Whoever may use the control socket names the file, and this process may well be root: only an older capture is written over.
  std::uint32_t magic = 0;
  if (info.st_size != 0 && (::pread(fd.get(), &magic, sizeof magic, 0) != sizeof magic || magic != kSectionHeader))
    return fail(ErrorCode::kInUse, "capture file " + path + " exists and is no capture", "name another file, or remove that one");
  if (::ftruncate(fd.get(), 0) != 0) return fail_errno(ErrorCode::kIo, "capture file " + path, errno);
  PcapngFile file{fd.release(), path};
  file.add_headers(interface_name, snap_length);
  if (auto flushed = file.flush(); !flushed) return tl::unexpected<Error>{std::move(flushed.error())};
  return file;
}

PcapngFile::PcapngFile(PcapngFile&& other) noexcept
    : fd_{std::exchange(other.fd_, -1)}, path_{std::move(other.path_)}, size_{other.size_}, buffer_{std::move(other.buffer_)} {}

PcapngFile::~PcapngFile() {
  if (fd_ >= 0) ::close(fd_);
}

void PcapngFile::add_headers(const std::string& interface_name, std::uint32_t snap_length) {
  const std::size_t section = begin_block(kSectionHeader);
  put32(kByteOrderMagic);
  put32(1);           // major 1, minor 0
  put32(0xFFFFFFFF);  // the section's length is not known, in two words
  put32(0xFFFFFFFF);
  put_option(kOptionUserApplication, bytes_of("thalweg " THALWEG_VERSION));
  put32(kOptionEnd);
  end_block(section);

  const std::size_t interface = begin_block(kInterfaceDescription);
  put32(kLinkTypeEthernet);
  put32(snap_length);
  put_option(kOptionIfName, bytes_of(interface_name));
  put_option(kOptionIfTsResol, {&kNanoseconds, 1});
  put32(kOptionEnd);
  end_block(interface);
}

void PcapngFile::add(const CapturedFrame& frame) {
  const auto timestamp = static_cast<std::uint64_t>(frame.epoch_ns);
  const std::size_t block = begin_block(kEnhancedPacket);
  put32(0);  // interface
  put32(static_cast<std::uint32_t>(timestamp >> 32));
  put32(static_cast<std::uint32_t>(timestamp));
  put32(static_cast<std::uint32_t>(frame.bytes.size()));
  put32(frame.original_length);
  put_padded(frame.bytes);
  const auto flags = static_cast<std::uint32_t>(frame.direction);
  put_option(kOptionEpbFlags, std::as_bytes(std::span{&flags, 1}));
  if (frame.dropped_before != 0) put_option64(kOptionEpbDropCount, frame.dropped_before);
  put32(kOptionEnd);
  end_block(block);
}

void PcapngFile::add_statistics(std::int64_t epoch_ns, std::uint64_t received, std::uint64_t dropped) {
  const auto timestamp = static_cast<std::uint64_t>(epoch_ns);
  const std::size_t block = begin_block(kInterfaceStatistics);
  put32(0);
  put32(static_cast<std::uint32_t>(timestamp >> 32));
  put32(static_cast<std::uint32_t>(timestamp));
  put_option64(kOptionIsbReceived, received);
  put_option64(kOptionIsbDropped, dropped);
  put32(kOptionEnd);
  end_block(block);
}

Result<void> PcapngFile::flush() {
  std::size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t count = ::write(fd_, buffer_.data() + done, buffer_.size() - done);
    if (count > 0) {
      done += static_cast<std::size_t>(count);
    } else if (count == 0 || errno != EINTR) {
      const int code = count == 0 ? ENOSPC : errno;
      const bool is_whole = ::ftruncate(fd_, static_cast<off_t>(size_)) == 0;  // no half block at the end, where that can be had
      static_cast<void>(is_whole);
      return fail_errno(code == ENOSPC || code == EDQUOT || code == EFBIG ? ErrorCode::kNoSpace : ErrorCode::kIo, "capture file " + path_, code);
    }
  }
  size_ += buffer_.size();
  buffer_.clear();
  return {};
}

// A block: type, length, body, length again.
std::size_t PcapngFile::begin_block(std::uint32_t type) {
  const std::size_t begin = buffer_.size();
  put32(type);
  put32(0);  // filled in by end_block()
  return begin;
}

void PcapngFile::end_block(std::size_t begin) {
  const auto length = static_cast<std::uint32_t>(buffer_.size() - begin + sizeof(std::uint32_t));
  std::memcpy(buffer_.data() + begin + sizeof(std::uint32_t), &length, sizeof length);
  put32(length);
}

void PcapngFile::put32(std::uint32_t value) {
  const auto bytes = std::as_bytes(std::span{&value, 1});
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
}

void PcapngFile::put_padded(std::span<const std::byte> bytes) {
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  buffer_.resize((buffer_.size() + 3) & ~std::size_t{3});  // blocks begin on four bytes, so the buffer's size tells
}

void PcapngFile::put_option(std::uint16_t code, std::span<const std::byte> value) {
  put32(code | static_cast<std::uint32_t>(value.size()) << 16);
  put_padded(value);
}

void PcapngFile::put_option64(std::uint16_t code, std::uint64_t value) { put_option(code, std::as_bytes(std::span{&value, 1})); }

}  // namespace thalweg::pmd
