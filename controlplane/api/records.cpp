#include "controlplane/api/records.hpp"

#include "dataplane/base/bytes.hpp"

namespace thalweg::api {
namespace {

std::string frame(const Json& json) {
  // Text from outside may not be UTF-8; it must not make us throw.
  const std::string body = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  std::string record(kLengthBytes, '\0');
  store_le(reinterpret_cast<std::byte*>(record.data()), static_cast<std::uint32_t>(body.size()));
  return record + body;
}

Result<Json> parse(std::string_view body) {
  Json json = Json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded() || !json.is_object()) return fail(ErrorCode::kInvalidArgument, "control record is not a JSON object");
  const auto version = json.find("version");
  if (version == json.end() || !version->is_number_integer()) return fail(ErrorCode::kInvalidArgument, "control record has no version");
  if (version->get<std::int64_t>() != kProtocolVersion) {
    return fail(ErrorCode::kVersion, "control record has version " + std::to_string(version->get<std::int64_t>()) + ", this is " + std::to_string(kProtocolVersion),
                "use the thalweg command of the running release");
  }
  return json;
}

std::string text_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string{};
}

}  // namespace

std::string encode_request(const Request& request) { return frame(Json::object({{"version", kProtocolVersion}, {"verb", request.verb}, {"args", request.args}})); }

std::string encode_response(const Result<Json>& result) {
  if (result) return frame(Json::object({{"version", kProtocolVersion}, {"result", *result}}));
  const Error& error = result.error();
  const Json body = Json::object({{"code", static_cast<std::int32_t>(error.code)}, {"message", error.message}, {"hint", error.hint}});
  return frame(Json::object({{"version", kProtocolVersion}, {"error", body}}));
}

Result<Request> decode_request(std::string_view body) {
  const auto json = parse(body);
  if (!json) return tl::unexpected{json.error()};
  Request request{text_of(*json, "verb"), Json::object()};
  if (request.verb.empty()) return fail(ErrorCode::kInvalidArgument, "control record has no verb");
  if (const auto args = json->find("args"); args != json->end()) {
    if (!args->is_object()) return fail(ErrorCode::kInvalidArgument, "args of a control record are not an object");
    request.args = *args;
  }
  return request;
}

Result<Json> decode_response(std::string_view body) {
  const auto json = parse(body);
  if (!json) return tl::unexpected{json.error()};
  if (const auto error = json->find("error"); error != json->end() && error->is_object()) {
    const auto code = error->find("code");
    const auto value = code != error->end() && code->is_number_integer() ? code->get<std::int32_t>() : static_cast<std::int32_t>(ErrorCode::kGeneric);
    return fail(static_cast<ErrorCode>(value), text_of(*error, "message"), text_of(*error, "hint"));
  }
  const auto result = json->find("result");
  if (result == json->end()) return fail(ErrorCode::kInvalidArgument, "control record has neither result nor error");
  return *result;
}

Result<std::optional<std::string>> take_record(std::string& buffer) {
  if (buffer.size() < kLengthBytes) return std::optional<std::string>{};
  const auto length = load_le<std::uint32_t>(reinterpret_cast<const std::byte*>(buffer.data()));
  if (length > kRecordBytesMax) return fail(ErrorCode::kInvalidArgument, "control record of " + std::to_string(length) + " bytes is too long");
  if (buffer.size() < kLengthBytes + length) return std::optional<std::string>{};
  std::string body = buffer.substr(kLengthBytes, length);
  buffer.erase(0, kLengthBytes + length);
  return std::optional{std::move(body)};
}

}  // namespace thalweg::api
