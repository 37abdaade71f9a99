#include "controlplane/archive/replay.hpp"

#include "dataplane/shm/channel_uri.hpp"

namespace thalweg::archive {

const char* to_string(ReplayState state) noexcept {
  switch (state) {
    case ReplayState::kConnecting: return "connecting";
    case ReplayState::kReplaying: return "replaying";
    case ReplayState::kDone: return "done";
    case ReplayState::kStopped: return "stopped";
    case ReplayState::kFailed: return "failed";
  }
  return "unknown";
}

Result<std::string> replay_channel(const std::string& channel, const log::FrameStream& stream, std::uint64_t position) {
  auto uri = shm::ChannelUri::parse(channel);
  if (!uri) return tl::unexpected{std::move(uri.error())};
  if (uri->is_spy()) return fail(ErrorCode::kInvalidArgument, channel + ": a replay is a publication; a spy only listens", "leave out aeron-spy:");
  const std::uint64_t terms = position / stream.term_bytes;
  const auto term_id = static_cast<std::int32_t>(static_cast<std::uint32_t>(stream.initial_term_id) + static_cast<std::uint32_t>(terms));
  const std::pair<const char*, std::int64_t> wanted[] = {{"term-length", stream.term_bytes},
                                                         {"mtu", stream.mtu_bytes},
                                                         {"init-term-id", stream.initial_term_id},
                                                         {"term-id", term_id},
                                                         {"term-offset", static_cast<std::int64_t>(position % stream.term_bytes)}};
  for (const auto& [key, value] : wanted) {
    const bool is_size = std::string_view{key} == "term-length" || std::string_view{key} == "mtu";
    const auto given = is_size ? uri->get_size(key) : uri->get_int64(key);
    if (!given) return tl::unexpected{given.error()};
    if (*given && **given != value)
      return fail(ErrorCode::kInvalidArgument, channel + ": " + key + " must be " + std::to_string(value) + ", as it was recorded, not " + std::to_string(**given), std::string{"leave "} + key + " out");
    uri->set(key, std::to_string(value));
  }
  return uri->to_string();
}

}  // namespace thalweg::archive
