#include "controlplane/host/log_files.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstdlib>
#include <fstream>
#include <sstream>

namespace thalweg::host {
namespace {

std::string text_of(const char* path) {
  std::ifstream file{path};
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// A line of /proc/meminfo: `MemTotal:       24684092 kB`.
std::optional<std::uint64_t> meminfo_bytes(const std::string& text, std::string_view key) {
  const std::size_t at = text.find(key);
  if (at == std::string::npos) return std::nullopt;
  return std::strtoull(text.c_str() + at + key.size(), nullptr, 10) << 10;
}

bool is_in_memory(const std::string& path) {
  constexpr auto kTmpfsMagic = 0x01021994;
  struct statfs info {};
  return ::statfs(path.c_str(), &info) == 0 && info.f_type == kTmpfsMagic;
}

tl::unexpected<Error> no_space(std::uint64_t length, const std::string& where, std::uint64_t usable) {
  return fail(ErrorCode::kNoSpace, fmt::format("insufficient usable storage for new log of length={} in {}: usable={}", length, where, usable),
              "free space there, or ask for a smaller term-length");
}

std::string hugepage_path(const LogFileSpec& spec) {
  static constexpr const char* kNames[] = {"pool", "publication", "image"};
  return fmt::format("{}/{}-{}.logbuffer", spec.hugetlbfs, kNames[static_cast<std::size_t>(spec.use)], spec.id);
}

// A log on huge pages with its link in the instance directory; nullopt when there is no room for it (tmpfs serves then).
std::optional<LogFile> create_on_hugepages(const LogFileSpec& spec, const std::string& link) {
  const std::uint64_t length = shm::log_file_length(spec.term_length, kHugePageSize);
  const auto usable = usable_bytes(spec.hugetlbfs);
  if (!usable || *usable < length) return std::nullopt;
  const std::string path = hugepage_path(spec);
  ::unlink(path.c_str());
  auto mapping = shm::MappedFile::create(path, {.length = length, .mode = 0666, .allocate = true, .populate = false});
  if (!mapping) return std::nullopt;
  if (::symlink(path.c_str(), link.c_str()) != 0) {
    ::unlink(path.c_str());
    return std::nullopt;
  }
  return LogFile{std::move(*mapping), path, length, kHugePageSize, spec.term_length, true, length, length, false};
}

struct Span {
  std::uint64_t begin, end;  // bytes of the file
};

// The partition that the stream starts in.
Span first_partition(const LogFileSpec& spec) {
  constexpr std::int64_t kPartitions = 3;
  const auto begin = static_cast<std::uint64_t>(spec.first_position / spec.term_length % kPartitions * spec.term_length);
  return {begin, begin + static_cast<std::uint64_t>(spec.term_length)};
}

Result<void> allocate_or_delete(const LogFileSpec& spec, const LogFile& file, std::uint64_t from, std::uint64_t bytes) {
  auto allocated = shm::MappedFile::allocate(file.path, from, bytes);
  if (allocated) return {};
  static_cast<void>(delete_log_file(file.path));  // it is there, and ours
  if (allocated.error().code != ErrorCode::kNoSpace) return allocated;
  return no_space(file.length, spec.directory, usable_bytes(spec.directory).value_or(0));
}

}  // namespace

std::int64_t pool_id_of(const std::string& path_on_hugepages) noexcept {
  constexpr std::string_view kPrefix = "pool-";
  const std::size_t at = path_on_hugepages.rfind('/') + 1;
  if (path_on_hugepages.compare(at, kPrefix.size(), kPrefix) != 0) return 0;
  std::int64_t id = 0;
  std::from_chars(path_on_hugepages.data() + at + kPrefix.size(), path_on_hugepages.data() + path_on_hugepages.size(), id);
  return id;
}

Result<LogFile> create_log_file(const LogFileSpec& spec) {
  const std::string path = shm::log_path(spec.directory, spec.use, spec.id);
  if (auto deleted = delete_log_file(path); !deleted) return tl::unexpected{std::move(deleted).error()};
  std::optional<LogFile> file;
  if (!spec.hugetlbfs.empty() && spec.term_length >= kHugePageTermLengthMin) file = create_on_hugepages(spec, path);
  if (!file) {
    const std::uint64_t length = shm::log_file_length(spec.term_length, shm::kDefaultPageSize);
    const bool is_sparse = spec.metadata && spec.metadata->sparse && spec.term_length >= kSparseTermLengthMin;
    const Span wanted = is_sparse ? first_partition(spec) : Span{0, length};
    const auto usable = allocatable_bytes(spec.directory);
    if (usable && *usable < wanted.end - wanted.begin) return no_space(length, spec.directory, *usable);
    auto mapping = shm::MappedFile::create(path, {.length = length, .mode = 0666, .allocate = false, .populate = false});
    if (!mapping) return tl::unexpected{std::move(mapping).error()};
    file = LogFile{std::move(*mapping), path, length, shm::kDefaultPageSize, spec.term_length, false, wanted.begin, wanted.end, is_sparse};
    const auto step = [&](std::uint64_t from, std::uint64_t bytes) { return allocate_or_delete(spec, *file, from, bytes); };
    auto allocated = step(length - shm::kLogMetadataLength, shm::kLogMetadataLength);  // written below
    if (allocated && is_sparse) allocated = step(wanted.end % (length - shm::kLogMetadataLength), shm::kDefaultPageSize);
    if (allocated) allocated = allocate_more(spec, *file);
    if (!allocated) return tl::unexpected{std::move(allocated).error()};
  }
  if (spec.metadata) init_metadata(*file, *spec.metadata);
  file->mapping.populate(file->length - shm::kLogMetadataLength, shm::kLogMetadataLength);   // what the conductor writes when the log is taken
  return std::move(*file);
}

Result<void> allocate_more(const LogFileSpec& spec, LogFile& file) {
  const std::uint64_t bytes = std::min(kLogStepBytes, file.allocate_end - file.allocated_until);
  if (auto allocated = allocate_or_delete(spec, file, file.allocated_until, bytes); !allocated) return allocated;
  file.allocated_until += bytes;
  return {};
}

Result<LogFile> open_log_file(const std::string& directory, shm::LogUse use, std::int64_t id, std::int32_t term_length) {
  const std::string link = shm::log_path(directory, use, id);
  char real[PATH_MAX];
  if (::realpath(link.c_str(), real) == nullptr) return fail_errno(ErrorCode::kNotFound, link, errno);
  auto mapping = shm::MappedFile::open(real, shm::MappedFile::Access::kReadWrite);
  if (!mapping) return tl::unexpected{std::move(mapping).error()};
  const std::uint64_t length = mapping->length();
  struct stat status {};
  const bool is_link = ::lstat(link.c_str(), &status) == 0 && S_ISLNK(status.st_mode);
  const std::uint32_t page_size = is_link ? kHugePageSize : static_cast<std::uint32_t>(shm::kDefaultPageSize);
  if (length != shm::log_file_length(term_length, page_size)) {
    return fail(ErrorCode::kIo, fmt::format("{}: length {} does not fit term length {}", link, length, term_length));
  }
  return LogFile{std::move(*mapping), is_link ? std::string{real} : link, length, page_size, term_length, is_link, length, length, false};
}

void init_metadata(const LogFile& file, shm::LogMetadata metadata) noexcept {
  metadata.term_length = file.term_length;
  metadata.page_size = static_cast<std::int32_t>(file.page_size);
  shm::init_log_metadata(file.buffer(), metadata);
}

Result<void> delete_log_file(const std::string& path_in_directory) {
  char target[PATH_MAX];
  const ssize_t length = ::readlink(path_in_directory.c_str(), target, sizeof target - 1);
  if (length > 0) ::unlink(std::string(target, static_cast<std::size_t>(length)).c_str());
  if (::unlink(path_in_directory.c_str()) != 0 && errno != ENOENT) return fail_errno(ErrorCode::kIo, path_in_directory, errno);
  return {};
}

std::optional<std::uint64_t> usable_bytes(const std::string& path) {
  struct statvfs info {};
  if (::statvfs(path.c_str(), &info) != 0) return std::nullopt;
  return static_cast<std::uint64_t>(info.f_bavail) * info.f_frsize;
}

std::optional<std::uint64_t> allocatable_memory(const std::string& meminfo_text) {
  const auto total = meminfo_bytes(meminfo_text, "MemTotal:");
  const auto available = meminfo_bytes(meminfo_text, "MemAvailable:");
  if (!total || !available) return std::nullopt;
  return *available - std::min(*available, *total / 16);
}

std::optional<std::uint64_t> allocatable_bytes(const std::string& path) {
  const auto usable = usable_bytes(path);
  if (!usable || !is_in_memory(path)) return usable;
  return std::min(*usable, allocatable_memory(text_of("/proc/meminfo")).value_or(*usable));
}

std::uint64_t half_of_storage(const std::string& path) {
  struct statvfs info {};
  if (::statvfs(path.c_str(), &info) != 0) return UINT64_MAX;
  const std::uint64_t size = static_cast<std::uint64_t>(info.f_blocks) * info.f_frsize;
  if (!is_in_memory(path)) return size / 2;
  return std::min(size, meminfo_bytes(text_of("/proc/meminfo"), "MemTotal:").value_or(size)) / 2;
}

std::string find_hugetlbfs(const std::string& mounts_text) {
  std::istringstream lines{mounts_text};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields{line};
    std::string device;
    std::string mount;
    std::string type;
    fields >> device >> mount >> type;
    if (type != "hugetlbfs" || ::access(mount.c_str(), W_OK) != 0) continue;
    struct statfs info {};
    if (::statfs(mount.c_str(), &info) == 0 && info.f_bsize == static_cast<long>(kHugePageSize)) return mount;
  }
  return {};
}

std::string find_hugetlbfs() { return find_hugetlbfs(text_of("/proc/mounts")); }

}  // namespace thalweg::host
