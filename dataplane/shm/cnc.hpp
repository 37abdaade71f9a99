#pragma once
#include <span>
#include <string>

#include "dataplane/shm/mapped_file.hpp"

// cnc.dat and the instance directory (client-protocol sections 1 and 2).
namespace thalweg::shm {

inline constexpr std::int32_t kCncVersion = 0x00000200;  // 0.2.0
inline constexpr std::size_t kCncHeaderLength = 128;

struct CncLayout {
  std::int32_t to_driver_length{(1 << 20) + 768};
  std::int32_t to_clients_length{(1 << 20) + 128};
  std::int32_t counter_values_length{8 << 20};   // metadata is 4 x this
  std::int32_t error_log_length{4 << 20};
  std::int64_t client_liveness_timeout_ns{10'000'000'000};
  std::int32_t page_size{4096};
};

// A mapped cnc.dat with its five sections.
class CncFile {
 public:
  // Creates `<dir>/cnc.dat` zero-filled, fills the header except the version (1.3 steps 4 and 5). mark_ready() releases the version.
  [[nodiscard]] static Result<CncFile> create(const std::string& directory, const CncLayout& layout, std::int64_t pid, std::int64_t start_ms);
  // Maps an existing file and checks version (major), lengths. kVersion, kNotFound, kUnreachable (not ready).
  // `must_be_ready` false: also one whose creator has not stored the version yet (the data plane attaches before clients may).
  [[nodiscard]] static Result<CncFile> open(const std::string& directory, MappedFile::Access access, bool must_be_ready = true);

  void mark_ready() noexcept;
  [[nodiscard]] std::int32_t version() const noexcept;  // acquire; 0 = not ready
  [[nodiscard]] const CncLayout& layout() const noexcept { return layout_; }
  [[nodiscard]] std::int64_t start_ms() const noexcept;
  [[nodiscard]] std::int64_t pid() const noexcept;
  void set_pid(std::int64_t pid) noexcept;
  [[nodiscard]] std::span<std::byte> to_driver() const noexcept;
  [[nodiscard]] std::span<std::byte> to_clients() const noexcept;
  [[nodiscard]] std::span<std::byte> counter_metadata() const noexcept;
  [[nodiscard]] std::span<std::byte> counter_values() const noexcept;
  [[nodiscard]] std::span<std::byte> error_log() const noexcept;
  [[nodiscard]] std::uint64_t length() const noexcept { return file_.length(); }

 private:
  MappedFile file_;
  CncLayout layout_;
};

// 1.1: AERON_DIR, else /dev/shm/aeron-<USER or passwd name or "default">.
[[nodiscard]] std::string default_directory();

// 1.4. kInactive also when cnc.dat is missing.
enum class DriverActivity : std::uint8_t { kInactive, kActive };
[[nodiscard]] Result<DriverActivity> check_driver_active(const std::string& directory, std::int64_t driver_timeout_ms, std::int64_t now_ms);

}  // namespace thalweg::shm
