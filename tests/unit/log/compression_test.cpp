#include "controlplane/log/compression.hpp"

#include "controlplane/log/crc32c.hpp"
#include "dataplane/base/random.hpp"
#include "tests/unit/log/fixture.hpp"

namespace thalweg::log {
namespace {

std::string text(std::size_t bytes) {
  std::string made;
  while (made.size() < bytes) made += R"({"level":"info","event":"order accepted","id":)" + std::to_string(made.size() * 7919) + "}\n";
  made.resize(bytes);
  return made;
}

std::vector<std::byte> noise(std::size_t bytes) {
  Random random{bytes};
  std::vector<std::byte> made(bytes);
  for (std::byte& b : made) b = static_cast<std::byte>(random.next());
  return made;
}

class EachCodec : public testing::TestWithParam<Codec> {};
INSTANTIATE_TEST_SUITE_P(Compression, EachCodec, testing::Values(Codec::kLz4, Codec::kZstd));

TEST_P(EachCodec, gives_back_what_it_was_given) {
  for (const std::size_t size : {1U, 20U, 300U, 4096U, 100'000U}) {
    const std::string original = text(size);
    std::vector<std::byte> into(compressed_bytes_max(size));
    const std::size_t bytes = compress(GetParam(), 0, bytes_of(original), into);
    if (size < 300) continue;  // may well not get smaller
    ASSERT_GT(bytes, 0U) << size;
    ASSERT_LT(bytes, size);
    std::vector<std::byte> back;
    const auto done = decompress(GetParam(), std::span{into}.first(bytes), size, size, back);
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_EQ(text_of(back), original);
  }
}

TEST_P(EachCodec, says_no_when_nothing_is_gained) {
  const auto original = noise(5000);
  std::vector<std::byte> into(compressed_bytes_max(5000));
  EXPECT_EQ(compress(GetParam(), 0, original, into), 0U);
  EXPECT_EQ(compress(GetParam(), 0, {}, into), 0U);
}

TEST_P(EachCodec, refuses_sizes_that_cannot_be_before_it_takes_memory) {
  const std::string original = text(10'000);
  std::vector<std::byte> into(compressed_bytes_max(10'000));
  into.resize(compress(GetParam(), 0, bytes_of(original), into));
  std::vector<std::byte> back;
  for (const std::uint64_t lie : {std::uint64_t{0}, std::uint64_t{9'999}, std::uint64_t{10'001}, std::uint64_t{1} << 30, std::uint64_t{1} << 62})
    EXPECT_EQ(decompress(GetParam(), into, lie, UINT64_MAX, back).error().code, ErrorCode::kIo) << lie;
  EXPECT_LT(back.capacity(), std::size_t{1} << 20) << "a bomb got its memory";
  EXPECT_NE(decompress(GetParam(), into, 10'000, 9'999, back).error().message.find("beyond the limit of 9999"), std::string::npos);
  for (std::size_t cut = 0; cut < into.size(); cut += 7) EXPECT_FALSE(decompress(GetParam(), std::span{into}.first(cut), 10'000, 10'000, back)) << cut;
}

TEST_P(EachCodec, packs_and_unpacks_and_finds_every_changed_byte) {
  for (const auto& original : {std::vector<std::byte>{}, noise(100), std::vector<std::byte>(700, std::byte{7})}) {
    const auto packed = pack(GetParam(), 0, original);
    const auto back = unpack(packed);
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(*back, original);
    for (std::size_t at = 0; at < packed.size(); ++at) {
      auto damaged = packed;
      damaged[at] ^= std::byte{0x10};
      const auto read = unpack(damaged);
      EXPECT_TRUE(!read || *read == original) << at;  // a bit may mean nothing to the codec
      EXPECT_FALSE(unpack(std::span{packed}.first(at))) << at;
    }
  }
  EXPECT_FALSE(unpack(pack(GetParam(), 0, noise(100)), 99));
}

TEST(Compression, refuses_codecs_and_levels_that_are_none) {
  EXPECT_FALSE(validate(CompressionOptions{.codec = static_cast<Codec>(3)}));
  EXPECT_FALSE(validate(CompressionOptions{.codec = Codec::kZstd, .level = 20}));
  EXPECT_FALSE(validate(CompressionOptions{.codec = Codec::kLz4, .level = 1}));
  std::vector<std::byte> back;
  EXPECT_EQ(decompress(static_cast<Codec>(9), bytes_of("abc"), 3, 3, back).error().code, ErrorCode::kUnsupported);
}

class CompressedShard : public ShardTest, public testing::WithParamInterface<Codec> {
 protected:
  [[nodiscard]] static ShardOptions options(std::uint32_t min_bytes = 256) {
    auto options = small_options();
    options.compression = {.codec = GetParam(), .level = 0, .min_bytes = min_bytes};
    return options;
  }
};
INSTANTIATE_TEST_SUITE_P(Log, CompressedShard, testing::Values(Codec::kLz4, Codec::kZstd));

TEST_P(CompressedShard, gives_its_readers_what_was_appended) {
  open(options());
  const std::string large = text(5000);
  const std::string magic = "\x28\xB5\x2F\xFD" + std::string(100, 'z');  // begins as zstd does
  const auto incompressible = noise(5000);
  const std::vector<Entry> batch{{.payload = bytes_of(large), .key = bytes_of("key")}, {.payload = bytes_of("small")}, {.payload = {}}, {.payload = bytes_of(magic)}, {.payload = incompressible}};
  ASSERT_TRUE(shard->append(batch));
  ASSERT_TRUE(shard->sync());
  auto reader = Reader::open(files, kDirectory);
  for (const Entry& entry : batch) {
    const auto read = reader->next();
    ASSERT_EQ(read->status, ReadStatus::kRecord);
    EXPECT_EQ(text_of(read->record.payload), text_of(entry.payload));
    EXPECT_EQ(text_of(read->record.key), text_of(entry.key));
  }
  const Statistics counted = shard->statistics();
  EXPECT_EQ(counted[Statistic::kCompressedEntries], 1U);
  EXPECT_EQ(counted[Statistic::kCompressionSkipped], 1U);
  EXPECT_EQ(counted[Statistic::kCompressedFromBytes], 5000U);
  EXPECT_LT(counted[Statistic::kCompressedToBytes], 2500U);
  auto raw = Reader::open(files, kDirectory, {.is_decompressed = false});
  EXPECT_EQ(raw->next()->record.payload.size(), counted[Statistic::kCompressedToBytes]);
  ASSERT_TRUE(shard->rotate());
  const auto catalog = read_catalog(files, kDirectory);
  EXPECT_EQ(catalog->get(0)->summary.codecs, 1U | 1U << static_cast<unsigned>(GetParam()));
  EXPECT_EQ(catalog->get(0)->summary.original_bytes, 5000U + 3 + 5 + magic.size() + 5000);
  EXPECT_LT(catalog->get(0)->summary.payload_bytes, 8000U);
}

TEST_P(CompressedShard, puts_more_into_a_segment) {
  open(options(0));
  const std::string large = text(30000);
  for (int i = 0; i < 6; ++i) append(large);
  EXPECT_EQ(shard->segment_count(), 1U);
  kill_and_reopen(options(0));
  EXPECT_EQ(read_all(), (std::vector<std::string>{"0:" + large, "1:" + large, "2:" + large, "3:" + large, "4:" + large, "5:" + large}));
}

TEST_P(CompressedShard, reports_what_checks_and_cannot_be_decompressed) {
  open(options());
  append(text(5000));
  append("behind");
  ASSERT_TRUE(shard->sync());
  auto content = files.content(path_of(0));
  std::byte* const record = content.data() + kDataOffset;
  const auto stored = load_le<std::uint32_t>(record);
  std::fill_n(record + kRecordHeaderBytes, stored, std::byte{0xFF});
  store_le(record + 4, crc32c({record + 8, kRecordHeaderBytes - 8 + stored}));
  files.set_content(path_of(0), content);
  EXPECT_EQ(read_all({}), (std::vector<std::string>{"corrupt 0-1", "1:behind"}));
  const auto failed = read_all({.on_corrupt = OnCorrupt::kFail});
  ASSERT_EQ(failed.size(), 2U);
  EXPECT_NE(failed[1].find("entry 0: compressed data"), std::string::npos) << failed[1];
}

}  // namespace
}  // namespace thalweg::log
