#pragma once
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "dataplane/base/result.hpp"

namespace thalweg::log {

// An entry among all shards of a log. Spec: archive-log 1.3.
struct EntryId {
  std::uint32_t shard{};
  std::uint64_t entry{};
  [[nodiscard]] auto operator<=>(const EntryId&) const = default;
};

// "<shard>-<entry>", decimal.
[[nodiscard]] std::string to_string(const EntryId& id);
// Errors: kInvalidArgument.
[[nodiscard]] Result<EntryId> parse_entry_id(std::string_view text);

}  // namespace thalweg::log
