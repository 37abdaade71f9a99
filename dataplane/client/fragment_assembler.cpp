#include "dataplane/client/fragment_assembler.hpp"

#include "dataplane/base/planted.hpp"

namespace thalweg::client {
namespace {
std::int64_t begin_of(std::span<const std::byte> payload, const Header& header) noexcept {
  return header.position() - frame::aligned(static_cast<std::int32_t>(payload.size()) + frame::kHeaderLength);
}
}  // namespace

std::optional<MessageBuilder::Bytes> MessageBuilder::append(Bytes payload, const Header& header) {
  Partial& partial = partials_[header.session_id()];
  if (planted(Bug::kReassemblyAcrossLoss) && partial.next_position >= 0) partial.next_position = begin_of(payload, header);
  if ((header.flags() & frame::kBegin) != 0) {
    if (partial.next_position >= 0) ++dropped_;
    partial.bytes.clear();
  } else if (partial.next_position != begin_of(payload, header)) {
    if (partial.next_position >= 0) drop(partial);
    return std::nullopt;
  }
  if (partial.bytes.size() + payload.size() > static_cast<std::size_t>(header.image().max_message_length())) {
    drop(partial);
    return std::nullopt;
  }
  partial.bytes.insert(partial.bytes.end(), payload.begin(), payload.end());
  if ((header.flags() & frame::kEnd) == 0) {
    partial.next_position = header.position();
    return std::nullopt;
  }
  partial.next_position = -1;
  return Bytes{partial.bytes};
}

void MessageBuilder::undo(Bytes payload, const Header& header) {
  if (header.is_unfragmented()) return;
  Partial& partial = partials_[header.session_id()];
  partial.bytes.resize(partial.bytes.size() - payload.size());
  partial.next_position = begin_of(payload, header);
}

void MessageBuilder::drop(Partial& partial) noexcept {
  ++dropped_;
  partial.bytes.clear();
  partial.next_position = -1;
}

}  // namespace thalweg::client
