#pragma once
#include <string>
#include <tl/expected.hpp>

#include "dataplane/base/result.hpp"
#include "dataplane/shm/commands.hpp"

namespace thalweg::conductor {

// Why a command is refused: what goes into ON_ERROR (client-protocol 6.4).
struct CommandError {
  shm::ClientError code{shm::ClientError::kGeneric};
  std::string text;
};

template <typename T = void>
using Outcome = tl::expected<T, CommandError>;

[[nodiscard]] inline tl::unexpected<CommandError> refuse(shm::ClientError code, std::string text) {
  return tl::unexpected<CommandError>{CommandError{code, std::move(text)}};
}
[[nodiscard]] inline tl::unexpected<CommandError> refuse_channel(std::string text) {
  return refuse(shm::ClientError::kInvalidChannel, std::move(text));
}

// The client's error code for an error of the libraries below.
[[nodiscard]] inline CommandError to_command_error(const Error& error) {
  using shm::ClientError;
  ClientError code = ClientError::kGeneric;
  if (error.code == ErrorCode::kInvalidChannel) code = ClientError::kInvalidChannel;
  if (error.code == ErrorCode::kUnknownHost) code = ClientError::kUnknownHost;
  if (error.code == ErrorCode::kNoSpace) code = ClientError::kStorageSpace;
  if (error.code == ErrorCode::kUnsupported) code = ClientError::kNotSupported;
  return {code, error.message};
}

}  // namespace thalweg::conductor
