#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "controlplane/log/reader.hpp"

// Looking around in a shard without a consumer group. Spec: archive-log 9.
namespace thalweg::log {

// What a reader read, with bytes of its own.
struct Browsed {
  ReadStatus status{ReadStatus::kEnd};
  RecordHeader header;
  std::vector<std::byte> key;
  std::vector<std::byte> payload;
  std::uint64_t position{};
  Lost lost;                      // of kGap and kCorrupt
};

// Reads a shard from its end, or any entry, back to its begin; in blocks that it reads forwards, because records know nothing of those before them. One thread.
class BackwardReader {
 public:
  // Starts below `options.from_entry`; 0: at the end of what may be read. kCorrupt is skipped in any case. Errors: as Reader::open().
  [[nodiscard]] static Result<BackwardReader> open(FileSystem& files, std::string directory, const ReaderOptions& options = {});
  // The record before the last one, or what is lost there; kEnd: there is nothing before. What was appended since open() is not seen. Valid until the
  // next call. Errors: kIo.
  [[nodiscard]] Result<const Browsed*> previous();

 private:
  explicit BackwardReader(Reader reader) : reader_{std::move(reader)} {}
  [[nodiscard]] Result<void> read_block();
  Reader reader_;
  std::uint64_t before_{};        // everything from here on was delivered, or is in `block_`
  std::uint64_t block_entries_{16};
  std::vector<Browsed> block_;    // the last one comes next
  Browsed current_;
};

// The last `count` records that may be read, the oldest first; fewer when there are no more. Errors: as Reader.
[[nodiscard]] Result<std::vector<Browsed>> list_recent(FileSystem& files, const std::string& directory, std::size_t count, const ReaderOptions& options = {});
// Calls `each` with every record and event from options.from_entry on, until it returns false or there is nothing more; returns how many records it saw.
// Errors: as Reader.
[[nodiscard]] Result<std::uint64_t> scan_all(FileSystem& files, const std::string& directory, const std::function<bool(const Read&)>& each, const ReaderOptions& options = {});

}  // namespace thalweg::log
