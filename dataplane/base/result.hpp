#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace thalweg {

// Stable error codes of the control path. Values never change meaning; exit codes and JSON derive from them.
enum class ErrorCode : std::int32_t {
  kGeneric = 1,
  kInvalidArgument = 2,
  kNotFound = 3,
  kUnreachable = 4,      // daemon not running, directory without a live instance
  kTimeout = 5,
  kInUse = 6,            // directory, port, CPU or address taken
  kNoSpace = 7,          // memory, hugepages, disk
  kPermission = 8,
  kUnsupported = 9,
  kInvalidConfig = 10,
  kInvalidChannel = 11,
  kUnknownHost = 12,
  kIo = 13,
  kVersion = 14,
  kClosed = 15,
};

// What went wrong, and the hint that tells the operator what to do about it. Control path only.
struct Error {
  ErrorCode code{ErrorCode::kGeneric};
  std::string message;
  std::string hint;

  // The same error with what the caller was doing put in front ("open cnc.dat: permission denied").
  [[nodiscard]] Error with_context(std::string_view context) && {
    message = std::string{context} + ": " + message;
    return std::move(*this);
  }
};

template <typename T = void>
using Result = tl::expected<T, Error>;

[[nodiscard]] inline tl::unexpected<Error> fail(ErrorCode code, std::string message, std::string hint = {}) {
  return tl::unexpected<Error>{Error{code, std::move(message), std::move(hint)}};
}

// fail() with errno's text appended. `saved_errno` is passed so that nothing in between can change it.
[[nodiscard]] tl::unexpected<Error> fail_errno(ErrorCode code, std::string_view what, int saved_errno, std::string hint = {});

}  // namespace thalweg
