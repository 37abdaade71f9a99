#include "controlplane/log/browse.hpp"

#include <algorithm>

namespace thalweg::log {
namespace {

constexpr std::uint64_t kBlockEntriesMax = 4096;  // of copies in memory; each block is searched for once

Browsed copy_of(const Read& read) {
  return {.status = read.status, .header = read.record.header, .key = {read.record.key.begin(), read.record.key.end()}, .payload = {read.record.payload.begin(), read.record.payload.end()},
          .position = read.record.position, .lost = read.lost};
}

}  // namespace

Result<BackwardReader> BackwardReader::open(FileSystem& files, std::string directory, const ReaderOptions& options) {
  ReaderOptions forwards = options;
  forwards.from_entry = options.from_entry == 0 ? UINT64_MAX : options.from_entry;
  forwards.on_corrupt = OnCorrupt::kSkip;
  auto reader = Reader::open(files, std::move(directory), forwards);
  if (!reader) return tl::unexpected{std::move(reader.error())};
  BackwardReader backwards{std::move(*reader)};
  // A search for what is not there ends behind the last record. Without a segment there is nothing at all.
  const bool is_empty = backwards.reader_.first_entry() == UINT64_MAX;
  if (!is_empty) backwards.before_ = std::min({backwards.reader_.next_entry(), backwards.reader_.limit(), forwards.from_entry});
  return backwards;
}

Result<const Browsed*> BackwardReader::previous() {
  while (block_.empty()) {
    if (before_ == 0 || before_ <= reader_.first_entry()) {
      current_ = {};
      return &current_;
    }
    if (auto read = read_block(); !read) return tl::unexpected{std::move(read.error())};
  }
  current_ = std::move(block_.back());
  block_.pop_back();
  return &current_;
}

// The records of [before_ - block_entries_, before_), events between them included.
Result<void> BackwardReader::read_block() {
  const std::uint64_t from = std::max(before_ - std::min(before_, block_entries_), reader_.first_entry());
  if (auto found = reader_.seek(from); !found) return found;
  while (reader_.next_entry() < before_) {
    const auto read = reader_.next();
    if (!read) return tl::unexpected{read.error()};
    if (read->status == ReadStatus::kEnd) break;
    if (read->status == ReadStatus::kRecord && read->record.entry() >= before_) break;
    block_.push_back(copy_of(*read));
  }
  before_ = from;
  block_entries_ = std::min(2 * block_entries_, kBlockEntriesMax);
  return {};
}

Result<std::vector<Browsed>> list_recent(FileSystem& files, const std::string& directory, std::size_t count, const ReaderOptions& options) {
  auto reader = BackwardReader::open(files, directory, options);
  if (!reader) return tl::unexpected{std::move(reader.error())};
  std::vector<Browsed> recent;
  while (recent.size() < count) {
    const auto read = reader->previous();
    if (!read) return tl::unexpected{read.error()};
    if ((*read)->status == ReadStatus::kEnd) break;
    if ((*read)->status == ReadStatus::kRecord) recent.push_back(**read);
  }
  std::reverse(recent.begin(), recent.end());
  return recent;
}

Result<std::uint64_t> scan_all(FileSystem& files, const std::string& directory, const std::function<bool(const Read&)>& each, const ReaderOptions& options) {
  auto reader = Reader::open(files, directory, options);
  if (!reader) return tl::unexpected{std::move(reader.error())};
  for (std::uint64_t records = 0;;) {
    const auto read = reader->next();
    if (!read) return tl::unexpected{read.error()};
    if (read->status == ReadStatus::kEnd) return records;
    if (read->status == ReadStatus::kRecord) ++records;
    if (!each(*read)) return records;
  }
}

}  // namespace thalweg::log
