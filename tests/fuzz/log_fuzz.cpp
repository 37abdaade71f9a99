// What a lane does with a log that a client owns: the sender's scan, positions, rotation, unblocking. The input writes the log.
#include "dataplane/proto/frame_scan.hpp"
#include "dataplane/shm/log_buffer.hpp"
#include "tests/fuzz/input.hpp"

namespace thalweg::fuzz {
namespace {
constexpr std::int32_t kTerm = 64 << 10;
constexpr std::int32_t kInitialTermId = 7;
constexpr std::uint64_t kLength = shm::log_file_length(kTerm, 1);

// Walks a term as the sender does; every step must stay inside it.
void scan(std::byte* term, std::int32_t limit) {
  const proto::FrameRules rules{77, 1001, 1408, kTerm};
  for (std::int32_t offset = 0; offset < kTerm;) {
    const auto found = proto::scan_datagram(term, offset, kInitialTermId, std::min(limit, rules.mtu), rules);
    require(found.bytes >= 0 && found.skipped >= 0 && found.bytes <= limit, "a datagram fits its limit");
    require(offset + found.bytes + found.skipped <= kTerm, "a datagram stays inside the term");
    require((found.bytes + found.skipped) % 32 == 0, "a datagram is whole frames");
    if (found.bytes == 0 || found.is_corrupt) return;
    offset += found.bytes + found.skipped;
  }
}

// A good frame, so that the scan gets somewhere.
void put_frame(std::byte* term, std::int32_t& offset, std::int32_t length, bool is_pad) {
  length = std::min(length, kTerm - offset);
  if (length < 32) return;
  wire::build(term + offset, wire::DataHeader{.frame_length = length, .type = is_pad ? wire::FrameType::kPad : wire::FrameType::kData,
                                              .term_offset = offset, .session_id = 77, .stream_id = 1001, .term_id = kInitialTermId});
  offset += wire::align_frame(length);
}
}  // namespace

void run(Bytes input) {
  Input in{input};
  const GuardedMemory memory{kLength};
  const shm::LogBuffer log{memory.data(), kLength, kTerm};
  shm::init_log_metadata(log, {.initial_term_id = kInitialTermId, .start_term_id = kInitialTermId, .session_id = 77, .stream_id = 1001, .mtu = 1408,
                               .term_length = kTerm});
  std::int32_t offset = 0;
  while (!in.is_empty()) {
    switch (in.choice(7)) {
      case 0: put_frame(log.term(0), offset, 32 + in.take<std::uint16_t>() % 1377, in.choice(16) == 0); break;
      case 1: scribble(in, {log.term(0), 4096}, 8); break;
      case 2: scribble(in, {log.metadata(), shm::kLogMetadataLength}, 8); break;
      case 3: scan(log.term(0), in.take<std::uint16_t>() % 1408 & ~31); break;
      case 4: {
        const std::int64_t position = shm::producer_position(log, kInitialTermId);
        require(position >= 0 || log.active_term_count() < 0, "a producer position is a position");
        break;
      }
      case 5: shm::rotate_log(log, in.take<std::int32_t>(), in.take<std::int32_t>()); break;
      default: shm::unblock_log(log, in.take<std::uint32_t>() & ~std::int64_t{31}, kInitialTermId); break;
    }
  }
  scan(log.term(0), 1408);
}

}  // namespace thalweg::fuzz
