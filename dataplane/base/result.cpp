#include "dataplane/base/result.hpp"

#include <cstring>

namespace thalweg {

tl::unexpected<Error> fail_errno(ErrorCode code, std::string_view what, int saved_errno, std::string hint) {
  char buffer[128];
  const char* text = strerror_r(saved_errno, buffer, sizeof buffer);
  return fail(code, std::string{what} + ": " + text, std::move(hint));
}

}  // namespace thalweg
