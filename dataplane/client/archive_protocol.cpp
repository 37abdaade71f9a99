#include "dataplane/client/archive_protocol.hpp"

#include <cstring>

#include "dataplane/base/bytes.hpp"

namespace thalweg::client::archive_protocol {
namespace {
constexpr std::size_t kHeaderBytes = 24;  // version, kind, correlation id, count of numbers, count of texts
}  // namespace

std::vector<std::byte> encode(const Message& message) {
  std::size_t size = kHeaderBytes + 8 * message.numbers.size();
  for (const std::string& text : message.texts) size += 4 + text.size();
  std::vector<std::byte> bytes(size);
  std::byte* at = bytes.data();
  store_le(at, kVersion);
  store_le(at + 4, static_cast<std::uint32_t>(message.kind));
  store_le(at + 8, message.correlation_id);
  store_le(at + 16, static_cast<std::uint32_t>(message.numbers.size()));
  store_le(at + 20, static_cast<std::uint32_t>(message.texts.size()));
  at += kHeaderBytes;
  for (const std::int64_t number : message.numbers) {
    store_le(at, number);
    at += 8;
  }
  for (const std::string& text : message.texts) {
    store_le(at, static_cast<std::uint32_t>(text.size()));
    if (!text.empty()) std::memcpy(at + 4, text.data(), text.size());
    at += 4 + text.size();
  }
  return bytes;
}

Result<Message> decode(std::span<const std::byte> bytes) {
  const auto bad = [] { return fail(ErrorCode::kIo, "a message of the archive's protocol that makes no sense"); };
  if (bytes.size() < kHeaderBytes || bytes.size() > kMessageBytesMax) return bad();
  const auto version = load_le<std::uint32_t>(bytes.data());
  if (version != kVersion) return fail(ErrorCode::kVersion, "a message of version " + std::to_string(version) + " of the archive's protocol; this program speaks " + std::to_string(kVersion));
  Message message{.kind = static_cast<Kind>(load_le<std::uint32_t>(bytes.data() + 4)), .correlation_id = load_le<std::int64_t>(bytes.data() + 8), .numbers = {}, .texts = {}};
  const auto numbers = load_le<std::uint32_t>(bytes.data() + 16);
  const auto texts = load_le<std::uint32_t>(bytes.data() + 20);
  std::span<const std::byte> rest = bytes.subspan(kHeaderBytes);
  if (numbers > rest.size() / 8) return bad();
  for (std::uint32_t i = 0; i < numbers; ++i) message.numbers.push_back(load_le<std::int64_t>(rest.data() + 8 * static_cast<std::size_t>(i)));
  rest = rest.subspan(8 * static_cast<std::size_t>(numbers));
  if (texts > rest.size() / 4) return bad();
  for (std::uint32_t i = 0; i < texts; ++i) {
    if (rest.size() < 4) return bad();
    const auto length = load_le<std::uint32_t>(rest.data());
    if (length > rest.size() - 4) return bad();
    message.texts.emplace_back(reinterpret_cast<const char*>(rest.data() + 4), length);
    rest = rest.subspan(4 + static_cast<std::size_t>(length));
  }
  return message;
}

}  // namespace thalweg::client::archive_protocol
