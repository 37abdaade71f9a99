// Records of the control socket as a peer could send them, in pieces.
#include "controlplane/api/records.hpp"
#include "tests/fuzz/input.hpp"

namespace thalweg::fuzz {
namespace {
// Deep nesting must not eat the stack of whoever answers either.
void answer(const api::Request& request) {
  const std::string record = api::encode_request(request);
  const auto again = api::decode_request(std::string_view{record}.substr(api::kLengthBytes));
  require(again.has_value() && !again->verb.empty(), "a request we encode decodes");
  static_cast<void>(api::encode_response(request.args));
}
}  // namespace

void run(Bytes input) {
  static_cast<void>(api::decode_response(text_of(input)));
  if (const auto request = api::decode_request(text_of(input))) answer(*request);
  std::string received;
  Input in{input};
  while (!in.is_empty()) {
    received += text_of(in.slice(1 + in.choice(64)));
    for (;;) {
      const auto record = api::take_record(received);
      if (!record) return;
      if (!*record) break;
      if (const auto request = api::decode_request(**record)) answer(*request);
      static_cast<void>(api::decode_response(**record));
    }
  }
}

}  // namespace thalweg::fuzz
