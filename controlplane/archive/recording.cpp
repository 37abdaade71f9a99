#include "controlplane/archive/recording.hpp"

#include <array>
#include <cstdio>
#include <cstring>

#include "dataplane/shm/channel_uri.hpp"

namespace thalweg::archive {
namespace {

constexpr std::uint32_t kDescriptorVersion = 1;
constexpr std::int64_t kNever = INT64_MIN;
constexpr std::uint64_t kNowhere = UINT64_MAX;
constexpr std::size_t kTextMax = 4096;

// Fixed fields in front of the texts.
struct Fixed {
  std::uint32_t version{};
  std::uint32_t state{};
  std::int64_t id{};
  std::int64_t start_ns{};
  std::int64_t stop_ns{};
  std::uint64_t start_position{};
  std::uint64_t stop_position{};
  std::uint64_t segment_bytes{};
  std::int32_t session_id{};
  std::int32_t stream_id{};
  std::int32_t initial_term_id{};
  std::uint32_t term_bytes{};
  std::uint32_t mtu_bytes{};
  std::uint32_t reserved{};
};
static_assert(sizeof(Fixed) == 80);

void put_text(std::vector<std::byte>& to, const std::string& text) {
  const std::string_view cut = std::string_view{text}.substr(0, kTextMax);
  const std::size_t at = to.size();
  to.resize(at + 4 + cut.size());
  store_le(to.data() + at, static_cast<std::uint32_t>(cut.size()));
  if (!cut.empty()) std::memcpy(to.data() + at + 4, cut.data(), cut.size());
}

bool take_text(std::span<const std::byte>& from, std::string& text) {
  if (from.size() < 4) return false;
  const auto length = load_le<std::uint32_t>(from.data());
  if (length > kTextMax || length > from.size() - 4) return false;
  text.assign(reinterpret_cast<const char*>(from.data() + 4), length);
  from = from.subspan(4 + length);
  return true;
}

}  // namespace

std::string frames_path(const std::string& archive_directory, std::int64_t id) {
  char number[32];
  std::snprintf(number, sizeof number, "%010lld", static_cast<long long>(id));
  return archive_directory + "/" + kFramesDirectory + "/" + number;
}

std::vector<std::byte> encode(const Recording& recording) {
  Fixed fixed{.version = kDescriptorVersion, .state = static_cast<std::uint32_t>(recording.state), .id = recording.id, .start_ns = recording.start_ns};
  fixed.stop_ns = recording.stop_ns.value_or(kNever);
  fixed.start_position = recording.start_position;
  fixed.stop_position = recording.stop_position.value_or(kNowhere);
  fixed.segment_bytes = recording.segment_bytes;
  fixed.session_id = recording.stream.session_id;
  fixed.stream_id = recording.stream.stream_id;
  fixed.initial_term_id = recording.stream.initial_term_id;
  fixed.term_bytes = recording.stream.term_bytes;
  fixed.mtu_bytes = recording.stream.mtu_bytes;
  std::vector<std::byte> bytes(sizeof fixed);
  std::memcpy(bytes.data(), &fixed, sizeof fixed);
  for (const std::string* text : {&recording.name, &recording.channel, &recording.original_channel, &recording.source_identity}) put_text(bytes, *text);
  return bytes;
}

Result<Recording> decode_recording(std::span<const std::byte> bytes) {
  const auto bad = [](const char* what) { return fail(ErrorCode::kIo, std::string{"recording descriptor: "} + what); };
  Fixed fixed;
  if (bytes.size() < sizeof fixed) return bad("too short");
  std::memcpy(&fixed, bytes.data(), sizeof fixed);
  if (fixed.version > kDescriptorVersion) return fail(ErrorCode::kVersion, "recording descriptor: version " + std::to_string(fixed.version) + " is newer than this program");
  if (fixed.version == 0 || fixed.state > static_cast<std::uint32_t>(RecordingState::kDeleted) || fixed.id < 0) return bad("impossible values");
  Recording recording{.id = fixed.id, .state = static_cast<RecordingState>(fixed.state), .start_ns = fixed.start_ns, .stop_ns = {}, .start_position = fixed.start_position};
  if (fixed.stop_ns != kNever) recording.stop_ns = fixed.stop_ns;
  if (fixed.stop_position != kNowhere) recording.stop_position = fixed.stop_position;
  recording.stream = {fixed.session_id, fixed.stream_id, fixed.initial_term_id, fixed.term_bytes, fixed.mtu_bytes};
  recording.segment_bytes = fixed.segment_bytes;
  auto texts = bytes.subspan(sizeof fixed);
  for (std::string* text : {&recording.name, &recording.channel, &recording.original_channel, &recording.source_identity})
    if (!take_text(texts, *text)) return bad("a text is cut off");
  return recording;
}

std::string stripped_channel(const std::string& channel) {
  const auto uri = shm::ChannelUri::parse(channel);
  if (!uri) return channel;
  std::string stripped = std::string{uri->is_spy() ? "aeron-spy:" : ""} + (uri->media() == shm::ChannelUri::Media::kUdp ? "aeron:udp" : "aeron:ipc");
  if (uri->media() == shm::ChannelUri::Media::kIpc) return stripped;
  char before = '?';
  for (const char* key : {"endpoint", "control", "control-mode", "interface"}) {
    const auto value = uri->get(key);
    if (!value) continue;
    stripped += before;
    stripped += std::string{key} + "=" + std::string{*value};
    before = '|';
  }
  return stripped;
}

}  // namespace thalweg::archive
