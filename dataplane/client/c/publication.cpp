// thalweg.h: publications and claims.
#include "dataplane/client/c/handles.hpp"

using namespace thalweg;
using namespace thalweg::client;
using namespace thalweg::client::c;

namespace {
constexpr std::size_t kPartsMax = 64;  // gathered without memory of the heap

std::int64_t outcome(OfferResult result) noexcept { return result ? result.position() : static_cast<std::int64_t>(result.status()); }

// The claim of ours that a C claim stands for; the C one is empty then.
BufferClaim take(thalweg_claim_t& claim) noexcept {
  if (claim.data == nullptr) return {};
  BufferClaim taken{reinterpret_cast<std::byte*>(claim.data) - frame::kHeaderLength, static_cast<std::int32_t>(claim.length) + frame::kHeaderLength};
  claim = {};
  return taken;
}
}  // namespace

extern "C" {

void thalweg_publication_destroy(thalweg_publication_t* publication) noexcept { delete publication; }
void thalweg_publication_close(thalweg_publication_t* publication) noexcept { publication->handle().close(); }
void thalweg_publication_revoke(thalweg_publication_t* publication) noexcept { publication->handle().revoke(); }

int64_t thalweg_publication_offer(thalweg_publication_t* publication, const void* data, size_t length, int64_t reserved_value) noexcept {
  const auto message = bytes_of(data, length);
  return outcome(publication->is_exclusive ? publication->alone.offer(message, reserved_value) : publication->shared.offer(message, reserved_value));
}

int64_t thalweg_publication_offer_parts(thalweg_publication_t* publication, const thalweg_buffer_t* parts, size_t count, int64_t reserved_value) noexcept {
  std::array<std::span<const std::byte>, kPartsMax> few;
  std::vector<std::span<const std::byte>> many;
  if (count > kPartsMax) many.resize(count);
  const std::span<std::span<const std::byte>> all = count > kPartsMax ? std::span{many} : std::span{few}.first(count);
  for (std::size_t i = 0; i < count; ++i) all[i] = bytes_of(parts[i].data, parts[i].length);
  const std::span<const std::span<const std::byte>> message = all;
  return outcome(publication->is_exclusive ? publication->alone.offer(message, reserved_value) : publication->shared.offer(message, reserved_value));
}

int64_t thalweg_publication_offer_block(thalweg_publication_t* publication, const void* frames, size_t length) noexcept {
  return outcome(publication->is_exclusive ? publication->alone.offer_block(bytes_of(frames, length)) : OfferStatus::kInvalidBlock);
}

int64_t thalweg_publication_try_claim(thalweg_publication_t* publication, size_t length, thalweg_claim_t* claim) noexcept {
  BufferClaim taken;
  const OfferResult result = publication->is_exclusive ? publication->alone.try_claim(length, taken) : publication->shared.try_claim(length, taken);
  *claim = {};
  if (result) {
    claim->length = length;
    claim->data = reinterpret_cast<std::uint8_t*>(taken.release()) + frame::kHeaderLength;
  }
  return outcome(result);
}
void thalweg_claim_set_reserved_value(thalweg_claim_t* claim, int64_t value) noexcept {
  if (claim->data != nullptr) store_le(reinterpret_cast<std::byte*>(claim->data) - frame::kHeaderLength + frame::kReservedValueOffset, value);
}
void thalweg_claim_commit(thalweg_claim_t* claim) noexcept { take(*claim).commit(); }
void thalweg_claim_abort(thalweg_claim_t* claim) noexcept { take(*claim).abort(); }

bool thalweg_publication_is_exclusive(const thalweg_publication_t* publication) noexcept { return publication->is_exclusive; }
bool thalweg_publication_is_connected(const thalweg_publication_t* publication) noexcept { return publication->handle().is_connected(); }
bool thalweg_publication_is_closed(const thalweg_publication_t* publication) noexcept { return publication->handle().is_closed(); }
bool thalweg_publication_is_original(const thalweg_publication_t* publication) noexcept { return publication->handle().is_original(); }
const char* thalweg_publication_channel(const thalweg_publication_t* publication) noexcept { return publication->handle().channel().c_str(); }
int32_t thalweg_publication_stream_id(const thalweg_publication_t* publication) noexcept { return publication->handle().stream_id(); }
int32_t thalweg_publication_session_id(const thalweg_publication_t* publication) noexcept { return publication->handle().session_id(); }
int64_t thalweg_publication_registration_id(const thalweg_publication_t* publication) noexcept { return publication->handle().registration_id(); }
int64_t thalweg_publication_original_registration_id(const thalweg_publication_t* publication) noexcept { return publication->handle().original_registration_id(); }
int32_t thalweg_publication_initial_term_id(const thalweg_publication_t* publication) noexcept { return publication->handle().initial_term_id(); }
int32_t thalweg_publication_term_length(const thalweg_publication_t* publication) noexcept { return publication->handle().term_length(); }
int32_t thalweg_publication_max_payload_length(const thalweg_publication_t* publication) noexcept { return publication->handle().max_payload_length(); }
int32_t thalweg_publication_max_message_length(const thalweg_publication_t* publication) noexcept { return publication->handle().max_message_length(); }
int64_t thalweg_publication_max_position(const thalweg_publication_t* publication) noexcept { return publication->handle().max_position(); }
int64_t thalweg_publication_position(const thalweg_publication_t* publication) noexcept {
  return publication->is_exclusive ? publication->alone.position() : publication->shared.position();
}
int64_t thalweg_publication_position_limit(const thalweg_publication_t* publication) noexcept { return publication->handle().position_limit(); }
int32_t thalweg_publication_position_limit_id(const thalweg_publication_t* publication) noexcept { return publication->handle().position_limit_id(); }
int64_t thalweg_publication_available_window(const thalweg_publication_t* publication) noexcept {
  return publication->is_exclusive ? publication->alone.available_window() : publication->shared.available_window();
}
int32_t thalweg_publication_channel_status_id(const thalweg_publication_t* publication) noexcept { return publication->handle().channel_status_id(); }
thalweg_channel_status_t thalweg_publication_channel_status(const thalweg_publication_t* publication) noexcept {
  return static_cast<thalweg_channel_status_t>(publication->handle().channel_status());
}
size_t thalweg_publication_local_address(const thalweg_publication_t* publication, size_t index, char* buffer, size_t capacity) noexcept {
  const auto addresses = publication->handle().local_addresses();
  return copy_text(index < addresses.size() ? std::string_view{addresses[index]} : std::string_view{}, buffer, capacity);
}

}  // extern "C"
