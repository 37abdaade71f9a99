#pragma once
#include <span>
#include <string_view>

#include "dataplane/base/bytes.hpp"

namespace thalweg::shm {

// loss-report.dat (client-protocol 5.10). Writer: the control plane alone.
class LossReport {
 public:
  LossReport() = default;
  explicit LossReport(std::span<std::byte> section) noexcept : section_{section} {}
  // Opens an entry for an image; returns its offset, or -1 when the report is full.
  [[nodiscard]] std::int64_t create_entry(std::int64_t bytes_lost, std::int64_t now_ms, std::int32_t session_id, std::int32_t stream_id,
                                          std::string_view channel, std::string_view source) noexcept;
  void record(std::int64_t entry, std::int64_t bytes_lost, std::int64_t now_ms) noexcept;
  // Continues behind the entries already there: a control plane that restarted.
  void recover() noexcept;

 private:
  std::span<std::byte> section_;
  std::size_t next_{};
};

struct LossReportEntry {
  std::int64_t observation_count{};
  std::int64_t bytes_lost{};
  std::int64_t first_ms{};
  std::int64_t last_ms{};
  std::int32_t session_id{};
  std::int32_t stream_id{};
  std::string_view channel;
  std::string_view source;
};
void read_loss_report(std::span<const std::byte> section, void (*visit)(void*, const LossReportEntry&), void* context);

}  // namespace thalweg::shm
