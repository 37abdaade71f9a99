#pragma once
#include <string>

#include "controlplane/log/file_system.hpp"

// The parts of the plain file system that the one over io_uring shares. Internal to controlplane/log.
namespace thalweg::log {

class PlainFile : public File {
 public:
  PlainFile(int fd, std::string path, bool is_writable) : fd_{fd}, path_{std::move(path)}, is_writable_{is_writable} {}
  PlainFile(const PlainFile&) = delete;
  PlainFile& operator=(const PlainFile&) = delete;
  ~PlainFile() override;
  [[nodiscard]] int fd() const noexcept { return fd_; }
  [[nodiscard]] const std::string& path() const noexcept override { return path_; }
  [[nodiscard]] Result<std::uint64_t> size() override;
  [[nodiscard]] Result<std::size_t> read_at(std::span<std::byte> into, std::uint64_t offset) override;
  [[nodiscard]] Result<void> write_at(std::span<const std::byte> bytes, std::uint64_t offset) override;
  [[nodiscard]] Result<void> allocate(std::uint64_t bytes) override;
  [[nodiscard]] Result<void> sync() override;
  [[nodiscard]] Result<std::optional<std::uint64_t>> next_data(std::uint64_t offset) override;
  [[nodiscard]] Result<std::unique_ptr<Mapping>> map(std::uint64_t length) override;
  [[nodiscard]] Result<bool> try_lock(std::uint64_t offset, std::uint64_t length) override;
  void unlock(std::uint64_t offset, std::uint64_t length) noexcept override;
  [[nodiscard]] Result<bool> is_locked(std::uint64_t offset, std::uint64_t length) override;

 protected:
  [[nodiscard]] tl::unexpected<Error> failed(const char* what, int saved_errno) const;

 private:
  int fd_;
  std::string path_;
  bool is_writable_;
};

class PlainFileSystem : public FileSystem {
 public:
  [[nodiscard]] Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) override;
  [[nodiscard]] Result<void> create_directory(const std::string& path) override;
  [[nodiscard]] Result<std::vector<std::string>> list(const std::string& directory) override;
  [[nodiscard]] Result<void> rename(const std::string& from, const std::string& to) override;
  [[nodiscard]] Result<void> remove(const std::string& path) override;
  [[nodiscard]] Result<void> sync_directory(const std::string& path) override;
  [[nodiscard]] Result<void> sync_all(std::span<File* const> files) override;
  [[nodiscard]] Result<Space> space(const std::string& path) override;
  [[nodiscard]] std::uint64_t boot_id() const noexcept override;

 protected:
  // What open() hands out; the io_uring one makes its own kind.
  [[nodiscard]] virtual std::unique_ptr<File> make_file(int fd, const std::string& path, bool is_writable);
};

}  // namespace thalweg::log
