#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "controlplane/log/file_system.hpp"
#include "controlplane/log/segment_format.hpp"
#include "dataplane/base/bytes.hpp"

// The page that the writers and readers of a shard share: `coordination.tlg`, mapped by all of them. A checkpoint, never the truth: whatever it
// says is checked against the segments, and it is made anew when it is missing or impossible. Spec: archive-log 8.1, 12.1, 12.6.
namespace thalweg::log {

inline constexpr std::uint32_t kWriterSlots = 32;     // writers of a shard at once, in shared mode
inline constexpr std::uint64_t kCoordinationMagic = 0x3130524F4F434C54U;  // "TLCOOR01" as bytes
inline constexpr const char* kCoordinationName = "coordination.tlg";

// Everything before it is durable and may be read. Both words change together (16-byte compare and swap).
struct alignas(16) DurablePoint {
  std::uint64_t entry{};
  std::uint64_t position{};  // of that entry in the shard's log
  [[nodiscard]] bool operator==(const DurablePoint&) const = default;
};

// One writer, on its own cache line. It holds the byte lock of its number in `writers.lock` as long as it lives.
struct alignas(kCacheLine) WriterSlot {
  std::uint64_t in_flight{};       // position + 1 of the reservation that is tried or being filled; 0 = none
  std::uint64_t entry{};           // number of its first entry
  std::int64_t timestamp_ns{};     // of the last entry before it
  std::uint32_t bytes{};
  std::uint32_t entries{};
  std::uint64_t writer_id{};
  std::uint32_t pid{};             // for people; liveness is the lock
  std::uint32_t reserved{};
};
static_assert(sizeof(WriterSlot) == kCacheLine);

struct CoordinationPage {
  // Written once.
  std::uint64_t magic{};
  std::uint32_t version{};
  std::uint32_t shard{};
  std::uint64_t reserved0[6]{};
  // Line 1, the writers': where the next reservation starts.
  alignas(kCacheLine) std::uint64_t tail{};  // packed, see reservation.hpp; both words change together
  std::int64_t tail_timestamp_ns{};
  std::uint64_t active_ordinal{};
  std::uint64_t boot_id{};                   // of the machine's run in which the slots were written
  std::uint64_t reserved1[4]{};
  // Line 2, whoever synced.
  alignas(kCacheLine) DurablePoint durable{};
  std::int64_t durable_timestamp_ns{};  // of the last durable entry, or newer
  std::int64_t last_sync_ns{};
  std::uint64_t failed_syncs{};         // since the last recovery
  std::uint64_t reserved2[3]{};
  // Line 3: readers and other writers list the directory again when it changed.
  alignas(kCacheLine) std::uint64_t change_count{};
  std::uint64_t told{};                 // stays 0; written, with a system call, when entries got durable: whoever watches the file is told of that
  std::uint64_t reserved3[6]{};
  WriterSlot writers[kWriterSlots]{};
  std::byte reserved4[kPageBytes - 4 * kCacheLine - kWriterSlots * sizeof(WriterSlot)]{};
};
static_assert(sizeof(CoordinationPage) == kPageBytes && offsetof(CoordinationPage, durable) == 128 && offsetof(CoordinationPage, writers) == 256);

// The page of a shard, mapped.
class Coordination {
 public:
  // Maps the page of a directory for reading. Errors: kNotFound, kVersion; kIo when it is no such page.
  [[nodiscard]] static Result<Coordination> open_for_reading(FileSystem& files, const std::string& directory);
  // Maps the page for writing, or makes it; one that is no such page is moved aside as `coordination.tlg.corrupt.<epoch_ns>` first.
  // Errors: kVersion when a newer version made it; kInvalidArgument when it is another shard's; kIo, kNoSpace.
  [[nodiscard]] static Result<Coordination> open_or_create(FileSystem& files, const std::string& directory, std::uint32_t shard, std::int64_t epoch_ns);

  // Whether it was made by open_or_create(): it knows nothing then.
  [[nodiscard]] bool is_new() const noexcept { return is_new_; }
  [[nodiscard]] bool was_moved_aside() const noexcept { return was_moved_aside_; }
  [[nodiscard]] CoordinationPage& page() const noexcept { return *shared_; }
  // Any thread or process.
  [[nodiscard]] DurablePoint durable() const noexcept;
  // Entries before this one may be read. Acquire: pairs with advance_durable().
  [[nodiscard]] std::uint64_t durable_entry() const noexcept { return std::atomic_ref{shared_->durable.entry}.load(std::memory_order_acquire); }
  // Moves the durable point forward; never back.
  void advance_durable(const DurablePoint& to, std::int64_t timestamp_ns, std::int64_t now_ns) noexcept;
  // For recovery alone: sets the point whatever it was.
  void reset_durable(const DurablePoint& to, std::int64_t timestamp_ns, std::int64_t now_ns) noexcept;
  // Whether a sync of any writer failed since the last recovery: the kernel tells that to one of them only, and what it did not write is gone.
  [[nodiscard]] bool has_failed_sync() const noexcept;
  void count_failed_sync() noexcept;
  [[nodiscard]] std::uint64_t change_count() const noexcept;
  void count_change() noexcept;
  // The segment that is written to. Acquire and release: whoever sees it finds the file.
  [[nodiscard]] std::uint64_t active_ordinal() const noexcept;
  void set_active_ordinal(std::uint64_t ordinal) noexcept;
  [[nodiscard]] File& file() const noexcept { return *file_; }

 private:
  Coordination(std::unique_ptr<File> file, std::unique_ptr<Mapping> mapping)
      : file_{std::move(file)}, mapping_{std::move(mapping)}, shared_{reinterpret_cast<CoordinationPage*>(mapping_->bytes().data())} {}
  std::unique_ptr<File> file_;
  std::unique_ptr<Mapping> mapping_;
  CoordinationPage* shared_;
  bool is_new_{};
  bool was_moved_aside_{};
};

}  // namespace thalweg::log
