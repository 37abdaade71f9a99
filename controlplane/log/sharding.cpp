#include "controlplane/log/sharding.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "controlplane/log/entry_id.hpp"

namespace thalweg::log {
namespace {

constexpr std::string_view kDirectoryPrefix = "shard-";
constexpr std::size_t kDigitsMin = 4;
constexpr const char* kProcessLockName = "processes.lock";

std::uint32_t or_default(std::uint32_t count) noexcept { return count == 0 ? kShardCountDefault : count; }

template <typename Hash>
Hash fnv_1a(std::string_view key, Hash hash, Hash prime) noexcept {
  for (const char c : key) hash = (hash ^ static_cast<unsigned char>(c)) * prime;
  return hash;
}

std::uint32_t hash_of(std::string_view key) noexcept { return fnv_1a<std::uint32_t>(key, 0x811C9DC5U, 0x01000193U); }

// All of `text` as a number; nullopt: it is none, or too large.
template <typename Number>
std::optional<Number> parse_number(std::string_view text) noexcept {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::string digits(std::uint32_t shard) {
  char text[16];
  std::snprintf(text, sizeof text, "%04u", shard);
  return text;
}

}  // namespace

std::string to_string(const EntryId& id) { return std::to_string(id.shard) + "-" + std::to_string(id.entry); }

Result<EntryId> parse_entry_id(std::string_view text) {
  const std::size_t dash = text.find('-');
  if (dash != std::string_view::npos) {
    const auto shard = parse_number<std::uint32_t>(text.substr(0, dash));
    const auto entry = parse_number<std::uint64_t>(text.substr(dash + 1));
    if (shard && entry) return EntryId{*shard, *entry};
  }
  return fail(ErrorCode::kInvalidArgument, "'" + std::string{text} + "' is no entry of a log", "write it as shard-entry, for example 3-1500");
}

std::uint32_t pick_shard(std::string_view key, std::uint32_t count) noexcept { return hash_of(key) % or_default(count); }

std::uint32_t pick_shard_jump(std::string_view key, std::uint32_t count) noexcept {
  std::uint64_t hash = fnv_1a<std::uint64_t>(key, 0xCBF29CE484222325ULL, 0x100000001B3ULL);
  std::int64_t bucket = -1;
  for (std::int64_t next = 0; next < static_cast<std::int64_t>(or_default(count));) {
    bucket = next;
    hash = hash * 2862933555777941757ULL + 1;
    next = static_cast<std::int64_t>(static_cast<double>(bucket + 1) * (static_cast<double>(1LL << 31) / static_cast<double>((hash >> 33U) + 1)));
  }
  return static_cast<std::uint32_t>(bucket);
}

std::vector<std::uint32_t> all_shards(std::uint32_t count) {
  std::vector<std::uint32_t> shards(or_default(count));
  for (std::uint32_t shard = 0; shard < shards.size(); ++shard) shards[shard] = shard;
  return shards;
}

std::string shard_stream_name(std::string_view name_space, std::string_view version, std::uint32_t shard) {
  return std::string{name_space} + ":" + std::string{version} + ":shard:" + digits(shard);
}

std::string pick_shard_stream(std::string_view key, std::string_view name_space, std::string_view version, std::uint32_t count) {
  return shard_stream_name(name_space, version, pick_shard(key, count));
}

std::vector<std::string> all_shard_streams(std::string_view name_space, std::string_view version, std::uint32_t count) {
  std::vector<std::string> streams;
  for (const std::uint32_t shard : all_shards(count)) streams.push_back(shard_stream_name(name_space, version, shard));
  return streams;
}

Result<std::uint32_t> shard_of_stream(std::string_view stream) {
  const std::size_t colon = stream.rfind(':');
  if (colon != std::string_view::npos)
    if (const auto shard = parse_number<std::uint32_t>(stream.substr(colon + 1))) return *shard;
  return fail(ErrorCode::kInvalidArgument, "stream '" + std::string{stream} + "': no shard number behind its last colon", "write it as namespace:version:shard:0007");
}

std::string shard_directory_name(std::uint32_t shard) { return std::string{kDirectoryPrefix} + digits(shard); }

std::optional<std::uint32_t> parse_shard_directory_name(std::string_view name) noexcept {
  if (!name.starts_with(kDirectoryPrefix) || name.size() < kDirectoryPrefix.size() + kDigitsMin) return std::nullopt;
  const auto shard = parse_number<std::uint32_t>(name.substr(kDirectoryPrefix.size()));
  if (!shard || shard_directory_name(*shard) != name) return std::nullopt;
  return shard;
}

Result<std::vector<std::uint32_t>> list_shards(FileSystem& files, const std::string& root) {
  const auto names = files.list(root);
  if (!names) return tl::unexpected{names.error()};
  std::vector<std::uint32_t> shards;
  for (const std::string& name : *names)
    if (const auto shard = parse_shard_directory_name(name)) shards.push_back(*shard);
  std::sort(shards.begin(), shards.end());
  return shards;
}

Result<void> validate(const Assignment& assignment) {
  if (assignment.member < assignment.members) return {};
  return fail(ErrorCode::kInvalidArgument, "member " + std::to_string(assignment.member) + " of " + std::to_string(assignment.members) + ": members are numbered from 0 to one below their count");
}

Result<std::uint32_t> pick_owned_shard(std::string_view key, std::uint32_t count, const Assignment& assignment) {
  if (auto valid = validate(assignment); !valid) return tl::unexpected{std::move(valid.error())};
  count = or_default(count);
  if (assignment.member >= count)
    return fail(ErrorCode::kInvalidArgument, "member " + std::to_string(assignment.member) + " has none of " + std::to_string(count) + " shards", "use at least as many shards as processes");
  const std::uint32_t owned = (count - assignment.member + assignment.members - 1) / assignment.members;
  return assignment.member + hash_of(key) % owned * assignment.members;
}

Result<ProcessNumber> ProcessNumber::claim(FileSystem& files, const std::string& root, std::uint32_t count) {
  auto lock = files.open(root + "/" + kProcessLockName, OpenMode::kCreate);
  if (!lock) return tl::unexpected{std::move(lock.error())};
  for (std::uint32_t number = 0; number < count; ++number) {
    const auto locked = (*lock)->try_lock(number, 1);
    if (!locked) return tl::unexpected{locked.error()};
    if (*locked) return ProcessNumber{std::move(*lock), number};
  }
  return fail(ErrorCode::kInUse, root + ": " + std::to_string(count) + " processes have their numbers, no more are possible");
}

}  // namespace thalweg::log
