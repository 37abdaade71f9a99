#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "dataplane/base/result.hpp"

// What the durable log asks of a file system. The engine reaches files through these classes only, so that tests can stop, tear and drop
// what was not synced at every step. Spec: archive-log 3 (order of operations), 19 (crash tests).
namespace thalweg::log {

enum class OpenMode : std::uint8_t {
  kRead,       // must exist
  kWrite,      // read and write; must exist
  kCreate,     // read and write; created when missing
  kCreateNew,  // read and write; an existing file of the name is an error (kInUse)
};

// Bytes of a file in memory, shared with every other mapping of it and with read_at() and write_at(). Unmapped by the destructor; stays valid
// when the file is removed or its File is closed.
class Mapping {
 public:
  virtual ~Mapping() = default;
  [[nodiscard]] virtual std::span<std::byte> bytes() const noexcept = 0;
  // Makes the pages of [offset, offset + length) present, writable ones without a later fault on the first store. Advice: cannot fail.
  virtual void populate(std::uint64_t offset, std::uint64_t length) noexcept = 0;
};

// An open file. Any thread; errors carry the path. Every call may block.
class File {
 public:
  virtual ~File() = default;
  [[nodiscard]] virtual const std::string& path() const noexcept = 0;
  [[nodiscard]] virtual Result<std::uint64_t> size() = 0;  // bytes
  // Reads until `into` is full or the file ends; returns the bytes read. Errors: kIo.
  [[nodiscard]] virtual Result<std::size_t> read_at(std::span<std::byte> into, std::uint64_t offset) = 0;
  // Writes all of `bytes`. Errors: kNoSpace, kIo; part of it may be there then.
  [[nodiscard]] virtual Result<void> write_at(std::span<const std::byte> bytes, std::uint64_t offset) = 0;
  // Gives the file `bytes` bytes of really allocated storage, what is new reads as zeros. Errors: kNoSpace, kIo.
  [[nodiscard]] virtual Result<void> allocate(std::uint64_t bytes) = 0;
  // Data, allocation and length survive a power failure once it returns; stores into mappings are data. Errors: kIo.
  [[nodiscard]] virtual Result<void> sync() = 0;
  // The first offset >= `offset` that may hold something else than zeros; nullopt: none. Advice that saves reading, never wrong about data.
  [[nodiscard]] virtual Result<std::optional<std::uint64_t>> next_data(std::uint64_t offset) = 0;
  // Maps [0, length); the file must be that long. Writable when the file was opened so. Errors: kIo.
  [[nodiscard]] virtual Result<std::unique_ptr<Mapping>> map(std::uint64_t length) = 0;
  // Takes an exclusive advisory lock on a range of bytes that need not exist. It belongs to this File and ends with it, also when the process
  // dies. false: somebody else holds part of it. Errors: kIo.
  [[nodiscard]] virtual Result<bool> try_lock(std::uint64_t offset, std::uint64_t length) = 0;
  virtual void unlock(std::uint64_t offset, std::uint64_t length) noexcept = 0;
  // Whether somebody else holds a lock in the range. Errors: kIo.
  [[nodiscard]] virtual Result<bool> is_locked(std::uint64_t offset, std::uint64_t length) = 0;
};

// Names and directories. Any thread. Errors of all: kIo, kPermission, and what is named.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  [[nodiscard]] virtual Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) = 0;  // kNotFound, kInUse
  // With missing parents; no error when it exists.
  [[nodiscard]] virtual Result<void> create_directory(const std::string& path) = 0;
  // Names without path, sorted, "." and ".." left out. kNotFound.
  [[nodiscard]] virtual Result<std::vector<std::string>> list(const std::string& directory) = 0;
  // Atomic; an existing target is replaced. kNotFound.
  [[nodiscard]] virtual Result<void> rename(const std::string& from, const std::string& to) = 0;
  [[nodiscard]] virtual Result<void> remove(const std::string& path) = 0;  // kNotFound
  // Created, renamed and removed names of the directory survive a power failure once it returns.
  [[nodiscard]] virtual Result<void> sync_directory(const std::string& path) = 0;
  // File::sync() of several files; an implementation may overlap the device flushes. The first error of any, after all were tried.
  [[nodiscard]] virtual Result<void> sync_all(std::span<File* const> files) = 0;
  // Bytes an unprivileged process may still allocate there, and the size of the file system.
  struct Space {
    std::uint64_t free_bytes{};
    std::uint64_t total_bytes{};
  };
  [[nodiscard]] virtual Result<Space> space(const std::string& path) = 0;
  // Another number when the machine was started anew; 0: not known.
  [[nodiscard]] virtual std::uint64_t boot_id() const noexcept { return 0; }
};

// Plain system calls. Works everywhere.
[[nodiscard]] std::unique_ptr<FileSystem> make_plain_file_system();
// Writes, reads and syncs through io_uring. Errors: kUnsupported when the kernel has none or forbids it to this process.
[[nodiscard]] Result<std::unique_ptr<FileSystem>> make_uring_file_system();
// io_uring where the kernel has it, plain calls otherwise. What every program uses.
[[nodiscard]] std::unique_ptr<FileSystem> make_file_system();

// Replaces `path` by a file with these bytes so that after a crash either the old or the new content is there, whole (temporary file, sync,
// rename, sync of the directory). Errors: kNoSpace, kIo, kPermission.
[[nodiscard]] Result<void> write_file_atomically(FileSystem& files, const std::string& path, std::span<const std::byte> content);
// The same without a sync: after a power failure the file may have the old content, the new one or neither. Errors: the same; nothing half made stays.
[[nodiscard]] Result<void> replace_file(FileSystem& files, const std::string& path, std::span<const std::byte> content);
// All of a file. Errors: kNotFound, kIo; kInvalidArgument when it is longer than `limit_bytes`.
[[nodiscard]] Result<std::vector<std::byte>> read_file(FileSystem& files, const std::string& path, std::uint64_t limit_bytes);
// "a/b" of "a/b/c"; "." without a slash.
[[nodiscard]] std::string parent_directory(const std::string& path);

}  // namespace thalweg::log
