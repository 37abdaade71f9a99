#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

#include "controlplane/log/clock.hpp"
#include "controlplane/log/coordination.hpp"

// The locks of a shard, each a byte of its file `writers.lock`. Internal to controlplane/log.
namespace thalweg::log {

inline constexpr const char* kWritersLockName = "writers.lock";
// Bytes 0 to kWriterSlots - 1: the slots' owners live. A writer that has the shard for itself holds them all.
inline constexpr std::uint64_t kRotationLock = kWriterSlots;      // who rotates, and who fills holes
inline constexpr std::uint64_t kOpeningLock = kWriterSlots + 1;   // who opens
inline constexpr std::uint64_t kRetentionLock = kWriterSlots + 2; // who deletes
inline constexpr std::uint64_t kSealLock = kWriterSlots + 3;      // who seals
inline constexpr std::uint64_t kPrepareLock = kWriterSlots + 4;   // who makes the next segment
inline constexpr std::int64_t kLockPatience_ns = 10 * kSecond_ns; // a segment is allocated with the lock held; beyond that somebody hangs

// A lock among processes, and, as these belong to an open file and not to a thread, among the threads of one too.
class FileLock {
 public:
  // Waits for it. `mutex`: of the threads that share `file`. Errors: kTimeout, kIo.
  [[nodiscard]] static Result<FileLock> take(File& file, std::uint64_t byte, const Clock& clock, std::mutex* mutex = nullptr);
  FileLock(FileLock&& other) noexcept : file_{std::exchange(other.file_, nullptr)}, byte_{other.byte_}, thread_lock_{std::move(other.thread_lock_)} {}
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock() { release(); }
  void release() noexcept {
    if (file_ != nullptr) std::exchange(file_, nullptr)->unlock(byte_, 1);
    if (thread_lock_.owns_lock()) thread_lock_.unlock();
  }

 private:
  FileLock(File& file, std::uint64_t byte, std::unique_lock<std::mutex> thread_lock) : file_{&file}, byte_{byte}, thread_lock_{std::move(thread_lock)} {}
  File* file_;
  std::uint64_t byte_;
  std::unique_lock<std::mutex> thread_lock_;
};

// The file with the locks of a log; the directory is made if it is not there. Errors: kIo, kNoSpace, kPermission.
[[nodiscard]] Result<std::unique_ptr<File>> open_writers_lock(FileSystem& files, const std::string& directory);
// The same with the log for this process alone, as long as the file is open. `what` the error calls it. Errors: also kInUse.
[[nodiscard]] Result<std::unique_ptr<File>> claim_for_one_writer(FileSystem& files, const std::string& directory, const char* what);

}  // namespace thalweg::log
