#include <liburing.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <mutex>

#include "controlplane/log/plain_file_system.hpp"

// Writes, reads and syncs through one ring of the kernel. What it gains: the pieces of a large transfer and the flushes of several files are in
// the device's queue at once. What it does not change: every call returns when its work is done, so both implementations mean the same.
namespace thalweg::log {
namespace {

constexpr unsigned kRingEntries = 64;
constexpr std::size_t kPieceBytes = 1U << 20;  // of a large transfer; smaller ones cost entries, larger ones leave the device's queue empty

class Ring {
 public:
  Ring() = default;
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  ~Ring() {
    if (is_open_) io_uring_queue_exit(&ring_);
  }
  // 0, or the errno.
  [[nodiscard]] int open() noexcept {
    const int rc = io_uring_queue_init(kRingEntries, &ring_, 0);
    is_open_ = rc == 0;
    return -rc;
  }

  // Runs up to kRingEntries operations at once: `prepare(i, sqe)` fills one in, `results[i]` is what the call would have returned, or -errno.
  template <typename Prepare>
  void run(std::span<int> results, Prepare prepare) noexcept {
    const std::lock_guard guard{mutex_};
    std::fill(results.begin(), results.end(), -EIO);
    if (is_broken_) return;
    for (std::size_t i = 0; i < results.size(); ++i) {
      io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
      prepare(i, sqe);
      io_uring_sqe_set_data64(sqe, i);
    }
    for (std::size_t waiting = results.size(); waiting > 0;) {
      const int rc = io_uring_submit_and_wait(&ring_, 1);
      is_broken_ = rc < 0 && rc != -EINTR && rc != -EAGAIN && rc != -EBUSY;
      if (is_broken_) return;
      io_uring_cqe* cqe = nullptr;
      while (waiting > 0 && io_uring_peek_cqe(&ring_, &cqe) == 0) {
        results[io_uring_cqe_get_data64(cqe)] = cqe->res;
        io_uring_cqe_seen(&ring_, cqe);
        --waiting;
      }
    }
  }

 private:
  std::mutex mutex_;  // the ring is one thread's at a time
  io_uring ring_{};
  bool is_open_{false};
  bool is_broken_{false};  // it still holds operations of a caller that has gone: nothing may be submitted any more
};

class UringFile final : public PlainFile {
 public:
  UringFile(std::shared_ptr<Ring> ring, int fd, const std::string& path, bool is_writable)
      : PlainFile{fd, path, is_writable}, ring_{std::move(ring)} {}

  // A piece that came back short or failed is done again by the plain call, which knows every special case and has the error.
  Result<std::size_t> read_at(std::span<std::byte> into, std::uint64_t offset) override {
    return in_pieces(into.size(), [&](std::size_t at, std::size_t length, io_uring_sqe* sqe) {
      io_uring_prep_read(sqe, fd(), into.data() + at, static_cast<unsigned>(length), offset + at);
    }, [&](std::size_t at, std::size_t length) { return PlainFile::read_at(into.subspan(at, length), offset + at); });
  }
  Result<void> write_at(std::span<const std::byte> bytes, std::uint64_t offset) override {
    auto written = in_pieces(bytes.size(), [&](std::size_t at, std::size_t length, io_uring_sqe* sqe) {
      io_uring_prep_write(sqe, fd(), bytes.data() + at, static_cast<unsigned>(length), offset + at);
    }, [&](std::size_t at, std::size_t length) -> Result<std::size_t> {
      if (auto again = PlainFile::write_at(bytes.subspan(at, length), offset + at); !again) return tl::unexpected{std::move(again.error())};
      return length;
    });
    if (!written) return tl::unexpected{std::move(written.error())};
    return {};
  }

 private:
  template <typename Prepare, typename Plain>
  Result<std::size_t> in_pieces(std::size_t total, Prepare prepare, Plain plain) {
    if (total <= kPieceBytes) return plain(0, total);  // the ring would only add the wake-ups of its thread
    std::size_t done = 0;
    while (done < total) {
      std::array<int, kRingEntries> results{};
      const std::size_t count = std::min<std::size_t>((total - done + kPieceBytes - 1) / kPieceBytes, kRingEntries);
      const auto piece = [&](std::size_t i) { return std::min(kPieceBytes, total - done - i * kPieceBytes); };
      ring_->run(std::span{results}.first(count), [&](std::size_t i, io_uring_sqe* sqe) { prepare(done + i * kPieceBytes, piece(i), sqe); });
      std::size_t at = done;
      for (std::size_t i = 0; i < count; at += piece(i), ++i) {
        if (results[i] >= 0 && static_cast<std::size_t>(results[i]) == piece(i)) continue;
        const auto again = plain(at, piece(i));
        if (!again) return again;
        if (*again < piece(i)) return at + *again;  // end of the file
      }
      done = at;
    }
    return done;
  }

  std::shared_ptr<Ring> ring_;
};

class UringFileSystem final : public PlainFileSystem {
 public:
  explicit UringFileSystem(std::shared_ptr<Ring> ring) : ring_{std::move(ring)} {}
  // One file waits for the plain call: the ring would hand it to a thread of the kernel, whose wake-ups cost as much as the sync.
  Result<void> sync_all(std::span<File* const> files) override {
    if (files.size() == 1) return files.front()->sync();
    for (std::size_t first = 0; first < files.size(); first += kRingEntries) {
      std::array<int, kRingEntries> results{};
      const auto part = files.subspan(first, std::min<std::size_t>(kRingEntries, files.size() - first));
      ring_->run(std::span{results}.first(part.size()), [&](std::size_t i, io_uring_sqe* sqe) {
        io_uring_prep_fsync(sqe, static_cast<UringFile*>(part[i])->fd(), IORING_FSYNC_DATASYNC);
      });
      for (std::size_t i = 0; i < part.size(); ++i)
        if (results[i] < 0) return fail_errno(ErrorCode::kIo, "sync " + part[i]->path(), -results[i]);
    }
    return {};
  }

 private:
  std::unique_ptr<File> make_file(int fd, const std::string& path, bool is_writable) override {
    return std::make_unique<UringFile>(ring_, fd, path, is_writable);
  }
  std::shared_ptr<Ring> ring_;
};

}  // namespace

Result<std::unique_ptr<FileSystem>> make_uring_file_system() {
  auto ring = std::make_shared<Ring>();
  if (const int error = ring->open(); error != 0) return fail_errno(ErrorCode::kUnsupported, "io_uring", error);
  return std::make_unique<UringFileSystem>(std::move(ring));
}

}  // namespace thalweg::log
