#include "tests/support/crash_file_system.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>

namespace thalweg::test {
namespace {
constexpr std::uint64_t kSector = 512;
}

struct CrashFileSystem::Inode {
  explicit Inode(std::uint64_t bytes_max) : capacity{bytes_max}, durable(bytes_max) {
    void* const address = ::mmap(nullptr, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address == MAP_FAILED) throw std::bad_alloc{};
    bytes = static_cast<std::byte*>(address);
  }
  Inode(const Inode&) = delete;
  Inode& operator=(const Inode&) = delete;
  ~Inode() { ::munmap(bytes, capacity); }
  void sync() {
    std::copy_n(bytes, size, durable.begin());
    durable_size = size;
  }
  void lose_power(Random& random) {
    const std::uint64_t how = random.below(4);  // all that was not synced is lost, nothing is, or a mixture
    if (how != 0 && (how == 1 || random.below(2) == 0)) durable_size = size;
    for (std::uint64_t at = 0; at < capacity; at += kSector) {
      const std::uint64_t length = std::min(kSector, capacity - at);
      if (std::memcmp(bytes + at, durable.data() + at, length) == 0) continue;
      if (how == 1 || (how > 1 && random.below(2) == 0)) std::copy_n(bytes + at, length, durable.begin() + static_cast<std::ptrdiff_t>(at));
      else std::copy_n(durable.begin() + static_cast<std::ptrdiff_t>(at), length, bytes + at);
    }
    size = durable_size;
    std::memset(bytes + size, 0, capacity - size);
    std::fill(durable.begin() + static_cast<std::ptrdiff_t>(size), durable.end(), std::byte{0});
  }

  std::uint64_t capacity;
  std::byte* bytes{};
  std::uint64_t size{0};
  std::vector<std::byte> durable;
  std::uint64_t durable_size{0};
  struct Lock {
    const void* owner{};
    std::uint64_t generation{};
    std::uint64_t from{};
    std::uint64_t to{};
  };
  std::vector<Lock> locks;
};

namespace {

class CrashMapping final : public log::Mapping {
 public:
  CrashMapping(std::shared_ptr<void> keep, std::span<std::byte> bytes) : keep_{std::move(keep)}, bytes_{bytes} {}
  std::span<std::byte> bytes() const noexcept override { return bytes_; }
  void populate(std::uint64_t, std::uint64_t) noexcept override {}

 private:
  std::shared_ptr<void> keep_;
  std::span<std::byte> bytes_;
};

}  // namespace

class CrashFile final : public log::File {
 public:
  CrashFile(CrashFileSystem& files, std::shared_ptr<CrashFileSystem::Inode> inode, std::string path)
      : files_{files}, inode_{std::move(inode)}, path_{std::move(path)}, generation_{files.generation_} {}
  CrashFile(const CrashFile&) = delete;
  CrashFile& operator=(const CrashFile&) = delete;
  ~CrashFile() override {
    std::erase_if(inode_->locks, [this](const auto& lock) { return lock.owner == this; });
  }
  const std::string& path() const noexcept override { return path_; }
  CrashFileSystem::Inode& inode() const noexcept { return *inode_; }
  Result<std::uint64_t> size() override {
    if (auto alive = files_.check_alive(generation_); !alive) return tl::unexpected{alive.error()};
    return inode_->size;
  }
  Result<std::size_t> read_at(std::span<std::byte> into, std::uint64_t offset) override {
    if (auto alive = files_.check_alive(generation_); !alive) return tl::unexpected{alive.error()};
    if (offset >= inode_->size) return 0;
    const std::size_t length = std::min<std::uint64_t>(into.size(), inode_->size - offset);
    std::copy_n(inode_->bytes + offset, length, into.begin());
    return length;
  }
  Result<void> write_at(std::span<const std::byte> bytes, std::uint64_t offset) override {
    if (auto alive = files_.check_alive(generation_); !alive) return alive;
    auto stepped = files_.step("write " + path_);
    const std::size_t length = stepped ? bytes.size() : files_.has_stopped() ? bytes.size() / 2 : 0;
    if (offset + length > inode_->capacity) return fail(ErrorCode::kNoSpace, "write " + path_);
    std::copy_n(bytes.begin(), length, inode_->bytes + offset);
    if (length > 0) inode_->size = std::max<std::uint64_t>(inode_->size, offset + length);
    return stepped;
  }
  Result<void> allocate(std::uint64_t bytes) override {
    if (auto alive = files_.check_alive(generation_); !alive) return alive;
    if (auto stepped = files_.step("allocate " + path_); !stepped) return stepped;
    const std::uint64_t more = bytes > inode_->size ? bytes - inode_->size : 0;
    if (bytes > inode_->capacity || more > files_.space_bytes_) return fail(ErrorCode::kNoSpace, "allocate " + path_ + ": no space left");
    if (files_.space_bytes_ != UINT64_MAX) files_.space_bytes_ -= more;
    inode_->size = std::max(inode_->size, bytes);
    return {};
  }
  Result<void> sync() override {
    if (auto alive = files_.check_alive(generation_); !alive) return alive;
    if (auto stepped = files_.step("sync " + path_); !stepped) return stepped;
    inode_->sync();
    return {};
  }
  Result<std::optional<std::uint64_t>> next_data(std::uint64_t offset) override {
    if (offset >= inode_->size) return std::nullopt;
    return offset;
  }
  Result<std::unique_ptr<log::Mapping>> map(std::uint64_t length) override {
    if (auto alive = files_.check_alive(generation_); !alive) return tl::unexpected{alive.error()};
    if (length > inode_->size) return fail(ErrorCode::kIo, "map " + path_ + ": too short");
    return std::make_unique<CrashMapping>(inode_, std::span{inode_->bytes, length});
  }
  Result<bool> try_lock(std::uint64_t offset, std::uint64_t length) override {
    auto held = is_locked(offset, length);
    if (!held || *held) return held ? Result<bool>{false} : held;
    inode_->locks.push_back({this, generation_, offset, offset + length});
    return true;
  }
  void unlock(std::uint64_t offset, std::uint64_t) noexcept override {
    std::erase_if(inode_->locks, [&](const auto& lock) { return lock.owner == this && lock.from == offset; });
  }
  Result<bool> is_locked(std::uint64_t offset, std::uint64_t length) override {
    return std::any_of(inode_->locks.begin(), inode_->locks.end(), [&](const auto& lock) {
      return lock.owner != this && lock.generation == files_.generation_ && lock.from < offset + length && offset < lock.to;
    });
  }

 private:
  CrashFileSystem& files_;
  std::shared_ptr<CrashFileSystem::Inode> inode_;
  std::string path_;
  std::uint64_t generation_;
};

Result<void> CrashFileSystem::step(const std::string& what) {
  if (has_stopped_) return fail(ErrorCode::kIo, what + ": the machine has stopped");
  ++steps_;
  if (steps_ == fail_at_) return fail(fail_code_, what + ": planted failure");
  if (steps_ != stop_at_) return {};
  has_stopped_ = true;
  return fail(ErrorCode::kIo, what + ": the machine stops");
}

Result<void> CrashFileSystem::check_alive(std::uint64_t generation) const {
  if (generation != generation_ || has_stopped_) return fail(ErrorCode::kIo, "the machine has stopped");
  return {};
}

void CrashFileSystem::change_name(const std::string& path, std::shared_ptr<Inode> inode) {
  pending_[log::parent_directory(path)].push_back({path, inode});
  if (inode) names_[path] = std::move(inode);
  else names_.erase(path);
}

void CrashFileSystem::lose_power(Random& random) {
  for (auto& [directory, changes] : pending_) {
    changes.resize(random.below(changes.size() + 1));
    for (NameChange& change : changes) {
      if (change.inode) durable_names_[change.name] = std::move(change.inode);
      else durable_names_.erase(change.name);
    }
  }
  pending_.clear();
  names_ = durable_names_;
  for (auto& weak : inodes_)
    if (const auto inode = weak.lock()) inode->lose_power(random);
  ++boots_;
  kill_all();
}

void CrashFileSystem::kill_all() {
  ++generation_;
  has_stopped_ = false;
  stop_at_ = fail_at_ = 0;
}

std::vector<std::byte> CrashFileSystem::content(const std::string& path) const {
  const Inode& inode = *names_.at(path);
  return {inode.bytes, inode.bytes + inode.size};
}

void CrashFileSystem::set_content(const std::string& path, std::span<const std::byte> bytes) {
  auto& inode = names_[path];
  if (!inode) inodes_.push_back(inode = std::make_shared<Inode>(file_bytes_max_));
  std::memset(inode->bytes, 0, inode->capacity);
  std::copy(bytes.begin(), bytes.end(), inode->bytes);
  inode->size = bytes.size();
  inode->sync();
  durable_names_[path] = inode;
}

std::vector<std::string> CrashFileSystem::paths() const {
  std::vector<std::string> paths;
  for (const auto& [path, inode] : names_) paths.push_back(path);
  return paths;
}

Result<std::unique_ptr<log::File>> CrashFileSystem::open(const std::string& path, log::OpenMode mode) {
  if (has_stopped_) return fail(ErrorCode::kIo, "open " + path + ": the machine has stopped");
  const auto found = names_.find(path);
  if (found != names_.end() && mode == log::OpenMode::kCreateNew) return fail(ErrorCode::kInUse, "open " + path + ": exists");
  if (found != names_.end()) return std::make_unique<CrashFile>(*this, found->second, path);
  if (mode == log::OpenMode::kRead || mode == log::OpenMode::kWrite) return fail(ErrorCode::kNotFound, "open " + path + ": no such file");
  if (auto stepped = step("create " + path); !stepped) return tl::unexpected{stepped.error()};
  auto inode = std::make_shared<Inode>(file_bytes_max_);
  inodes_.push_back(inode);
  change_name(path, inode);
  return std::make_unique<CrashFile>(*this, std::move(inode), path);
}

Result<void> CrashFileSystem::create_directory(const std::string&) { return {}; }

Result<std::vector<std::string>> CrashFileSystem::list(const std::string& directory) {
  if (has_stopped_) return fail(ErrorCode::kIo, "list " + directory + ": the machine has stopped");
  std::vector<std::string> names;
  for (const auto& [path, inode] : names_) {  // a directory is there when something is in it
    if (!path.starts_with(directory + "/")) continue;
    const std::string below = path.substr(directory.size() + 1);
    const std::string name = below.substr(0, below.find('/'));
    if (names.empty() || names.back() != name) names.push_back(name);
  }
  return names;
}

Result<void> CrashFileSystem::rename(const std::string& from, const std::string& to) {
  if (!names_.contains(from)) return fail(ErrorCode::kNotFound, "rename " + from);
  if (auto stepped = step("rename " + from); !stepped) return stepped;
  const auto inode = names_.at(from);
  // After a crash one of the names is there, or both; never none.
  change_name(from, nullptr);
  change_name(to, inode);
  auto& changes = pending_[log::parent_directory(to)];
  std::swap(changes[changes.size() - 2], changes[changes.size() - 1]);
  return {};
}

Result<void> CrashFileSystem::remove(const std::string& path) {
  if (!names_.contains(path)) return fail(ErrorCode::kNotFound, "remove " + path);
  if (auto stepped = step("remove " + path); !stepped) return stepped;
  change_name(path, nullptr);
  return {};
}

Result<void> CrashFileSystem::sync_directory(const std::string& path) {
  if (auto stepped = step("sync directory " + path); !stepped) return stepped;
  for (NameChange& change : pending_[path]) {
    if (change.inode) durable_names_[change.name] = std::move(change.inode);
    else durable_names_.erase(change.name);
  }
  pending_.erase(path);
  return {};
}

Result<void> CrashFileSystem::sync_all(std::span<log::File* const> files) {
  for (log::File* file : files)
    if (auto synced = file->sync(); !synced) return synced;
  return {};
}

Result<log::FileSystem::Space> CrashFileSystem::space(const std::string&) { return Space{space_bytes_, UINT64_MAX}; }

}  // namespace thalweg::test
