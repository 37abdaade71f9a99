#include <array>

#include "dataplane/shm/counters.hpp"

namespace thalweg::shm {
namespace {

// What follows the text of 5.6 in a label.
enum class Suffix : std::uint8_t { kNone, kVersion, kResolver, kMode, kThresholdAndMode, kThreshold };
struct SystemLabel {
  std::string_view text;
  Suffix suffix{Suffix::kNone};
};

constexpr std::array<SystemLabel, kSystemCounterCount> kLabels{{
    {"Bytes sent"},
    {"Bytes received"},
    {"Failed offers to ReceiverProxy"},
    {"Failed offers to SenderProxy"},
    {"Failed offers to DriverConductorProxy"},
    {"NAKs sent"},
    {"NAKs received"},
    {"Status Messages sent"},
    {"Status Messages received"},
    {"Heartbeats sent"},
    {"Heartbeats received"},
    {"Retransmits sent"},
    {"Flow control under runs"},
    {"Flow control over runs"},
    {"Invalid packets"},
    {"Errors: ", Suffix::kVersion},
    {"Short sends"},
    {"Failed attempts to free log buffers"},
    {"Sender flow control limits, i.e. back-pressure events"},
    {"Unblocked Publications"},
    {"Unblocked Control Commands"},
    {"Possible TTL Asymmetry"},
    {"ControllableIdleStrategy status"},
    {"Loss gap fills"},
    {"Client liveness timeouts"},
    {"Resolution changes: driverName=", Suffix::kResolver},
    {"Conductor max cycle time doing its work in ns: ", Suffix::kMode},
    {"Conductor work cycle exceeded threshold count: ", Suffix::kThresholdAndMode},
    {"Sender max cycle time doing its work in ns: ", Suffix::kMode},
    {"Sender work cycle exceeded threshold count: ", Suffix::kThresholdAndMode},
    {"Receiver max cycle time doing its work in ns: ", Suffix::kMode},
    {"Receiver work cycle exceeded threshold count: ", Suffix::kThresholdAndMode},
    {"NameResolver max time in ns"},
    {"NameResolver exceeded threshold count: ", Suffix::kThreshold},
    {"Aeron software: ", Suffix::kVersion},
    {"Bytes currently mapped"},
    {"Retransmitted bytes"},
    {"Retransmit Pool Overflow count"},
    {"Error Frames received"},
    {"Error Frames sent"},
    {"Publications Revoked"},
    {"Publication Images Revoked"},
    {"Images rejected"},
    {"Control protocol version"},
    {"Status Messages rejected"},
    {"Failed offers to NativeResourceAgentProxy"},
}};

// The release whose behaviour we implement, as `major << 16 | minor << 8 | patch`: clients and tools compare it with their own.
constexpr std::int64_t kCompatibleVersion = 79104;  // 1.53.0
constexpr std::string_view kVersionText = "version=1.53.0 commit=thalweg-" THALWEG_VERSION;
constexpr std::int64_t kControlProtocolVersion = 0x00010000;  // 1.0.0: clients may send GET_NEXT_AVAILABLE_SESSION_ID

std::string label_of(const SystemLabel& label, std::string_view threading_mode, std::string_view resolver_name) {
  std::string text{label.text};
  switch (label.suffix) {
    case Suffix::kNone: break;
    case Suffix::kVersion: text += kVersionText; break;
    case Suffix::kResolver: text += resolver_name; break;
    case Suffix::kMode: text += threading_mode; break;
    case Suffix::kThresholdAndMode: text.append("threshold=100ms ").append(threading_mode); break;
    case Suffix::kThreshold: text += "threshold=5s"; break;
  }
  return text;
}

std::int64_t initial_value_of(std::int32_t id) noexcept {
  switch (static_cast<SystemCounter>(id)) {
    case SystemCounter::kVersion: return kCompatibleVersion;
    case SystemCounter::kControlProtocolVersion: return kControlProtocolVersion;
    default: return 0;
  }
}

}  // namespace

Result<void> allocate_system_counters(CountersManager& counters, std::string_view threading_mode, std::string_view resolver_name,
                                      std::int64_t now_ms) {
  for (std::int32_t id = 0; id < kSystemCounterCount; ++id) {
    const std::string label = label_of(kLabels[static_cast<std::size_t>(id)], threading_mode, resolver_name);
    const auto allocated = counters.allocate({.type_id = counter_type::kSystem,
                                              .key = std::as_bytes(std::span{&id, 1}),
                                              .label = label,
                                              .registration_id = id,
                                              .owner_id = -1,
                                              .initial_value = initial_value_of(id)},
                                             now_ms);
    if (!allocated) return tl::unexpected<Error>{allocated.error()};
    if (*allocated != id) return fail(ErrorCode::kGeneric, "system counters must be the first to be allocated");
  }
  return {};
}

}  // namespace thalweg::shm
