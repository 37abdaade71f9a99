#pragma once
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "dataplane/base/result.hpp"

// The process log: one line an event, `level event key=value …`, or one JSON object (house rules, section 9). Never blocks its caller:
// lines go to stderr on a thread of their own and are dropped, oldest first, when that cannot keep up.
namespace thalweg::process_log {

using Fields = std::initializer_list<std::pair<std::string_view, std::string>>;

// Once, at start. `format`: text or json. Errors: kInvalidArgument.
[[nodiscard]] Result<void> start(const std::string& level, const std::string& format);
// Writes what is queued. At the end.
void stop();
// trace debug info warn error. Any thread. Error: kInvalidArgument.
[[nodiscard]] Result<void> set_level(const std::string& level);

void debug(std::string_view event, Fields fields);
void info(std::string_view event, Fields fields);
void warn(std::string_view event, Fields fields);
void error(std::string_view event, Fields fields);

}  // namespace thalweg::process_log
