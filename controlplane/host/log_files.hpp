#pragma once
#include <optional>
#include <string>

#include "dataplane/base/result.hpp"
#include "dataplane/shm/log_buffer.hpp"
#include "dataplane/shm/mapped_file.hpp"
#include "dataplane/shm/registry.hpp"

// Log buffer files on disk: creating, finding a place for them, deleting. Everything here may block: worker thread, or start-up.
namespace thalweg::host {

inline constexpr std::uint32_t kHugePageSize = 2U << 20;             // the only huge page size for logs (design, section 3)
inline constexpr std::int32_t kHugePageTermLengthMin = 4 << 20;
inline constexpr std::int32_t kSparseTermLengthMin = 8 << 20;           // smaller logs are allocated at once, sparse or not

struct LogFileSpec {
  std::string directory;             // of the instance
  shm::LogUse use{};
  std::int64_t id{};
  std::int32_t term_length{};
  std::string hugetlbfs;             // directory on a hugetlbfs mount for large terms; "" = none
  std::int64_t first_position{};     // where the stream starts: a sparse log has memory there first
  std::optional<shm::LogMetadata> metadata;  // none: a pool log, initialised when it is given to a stream
};

struct LogFile {
  shm::MappedFile mapping;           // whole file, not populated: the control plane touches the metadata page only
  std::string path;                  // what clients are told: the real file
  std::uint64_t length{};
  std::uint32_t page_size{};
  std::int32_t term_length{};
  bool is_on_hugepages{};
  std::uint64_t allocated_until{};   // less than `allocate_end` while a large one is being made
  std::uint64_t allocate_end{};      // the length; of a sparse log the end of its first partition
  bool is_sparse{};                  // its other partitions get memory when they are needed (design, section 3)
  [[nodiscard]] shm::LogBuffer buffer() const noexcept { return shm::LogBuffer{mapping.data(), length, term_length}; }
};

// The pool number in the name of a file on huge pages; 0: it was never in the pool.
[[nodiscard]] std::int64_t pool_id_of(const std::string& path_on_hugepages) noexcept;

// What is allocated of a log in one step, so that other work comes in between: 3 GiB take a second.
inline constexpr std::uint64_t kLogStepBytes = 256U << 20;

// Creates a zeroed, really allocated log and, where given, its metadata; of a log beyond kLogStepBytes the first step, and allocate_more()
// is called until all is there. A sparse log gets its first partition and a page
// behind it, the steward sees to the rest. A large term goes to `hugetlbfs` when pages are free there, with
// a symbolic link in the instance directory. A file left under the same name by a crashed predecessor is replaced.
// Errors: kNoSpace ("insufficient usable storage for new log of length=<n>"), kPermission, kIo. Spec: client-protocol 6.5, 7.1.
[[nodiscard]] Result<LogFile> create_log_file(const LogFileSpec& spec);
// Allocates the next step; after an error the file is gone. Errors: as create_log_file().
[[nodiscard]] Result<void> allocate_more(const LogFileSpec& spec, LogFile& file);
// Maps the log of a stream that outlived its control plane. Errors: kNotFound, kIo.
[[nodiscard]] Result<LogFile> open_log_file(const std::string& directory, shm::LogUse use, std::int64_t id, std::int32_t term_length);
// Fills in the metadata of a pool log. Does not block.
void init_metadata(const LogFile& file, shm::LogMetadata metadata) noexcept;
// Deletes the file, and what a symbolic link of that name points to. Errors: kIo.
[[nodiscard]] Result<void> delete_log_file(const std::string& path_in_directory);

// Bytes usable by an unprivileged process on the file system of `path`. nullopt: cannot be asked.
[[nodiscard]] std::optional<std::uint64_t> usable_bytes(const std::string& path);
// What may be taken there without bringing the machine down: on a file system in memory no more than the memory that is available, less a
// sixteenth of the machine's. Reads /proc: not for the conductor. nullopt: cannot be asked.
[[nodiscard]] std::optional<std::uint64_t> allocatable_bytes(const std::string& path);
// The same from the text of /proc/meminfo; nullopt: it does not say.
[[nodiscard]] std::optional<std::uint64_t> allocatable_memory(const std::string& meminfo_text);
// Half of the file system of `path`, and no more than half of the machine's memory when it lies there. UINT64_MAX: cannot be asked.
[[nodiscard]] std::uint64_t half_of_storage(const std::string& path);
// The first writable hugetlbfs mount with 2 MiB pages, from the text of /proc/mounts. "" = none.
[[nodiscard]] std::string find_hugetlbfs(const std::string& mounts_text);
[[nodiscard]] std::string find_hugetlbfs();

}  // namespace thalweg::host
