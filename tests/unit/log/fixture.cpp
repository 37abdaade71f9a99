#include "tests/unit/log/fixture.hpp"

namespace thalweg::log {

std::uint64_t ShardTest::append(std::string_view text, std::uint32_t stream) {
  auto appended = shard->append(Entry{.payload = bytes_of(text), .stream = stream});
  EXPECT_TRUE(appended) << appended.error().message;
  return appended ? appended->first_entry : UINT64_MAX;
}

void ShardTest::append_batch(const std::vector<std::string>& texts) {
  std::vector<Entry> batch;
  for (const std::string& text : texts) batch.push_back({.payload = bytes_of(text)});
  ASSERT_TRUE(shard->append(batch));
}

void ShardTest::append_in_segments(const std::vector<std::string>& texts) {
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (i != 0) {
      ASSERT_TRUE(shard->rotate());
    }
    append(texts[i]);
  }
}

std::vector<std::string> ShardTest::read_all(ReaderOptions options) {
  std::vector<std::string> seen;
  auto reader = Reader::open(files, kDirectory, options);
  EXPECT_TRUE(reader) << reader.error().message;
  while (reader) {
    auto read = reader->next();
    if (!read) return seen.push_back("error " + read.error().message), seen;
    if (read->status == ReadStatus::kEnd) break;
    const std::string range = std::to_string(read->lost.from_entry) + "-" + std::to_string(read->lost.to_entry);
    if (read->status == ReadStatus::kRecord) seen.push_back(std::to_string(read->record.entry()) + ":" + text_of(read->record.payload));
    else seen.push_back((read->status == ReadStatus::kGap ? "gap " : "corrupt ") + range);
  }
  return seen;
}

void ShardTest::damage(std::uint64_t ordinal, std::uint64_t file_offset, std::span<const std::byte> bytes) {
  auto content = files.content(path_of(ordinal));
  std::copy(bytes.begin(), bytes.end(), content.begin() + static_cast<std::ptrdiff_t>(file_offset));
  files.set_content(path_of(ordinal), content);
}

}  // namespace thalweg::log
