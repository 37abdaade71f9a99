#pragma once
#include <cerrno>

#include "dataplane/base/result.hpp"

namespace thalweg {

// What a failed call on a file means to whoever asked for it. Any thread.
[[nodiscard]] inline ErrorCode file_error_code(int error) noexcept {
  switch (error) {
    case ENOENT:
    case ENOTDIR: return ErrorCode::kNotFound;
    case EEXIST: return ErrorCode::kInUse;
    case EACCES:
    case EPERM:
    case EROFS: return ErrorCode::kPermission;
    case ENOSPC:
    case EDQUOT:
    case ENOMEM: return ErrorCode::kNoSpace;
    default: return ErrorCode::kIo;
  }
}

}  // namespace thalweg
