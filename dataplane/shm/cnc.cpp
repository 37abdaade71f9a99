#include "dataplane/shm/cnc.hpp"

#include <pwd.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <ctime>
#include <limits>

#include "dataplane/base/time.hpp"
#include "dataplane/shm/broadcast.hpp"
#include "dataplane/shm/counters.hpp"
#include "dataplane/shm/ring_buffer.hpp"

namespace thalweg::shm {
namespace {

// Offsets of the header (2.2).
constexpr std::size_t kVersion = 0;
constexpr std::size_t kToDriverLength = 4;
constexpr std::size_t kToClientsLength = 8;
constexpr std::size_t kMetadataLength = 12;
constexpr std::size_t kValuesLength = 16;
constexpr std::size_t kErrorLogLength = 20;
constexpr std::size_t kClientLivenessTimeout = 24;
constexpr std::size_t kStartTimestamp = 32;
constexpr std::size_t kPid = 40;
constexpr std::size_t kPageSize = 48;

constexpr std::int32_t kMetadataPerValue = static_cast<std::int32_t>(kCounterMetadataLength / kCounterValueLength);

std::string path_in(const std::string& directory) { return directory + "/cnc.dat"; }

std::uint64_t used_length(const CncLayout& l) noexcept {
  return kCncHeaderLength + static_cast<std::uint64_t>(l.to_driver_length) + static_cast<std::uint64_t>(l.to_clients_length) +
         static_cast<std::uint64_t>(kMetadataPerValue + 1) * static_cast<std::uint64_t>(l.counter_values_length) +
         static_cast<std::uint64_t>(l.error_log_length);
}

// nullptr when every length is usable.
const char* complaint_about(const CncLayout& l) noexcept {
  if (l.to_driver_length < 0 || !ManyToOneRing::is_valid_length(static_cast<std::size_t>(l.to_driver_length))) return "to-driver length";
  if (l.to_clients_length < 0 || !BroadcastTransmitter::is_valid_length(static_cast<std::size_t>(l.to_clients_length))) {
    return "to-clients length";
  }
  if (l.counter_values_length <= 0 || l.counter_values_length % static_cast<std::int32_t>(kCounterValueLength) != 0) {
    return "counters values length";
  }
  if (l.error_log_length < 0 || l.error_log_length % 8 != 0) return "error log length";
  if (l.page_size <= 0 || !std::has_single_bit(static_cast<std::uint32_t>(l.page_size))) return "page size";
  if (used_length(l) > static_cast<std::uint64_t>(std::numeric_limits<std::int32_t>::max() - l.page_size)) return "total length";
  return nullptr;
}

std::atomic_ref<std::int32_t> version_of(const MappedFile& file) noexcept {
  return std::atomic_ref<std::int32_t>{*reinterpret_cast<std::int32_t*>(file.data() + kVersion)};
}

}  // namespace

Result<CncFile> CncFile::create(const std::string& directory, const CncLayout& layout, std::int64_t pid, std::int64_t start_ms) {
  if (const char* const what = complaint_about(layout)) {
    return fail(ErrorCode::kInvalidArgument, std::string{"cnc.dat: unusable "} + what, "see the buffer lengths of the configuration");
  }
  const std::uint64_t length = align_up<std::uint64_t>(used_length(layout), static_cast<std::uint64_t>(layout.page_size));
  auto file = MappedFile::create(path_in(directory), {.length = length});  // not populated: most counters are never used
  if (!file) return tl::unexpected<Error>{std::move(file.error())};
  CncFile cnc;
  cnc.file_ = std::move(*file);
  cnc.layout_ = layout;
  std::byte* const p = cnc.file_.data();
  store_le(p + kToDriverLength, layout.to_driver_length);
  store_le(p + kToClientsLength, layout.to_clients_length);
  store_le(p + kMetadataLength, kMetadataPerValue * layout.counter_values_length);
  store_le(p + kValuesLength, layout.counter_values_length);
  store_le(p + kErrorLogLength, layout.error_log_length);
  store_le(p + kClientLivenessTimeout, layout.client_liveness_timeout_ns);
  store_le(p + kStartTimestamp, start_ms);
  store_le(p + kPid, pid);
  store_le(p + kPageSize, layout.page_size);
  return cnc;
}

Result<CncFile> CncFile::open(const std::string& directory, MappedFile::Access access, bool must_be_ready) {
  auto file = MappedFile::open(path_in(directory), access);
  if (!file) return tl::unexpected<Error>{std::move(file.error())};
  const std::string& path = file->path();
  if (file->length() < kCncHeaderLength) return fail(ErrorCode::kUnreachable, path + " is still being made", "try again");
  const std::int32_t version = version_of(*file).load(std::memory_order_acquire);
  if (version == 0 && must_be_ready) return fail(ErrorCode::kUnreachable, path + " is created but not initialised", "is the driver still starting?");
  if (version != 0 && version >> 16 != kCncVersion >> 16) {
    return fail(ErrorCode::kVersion, path + " has major version " + std::to_string(version >> 16) + ", this program knows " +
                                         std::to_string(kCncVersion >> 16));
  }
  CncFile cnc;
  const std::byte* const p = file->data();
  CncLayout& l = cnc.layout_;
  l.to_driver_length = load_le<std::int32_t>(p + kToDriverLength);
  l.to_clients_length = load_le<std::int32_t>(p + kToClientsLength);
  l.counter_values_length = load_le<std::int32_t>(p + kValuesLength);
  l.error_log_length = load_le<std::int32_t>(p + kErrorLogLength);
  l.client_liveness_timeout_ns = load_le<std::int64_t>(p + kClientLivenessTimeout);
  l.page_size = load_le<std::int32_t>(p + kPageSize);
  if (l.page_size == 0) l.page_size = 4096;
  const char* what = complaint_about(l);
  if (what == nullptr && load_le<std::int32_t>(p + kMetadataLength) != kMetadataPerValue * l.counter_values_length) {
    what = "counters metadata length";
  }
  if (what == nullptr && used_length(l) > file->length()) what = "file length";
  if (what != nullptr) return fail(ErrorCode::kIo, path + ": unusable " + what, "the file is damaged or not a cnc.dat");
  cnc.file_ = std::move(*file);
  return cnc;
}

void CncFile::mark_ready() noexcept { version_of(file_).store(kCncVersion, std::memory_order_release); }
std::int32_t CncFile::version() const noexcept { return version_of(file_).load(std::memory_order_acquire); }
std::int64_t CncFile::start_ms() const noexcept { return load_le<std::int64_t>(file_.data() + kStartTimestamp); }
std::int64_t CncFile::pid() const noexcept { return load_le<std::int64_t>(file_.data() + kPid); }
void CncFile::set_pid(std::int64_t pid) noexcept { store_le(file_.data() + kPid, pid); }

std::span<std::byte> CncFile::to_driver() const noexcept {
  return {file_.data() + kCncHeaderLength, static_cast<std::size_t>(layout_.to_driver_length)};
}
std::span<std::byte> CncFile::to_clients() const noexcept {
  return {to_driver().data() + to_driver().size(), static_cast<std::size_t>(layout_.to_clients_length)};
}
std::span<std::byte> CncFile::counter_metadata() const noexcept {
  return {to_clients().data() + to_clients().size(), static_cast<std::size_t>(kMetadataPerValue) * static_cast<std::size_t>(layout_.counter_values_length)};
}
std::span<std::byte> CncFile::counter_values() const noexcept {
  return {counter_metadata().data() + counter_metadata().size(), static_cast<std::size_t>(layout_.counter_values_length)};
}
std::span<std::byte> CncFile::error_log() const noexcept {
  return {counter_values().data() + counter_values().size(), static_cast<std::size_t>(layout_.error_log_length)};
}

std::string default_directory() {
  if (const char* const directory = std::getenv("AERON_DIR"); directory != nullptr && *directory != '\0') return directory;
  const char* const user = std::getenv("USER");
  if (user != nullptr && *user != '\0') return std::string{"/dev/shm/aeron-"} + user;
  std::array<char, 4096> buffer;
  passwd entry{};
  passwd* found = nullptr;
  const bool is_known = ::getpwuid_r(::getuid(), &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr;
  return std::string{"/dev/shm/aeron-"} + (is_known ? entry.pw_name : "default");
}

Result<DriverActivity> check_driver_active(const std::string& directory, std::int64_t driver_timeout_ms, std::int64_t now_ms) {
  const std::int64_t deadline_ns = monotonic_ns() + driver_timeout_ms * kMillisecond_ns;
  for (;;) {
    const auto cnc = CncFile::open(directory, MappedFile::Access::kReadOnly);
    if (cnc) {
      const std::int64_t heartbeat_ms = ManyToOneRing{cnc->to_driver()}.consumer_heartbeat();
      return heartbeat_ms >= now_ms - driver_timeout_ms ? DriverActivity::kActive : DriverActivity::kInactive;
    }
    if (cnc.error().code == ErrorCode::kNotFound) return DriverActivity::kInactive;
    if (cnc.error().code != ErrorCode::kUnreachable) return tl::unexpected<Error>{cnc.error()};
    if (monotonic_ns() >= deadline_ns) {
      return fail(ErrorCode::kTimeout, directory + "/cnc.dat is created but not initialised",
                  "a driver died while it started: remove the directory");
    }
    const timespec pause{0, kMillisecond_ns};
    ::nanosleep(&pause, nullptr);
  }
}

}  // namespace thalweg::shm
