#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/log/file_system.hpp"

// Which shard a message belongs to, what shards are called, and who writes which. Spec: archive-log 8.1 (owned shards), 8.4.
namespace thalweg::log {

inline constexpr std::uint32_t kShardCountDefault = 16;  // where a count of 0 is given

// FNV-1a (32 bits) of the key modulo `count`. Another count moves nearly every key.
[[nodiscard]] std::uint32_t pick_shard(std::string_view key, std::uint32_t count) noexcept;
// Jump consistent hash (Lamping and Veach) over FNV-1a (64 bits): from n to n + 1 shards only one key in n + 1 moves, to the new shard.
[[nodiscard]] std::uint32_t pick_shard_jump(std::string_view key, std::uint32_t count) noexcept;
// 0 to count - 1.
[[nodiscard]] std::vector<std::uint32_t> all_shards(std::uint32_t count);

// "orders:v1:shard:0007".
[[nodiscard]] std::string shard_stream_name(std::string_view name_space, std::string_view version, std::uint32_t shard);
[[nodiscard]] std::string pick_shard_stream(std::string_view key, std::string_view name_space, std::string_view version, std::uint32_t count);
[[nodiscard]] std::vector<std::string> all_shard_streams(std::string_view name_space, std::string_view version, std::uint32_t count);
// The number behind the last colon. Errors: kInvalidArgument when there is none, it is no number, or too large.
[[nodiscard]] Result<std::uint32_t> shard_of_stream(std::string_view stream);

// Directory of a shard in that of a log: "shard-0007"; more digits above 9999.
[[nodiscard]] std::string shard_directory_name(std::uint32_t shard);
// nullopt: no such name.
[[nodiscard]] std::optional<std::uint32_t> parse_shard_directory_name(std::string_view name) noexcept;
// Numbers of the shards that a log's directory has, rising. Errors: kNotFound, kIo.
[[nodiscard]] Result<std::vector<std::uint32_t>> list_shards(FileSystem& files, const std::string& root);

// Shards dealt out among `members` of a kind, writers or consumers: member i has those with shard mod members == i.
struct Assignment {
  std::uint32_t member{0};
  std::uint32_t members{1};
  [[nodiscard]] bool has(std::uint32_t shard) const noexcept { return shard % members == member; }
};
// Errors: kInvalidArgument unless member < members.
[[nodiscard]] Result<void> validate(const Assignment& assignment);
// pick_shard() among the member's own of `count` shards. Errors: kInvalidArgument when it has none, or the assignment is none.
[[nodiscard]] Result<std::uint32_t> pick_owned_shard(std::string_view key, std::uint32_t count, const Assignment& assignment);

// The number of a process among those that share a log's directory: the lowest one that nobody has, for Assignment::member. It is a lock in
// `processes.lock`, which ends with the process however that ends. Move only.
class ProcessNumber {
 public:
  // Errors: kInUse when `count` processes have theirs; kNotFound, kIo, kPermission.
  [[nodiscard]] static Result<ProcessNumber> claim(FileSystem& files, const std::string& root, std::uint32_t count);
  [[nodiscard]] std::uint32_t value() const noexcept { return value_; }

 private:
  ProcessNumber(std::unique_ptr<File> lock, std::uint32_t value) : lock_{std::move(lock)}, value_{value} {}
  std::unique_ptr<File> lock_;
  std::uint32_t value_;
};

}  // namespace thalweg::log
