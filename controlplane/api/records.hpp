#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "dataplane/base/result.hpp"

// Records of the control socket `<dir>/control.sock`: a 4-byte little-endian length, then that many bytes of JSON.
//   request:  {"version": 1, "verb": "status", "args": {...}}
//   response: {"version": 1, "result": {...}}  or  {"version": 1, "error": {"code": 3, "message": "...", "hint": "..."}}
// Fields are added, never changed; another version is refused. Verbs: docs in controlplane/README.md.
namespace thalweg::api {

inline constexpr std::int64_t kProtocolVersion = 1;
inline constexpr std::size_t kLengthBytes = 4;
inline constexpr std::size_t kRecordBytesMax = 1U << 20;  // a peer announcing more is cut off

using Json = nlohmann::json;

struct Request {
  std::string verb;
  Json args = Json::object();
};

[[nodiscard]] std::string encode_request(const Request& request);
[[nodiscard]] std::string encode_response(const Result<Json>& result);
// Body of one record. Errors: kInvalidArgument (no JSON, fields missing or of another type), kVersion.
[[nodiscard]] Result<Request> decode_request(std::string_view body);
// The result, or the error that the other side sent.
[[nodiscard]] Result<Json> decode_response(std::string_view body);

// Takes the first complete record off `buffer`. nullopt inside: more bytes are needed. Error: kInvalidArgument, the length is beyond reason.
[[nodiscard]] Result<std::optional<std::string>> take_record(std::string& buffer);

}  // namespace thalweg::api
