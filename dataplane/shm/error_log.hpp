#pragma once
#include <limits>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include "dataplane/base/bytes.hpp"

namespace thalweg::shm {

// Distinct error log (client-protocol 5.9). Writer: the control plane alone, which serialises its threads; continues behind the
// entries that a predecessor left in the section.
class DistinctErrorLog {
 public:
  DistinctErrorLog() = default;
  explicit DistinctErrorLog(std::span<std::byte> section) noexcept : section_{section} {}
  // Counts an observation of (code, text), adding the entry on first sight. False: no room; the caller prints it to stderr.
  bool record(std::int32_t code, std::string_view text, std::int64_t now_ms);

 private:
  static constexpr std::int32_t kAnyCode = std::numeric_limits<std::int32_t>::min();  // a predecessor's entry: the log has no codes
  struct Known { std::int32_t code; std::size_t offset; std::size_t length; };
  void recover();

  std::span<std::byte> section_;
  std::vector<Known> known_;
  std::size_t next_{};
  bool is_recovered_{};
};

struct ErrorLogEntry {
  std::int32_t observation_count{};
  std::int64_t first_ms{};
  std::int64_t last_ms{};
  std::string_view text;
};
// Calls visit(ErrorLogEntry) for each entry; lengths are clamped to the section. Any process.
void read_error_log(std::span<const std::byte> section, void (*visit)(void*, const ErrorLogEntry&), void* context);
template <typename Visit>
void read_error_log(std::span<const std::byte> section, Visit&& visit) {
  read_error_log(section, [](void* c, const ErrorLogEntry& e) { (*static_cast<std::remove_reference_t<Visit>*>(c))(e); }, &visit);
}

}  // namespace thalweg::shm
