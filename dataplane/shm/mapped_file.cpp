#include "dataplane/shm/mapped_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "dataplane/base/errno.hpp"
#include "dataplane/base/fd.hpp"
#include "dataplane/base/units.hpp"

namespace thalweg::shm {
namespace {

constexpr std::uint64_t kUnmapUnit = 2U << 20;  // a multiple of every page size that logs lie on

constexpr int kPopulateWrite = 23;  // MADV_POPULATE_WRITE, which Debian 12's <sys/mman.h> knows and older ones do not

std::uint64_t bytes_to_allocate(const MappedFile::CreateOptions& options) noexcept {
  if (!options.allocate) return 0;
  return options.allocate_bytes != 0 ? options.allocate_bytes : options.length;
}

int allocate_blocks(int fd, std::uint64_t from, std::uint64_t bytes) noexcept {
  int error = 0;
  do {
    error = ::posix_fallocate(fd, static_cast<off_t>(from), static_cast<off_t>(bytes));
  } while (error == EINTR);
  return error;
}

// Gives the file its length and its blocks. Returns errno, 0 for success.
int resize(int fd, const MappedFile::CreateOptions& options) noexcept {
  if (::ftruncate(fd, static_cast<off_t>(options.length)) != 0) return errno;
  const std::uint64_t bytes = bytes_to_allocate(options);
  return bytes == 0 ? 0 : allocate_blocks(fd, 0, bytes);
}

tl::unexpected<Error> no_space(int fd, const std::string& path, std::uint64_t length, int error) {
  struct statvfs file_system {};
  std::string hint = "free some space or move the directory";
  if (::fstatvfs(fd, &file_system) == 0) {
    const auto free_bytes = static_cast<std::int64_t>(file_system.f_bavail) * static_cast<std::int64_t>(file_system.f_frsize);
    hint = "the file needs " + format_size(static_cast<std::int64_t>(length)) + ", its file system has " + format_size(free_bytes) + " free";
  }
  return fail_errno(ErrorCode::kNoSpace, "allocate " + path, error, std::move(hint));
}

}  // namespace

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_{std::exchange(other.data_, nullptr)}, length_{std::exchange(other.length_, 0)}, path_{std::move(other.path_)} {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  if (this != &other) {
    reset();
    data_ = std::exchange(other.data_, nullptr);
    length_ = std::exchange(other.length_, 0);
    path_ = std::move(other.path_);
  }
  return *this;
}

MappedFile::~MappedFile() { reset(); }

void MappedFile::reset() noexcept {
  if (data_ != nullptr) ::munmap(data_, length_);
  data_ = nullptr;
  length_ = 0;
}

Result<void> MappedFile::claim(std::uint64_t from, std::uint64_t bytes) {
  bytes = std::min(bytes, length_ - std::min(from, length_));
  if (bytes == 0 || ::madvise(data_ + from, bytes, kPopulateWrite) == 0) return {};
  return allocate(path_, from, bytes);  // an older kernel; or there is no space, and this says how much is missing
}

std::uint64_t MappedFile::allocated_bytes() const noexcept {
  struct stat status {};
  return ::stat(path_.c_str(), &status) == 0 ? static_cast<std::uint64_t>(status.st_blocks) * 512 : 0;
}

void MappedFile::populate(std::uint64_t from, std::uint64_t bytes) noexcept {
  if (from < length_) static_cast<void>(::madvise(data_ + from, std::min(bytes, length_ - from), kPopulateWrite));
}

bool MappedFile::shrink(std::uint64_t bytes) noexcept {
  if (bytes >= length_) {
    reset();
    return true;
  }
  const std::uint64_t kept = align_up(length_ - bytes, kUnmapUnit);
  if (kept < length_ && ::munmap(data_ + kept, length_ - kept) == 0) length_ = kept;
  return false;
}

std::byte* MappedFile::release() noexcept {
  length_ = 0;
  return std::exchange(data_, nullptr);
}

Result<MappedFile> MappedFile::create(const std::string& path, const CreateOptions& options) {
  const Fd fd{::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, options.mode)};
  if (fd.get() < 0) return fail_errno(file_error_code(errno), "create " + path, errno);
  const auto undo = [&path](tl::unexpected<Error> error) {
    ::unlink(path.c_str());
    return error;
  };
  if (const int error = resize(fd.get(), options); error != 0) {
    if (file_error_code(error) == ErrorCode::kNoSpace) return undo(no_space(fd.get(), path, bytes_to_allocate(options), error));
    return undo(fail_errno(file_error_code(error), "allocate " + path, error));
  }
  MappedFile file;
  file.path_ = path;
  if (options.length == 0) return file;
  void* const address =
      ::mmap(nullptr, options.length, PROT_READ | PROT_WRITE, MAP_SHARED | (options.populate ? MAP_POPULATE : 0), fd.get(), 0);
  if (address == MAP_FAILED) return undo(fail_errno(file_error_code(errno), "map " + path, errno));
  file.data_ = static_cast<std::byte*>(address);
  file.length_ = options.length;
  return file;
}

Result<void> MappedFile::allocate(const std::string& path, std::uint64_t from, std::uint64_t bytes) {
  const Fd fd{::open(path.c_str(), O_RDWR | O_CLOEXEC)};
  if (fd.get() < 0) return fail_errno(file_error_code(errno), "open " + path, errno);
  const int error = allocate_blocks(fd.get(), from, bytes);
  if (error == 0) return {};
  if (file_error_code(error) == ErrorCode::kNoSpace) return no_space(fd.get(), path, bytes, error);
  return fail_errno(file_error_code(error), "allocate " + path, error);
}

Result<MappedFile> MappedFile::open(const std::string& path, Access access, bool populate) {
  const bool is_writable = access == Access::kReadWrite;
  const Fd fd{::open(path.c_str(), (is_writable ? O_RDWR : O_RDONLY) | O_CLOEXEC)};
  if (fd.get() < 0) return fail_errno(file_error_code(errno), "open " + path, errno);
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return fail_errno(ErrorCode::kIo, "stat " + path, errno);
  if (!S_ISREG(status.st_mode)) return fail(ErrorCode::kIo, "open " + path + ": not a regular file");
  MappedFile file;
  file.path_ = path;
  if (status.st_size == 0) return file;
  const auto length = static_cast<std::uint64_t>(status.st_size);
  void* const address = ::mmap(nullptr, length, PROT_READ | (is_writable ? PROT_WRITE : 0), MAP_SHARED | (populate ? MAP_POPULATE : 0),
                               fd.get(), 0);
  if (address == MAP_FAILED) return fail_errno(file_error_code(errno), "map " + path, errno);
  file.data_ = static_cast<std::byte*>(address);
  file.length_ = length;
  return file;
}

}  // namespace thalweg::shm
