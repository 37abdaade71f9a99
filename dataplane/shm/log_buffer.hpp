#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "dataplane/base/bytes.hpp"
#include "dataplane/wire/positions.hpp"

// Log buffer files (client-protocol section 7): three terms, then, 4096 bytes before the end of the file, the metadata.
// The layout is fixed: stock clients map these files.
namespace thalweg::shm {

inline constexpr std::size_t kLogMetadataLength = 4096;
inline constexpr std::size_t kDefaultPageSize = 4096;

// Offsets inside the metadata section (client-protocol 7.2).
namespace meta {
inline constexpr std::size_t kTails = 0;  // 3 x i64
inline constexpr std::size_t kActiveTermCount = 24;
inline constexpr std::size_t kEndOfStreamPosition = 128;
inline constexpr std::size_t kIsConnected = 136;
inline constexpr std::size_t kActiveTransportCount = 140;
inline constexpr std::size_t kCorrelationId = 256;
inline constexpr std::size_t kInitialTermId = 264;
inline constexpr std::size_t kDefaultFrameHeaderLength = 268;
inline constexpr std::size_t kMtuLength = 272;
inline constexpr std::size_t kTermLength = 276;
inline constexpr std::size_t kPageSize = 280;
inline constexpr std::size_t kPublicationWindowLength = 284;
inline constexpr std::size_t kReceiverWindowLength = 288;
inline constexpr std::size_t kSocketSndbuf = 292;
inline constexpr std::size_t kOsDefaultSndbuf = 296;
inline constexpr std::size_t kOsMaxSndbuf = 300;
inline constexpr std::size_t kSocketRcvbuf = 304;
inline constexpr std::size_t kOsDefaultRcvbuf = 308;
inline constexpr std::size_t kOsMaxRcvbuf = 312;
inline constexpr std::size_t kMaxResend = 316;
inline constexpr std::size_t kDefaultHeader = 320;
inline constexpr std::size_t kEntityTag = 448;
inline constexpr std::size_t kResponseCorrelationId = 456;
inline constexpr std::size_t kLinger_ns = 464;
inline constexpr std::size_t kUntetheredWindowLimitTimeout_ns = 472;
inline constexpr std::size_t kUntetheredRestingTimeout_ns = 480;
inline constexpr std::size_t kGroup = 488;
inline constexpr std::size_t kIsResponse = 489;
inline constexpr std::size_t kRejoin = 490;
inline constexpr std::size_t kReliable = 491;
inline constexpr std::size_t kSparse = 492;
inline constexpr std::size_t kSignalEos = 493;
inline constexpr std::size_t kSpiesSimulateConnection = 494;
inline constexpr std::size_t kTether = 495;
inline constexpr std::size_t kIsPublicationRevoked = 496;
inline constexpr std::size_t kType = 497;  // LogType
inline constexpr std::size_t kUntetheredLingerTimeout_ns = 500;  // 4-aligned i64
}  // namespace meta

enum class LogType : std::uint8_t { kConcurrentPublication = 0, kExclusivePublication = 1, kImage = 2 };

// File length for a term length and page size (7.1): align(3T + 4096, page). 2 MiB pages on hugetlbfs keep the metadata at the end.
[[nodiscard]] constexpr std::uint64_t log_file_length(std::int32_t term_length, std::uint64_t page_size) noexcept {
  return align_up<std::uint64_t>(3 * static_cast<std::uint64_t>(term_length) + kLogMetadataLength, page_size);
}

// A mapped log buffer. A view: owns nothing, trivially copyable, valid while the mapping is. Every value that clients can write is
// read through here and must be clamped by the caller before use as a length.
class LogBuffer {
 public:
  LogBuffer() noexcept = default;
  // `term_length` comes from our own registry, never from the file.
  LogBuffer(std::byte* base, std::uint64_t file_length, std::int32_t term_length) noexcept
      : base_{base}, metadata_{base + file_length - kLogMetadataLength}, term_length_{term_length}, bits_{wire::position_bits(term_length)} {}

  [[nodiscard]] bool is_mapped() const noexcept { return base_ != nullptr; }
  [[nodiscard]] std::byte* base() const noexcept { return base_; }
  [[nodiscard]] std::byte* term(int partition) const noexcept {
    return base_ + static_cast<std::size_t>(partition) * static_cast<std::size_t>(term_length_);
  }
  [[nodiscard]] std::byte* at(std::int64_t position) const noexcept {
    return term(wire::partition_of(position, bits_)) + wire::term_offset_of(position, bits_);
  }
  [[nodiscard]] std::int32_t term_length() const noexcept { return term_length_; }  // bytes
  [[nodiscard]] int position_bits() const noexcept { return bits_; }
  [[nodiscard]] std::byte* metadata() const noexcept { return metadata_; }

  // Metadata words that several processes touch. Precondition: offset aligned for T (all but meta::kUntetheredLingerTimeout_ns are).
  template <typename T>
  [[nodiscard]] T load(std::size_t offset, std::memory_order order = std::memory_order_acquire) const noexcept {
    return std::atomic_ref<T>{*reinterpret_cast<T*>(metadata_ + offset)}.load(order);
  }
  template <typename T>
  void store(std::size_t offset, T value, std::memory_order order = std::memory_order_release) const noexcept {
    std::atomic_ref<T>{*reinterpret_cast<T*>(metadata_ + offset)}.store(value, order);
  }

  [[nodiscard]] std::int64_t raw_tail(int partition) const noexcept { return load<std::int64_t>(meta::kTails + 8 * static_cast<std::size_t>(partition)); }
  [[nodiscard]] std::int32_t active_term_count() const noexcept { return load<std::int32_t>(meta::kActiveTermCount); }

 private:
  std::byte* base_{};
  std::byte* metadata_{};
  std::int32_t term_length_{};
  int bits_{};
};

// Raw tail packing (7.3).
[[nodiscard]] constexpr std::int32_t tail_term_id(std::int64_t raw) noexcept { return static_cast<std::int32_t>(raw >> 32); }
[[nodiscard]] constexpr std::int32_t tail_offset(std::int64_t raw, std::int32_t term_length) noexcept {
  const std::int64_t offset = raw & 0xFFFFFFFF;
  return static_cast<std::int32_t>(offset < term_length ? offset : term_length);
}
[[nodiscard]] constexpr std::int64_t pack_tail(std::int32_t term_id, std::int32_t offset) noexcept {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(static_cast<std::uint32_t>(term_id)) << 32 | static_cast<std::uint32_t>(offset));
}

// Frame length word: acquire pairs with the committing release store of the publisher or of a lane's insert.
[[nodiscard]] inline std::int32_t frame_length_acquire(std::byte* frame) noexcept {
  return std::atomic_ref<std::int32_t>{*reinterpret_cast<std::int32_t*>(frame)}.load(std::memory_order_acquire);
}
inline void frame_length_release(std::byte* frame, std::int32_t length) noexcept {
  std::atomic_ref<std::int32_t>{*reinterpret_cast<std::int32_t*>(frame)}.store(length, std::memory_order_release);
}

// Everything the driver writes into the metadata at creation (7.2, 7.3, 7.4).
struct LogMetadata {
  LogType type{LogType::kConcurrentPublication};
  std::int64_t correlation_id{};
  std::int32_t initial_term_id{};
  std::int32_t start_term_id{};        // publications: where the stream starts
  std::int32_t start_term_offset{};
  std::int32_t session_id{};
  std::int32_t stream_id{};
  std::int32_t mtu{};
  std::int32_t term_length{};
  std::int32_t page_size{};
  std::int32_t publication_window{};
  std::int32_t receiver_window{};
  std::int32_t socket_sndbuf{}, os_default_sndbuf{}, os_max_sndbuf{};
  std::int32_t socket_rcvbuf{}, os_default_rcvbuf{}, os_max_rcvbuf{};
  std::int32_t max_resend{};
  std::int64_t entity_tag{-1};
  std::int64_t response_correlation_id{-1};
  std::int64_t linger_ns{};
  std::int64_t untethered_window_limit_timeout_ns{};
  std::int64_t untethered_linger_timeout_ns{};
  std::int64_t untethered_resting_timeout_ns{};
  bool group{}, is_response{}, rejoin{}, reliable{}, sparse{}, signal_eos{}, spies_simulate_connection{}, tether{};
};
// Writes the metadata of a zero-filled log. Single writer, before the file is announced to anybody.
void init_log_metadata(const LogBuffer& log, const LogMetadata& metadata) noexcept;

// Producer position as the driver sees it (7.6): from the active term count and its raw tail, clamped to the term.
[[nodiscard]] std::int64_t producer_position(const LogBuffer& log, std::int32_t initial_term_id) noexcept;

// Rotates to the next term (7.5): CAS of the next tail, then of the active term count. Any thread. `term_count`, `term_id`: those left.
bool rotate_log(const LogBuffer& log, std::int32_t term_count, std::int32_t term_id) noexcept;

// Unblocks a publication at `blocked_position` (7.8). Returns true if something was done; the caller counts it. Thread: owning lane.
// `has_producers`: false once the last client let go. Then an empty claim at the very tail is padded too; with producers alive that has to
// wait until one of them writes behind it, because the claim may be a moment old.
bool unblock_log(const LogBuffer& log, std::int64_t blocked_position, std::int32_t initial_term_id, bool has_producers = true) noexcept;

// Zeroes [from, to) inside one term for reuse: all but the first 8 bytes, then a release store of 0 to the first 8 (7.6).
// Precondition: both multiples of 32, same term. Thread: owning lane.
void clean_log(const LogBuffer& log, std::int64_t from, std::int64_t to) noexcept;

}  // namespace thalweg::shm
