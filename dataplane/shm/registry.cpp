#include "dataplane/shm/registry.hpp"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <memory>
#include <new>

#include "dataplane/base/time.hpp"
#include "dataplane/shm/cnc.hpp"

namespace thalweg::shm {
namespace {

constexpr std::uint64_t kPageLength = sizeof(TextPage);
constexpr std::size_t kSpareTexts = 16;
constexpr std::uint64_t kTextsOffset = sizeof(Registry) - sizeof(Registry::texts);  // `texts` is the last member, page aligned
static_assert(kTextsOffset % kPageLength == 0 && sizeof(Registry) % kPageLength == 0 && kPageLength == 4096);

std::string path_in(const std::string& directory) { return directory + "/registry.dat"; }

// Senders know receivers by their id alone (wire-protocol 2.7), so those of different drivers must differ: each instance counts up from a
// random start. Odd and positive: the count does not come to 0, which in an RTTM means everybody.
std::uint64_t random_word() noexcept {
  std::uint64_t random = 0;
  if (::getentropy(&random, sizeof random) != 0) random = static_cast<std::uint64_t>(epoch_ns());
  return random;
}
std::uint64_t first_receiver_id() noexcept { return random_word() >> 1 | 1U; }

template <typename T>
void construct(T& object) noexcept {
  ::new (static_cast<void*>(std::addressof(object))) T;
}

// Everything but `texts`, whose pages must stay holes until they are used; zero bytes are a valid empty TextPage.
void construct_tables(Registry& r) noexcept {
  construct(r.header);
  construct(r.ports);
  construct(r.lanes);
  construct(r.endpoints);
  construct(r.logs);
  construct(r.publications);
  construct(r.images);
  construct(r.interests);
  construct(r.links);
  construct(r.clients);
  construct(r.subscriptions);
  construct(r.publication_refs);
  construct(r.destinations);
  construct(r.commands);
  construct(r.command_crashes);
  construct(r.addresses);
  construct(r.captures);
}

constexpr std::size_t kReleaseBytes = sizeof(ProcessInfo::release);

std::uint64_t text_offset(std::uint32_t slot) noexcept { return kTextsOffset + slot * kPageLength; }

int allocate_range(int fd, std::uint64_t offset, std::uint64_t length) noexcept {
  int error = 0;
  do {
    error = ::posix_fallocate(fd, static_cast<off_t>(offset), static_cast<off_t>(length));
  } while (error == EINTR);
  return error;
}

}  // namespace

// By words: whoever looks while it changes sees a mixture, never bytes beyond it.
void set_release(ProcessInfo& process, std::string_view release) noexcept {
  std::array<std::uint64_t, kReleaseBytes / sizeof(std::uint64_t)> words{};
  std::memcpy(words.data(), release.data(), std::min(release.size(), kReleaseBytes - 1));
  for (std::size_t i = 0; i < words.size(); ++i) process.release[i].store(words[i], std::memory_order_relaxed);
}

std::string release_of(const ProcessInfo& process) {
  std::array<char, kReleaseBytes> text{};
  for (std::size_t i = 0; i < process.release.size(); ++i) {
    const std::uint64_t word = process.release[i].load(std::memory_order_relaxed);
    std::memcpy(text.data() + i * sizeof word, &word, sizeof word);
  }
  return {text.data(), ::strnlen(text.data(), kReleaseBytes - 1)};
}

RegistryFile::RegistryFile(RegistryFile&& other) noexcept { *this = std::move(other); }

RegistryFile& RegistryFile::operator=(RegistryFile&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) ::close(fd_);
    file_ = std::move(other.file_);
    registry_ = std::exchange(other.registry_, nullptr);
    fd_ = std::exchange(other.fd_, -1);
    next_text_ = std::exchange(other.next_text_, 0);
    is_text_used_ = std::move(other.is_text_used_);
    spare_texts_ = std::move(other.spare_texts_);
  }
  return *this;
}

RegistryFile::~RegistryFile() {
  if (fd_ >= 0) ::close(fd_);
}

Result<RegistryFile> RegistryFile::create(const std::string& directory) {
  const std::string path = path_in(directory);
  const std::string unfinished = path + ".new";
  ::unlink(unfinished.c_str());  // left by a control plane that died here
  auto file = MappedFile::create(unfinished, {.length = sizeof(Registry), .mode = 0600, .allocate_bytes = kTextsOffset});
  if (!file) return tl::unexpected<Error>{std::move(file.error()).with_context("registry")};
  Registry& registry = *reinterpret_cast<Registry*>(file->data());
  construct_tables(registry);
  registry.header.magic = kRegistryMagic;
  registry.header.version = kRegistryVersion;
  registry.header.header_length = sizeof(RegistryHeader);
  registry.header.length = sizeof(Registry);
  registry.addresses.seed(random_word());
  registry.header.next_receiver_id.store(first_receiver_id(), std::memory_order_relaxed);
  if (::renameat2(AT_FDCWD, unfinished.c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE) != 0) {
    const int error = errno;
    ::unlink(unfinished.c_str());
    return fail_errno(error == EEXIST ? ErrorCode::kInUse : ErrorCode::kIo, "create " + path, error);
  }
  return open(directory);
}

Result<RegistryFile> RegistryFile::open(const std::string& directory, MappedFile::Access access) {
  const std::string path = path_in(directory);
  auto file = MappedFile::open(path, access);
  if (!file) return tl::unexpected<Error>{std::move(file.error())};
  if (file->length() < sizeof(RegistryHeader)) return fail(ErrorCode::kVersion, path + " is not a registry: only " + std::to_string(file->length()) + " bytes");
  auto* const found = reinterpret_cast<Registry*>(file->data());
  const RegistryHeader& header = found->header;
  if (header.magic != kRegistryMagic) return fail(ErrorCode::kVersion, path + " is not a registry: wrong magic number");
  if (header.version != kRegistryVersion) {
    return fail(ErrorCode::kVersion, path + " has version " + std::to_string(header.version) + ", this program knows " +
                                         std::to_string(kRegistryVersion),
                "stop the instance and start it with one release of both processes");
  }
  if (header.header_length != sizeof(RegistryHeader) || header.length != sizeof(Registry) || file->length() != sizeof(Registry)) {
    return fail(ErrorCode::kVersion, path + " has " + std::to_string(header.length) + " bytes, this program expects " +
                                         std::to_string(sizeof(Registry)),
                "stop the instance and start it with one release of both processes");
  }
  RegistryFile registry;
  if (access == MappedFile::Access::kReadWrite) {
    registry.fd_ = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (registry.fd_ < 0) return fail_errno(ErrorCode::kIo, "open " + path, errno);
    registry.find_used_texts();
  }
  registry.file_ = std::move(*file);
  registry.registry_ = found;
  return registry;
}

// Looks at the pages that exist only: touching a hole through the mapping would allocate it.
void RegistryFile::find_used_texts() {
  is_text_used_.assign(kTextsMax, false);
  spare_texts_.clear();
  spare_texts_.reserve(kSpareTexts);
  auto offset = static_cast<off_t>(kTextsOffset);
  for (;;) {
    offset = ::lseek(fd_, offset, SEEK_DATA);
    if (offset < 0) return;
    const auto slot = static_cast<std::uint32_t>((static_cast<std::uint64_t>(offset) - kTextsOffset) / kPageLength);
    if (slot >= kTextsMax) return;
    std::uint32_t length = 0;
    const auto page = static_cast<off_t>(text_offset(slot));
    if (::pread(fd_, &length, sizeof length, page) == static_cast<ssize_t>(sizeof length)) is_text_used_[slot] = length != 0;
    offset = page + static_cast<off_t>(kPageLength);
  }
}

Result<std::uint32_t> RegistryFile::put_text(std::string_view text) {
  if (text.empty()) return kNoSlot;
  if (text.size() > sizeof(TextPage::text)) {
    return fail(ErrorCode::kInvalidArgument, "text of " + std::to_string(text.size()) + " bytes is longer than " +
                                                 std::to_string(sizeof(TextPage::text)));
  }
  const auto fill = [this, text](std::uint32_t slot) {
    TextPage& page = registry_->texts[slot];
    std::memcpy(page.text, text.data(), text.size());
    page.length = static_cast<std::uint32_t>(text.size());
    is_text_used_[slot] = true;
    return slot;
  };
  if (!spare_texts_.empty()) {
    const std::uint32_t slot = spare_texts_.back();
    spare_texts_.pop_back();
    return fill(slot);
  }
  for (std::uint32_t tried = 0; tried < kTextsMax; ++tried) {
    const std::uint32_t slot = (next_text_ + tried) % kTextsMax;
    if (is_text_used_[slot]) continue;
    if (const int error = allocate_range(fd_, text_offset(slot), kPageLength); error != 0) {
      return fail_errno(ErrorCode::kNoSpace, "allocate a text page of " + file_.path(), error);
    }
    next_text_ = (slot + 1) % kTextsMax;
    return fill(slot);
  }
  return fail(ErrorCode::kNoSpace, "all " + std::to_string(kTextsMax) + " text pages of the registry are taken");
}

void RegistryFile::free_text(std::uint32_t slot) noexcept {
  if (slot >= kTextsMax || !is_text_used_[slot]) return;
  registry_->texts[slot].length = 0;
  is_text_used_[slot] = false;
  if (spare_texts_.size() < kSpareTexts) {
    spare_texts_.push_back(slot);
    return;
  }
  // Gives the page back; if that fails it stays allocated until the slot is used again.
  static_cast<void>(::fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(text_offset(slot)),
                                static_cast<off_t>(kPageLength)));
}

std::string_view RegistryFile::text(std::uint32_t slot) const noexcept {
  if (slot >= kTextsMax) return {};
  const TextPage& page = registry_->texts[slot];
  return {page.text, std::min<std::size_t>(page.length, sizeof page.text)};
}

void wake(std::atomic<std::uint32_t>& word) noexcept {
  word.fetch_add(1, std::memory_order_acq_rel);
  ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

void wait(std::atomic<std::uint32_t>& word, std::uint32_t seen, std::int64_t timeout_ns) noexcept {
  if (timeout_ns <= 0 || word.load(std::memory_order_acquire) != seen) return;
  const timespec timeout{timeout_ns / kSecond_ns, timeout_ns % kSecond_ns};
  ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAIT, seen, &timeout, nullptr, 0);
}

std::string log_path(const std::string& directory, LogUse use, std::int64_t id) {
  const char* folder = "/pool/";
  if (use == LogUse::kPublication) folder = "/publications/";
  if (use == LogUse::kImage) folder = "/images/";
  return directory + folder + std::to_string(id) + ".logbuffer";
}

Result<void> check_takeover(const std::string& directory) {
  if (const auto registry = RegistryFile::open(directory, MappedFile::Access::kReadOnly); !registry) return tl::unexpected{registry.error()};
  if (const auto cnc = CncFile::open(directory, MappedFile::Access::kReadOnly, false); !cnc) return tl::unexpected{cnc.error()};
  return {};
}

}  // namespace thalweg::shm
