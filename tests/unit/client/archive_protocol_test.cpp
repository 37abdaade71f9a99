// The bytes between an archive and its clients. docs/reference/archive-control.md.
#include "dataplane/client/archive_protocol.hpp"

#include <gtest/gtest.h>

#include "dataplane/base/bytes.hpp"
#include "dataplane/base/random.hpp"

namespace thalweg::client::archive_protocol {
namespace {

Message message() { return {.kind = Kind::kStartReplay, .correlation_id = -5, .numbers = {1, INT64_MIN, INT64_MAX}, .texts = {"aeron:ipc", "", "x"}}; }

TEST(ArchiveMessage, comes_back_as_it_was_and_every_shorter_one_is_refused) {
  const auto bytes = encode(message());
  EXPECT_EQ(bytes.size(), 24U + 24 + 4 + 9 + 4 + 4 + 1);
  const auto back = decode(bytes);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(back->kind, Kind::kStartReplay);
  EXPECT_EQ(back->correlation_id, -5);
  EXPECT_EQ(back->numbers, message().numbers);
  EXPECT_EQ(back->texts, message().texts);
  EXPECT_EQ(back->number(3, 7), 7);
  EXPECT_EQ(back->text(3), "");
  for (std::size_t length = 0; length < bytes.size(); ++length) EXPECT_EQ(decode(std::span{bytes}.first(length)).error().code, ErrorCode::kIo) << length;
}

TEST(ArchiveMessage, of_another_version_or_with_impossible_counts_is_refused) {
  auto bytes = encode(message());
  store_le(bytes.data(), std::uint32_t{2});
  EXPECT_EQ(decode(bytes).error().code, ErrorCode::kVersion);
  for (const std::size_t at : {16U, 20U, 48U}) {
    bytes = encode(message());
    store_le(bytes.data() + at, std::uint32_t{0xFFFFFFFF});
    EXPECT_EQ(decode(bytes).error().code, ErrorCode::kIo) << at;
  }
  EXPECT_FALSE(decode(std::vector<std::byte>(kMessageBytesMax + 1)));
}

TEST(ArchiveMessage, of_any_bytes_is_decoded_or_refused_and_nothing_else) {
  Random random{1};
  for (int i = 0; i < 20'000; ++i) {
    auto bytes = encode(message());
    for (int flips = 0; flips < 3; ++flips) bytes[random.next() % bytes.size()] = static_cast<std::byte>(random.next());
    bytes.resize(random.next() % (bytes.size() + 1));
    static_cast<void>(decode(bytes).has_value());
  }
}

}  // namespace
}  // namespace thalweg::client::archive_protocol
