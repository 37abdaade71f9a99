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
  [[nodiscard]] static Result<MappedFile> open(const std::string& path, Access access, bool populate = false);

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::uint64_t length() const noexcept { return length_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  void reset() noexcept;
  // Gives the mapping up without unmapping it: the caller owns [data, data + length).
  std::byte* release() noexcept;

 private:
  std::byte* data_{};
  std::uint64_t length_{};
  std::string path_;
};

}  // namespace thalweg::shm
