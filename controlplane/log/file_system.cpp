#include "controlplane/log/file_system.hpp"

namespace thalweg::log {

std::unique_ptr<FileSystem> make_file_system() {
  if (auto uring = make_uring_file_system()) return std::move(*uring);
  return make_plain_file_system();
}

std::string parent_directory(const std::string& path) {
  const std::size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Result<void> write_file_atomically(FileSystem& files, const std::string& path, std::span<const std::byte> content) {
  const std::string temporary = path + ".tmp";
  if (auto removed = files.remove(temporary); !removed && removed.error().code != ErrorCode::kNotFound) return removed;
  auto file = files.open(temporary, OpenMode::kCreateNew);
  if (!file) return tl::unexpected{std::move(file.error())};
  if (auto written = (*file)->write_at(content, 0); !written) return written;
  if (auto synced = (*file)->sync(); !synced) return synced;
  if (auto renamed = files.rename(temporary, path); !renamed) return renamed;
  return files.sync_directory(parent_directory(path));
}

Result<std::vector<std::byte>> read_file(FileSystem& files, const std::string& path, std::uint64_t limit_bytes) {
  auto file = files.open(path, OpenMode::kRead);
  if (!file) return tl::unexpected{std::move(file.error())};
  const auto size = (*file)->size();
  if (!size) return tl::unexpected{size.error()};
  if (*size > limit_bytes) return fail(ErrorCode::kInvalidArgument, path + ": " + std::to_string(*size) + " bytes, more than it can have");
  std::vector<std::byte> content(*size);
  const auto read = (*file)->read_at(content, 0);
  if (!read) return tl::unexpected{read.error()};
  content.resize(*read);
  return content;
}

}  // namespace thalweg::log
