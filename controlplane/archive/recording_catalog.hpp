#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "controlplane/archive/recording.hpp"
#include "controlplane/log/shard.hpp"

namespace thalweg::archive {

// What an archive holds, as its catalog says.
struct CatalogContent {
  std::map<std::int64_t, Recording> recordings;  // by id; deleted ones are left out
  std::int64_t next_id{};                        // ids below were given once
  std::map<std::int64_t, std::string> replications;  // that run, by id, as JSON
  std::int64_t next_replication_id{};
  std::vector<std::string> findings;             // damage that was passed over, with file and offset
};

// The catalog of an archive's directory, in any process, changing nothing. Errors: kNotFound (no archive there), kVersion, kIo.
[[nodiscard]] Result<CatalogContent> read_recording_catalog(log::FileSystem& files, const std::string& archive_directory);

// The recordings of an archive, kept as a log of descriptors: the last one of an id counts. Each change is durable when it returns. One thread.
// Spec: archive-log 16.2.
class RecordingCatalog {
 public:
  // Errors: kInUse when another archive has the directory open; kVersion, kIo, kNoSpace, kPermission.
  [[nodiscard]] static Result<RecordingCatalog> open(log::FileSystem& files, const log::Clock& clock, const std::string& archive_directory);

  // Gives it the next id. Errors: kNoSpace, kIo.
  [[nodiscard]] Result<std::int64_t> add(Recording recording);
  // Replaces the descriptor of the same id; one that is kDeleted goes. Errors: kNotFound, kNoSpace, kIo.
  [[nodiscard]] Result<void> put(const Recording& recording);
  // nullptr: none. Valid until the next change of it.
  [[nodiscard]] const Recording* get(std::int64_t id) const noexcept;
  [[nodiscard]] const std::map<std::int64_t, Recording>& recordings() const noexcept { return content_.recordings; }
  // Replications that run. Errors: kNoSpace, kIo.
  [[nodiscard]] Result<void> put_replication(std::int64_t id, const std::string& text);
  [[nodiscard]] Result<void> remove_replication(std::int64_t id);
  [[nodiscard]] const std::map<std::int64_t, std::string>& replications() const noexcept { return content_.replications; }
  // Ids below were given once.
  [[nodiscard]] std::int64_t next_replication_id() const noexcept { return content_.next_replication_id; }
  [[nodiscard]] const std::vector<std::string>& findings() const noexcept { return content_.findings; }

 private:
  RecordingCatalog(std::unique_ptr<log::Shard> shard, CatalogContent content) : shard_{std::move(shard)}, content_{std::move(content)} {}
  [[nodiscard]] Result<void> append(std::int32_t type, std::span<const std::byte> bytes);
  [[nodiscard]] Result<void> compact_if_long();
  [[nodiscard]] Result<void> compact();

  std::unique_ptr<log::Shard> shard_;
  CatalogContent content_;
};

}  // namespace thalweg::archive
