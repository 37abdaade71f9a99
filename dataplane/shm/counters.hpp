#pragma once
#include <atomic>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dataplane/base/bytes.hpp"
#include "dataplane/base/result.hpp"

// Counters metadata and values of cnc.dat (client-protocol 5.1 to 5.8). Byte-exact: stock tools read them.
namespace thalweg::shm {

inline constexpr std::size_t kCounterMetadataLength = 512;
inline constexpr std::size_t kCounterValueLength = 128;
inline constexpr std::size_t kCounterKeyMax = 112;
inline constexpr std::size_t kCounterLabelMax = 380;
inline constexpr std::int32_t kNullCounterId = -1;

// Dynamic counter types (5.7).
namespace counter_type {
inline constexpr std::int32_t kSystem = 0, kPublisherLimit = 1, kSenderPosition = 2, kReceiverHwm = 3, kSubscriberPosition = 4,
                              kReceiverPosition = 5, kSendChannelStatus = 6, kReceiveChannelStatus = 7, kSenderLimit = 9, kPerImage = 10,
                              kClientHeartbeat = 11, kPublisherPosition = 12, kSenderBackPressure = 13, kLocalSockaddr = 14,
                              kFlowControlReceivers = 17, kMdcDestinations = 18, kSenderNaksReceived = 19, kReceiverNaksSent = 20;
}  // namespace counter_type

namespace channel_status {
inline constexpr std::int64_t kInitializing = 0, kErrored = -1, kActive = 1, kClosing = 2;
}  // namespace channel_status

enum class CounterState : std::int32_t { kUnused = 0, kAllocated = 1, kReclaimed = -1 };

// One counter value in shared memory. Copyable view; a null one ignores stores and reads 0 only through explicit checks.
class Counter {
 public:
  Counter() noexcept = default;
  explicit Counter(std::int64_t* value) noexcept : value_{value} {}
  [[nodiscard]] explicit operator bool() const noexcept { return value_ != nullptr; }
  [[nodiscard]] std::int64_t get() const noexcept { return ref().load(std::memory_order_acquire); }
  void set(std::int64_t v) noexcept { ref().store(v, std::memory_order_release); }
  [[nodiscard]] std::int64_t get_plain() const noexcept { return ref().load(std::memory_order_relaxed); }
  void set_relaxed(std::int64_t v) noexcept { ref().store(v, std::memory_order_relaxed); }
  // Where the value lies, for watching many counters cheaply; null for a null counter.
  [[nodiscard]] std::int64_t* address() const noexcept { return value_; }
  std::int64_t add(std::int64_t delta) noexcept { return ref().fetch_add(delta, std::memory_order_acq_rel); }

 private:
  [[nodiscard]] std::atomic_ref<std::int64_t> ref() const noexcept { return std::atomic_ref<std::int64_t>{*value_}; }
  std::int64_t* value_{};
};

// Read side: any process, also with a read-only mapping.
class CountersReader {
 public:
  struct View {
    std::int32_t id{};
    std::int32_t type_id{};
    std::int64_t value{};
    std::int64_t registration_id{};
    std::int64_t owner_id{};
    std::int64_t reference_id{};
    std::span<const std::byte> key;  // 112 bytes
    std::string_view label;
  };
  CountersReader() noexcept = default;
  CountersReader(std::span<std::byte> metadata, std::span<std::byte> values) noexcept : metadata_{metadata}, values_{values} {}
  [[nodiscard]] std::int32_t capacity() const noexcept { return static_cast<std::int32_t>(values_.size() / kCounterValueLength); }
  [[nodiscard]] CounterState state(std::int32_t id) const noexcept;
  [[nodiscard]] std::optional<View> find(std::int32_t id) const noexcept;  // nullopt unless ALLOCATED
  [[nodiscard]] Counter counter(std::int32_t id) const noexcept;           // precondition: 0 <= id < capacity()
  // Calls visit(View) for each ALLOCATED counter; stops at the first UNUSED record (5.5).
  template <typename Visit>
  void for_each(Visit&& visit) const {
    for (std::int32_t id = 0; id < capacity(); ++id) {
      const CounterState s = state(id);
      if (s == CounterState::kUnused) return;
      if (s == CounterState::kAllocated) {
        if (const auto view = find(id)) visit(*view);
      }
    }
  }

 protected:
  std::span<std::byte> metadata_;
  std::span<std::byte> values_;
};

// Allocator. Thread: the conductor alone.
class CountersManager : public CountersReader {
 public:
  struct Spec {
    std::int32_t type_id{};
    std::span<const std::byte> key{};   // cut to 112 bytes
    std::string_view label{};           // cut to 380 bytes
    std::int64_t registration_id{};
    std::int64_t owner_id{};
    std::int64_t reference_id{};
    std::int64_t initial_value{};
  };
  CountersManager() = default;
  CountersManager(std::span<std::byte> metadata, std::span<std::byte> values, std::int64_t free_to_reuse_ms);
  // Rebuilds the free list and the high-water mark from the records: a control plane that restarted.
  void recover(std::int64_t now_ms);
  // Order of 5.3. Error kNoSpace "max counter id exceeded" when all are taken.
  [[nodiscard]] Result<std::int32_t> allocate(const Spec& spec, std::int64_t now_ms);
  void free(std::int32_t id, std::int64_t now_ms) noexcept;  // 5.4; ignored unless ALLOCATED
  void update_label(std::int32_t id, std::string_view label) noexcept;
  void update_key(std::int32_t id, std::span<const std::byte> key) noexcept;

 private:
  struct Freed { std::int32_t id; std::int64_t deadline_ms; };
  void publish(std::int32_t id, const Spec& spec) noexcept;

  // Which ids are taken is known here; the records are published copies, because clients can write them.
  std::int64_t free_to_reuse_ms_{1000};
  std::int32_t high_water_{-1};
  std::deque<Freed> free_;  // in the order they were freed
  std::vector<bool> is_allocated_;
};

// Key layouts of 5.7, returned as 112 zero-filled bytes.
struct CounterKey {
  std::byte bytes[kCounterKeyMax]{};
  [[nodiscard]] std::span<const std::byte> span() const noexcept { return bytes; }
};
[[nodiscard]] CounterKey stream_key(std::int64_t registration_id, std::int32_t session_id, std::int32_t stream_id, std::string_view channel) noexcept;
[[nodiscard]] CounterKey channel_key(std::string_view channel) noexcept;
[[nodiscard]] CounterKey sockaddr_key(std::int32_t status_counter_id, std::string_view address) noexcept;
[[nodiscard]] CounterKey heartbeat_key(std::int64_t client_id) noexcept;
[[nodiscard]] std::string stream_label(std::string_view name, std::int64_t registration_id, std::int32_t session_id, std::int32_t stream_id,
                                       std::string_view channel);

// System counters (5.6): id == enumerator.
enum class SystemCounter : std::int32_t {
  kBytesSent = 0, kBytesReceived, kReceiverProxyFails, kSenderProxyFails, kConductorProxyFails, kNaksSent, kNaksReceived,
  kStatusMessagesSent, kStatusMessagesReceived, kHeartbeatsSent, kHeartbeatsReceived, kRetransmitsSent, kFlowControlUnderRuns,
  kFlowControlOverRuns, kInvalidPackets, kErrors, kShortSends, kFreeFails, kSenderFlowControlLimits, kUnblockedPublications,
  kUnblockedCommands, kPossibleTtlAsymmetry, kControllableIdleStrategy, kLossGapFills, kClientTimeouts, kResolutionChanges,
  kConductorMaxCycleTime, kConductorCycleTimeThresholdExceeded, kSenderMaxCycleTime, kSenderCycleTimeThresholdExceeded,
  kReceiverMaxCycleTime, kReceiverCycleTimeThresholdExceeded, kNameResolverMaxTime, kNameResolverTimeThresholdExceeded, kVersion,
  kBytesCurrentlyMapped, kRetransmittedBytes, kRetransmitOverflow, kErrorFramesReceived, kErrorFramesSent, kPublicationsRevoked,
  kPublicationImagesRevoked, kImagesRejected, kControlProtocolVersion, kStatusMessagesRejected, kNativeResourceAgentProxyFails,
};
inline constexpr std::int32_t kSystemCounterCount = 46;
// Allocates ids 0..45 in order with the labels of 5.6. Thread: the conductor, before readiness.
[[nodiscard]] Result<void> allocate_system_counters(CountersManager& counters, std::string_view threading_mode, std::string_view resolver_name,
                                                    std::int64_t now_ms);

}  // namespace thalweg::shm
