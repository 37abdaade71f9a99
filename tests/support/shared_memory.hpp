#pragma once
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <span>
#include <stdexcept>
#include <utility>

namespace thalweg::test {

// Zero-filled anonymous memory that forked children share, page aligned.
class SharedMemory {
 public:
  explicit SharedMemory(std::size_t length) : length_{length} {
    void* const address = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED) throw std::runtime_error{"cannot map memory"};
    data_ = static_cast<std::byte*>(address);
  }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  ~SharedMemory() { ::munmap(data_, length_); }
  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return {data_, length_}; }
  [[nodiscard]] std::byte* data() const noexcept { return data_; }

 private:
  std::byte* data_;
  std::size_t length_;
};

// Runs `work` in a child process that exits with its result; wait_for() gives that result back, -1 for a child that was killed.
template <typename Work>
[[nodiscard]] inline pid_t in_child(Work&& work) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(std::forward<Work>(work)());
  return pid;
}
[[nodiscard]] inline int wait_for(pid_t child) {
  int status = 0;
  if (child <= 0 || ::waitpid(child, &status, 0) != child || !WIFEXITED(status)) return -1;
  return WEXITSTATUS(status);
}

}  // namespace thalweg::test
