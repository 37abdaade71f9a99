#include "controlplane/log/group_table.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "controlplane/log/crc32c.hpp"
#include "controlplane/log/shared_lock.hpp"
#include "controlplane/log/wide_atomic.hpp"

namespace thalweg::log {
namespace {

constexpr std::uint64_t kUsed = 1;
constexpr std::uint64_t kClaimLock = 0;  // byte of the file: who gives slots away

template <typename T>
std::atomic_ref<T> ref(T& value) noexcept {
  return std::atomic_ref{value};
}

WidePair* words(GroupSlot& slot) noexcept { return reinterpret_cast<WidePair*>(&slot.committed); }

// Two loads: a mixture of before and after a change makes a compare and swap fail, no more.
WidePair snapshot(GroupSlot& slot) noexcept { return {ref(slot.committed).load(std::memory_order_acquire), ref(slot.epoch).load(std::memory_order_acquire)}; }

WidePair* lease_words(GroupSlot& slot) noexcept { return reinterpret_cast<WidePair*>(&slot.lease_owner); }
WidePair lease_snapshot(GroupSlot& slot) noexcept { return {ref(slot.lease_owner).load(std::memory_order_acquire), ref(slot.lease_until_ns).load(std::memory_order_acquire)}; }

void set_lease(GroupSlot& slot, const WidePair& lease) noexcept {
  for (WidePair seen = lease_snapshot(slot);;) {
    const WidePair before = wide_compare_and_swap(lease_words(slot), seen, lease);
    if (before == seen) return;
    seen = before;
  }
}

std::uint32_t crc_of(const GroupSlot& slot) noexcept { return crc32c(std::as_bytes(std::span{slot.name})); }

bool is_whole(const GroupSlot& slot) noexcept { return slot.name_crc == crc_of(slot) && slot.name[0] != 0 && slot.name[kGroupNameMax] == 0; }

bool is_used(GroupSlot& slot) noexcept { return ref(slot.state).load(std::memory_order_acquire) == kUsed && is_whole(slot); }

std::string_view name_of(const GroupSlot& slot) noexcept { return {slot.name, ::strnlen(slot.name, sizeof slot.name)}; }

// Sets offset and epoch whatever they were; the epoch rises, so that nobody's earlier view of the slot counts.
std::uint64_t set_words(GroupSlot& slot, std::uint64_t committed) noexcept {
  for (WidePair seen = snapshot(slot);;) {
    const WidePair wanted{committed, seen.second + 1};
    const WidePair before = wide_compare_and_swap(words(slot), seen, wanted);
    if (before == seen) return wanted.second;
    seen = before;
  }
}

// Raises the epoch alone: what others have of the slot does not count any more.
std::uint64_t raise_epoch(GroupSlot& slot) noexcept {
  for (WidePair seen = snapshot(slot);;) {
    const WidePair before = wide_compare_and_swap(words(slot), seen, {seen.first, seen.second + 1});
    if (before == seen) return seen.second + 1;
    seen = before;
  }
}

Result<void> check_header(const GroupFile& file, std::uint64_t size, const std::string& path) {
  const auto bad = [&](const std::string& what) { return fail(ErrorCode::kIo, path + ": groups: " + what, "move it away: its groups begin anew then, as new ones do"); };
  if (size < sizeof(GroupFile)) return bad("only " + std::to_string(size) + " of " + std::to_string(sizeof(GroupFile)) + " bytes are there");
  if (file.magic != kGroupsMagic) return bad("bad magic at offset 0");
  if (file.version > kFormatVersion) return fail(ErrorCode::kVersion, path + ": groups: format version " + std::to_string(file.version) + " is newer than this program");
  if (file.version == 0 || file.slot_count != kGroupsMax) return bad("impossible version or count at offset 8");
  return {};
}

}  // namespace

Result<void> validate_group_name(std::string_view name) {
  if (name.empty()) return fail(ErrorCode::kInvalidArgument, "a consumer group needs a name");
  if (name.size() > kGroupNameMax)
    return fail(ErrorCode::kInvalidArgument, "consumer group '" + std::string{name} + "': a name of " + std::to_string(name.size()) + " bytes; at most " + std::to_string(kGroupNameMax) + " are possible");
  if (name.find('\0') != std::string_view::npos) return fail(ErrorCode::kInvalidArgument, "consumer group: a name with a zero byte in it");
  return {};
}

std::uint64_t GroupMember::committed() const noexcept { return ref(slot_->committed).load(std::memory_order_acquire); }

bool GroupMember::commit(std::uint64_t to) noexcept {
  for (WidePair seen = snapshot(*slot_);;) {
    if (seen.second != epoch_) return false;
    if (seen.first >= to) return true;
    const WidePair before = wide_compare_and_swap(words(*slot_), seen, {to, epoch_});
    if (before == seen) return true;
    seen = before;
  }
}

Result<void> GroupMember::set(std::uint64_t to, std::int64_t now_ns) {
  if (auto known = refresh(); !known) return tl::unexpected{std::move(known.error())};
  epoch_ = set_words(*slot_, to);
  ref(slot_->updated_ns).store(now_ns, std::memory_order_relaxed);
  return {};
}

Result<bool> GroupMember::refresh() {
  const std::uint64_t epoch = ref(slot_->epoch).load(std::memory_order_acquire);
  if (epoch == epoch_) return false;
  if (!is_used(*slot_) || name_of(*slot_) != name_) return fail(ErrorCode::kNotFound, "consumer group '" + name_ + "' was removed", "join it again: it begins as a new one then");
  epoch_ = epoch;
  return true;
}

// The lease first, the epoch then: who had it before may acknowledge in between, which its successor, who looks behind both, takes for done.
Result<bool> GroupMember::take_lease(std::uint64_t owner, std::int64_t now_ns, std::int64_t lease_ns) {
  const auto now = static_cast<std::uint64_t>(now_ns);
  for (WidePair seen = lease_snapshot(*slot_);;) {
    if (seen.first != owner) {
      if (auto known = refresh(); !known) return known;
      const bool is_over = seen.first == 0 || seen.second <= now || seen.second - now > static_cast<std::uint64_t>(kLeaseMax_ns);
      if (!is_over) return false;
    }
    const WidePair before = wide_compare_and_swap(lease_words(*slot_), seen, {owner, now + static_cast<std::uint64_t>(lease_ns)});
    if (before == seen) {
      if (seen.first != owner) epoch_ = raise_epoch(*slot_);
      return true;
    }
    seen = before;
  }
}

bool GroupMember::has_lease(std::uint64_t owner) const noexcept { return ref(slot_->lease_owner).load(std::memory_order_acquire) == owner; }

void GroupMember::give_lease_back(std::uint64_t owner) noexcept {
  for (WidePair seen = lease_snapshot(*slot_); seen.first == owner;) {
    const WidePair before = wide_compare_and_swap(lease_words(*slot_), seen, {});
    if (before == seen) return;
    seen = before;
  }
}

void GroupMember::count_acknowledged(std::uint64_t messages, std::int64_t now_ns) noexcept {
  ref(slot_->acknowledged).fetch_add(messages, std::memory_order_relaxed);
  ref(slot_->updated_ns).store(now_ns, std::memory_order_relaxed);
}

Result<GroupTable> GroupTable::open(FileSystem& files, const Clock& clock, const std::string& directory) {
  auto file = files.open(directory + "/" + kGroupsName, OpenMode::kCreate);
  if (!file) return tl::unexpected{std::move(file.error())};
  GroupTable table{clock, std::move(*file)};
  const auto lock = FileLock::take(*table.file_, kClaimLock, clock);
  if (!lock) return tl::unexpected{lock.error()};
  if (auto prepared = table.prepare(files, directory); !prepared) return tl::unexpected{std::move(prepared.error())};
  return table;
}

// Under the lock: maps the file, and makes it what it has to be if it is new. One of 0 bytes, or of nothing but zeros, is one whose maker died.
Result<void> GroupTable::prepare(FileSystem& files, const std::string& directory) {
  const auto size = file_->size();
  if (!size) return tl::unexpected{size.error()};
  if (*size == 0) {
    if (auto allocated = file_->allocate(sizeof(GroupFile)); !allocated) return allocated;
  } else if (*size < sizeof(GroupFile)) {
    return check_header({}, *size, file_->path());
  }
  auto mapping = file_->map(sizeof(GroupFile));
  if (!mapping) return tl::unexpected{std::move(mapping.error())};
  mapping_ = std::move(*mapping);
  const std::span<const std::byte> bytes = mapping_->bytes();
  if (std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; })) {
    shared().version = kFormatVersion;
    shared().slot_count = kGroupsMax;
    ref(shared().magic).store(kGroupsMagic, std::memory_order_release);
    if (auto synced = sync(); !synced) return synced;
    if (auto synced = files.sync_directory(directory); !synced) return synced;
  }
  return check_header(shared(), bytes.size(), file_->path());
}

GroupSlot* GroupTable::find(std::string_view name) const noexcept {
  for (GroupSlot& slot : shared().slots)
    if (is_used(slot) && name_of(slot) == name) return &slot;
  return nullptr;
}

Result<GroupMember> GroupTable::join(std::string_view name, std::uint64_t start) {
  if (auto valid = validate_group_name(name); !valid) return tl::unexpected{std::move(valid.error())};
  auto lock = FileLock::take(*file_, kClaimLock, *clock_);  // a claim that its process did not live to finish was not made
  if (!lock) return tl::unexpected{std::move(lock.error())};
  if (GroupSlot* const known = find(name)) return GroupMember{*known, ref(known->epoch).load(std::memory_order_acquire), std::string{name}};
  for (GroupSlot& slot : shared().slots) {
    if (is_used(slot)) continue;
    ref(slot.state).store(0, std::memory_order_release);
    std::memset(slot.name, 0, sizeof slot.name);
    std::memcpy(slot.name, name.data(), name.size());
    slot.name_crc = crc_of(slot);
    slot.acknowledged = 0;
    slot.created_ns = slot.updated_ns = clock_->epoch_ns();
    set_lease(slot, {});
    const std::uint64_t epoch = set_words(slot, start);
    ref(slot.state).store(kUsed, std::memory_order_release);
    return GroupMember{slot, epoch, std::string{name}};
  }
  return fail(ErrorCode::kNoSpace, file_->path() + ": " + std::to_string(kGroupsMax) + " consumer groups are there, no more are possible", "remove those that nobody uses");
}

Result<void> GroupTable::remove(std::string_view name) {
  auto lock = FileLock::take(*file_, kClaimLock, *clock_);
  if (!lock) return tl::unexpected{std::move(lock.error())};
  GroupSlot* const slot = find(name);
  if (slot == nullptr) return fail(ErrorCode::kNotFound, file_->path() + ": no consumer group '" + std::string{name} + "'");
  ref(slot->state).store(0, std::memory_order_release);
  static_cast<void>(set_words(*slot, 0));  // members see another epoch
  set_lease(*slot, {});
  return {};
}

Result<std::vector<GroupInfo>> read_groups(FileSystem& files, const std::string& directory) {
  const std::string path = directory + "/" + kGroupsName;
  const auto bytes = read_file(files, path, 2 * sizeof(GroupFile));
  if (!bytes && bytes.error().code == ErrorCode::kNotFound) return std::vector<GroupInfo>{};
  if (!bytes) return tl::unexpected{bytes.error()};
  return decode_groups(*bytes, path);
}

Result<std::vector<GroupInfo>> decode_groups(std::span<const std::byte> bytes, const std::string& path) {
  if (std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; })) return std::vector<GroupInfo>{};  // made this very moment
  const auto file = std::make_unique<GroupFile>();
  std::memcpy(file.get(), bytes.data(), std::min(bytes.size(), sizeof(GroupFile)));
  if (auto checked = check_header(*file, bytes.size(), path); !checked) return tl::unexpected{std::move(checked.error())};
  std::vector<GroupInfo> groups;
  for (const GroupSlot& slot : file->slots)
    if (slot.state == kUsed && is_whole(slot)) groups.push_back({std::string{name_of(slot)}, slot.committed, slot.acknowledged, slot.updated_ns, slot.created_ns, slot.lease_owner});
  return groups;
}

Result<std::optional<std::uint64_t>> lowest_committed(FileSystem& files, const std::string& directory) {
  const auto groups = read_groups(files, directory);
  if (!groups) return tl::unexpected{groups.error()};
  std::optional<std::uint64_t> lowest;
  for (const GroupInfo& group : *groups) lowest = std::min(lowest.value_or(group.committed), group.committed);
  return lowest;
}

std::function<std::optional<std::uint64_t>()> unconsumed_of(FileSystem& files, std::string directory) {
  return [&files, directory = std::move(directory)]() -> std::optional<std::uint64_t> {
    const auto lowest = lowest_committed(files, directory);
    return lowest ? *lowest : std::optional<std::uint64_t>{0};
  };
}

}  // namespace thalweg::log
