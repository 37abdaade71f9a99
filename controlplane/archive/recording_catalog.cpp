#include "controlplane/archive/recording_catalog.hpp"

#include <algorithm>
#include <cstring>

#include "controlplane/log/reader.hpp"

namespace thalweg::archive {
namespace {

constexpr std::int32_t kDescriptor = 1;  // record types
constexpr std::int32_t kNextId = 2;      // 8 bytes: ids below were given
constexpr std::int32_t kReplication = 3;  // 8 bytes: its id; then JSON, or nothing: it is over
constexpr std::uint64_t kSegmentBytes = 1U << 20;
constexpr std::size_t kEntriesPerRecordingMax = 8;  // beyond that, and kEntriesMin, the log is written anew
constexpr std::uint64_t kEntriesMin = 1024;

std::vector<std::byte> encode_replication(std::int64_t id, const std::string& text) {
  std::vector<std::byte> bytes(8 + text.size());
  store_le(bytes.data(), id);
  if (!text.empty()) std::memcpy(bytes.data() + 8, text.data(), text.size());
  return bytes;
}

std::string catalog_path(const std::string& archive_directory) { return archive_directory + "/" + kCatalogDirectory; }

void apply(CatalogContent& content, const log::RecordView& record) {
  const auto finding = [&](const std::string& what) { content.findings.push_back("catalog entry " + std::to_string(record.entry()) + ": " + what); };
  if (record.header.type == kNextId) {
    if (record.payload.size() != 8) return finding("a number of the wrong size");
    content.next_id = std::max(content.next_id, load_le<std::int64_t>(record.payload.data()));
    return;
  }
  if (record.header.type == kReplication) {
    if (record.payload.size() < 8) return finding("a replication of the wrong size");
    const auto id = load_le<std::int64_t>(record.payload.data());
    content.next_replication_id = std::max(content.next_replication_id, id + 1);
    const auto text = record.payload.subspan(8);
    if (text.empty()) content.replications.erase(id);
    else content.replications[id].assign(reinterpret_cast<const char*>(text.data()), text.size());
    return;
  }
  if (record.header.type != kDescriptor) return;  // of a later version
  auto recording = decode_recording(record.payload);
  if (!recording) return finding(recording.error().message);
  content.next_id = std::max(content.next_id, recording->id + 1);
  if (recording->state == RecordingState::kDeleted) content.recordings.erase(recording->id);
  else content.recordings[recording->id] = std::move(*recording);
}

}  // namespace

Result<CatalogContent> read_recording_catalog(log::FileSystem& files, const std::string& archive_directory) {
  // Accepted changes count: a reader beside the archive sees them as soon as it does.
  auto reader = log::Reader::open(files, catalog_path(archive_directory), {.is_uncommitted = true, .on_corrupt = log::OnCorrupt::kSkip});
  const bool is_missing = reader ? reader->first_entry() == UINT64_MAX : reader.error().code == ErrorCode::kNotFound;
  if (is_missing) return fail(ErrorCode::kNotFound, archive_directory + ": there is no archive", "archive.directory of the configuration says where it is");
  if (!reader) return tl::unexpected{std::move(reader.error())};
  CatalogContent content;
  for (;;) {
    const auto read = reader->next();
    if (!read) return tl::unexpected{read.error()};
    if (read->status == log::ReadStatus::kEnd) return content;
    if (read->status == log::ReadStatus::kRecord) apply(content, read->record);
    else if (read->status == log::ReadStatus::kCorrupt) content.findings.push_back(read->lost.path + ": damage at offset " + std::to_string(read->lost.offset) + ": " + to_string(read->lost.fault));
    // A gap in front: what the catalog was before it was written anew.
  }
}

Result<RecordingCatalog> RecordingCatalog::open(log::FileSystem& files, const log::Clock& clock, const std::string& archive_directory) {
  log::ShardOptions options;
  options.segment_bytes = kSegmentBytes;
  options.payload_max_bytes = 64U << 10;
  options.sync = log::SyncPolicy::kEveryBatch;
  options.prepare_bytes = 0;
  auto shard = log::Shard::open(files, clock, catalog_path(archive_directory), options);
  if (!shard) {
    if (shard.error().code == ErrorCode::kInUse) return fail(ErrorCode::kInUse, archive_directory + ": another archive has this directory open", "give each instance an archive.directory of its own");
    return tl::unexpected{std::move(shard.error())};
  }
  auto content = read_recording_catalog(files, archive_directory);
  if (!content) return tl::unexpected{std::move(content.error())};
  return RecordingCatalog{std::move(*shard), std::move(*content)};
}

Result<std::int64_t> RecordingCatalog::add(Recording recording) {
  recording.id = content_.next_id;
  if (auto appended = append(kDescriptor, encode(recording)); !appended) return tl::unexpected{std::move(appended.error())};
  ++content_.next_id;
  const std::int64_t id = recording.id;
  content_.recordings.emplace(id, std::move(recording));
  return id;
}

Result<void> RecordingCatalog::put(const Recording& recording) {
  const auto found = content_.recordings.find(recording.id);
  if (found == content_.recordings.end()) return fail(ErrorCode::kNotFound, "there is no recording " + std::to_string(recording.id));
  if (auto appended = append(kDescriptor, encode(recording)); !appended) return appended;
  if (recording.state == RecordingState::kDeleted) content_.recordings.erase(found);
  else found->second = recording;
  return compact_if_long();
}

Result<void> RecordingCatalog::put_replication(std::int64_t id, const std::string& text) {
  if (auto appended = append(kReplication, encode_replication(id, text)); !appended) return appended;
  content_.next_replication_id = std::max(content_.next_replication_id, id + 1);
  if (text.empty()) content_.replications.erase(id);
  else content_.replications[id] = text;
  return compact_if_long();
}

Result<void> RecordingCatalog::remove_replication(std::int64_t id) { return put_replication(id, {}); }

Result<void> RecordingCatalog::compact_if_long() {
  const std::uint64_t entries = shard_->next_entry() - shard_->first_entry();
  return entries > std::max<std::uint64_t>(kEntriesMin, kEntriesPerRecordingMax * content_.recordings.size()) ? compact() : Result<void>{};
}

const Recording* RecordingCatalog::get(std::int64_t id) const noexcept {
  const auto found = content_.recordings.find(id);
  return found == content_.recordings.end() ? nullptr : &found->second;
}

Result<void> RecordingCatalog::append(std::int32_t type, std::span<const std::byte> bytes) {
  auto appended = shard_->append(log::Entry{.payload = bytes, .type = type});
  if (!appended) return tl::unexpected{std::move(appended.error())};
  return {};
}

// Everything once more behind a border of segments, then the segments before it go: stopped in between, all is there twice and the last one counts.
Result<void> RecordingCatalog::compact() {
  if (auto rotated = shard_->rotate(); !rotated) return rotated;
  const std::size_t old = shard_->segment_count() - 1;
  std::vector<std::byte> next_id(8);
  store_le(next_id.data(), content_.next_id);
  std::vector<std::vector<std::byte>> descriptors;
  for (const auto& [id, recording] : content_.recordings) descriptors.push_back(encode(recording));
  std::vector<std::vector<std::byte>> replications;
  if (content_.next_replication_id > 0) replications.push_back(encode_replication(content_.next_replication_id - 1, {}));  // what it was is told below if it still runs
  for (const auto& [id, text] : content_.replications) replications.push_back(encode_replication(id, text));
  std::vector<log::Entry> batch{{.payload = next_id, .type = kNextId}};
  for (const auto& bytes : replications) batch.push_back({.payload = bytes, .type = kReplication});
  for (const auto& bytes : descriptors) batch.push_back({.payload = bytes, .type = kDescriptor});
  if (auto appended = shard_->append(batch); !appended) return tl::unexpected{std::move(appended.error())};
  if (auto deleted = shard_->delete_oldest(old); !deleted) return tl::unexpected{std::move(deleted.error())};
  return {};
}

}  // namespace thalweg::archive
