#include "controlplane/log/shared_lock.hpp"

#include <thread>

namespace thalweg::log {

Result<FileLock> FileLock::take(File& file, std::uint64_t byte, const Clock& clock, std::mutex* mutex) {
  std::unique_lock<std::mutex> thread_lock;
  if (mutex != nullptr) thread_lock = std::unique_lock{*mutex};
  for (const std::int64_t deadline_ns = clock.monotonic_ns() + kLockPatience_ns;; std::this_thread::yield()) {
    const auto locked = file.try_lock(byte, 1);
    if (!locked) return tl::unexpected{locked.error()};
    if (*locked) return FileLock{file, byte, std::move(thread_lock)};
    if (clock.monotonic_ns() >= deadline_ns)
      return fail(ErrorCode::kTimeout, file.path() + ": another process holds the lock on byte " + std::to_string(byte) + " for too long", "look for a stopped writer of this log");
  }
}

Result<std::unique_ptr<File>> open_writers_lock(FileSystem& files, const std::string& directory) {
  if (auto made = files.create_directory(directory); !made) return tl::unexpected{std::move(made.error())};
  return files.open(directory + "/" + kWritersLockName, OpenMode::kCreate);
}

Result<std::unique_ptr<File>> claim_for_one_writer(FileSystem& files, const std::string& directory, const char* what) {
  auto lock = open_writers_lock(files, directory);
  if (!lock) return lock;
  const auto locked = (*lock)->try_lock(0, kWriterSlots);
  if (!locked) return tl::unexpected{locked.error()};
  if (!*locked) return fail(ErrorCode::kInUse, directory + ": another writer has this " + what + " open", "stop it first, or open it for reading");
  return lock;
}

}  // namespace thalweg::log
