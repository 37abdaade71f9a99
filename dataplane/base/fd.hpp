#pragma once
#include <unistd.h>

#include <utility>

namespace thalweg {

// A file descriptor that closes itself; -1: none. Moves, and belongs to one thread at a time.
class Fd {
 public:
  Fd() noexcept = default;
  // Takes it over. -1 (a call that failed, with errno saying why) is kept as none.
  explicit Fd(int fd) noexcept : fd_{fd} {}
  Fd(Fd&& other) noexcept : fd_{other.release()} {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      Fd old{std::exchange(fd_, other.release())};  // closed here, not whenever `other` goes
    }
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] bool is_open() const noexcept { return fd_ >= 0; }
  // Nobody closes it any more but the caller.
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }

 private:
  int fd_{-1};
};

}  // namespace thalweg
