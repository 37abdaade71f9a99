#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "controlplane/api/records.hpp"
#include "dataplane/client/archive_client.hpp"

namespace thalweg::archive {

using client::ReplicationState;

// What is to be copied, and from where.
struct ReplicationRequest {
  std::int64_t source_recording{};
  std::string source_channel;                // where the source's archive listens
  std::int32_t source_stream{10};
  std::string response_channel;              // where answers and frames come in; port 0 takes a free one
  std::optional<std::int64_t> into;          // a recording here that goes on; absent: a new one
  std::optional<std::uint64_t> stop_position;
  bool is_followed{};                        // as long as the source is written
};

// A replication as others see it, and as the catalog keeps it. Spec: archive-log 16.3.
struct ReplicationView {
  std::int64_t id{};
  ReplicationRequest request;
  ReplicationState state{ReplicationState::kConnecting};
  std::string error;                         // of a failed one, and of one that waits
  std::optional<std::int64_t> recording;     // here; absent: none has begun
  std::uint64_t position{};                  // behind the last frame here
  std::uint64_t verified_position{};         // everything below was compared with the source
  std::uint64_t source_position{};           // when it was last looked at
  std::optional<std::uint64_t> stop_position;  // where it ends; absent: not known yet, or with the source
  std::uint64_t breaks{};                    // how often it had to begin again
  std::int64_t start_ns{};                   // epoch
  [[nodiscard]] bool is_over() const noexcept { return state >= ReplicationState::kDone; }
};

[[nodiscard]] api::Json describe(const ReplicationView& view);
// Of the catalog's text. Errors: kIo.
[[nodiscard]] Result<ReplicationView> decode_replication(const std::string& text);

}  // namespace thalweg::archive
