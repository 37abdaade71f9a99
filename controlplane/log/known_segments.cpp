#include "controlplane/log/known_segments.hpp"

#include <algorithm>

#include "controlplane/log/catalog.hpp"
#include "controlplane/log/index.hpp"

namespace thalweg::log {

Removals::Taken Removals::take_oldest(std::vector<KnownSegment>& segments, std::size_t count) {
  Taken taken{.count = std::min(count, segments.size() - 1)};
  const auto end = segments.begin() + static_cast<std::ptrdiff_t>(taken.count);
  for (auto segment = segments.begin(); segment != end; ++segment) {
    taken.bytes += file_bytes(segment->info.header);
    segments_.push_back(std::move(segment->info));
  }
  segments.erase(segments.begin(), end);
  return taken;
}

Result<void> Removals::carry_out(FileSystem& files, const std::string& directory, Coordination& coordination) {
  if (is_empty()) return {};
  coordination.count_change();
  auto removed = remove_files(files, directory);
  coordination.count_change();  // who listed the directory in between looks again
  return removed ? files.sync_directory(directory) : removed;
}

Result<void> Removals::remove_files(FileSystem& files, const std::string& directory) {
  const auto remove = [&files](const std::string& path) -> Result<void> {
    auto removed = files.remove(path);
    if (!removed && removed.error().code == ErrorCode::kNotFound) return {};
    return removed;
  };
  for (; !is_empty(); segments_.erase(segments_.begin())) {
    const SegmentInfo& info = segments_.front();
    if (auto removed = remove(info.path); !removed) return removed;
    if (info.header.kind != SegmentKind::kRecords) continue;   // only those have an index
    if (auto removed = remove(directory + "/" + index_name(info.ordinal())); !removed) return removed;
  }
  return {};
}

Result<void> save_catalog(FileSystem& files, const std::string& directory, std::uint32_t log_id, const std::vector<KnownSegment>& segments) {
  Catalog catalog;
  for (const KnownSegment& known : segments) {
    CatalogEntry entry = catalog_entry(known.info);
    if (known.is_closed) {
      entry.summary = known.summary;
      entry.state = known.is_damaged ? SegmentState::kDamaged : SegmentState::kClosed;
    }
    if (auto added = catalog.add(entry); !added) return added;
  }
  return save_catalog(files, directory, log_id, catalog);
}

}  // namespace thalweg::log
