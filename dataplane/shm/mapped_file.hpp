#pragma once
#include <string>

#include "dataplane/base/bytes.hpp"
#include "dataplane/base/result.hpp"

namespace thalweg::shm {

// A shared file mapping, unmapped on destruction. Not thread safe.
class MappedFile {
 public:
  enum class Access : std::uint8_t { kReadOnly, kReadWrite };
  struct CreateOptions {
    std::uint64_t length{};       // bytes
    std::uint32_t mode{0666};     // & ~umask
    bool allocate{true};          // posix_fallocate, so that a full file system is an error here and not a SIGBUS later
    bool populate{false};         // fault all pages in now
    std::uint64_t allocate_bytes{};  // only this much from the start, the rest stays a hole; 0 = all
  };
  MappedFile() noexcept = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  // Creates exclusively, zero-filled. Errors: kInUse (exists), kNoSpace (with how much is needed), kIo, kPermission.
  [[nodiscard]] static Result<MappedFile> create(const std::string& path, const CreateOptions& options);
  // Errors: kNotFound, kPermission, kIo. An empty file maps to an empty span.
  // Gives blocks to [from, from + bytes) of a file that was made without. Errors: kNoSpace, kNotFound, kPermission, kIo.
  [[nodiscard]] static Result<void> allocate(const std::string& path, std::uint64_t from, std::uint64_t bytes);
  [[nodiscard]] static Result<MappedFile> open(const std::string& path, Access access, bool populate = false);

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::uint64_t length() const noexcept { return length_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  void reset() noexcept;
  // The same for a mapped range, and its pages are faulted in. Errors: kNoSpace, kIo.
  [[nodiscard]] Result<void> claim(std::uint64_t from, std::uint64_t bytes);
  // Bytes of the file that have blocks, its metadata and what was read of its holes included; 0 when it cannot be asked.
  [[nodiscard]] std::uint64_t allocated_bytes() const noexcept;
  // Faults the pages of [from, from + bytes) in for writing, as far as the file goes and the kernel can (since Linux 5.14; before, they fault
  // when they are used).
  void populate(std::uint64_t from, std::uint64_t bytes) noexcept;
  // Unmaps up to `bytes` from the end, a multiple of the page size; true: nothing is left. What takes long for a large mapping, in steps.
  bool shrink(std::uint64_t bytes) noexcept;
  // Gives the mapping up without unmapping it: the caller owns [data, data + length).
  std::byte* release() noexcept;

 private:
  std::byte* data_{};
  std::uint64_t length_{};
  std::string path_;
};

}  // namespace thalweg::shm
