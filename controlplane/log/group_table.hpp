#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/log/clock.hpp"
#include "controlplane/log/file_system.hpp"
#include "controlplane/log/segment_format.hpp"

// The consumer groups of a shard and how far each of them is: `groups.tlg`, mapped by all of their members. Spec: archive-log 10;
// docs/reference/log-format.md.
namespace thalweg::log {

inline constexpr const char* kGroupsName = "groups.tlg";
inline constexpr std::size_t kGroupsMax = 512;
inline constexpr std::size_t kGroupNameMax = 47;  // bytes

// A group's place in the file. It lies in one sector of the disk, so that its parts fit each other after any crash.
struct alignas(128) GroupSlot {
  std::uint64_t state{};            // 0 free, 1 used; stored last
  std::uint32_t name_crc{};         // CRC-32C of the 48 bytes of `name`
  std::uint32_t reserved0{};
  std::uint64_t committed{};        // the next entry to deliver
  std::uint64_t epoch{};            // rises when the slot is taken, given back or set by hand; changes together with `committed`
  std::int64_t updated_ns{};        // epoch time, of about the last acknowledgement
  std::uint64_t acknowledged{};     // messages, by all members, since the group was made
  std::int64_t created_ns{};
  std::uint64_t reserved1{};
  char name[48]{};                  // zeros behind it
  std::uint64_t lease_owner{};      // who reads the shard for the group; 0: nobody, or members without leases. Changes together with the next one
  std::uint64_t lease_until_ns{};   // monotonic clock
};
static_assert(sizeof(GroupSlot) == 128 && offsetof(GroupSlot, committed) == 16 && offsetof(GroupSlot, name) == 64 && offsetof(GroupSlot, lease_owner) == 112);
inline constexpr std::int64_t kLeaseMax_ns = 600 * kSecond_ns;  // one that says more is of a machine's run before this one

struct GroupFile {
  std::uint64_t magic{};
  std::uint32_t version{};
  std::uint32_t slot_count{};
  std::byte reserved[kPageBytes - 16]{};
  GroupSlot slots[kGroupsMax]{};
};
static_assert(offsetof(GroupFile, slots) == kPageBytes);
inline constexpr std::uint64_t kGroupsMagic = 0x31305350'52474C54U;  // "TLGRPS01" as bytes

// A group as others see it.
struct GroupInfo {
  std::string name;
  std::uint64_t committed{};     // the next entry to deliver
  std::uint64_t acknowledged{};
  std::int64_t updated_ns{};
  std::int64_t created_ns{};
  std::uint64_t lease_owner{};   // 0: nobody
};

// Errors: kInvalidArgument for an empty name, one beyond kGroupNameMax, or with a zero in it.
[[nodiscard]] Result<void> validate_group_name(std::string_view name);

// A member's hold on its group's slot. One thread; members in other processes have their own. Valid as long as the table it came from.
class GroupMember {
 public:
  [[nodiscard]] std::uint64_t committed() const noexcept;
  // Moves the offset on; never back. false: the group was set by hand or removed since this member looked; see refresh().
  [[nodiscard]] bool commit(std::uint64_t to) noexcept;
  // Sets the offset, backwards too; what other members acknowledge of what they had before does not count any more. Errors: kNotFound when the
  // group was removed.
  [[nodiscard]] Result<void> set(std::uint64_t to, std::int64_t now_ns);
  // Takes note of what was set by others: true when something was. Errors: kNotFound when the group was removed.
  [[nodiscard]] Result<bool> refresh();
  // Takes the group's lease on the shard, or makes it longer, when nobody has it, it is over, or `owner` has it. One that had it before cannot move the offset
  // any more. false: somebody else has it. `owner` is not 0; times of the monotonic clock. Errors: kNotFound when the group was removed.
  [[nodiscard]] Result<bool> take_lease(std::uint64_t owner, std::int64_t now_ns, std::int64_t lease_ns);
  [[nodiscard]] bool has_lease(std::uint64_t owner) const noexcept;
  // Gives it back, if `owner` has it.
  void give_lease_back(std::uint64_t owner) noexcept;
  // For statistics.
  void count_acknowledged(std::uint64_t messages, std::int64_t now_ns) noexcept;

 private:
  friend class GroupTable;
  GroupMember(GroupSlot& slot, std::uint64_t epoch, std::string name) : slot_{&slot}, epoch_{epoch}, name_{std::move(name)} {}
  GroupSlot* slot_;
  std::uint64_t epoch_;
  std::string name_;
};

// The file, mapped. One thread.
class GroupTable {
 public:
  // Makes the file when it is missing; never the directory. Errors: kNotFound (no such directory), kVersion, kIo when it is no such file, kNoSpace,
  // kPermission. `files` and `clock` outlive it.
  [[nodiscard]] static Result<GroupTable> open(FileSystem& files, const Clock& clock, const std::string& directory);

  // Finds a group or makes it, with `start` as its offset. Errors: those of validate_group_name(); kNoSpace: kGroupsMax groups are there;
  // kTimeout: another process makes one and does not get on.
  [[nodiscard]] Result<GroupMember> join(std::string_view name, std::uint64_t start);
  // Frees the group's slot: its members are told with their next call, and retention does not honour it any more. Errors: kNotFound, kTimeout.
  [[nodiscard]] Result<void> remove(std::string_view name);
  // Offsets as they are now survive a power failure once it returns. Errors: kIo.
  [[nodiscard]] Result<void> sync() { return file_->sync(); }

 private:
  GroupTable(const Clock& clock, std::unique_ptr<File> file) : clock_{&clock}, file_{std::move(file)} {}
  [[nodiscard]] GroupFile& shared() const noexcept { return *reinterpret_cast<GroupFile*>(mapping_->bytes().data()); }
  [[nodiscard]] GroupSlot* find(std::string_view name) const noexcept;
  [[nodiscard]] Result<void> prepare(FileSystem& files, const std::string& directory);
  const Clock* clock_;
  std::unique_ptr<File> file_;
  std::unique_ptr<Mapping> mapping_;
};

// What the file says, in any process, changing nothing; empty when there is none. Errors: kVersion, kIo.
[[nodiscard]] Result<std::vector<GroupInfo>> read_groups(FileSystem& files, const std::string& directory);
// The same of its bytes; `path` is for the text of errors.
[[nodiscard]] Result<std::vector<GroupInfo>> decode_groups(std::span<const std::byte> bytes, const std::string& path);
// The lowest entry that a group has yet to get, for retention; nullopt: there is no group. Errors: as read_groups().
[[nodiscard]] Result<std::optional<std::uint64_t>> lowest_committed(FileSystem& files, const std::string& directory);
// That, for Retainer::add(). When the file cannot be read nothing counts as consumed. `files` outlives it.
[[nodiscard]] std::function<std::optional<std::uint64_t>()> unconsumed_of(FileSystem& files, std::string directory);

}  // namespace thalweg::log
