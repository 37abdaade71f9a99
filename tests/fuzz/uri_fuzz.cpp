// Channel URIs as clients send them: the text, every typed getter, and the conductor's reading of all stream parameters.
#include "controlplane/conductor/uri_params.hpp"
#include "dataplane/shm/channel_uri.hpp"
#include "tests/fuzz/input.hpp"

namespace thalweg::fuzz {

void run(Bytes input) {
  const std::string_view text = text_of(input);
  static_cast<void>(shm::parse_host_port(text));
  const auto uri = shm::ChannelUri::parse(text);
  if (!uri) return;
  for (const auto& [key, value] : uri->parameters()) {
    static_cast<void>(uri->get_size(key));
    static_cast<void>(uri->get_duration_ns(key));
    static_cast<void>(uri->get_int64(key));
    static_cast<void>(uri->get_int32(key));
    static_cast<void>(uri->get_bool(key));
    static_cast<void>(shm::parse_host_port(value));
  }
  const auto again = shm::ChannelUri::parse(uri->to_string());
  require(again.has_value(), "a URI we print parses");
  require(again->to_string() == uri->to_string() && again->media() == uri->media() && again->is_spy() == uri->is_spy(), "printing is stable");

  const conductor::StreamDefaults defaults;
  for (const bool is_group : {false, true}) {
    auto params = conductor::parse_publication_params(*uri, defaults, is_group);
    if (!params) continue;
    if (!conductor::check_sizes(*params, *uri, defaults)) continue;
    require(params->mtu >= 32 && params->mtu <= 65504 && params->mtu % 32 == 0, "an accepted MTU is legal");
    require(params->term_length >= (64 << 10) && params->term_length <= (1 << 30), "an accepted term length is legal");
    require(!params->start || (params->start->term_offset >= 0 && params->start->term_offset <= params->term_length), "a start lies in its term");
  }
  const auto subscription = conductor::parse_subscription_params(*uri, defaults);
  if (subscription) require(subscription->receiver_window >= 0, "an accepted window is not negative");
}

}  // namespace thalweg::fuzz
