#include "dataplane/client/detail/mapped_log.hpp"

#include <bit>

#include "dataplane/client/header.hpp"

namespace thalweg::client::detail {
namespace {
// Legal ranges of wire-protocol 1.12.
constexpr std::int32_t kTermLengthMin = 64 << 10;
constexpr std::int32_t kTermLengthMax = 1 << 30;
constexpr std::int32_t kMtuMax = 65504;

bool is_term_length(std::int32_t length) noexcept {
  return length >= kTermLengthMin && length <= kTermLengthMax && std::has_single_bit(static_cast<std::uint32_t>(length));
}
bool is_mtu(std::int32_t mtu) noexcept { return mtu > frame::kHeaderLength && mtu <= kMtuMax && mtu % frame::kAlignment == 0; }
}  // namespace

Result<std::shared_ptr<const MappedLog>> MappedLog::open(std::string_view path, bool pre_touch) {
  auto file = shm::MappedFile::open(std::string{path}, shm::MappedFile::Access::kReadWrite, pre_touch);
  if (!file) return tl::unexpected<Error>{std::move(file.error()).with_context("map log")};
  const std::uint64_t length = file->length();
  if (length < shm::log_file_length(kTermLengthMin, 1)) return fail(ErrorCode::kIo, "log " + std::string{path} + " is too short");

  if (length % shm::kLogMetadataLength != 0) {  // whole pages, or its words lie askew
    return fail(ErrorCode::kIo, "log " + std::string{path} + " has an impossible length of " + std::to_string(length) + " bytes");
  }

  const std::byte* metadata = file->data() + length - shm::kLogMetadataLength;
  const auto term_length = load_le<std::int32_t>(metadata + shm::meta::kTermLength);
  const auto mtu = load_le<std::int32_t>(metadata + shm::meta::kMtuLength);
  if (!is_term_length(term_length) || shm::log_file_length(term_length, 1) > length) {
    return fail(ErrorCode::kIo, "log " + std::string{path} + " has an impossible term length " + std::to_string(term_length));
  }
  if (!is_mtu(mtu)) return fail(ErrorCode::kIo, "log " + std::string{path} + " has an impossible MTU " + std::to_string(mtu));

  auto log = std::make_shared<MappedLog>();
  log->initial_term_id = load_le<std::int32_t>(metadata + shm::meta::kInitialTermId);
  log->term_length = term_length;
  log->max_payload_length = mtu - frame::kHeaderLength;
  log->max_message_length = wire::max_message_length(term_length);
  log->log = shm::LogBuffer{file->data(), length, term_length};
  log->file = std::move(*file);
  return std::shared_ptr<const MappedLog>{std::move(log)};
}

}  // namespace thalweg::client::detail
