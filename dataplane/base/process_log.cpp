#include "dataplane/base/process_log.hpp"

#include <spdlog/async.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>

#include "dataplane/base/privileges.hpp"

namespace thalweg::process_log {
namespace {

constexpr std::size_t kQueueLines = 1024;
bool is_json = false;

std::string quoted_if_needed(const std::string& value) {
  if (!value.empty() && value.find_first_of(" \"\n=") == std::string::npos) return value;
  return nlohmann::json(value).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void write(spdlog::level::level_enum level, std::string_view event, Fields fields) {
  if (!spdlog::should_log(level)) return;
  if (!is_json) {
    std::string line{event};
    for (const auto& [key, value] : fields) line.append(" ").append(key).append("=").append(quoted_if_needed(value));
    spdlog::log(level, "{}", line);
    return;
  }
  nlohmann::json object = nlohmann::json::object();
  const auto name = spdlog::level::to_string_view(level);
  object["level"] = std::string{name.data(), name.size()};
  object["event"] = std::string{event};
  for (const auto& [key, value] : fields) object[std::string{key}] = value;
  spdlog::log(level, "{}", object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

}  // namespace

Result<void> set_level(const std::string& level) {
  const auto parsed = spdlog::level::from_str(level);
  if (parsed == spdlog::level::off && level != "off") {
    return fail(ErrorCode::kInvalidArgument, "unknown log level '" + level + "'", "known are trace, debug, info, warn, error, off");
  }
  spdlog::set_level(parsed);
  return {};
}

Result<void> start(const std::string& level, const std::string& format) {
  spdlog::init_thread_pool(kQueueLines, 1, [] { static_cast<void>(keep_capabilities({})); });  // it writes to stderr and does nothing else
  auto logger = spdlog::create_async_nb<spdlog::sinks::stderr_sink_mt>("thalweg");
  spdlog::set_default_logger(logger);
  is_json = format == "json";
  logger->set_pattern(is_json ? "%v" : "%l %v");
  return set_level(level);
}

void stop() { spdlog::shutdown(); }

void debug(std::string_view event, Fields fields) { write(spdlog::level::debug, event, fields); }
void info(std::string_view event, Fields fields) { write(spdlog::level::info, event, fields); }
void warn(std::string_view event, Fields fields) { write(spdlog::level::warn, event, fields); }
void error(std::string_view event, Fields fields) { write(spdlog::level::err, event, fields); }

}  // namespace thalweg::process_log
