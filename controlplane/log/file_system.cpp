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

namespace {

enum class Durable : bool { kNo, kYes };

Result<void> write_temporary(FileSystem& files, const std::string& temporary, std::span<const std::byte> content, Durable durable) {
  if (auto removed = files.remove(temporary); !removed && removed.error().code != ErrorCode::kNotFound) return removed;
  auto file = files.open(temporary, OpenMode::kCreateNew);
  if (!file) return tl::unexpected{std::move(file.error())};
  if (auto written = (*file)->write_at(content, 0); !written) return written;
  if (durable == Durable::kYes) return (*file)->sync();
  return {};
}

Result<void> replace(FileSystem& files, const std::string& path, std::span<const std::byte> content, Durable durable) {
  const std::string temporary = path + ".tmp";
  auto done = write_temporary(files, temporary, content, durable);
  if (done) done = files.rename(temporary, path);
  if (!done) static_cast<void>(files.remove(temporary));  // the first error tells more
  return done;
}

}  // namespace

Result<void> write_file_atomically(FileSystem& files, const std::string& path, std::span<const std::byte> content) {
  if (auto replaced = replace(files, path, content, Durable::kYes); !replaced) return replaced;
  return files.sync_directory(parent_directory(path));
}

Result<void> replace_file(FileSystem& files, const std::string& path, std::span<const std::byte> content) { return replace(files, path, content, Durable::kNo); }

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
