#include "controlplane/log/plain_file_system.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "dataplane/base/errno.hpp"

namespace thalweg::log {
namespace {

tl::unexpected<Error> failed_with(const std::string& what, int saved_errno) { return fail_errno(file_error_code(saved_errno), what, saved_errno); }

class PlainMapping final : public Mapping {
 public:
  PlainMapping(void* address, std::size_t length, bool is_writable) noexcept
      : bytes_{static_cast<std::byte*>(address), length}, is_writable_{is_writable} {}
  PlainMapping(const PlainMapping&) = delete;
  PlainMapping& operator=(const PlainMapping&) = delete;
  ~PlainMapping() override { ::munmap(bytes_.data(), bytes_.size()); }
  [[nodiscard]] std::span<std::byte> bytes() const noexcept override { return bytes_; }
  void populate(std::uint64_t offset, std::uint64_t length) noexcept override {
    constexpr std::uint64_t kPage = 4096;
    const std::uint64_t from = std::min<std::uint64_t>(offset, bytes_.size()) & ~(kPage - 1);
    const std::uint64_t to = std::min<std::uint64_t>(offset + length, bytes_.size());
    // Advice (Linux 5.14): an older kernel refuses it, and the pages come with the first access.
    if (from < to) static_cast<void>(::madvise(bytes_.data() + from, to - from, is_writable_ ? MADV_POPULATE_WRITE : MADV_POPULATE_READ));
  }

 private:
  std::span<std::byte> bytes_;
  bool is_writable_;
};

struct flock range_of(std::uint64_t offset, std::uint64_t length, short type) noexcept {
  struct flock range {};
  range.l_type = type;
  range.l_whence = SEEK_SET;
  range.l_start = static_cast<off_t>(offset);
  range.l_len = static_cast<off_t>(length);
  return range;
}

}  // namespace

PlainFile::~PlainFile() { ::close(fd_); }

tl::unexpected<Error> PlainFile::failed(const char* what, int saved_errno) const {
  return failed_with(std::string{what} + " " + path_, saved_errno);
}

Result<std::uint64_t> PlainFile::size() {
  struct stat info {};
  if (::fstat(fd_, &info) != 0) return failed("stat", errno);
  return static_cast<std::uint64_t>(info.st_size);
}

Result<std::size_t> PlainFile::read_at(std::span<std::byte> into, std::uint64_t offset) {
  std::size_t done = 0;
  while (done < into.size()) {
    const ssize_t n = ::pread(fd_, into.data() + done, into.size() - done, static_cast<off_t>(offset + done));
    if (n == 0) break;
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed("read", errno);
    done += static_cast<std::size_t>(n);
  }
  return done;
}

Result<void> PlainFile::write_at(std::span<const std::byte> bytes, std::uint64_t offset) {
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t n = ::pwrite(fd_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed("write", errno);
    done += static_cast<std::size_t>(n);
  }
  return {};
}

Result<void> PlainFile::allocate(std::uint64_t bytes) {
  int rc = 0;
  do {
    rc = ::posix_fallocate(fd_, 0, static_cast<off_t>(bytes));
  } while (rc == EINTR);
  if (rc != 0) return failed("allocate", rc);
  return {};
}

Result<void> PlainFile::sync() {
  if (::fdatasync(fd_) != 0) return failed("sync", errno);
  return {};
}

Result<std::optional<std::uint64_t>> PlainFile::next_data(std::uint64_t offset) {
  const off_t at = ::lseek(fd_, static_cast<off_t>(offset), SEEK_DATA);
  if (at >= 0) return static_cast<std::uint64_t>(at);
  if (errno == ENXIO) return std::nullopt;
  return offset;  // a file system that cannot tell: everything may be data
}

Result<std::unique_ptr<Mapping>> PlainFile::map(std::uint64_t length) {
  const auto bytes = size();
  if (!bytes) return tl::unexpected{bytes.error()};
  if (*bytes < length || length == 0) return fail(ErrorCode::kIo, "map " + path_ + ": the file has only " + std::to_string(*bytes) + " bytes");
  void* const address = ::mmap(nullptr, length, is_writable_ ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd_, 0);
  if (address == MAP_FAILED) return failed("map", errno);
  return std::make_unique<PlainMapping>(address, length, is_writable_);
}

Result<bool> PlainFile::try_lock(std::uint64_t offset, std::uint64_t length) {
  // Locks of the open file, not of the process: two logs in one process exclude each other as well.
  struct flock range = range_of(offset, length, F_WRLCK);
  if (::fcntl(fd_, F_OFD_SETLK, &range) == 0) return true;
  if (errno == EAGAIN || errno == EACCES) return false;
  return failed("lock", errno);
}

void PlainFile::unlock(std::uint64_t offset, std::uint64_t length) noexcept {
  struct flock range = range_of(offset, length, F_UNLCK);
  static_cast<void>(::fcntl(fd_, F_OFD_SETLK, &range));  // giving up a range cannot fail in a way that anybody could act on
}

Result<bool> PlainFile::is_locked(std::uint64_t offset, std::uint64_t length) {
  struct flock range = range_of(offset, length, F_WRLCK);
  if (::fcntl(fd_, F_OFD_GETLK, &range) != 0) return failed("ask for locks of", errno);
  return range.l_type != F_UNLCK;
}

std::unique_ptr<File> PlainFileSystem::make_file(int fd, const std::string& path, bool is_writable) {
  return std::make_unique<PlainFile>(fd, path, is_writable);
}

Result<std::unique_ptr<File>> PlainFileSystem::open(const std::string& path, OpenMode mode) {
  int flags = O_CLOEXEC | (mode == OpenMode::kRead ? O_RDONLY : O_RDWR);
  if (mode == OpenMode::kCreate) flags |= O_CREAT;
  if (mode == OpenMode::kCreateNew) flags |= O_CREAT | O_EXCL;
  const int fd = ::open(path.c_str(), flags, 0600);
  if (fd < 0) return failed_with("open " + path, errno);
  return make_file(fd, path, mode != OpenMode::kRead);
}

Result<void> PlainFileSystem::create_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return {};
  const int saved = errno;
  if (saved != ENOENT || path.find('/', 1) == std::string::npos) return failed_with("create directory " + path, saved);
  if (auto parent = create_directory(parent_directory(path)); !parent) return parent;
  if (::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return {};
  return failed_with("create directory " + path, errno);
}

Result<std::vector<std::string>> PlainFileSystem::list(const std::string& directory) {
  DIR* const stream = ::opendir(directory.c_str());
  if (stream == nullptr) return failed_with("list " + directory, errno);
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(stream)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  ::closedir(stream);
  std::sort(names.begin(), names.end());
  return names;
}

Result<void> PlainFileSystem::rename(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) return failed_with("rename " + from + " to " + to, errno);
  return {};
}

Result<void> PlainFileSystem::remove(const std::string& path) {
  if (::unlink(path.c_str()) != 0) return failed_with("remove " + path, errno);
  return {};
}

Result<void> PlainFileSystem::sync_directory(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return failed_with("open directory " + path, errno);
  const int rc = ::fsync(fd);
  const int saved = errno;
  ::close(fd);
  if (rc != 0) return failed_with("sync directory " + path, saved);
  return {};
}

Result<void> PlainFileSystem::sync_all(std::span<File* const> files) {
  Result<void> result;
  for (File* file : files) {
    auto synced = file->sync();
    if (!synced && result) result = std::move(synced);
  }
  return result;
}

Result<FileSystem::Space> PlainFileSystem::space(const std::string& path) {
  struct statvfs info {};
  if (::statvfs(path.c_str(), &info) != 0) return failed_with("ask for the space of " + path, errno);
  return Space{static_cast<std::uint64_t>(info.f_bavail) * info.f_frsize, static_cast<std::uint64_t>(info.f_blocks) * info.f_frsize};
}

// 36 characters of a UUID, as a number: FNV-1a.
std::uint64_t PlainFileSystem::boot_id() const noexcept {
  const int fd = ::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  char text[64];
  const ssize_t length = ::read(fd, text, sizeof text);
  ::close(fd);
  std::uint64_t number = 0xCBF29CE484222325ULL;
  for (ssize_t i = 0; i < length; ++i) number = (number ^ static_cast<unsigned char>(text[i])) * 0x100000001B3ULL;
  return length > 0 ? number : 0;
}

std::unique_ptr<FileSystem> make_plain_file_system() { return std::make_unique<PlainFileSystem>(); }

}  // namespace thalweg::log
