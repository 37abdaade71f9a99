#pragma once
#include <map>

#include "controlplane/log/consumer.hpp"
#include "tests/unit/log/fixture.hpp"

namespace thalweg::log {

inline constexpr const char* kRoot = "log";

// A log of some shards on files that can be crashed, and consumers of it.
class ConsumerTest : public testing::Test {
 protected:
  Shard& make_shard(std::uint32_t number, SyncPolicy sync = SyncPolicy::kEveryBatch) {
    auto options = small_options(sync);
    options.shard = number;
    auto opened = Shard::open(files, clock, std::string{kRoot} + "/" + shard_directory_name(number), options);
    EXPECT_TRUE(opened) << opened.error().message;
    return *(shards[number] = std::move(*opened));
  }
  void append(std::uint32_t shard, const std::vector<std::string>& texts) {
    for (const std::string& text : texts) ASSERT_TRUE(shards.at(shard)->append(Entry{.payload = bytes_of(text), .key = bytes_of("k"), .stream = 3}));
  }
  std::unique_ptr<Consumer> join(const ConsumerOptions& options = {}) {
    auto opened = Consumer::open(files, clock, kRoot, options);
    EXPECT_TRUE(opened) << opened.error().message;
    return opened ? std::move(*opened) : nullptr;
  }
  // As text: "0-1:payload", "gap 0-1..3".
  static std::vector<std::string> lines_of(const Delivery& delivery) {
    std::vector<std::string> lines;
    for (const Skipped& skipped : delivery.skipped)
      lines.push_back((skipped.why == ReadStatus::kGap ? "gap " : "corrupt ") + to_string(EntryId{skipped.shard, skipped.lost.from_entry}) + ".." + std::to_string(skipped.lost.to_entry));
    for (const Message& message : delivery.messages) lines.push_back(to_string(message.id) + ":" + text_of(message.payload));
    return lines;
  }
  static std::vector<std::string> read(Consumer& consumer, std::size_t count = 100) {
    const auto delivery = consumer.read(count);
    if (!delivery) return {"error " + delivery.error().message};
    return lines_of(**delivery);
  }

  test::CrashFileSystem files{256U << 10};
  ManualClock clock;
  std::map<std::uint32_t, std::unique_ptr<Shard>> shards;
};

}  // namespace thalweg::log
