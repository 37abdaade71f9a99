#pragma once
#include <optional>
#include <string>
#include <type_traits>

#include "controlplane/api/records.hpp"

namespace thalweg::archive {

// An argument that must be there. Errors: kInvalidArgument.
template <typename T>
[[nodiscard]] Result<T> argument(const api::Json& args, const char* key) {
  const auto found = args.find(key);
  const bool is_right = found != args.end() && (std::is_same_v<T, std::string> ? found->is_string() : std::is_same_v<T, bool> ? found->is_boolean() : found->is_number_integer());
  if (!is_right) return fail(ErrorCode::kInvalidArgument, std::string{"argument '"} + key + "' is missing or of another type");
  return found->template get<T>();
}
// One that may be left out.
template <typename T>
[[nodiscard]] Result<std::optional<T>> optional_argument(const api::Json& args, const char* key) {
  if (!args.contains(key) || args.at(key).is_null()) return std::nullopt;
  auto given = argument<T>(args, key);
  if (!given) return tl::unexpected{std::move(given.error())};
  return std::optional<T>{std::move(*given)};
}
// A position or length that may be left out.
[[nodiscard]] inline Result<std::optional<std::uint64_t>> not_negative(const api::Json& args, const char* key) {
  auto given = optional_argument<std::int64_t>(args, key);
  if (!given) return tl::unexpected{std::move(given.error())};
  if (!*given) return std::nullopt;
  if (**given < 0) return fail(ErrorCode::kInvalidArgument, std::string{"argument '"} + key + "' is below 0");
  return std::optional<std::uint64_t>{static_cast<std::uint64_t>(**given)};
}

}  // namespace thalweg::archive
