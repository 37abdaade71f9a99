#include "dataplane/shm/counters.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <set>
#include <thread>
#include <vector>

#include "dataplane/shm/lane_counters.hpp"
#include "tests/support/hex.hpp"
#include "tests/support/shared_memory.hpp"

namespace thalweg::shm {
namespace {

using test::to_bytes;
using test::to_hex;

constexpr std::size_t kCapacity = 64;
constexpr std::int64_t kReuse_ms = 1000;

class Counters : public testing::Test {
 protected:
  Counters() {
    metadata_ = memory_.bytes().first(kCapacity * kCounterMetadataLength);
    values_ = memory_.bytes().subspan(metadata_.size());
    manager_ = CountersManager{metadata_, values_, kReuse_ms};
  }
  std::int32_t allocate(std::string_view label = "x", std::int64_t now_ms = 0) { return manager_.allocate({.label = label}, now_ms).value(); }
  [[nodiscard]] std::span<std::byte> record(std::int32_t id) const {
    return metadata_.subspan(static_cast<std::size_t>(id) * kCounterMetadataLength, kCounterMetadataLength);
  }

  test::SharedMemory memory_{kCapacity * (kCounterMetadataLength + kCounterValueLength)};
  std::span<std::byte> metadata_;
  std::span<std::byte> values_;
  CountersManager manager_;
};

TEST_F(Counters, values_record_of_a_subscriber_position_is_the_reference_of_10_3) {
  const auto id = manager_.allocate({.type_id = counter_type::kSubscriberPosition, .registration_id = 4, .owner_id = 1, .reference_id = 5}, 0);
  ASSERT_TRUE(id);
  EXPECT_EQ(to_hex(values_.first(32)), "00000000 00000000 04000000 00000000 01000000 00000000 05000000 00000000");
}

TEST_F(Counters, metadata_record_is_laid_out_as_5_1_says) {
  const auto key = to_bytes("\x2a\x01");
  ASSERT_TRUE(manager_.allocate({.type_id = 1001, .key = key, .label = "label"}, 0));
  EXPECT_EQ(to_hex(record(0).first(20)), "01000000 e9030000 ffffffff ffffff7f 2a010000");
  EXPECT_EQ(to_hex(record(0).subspan(128, 12)), "05000000 6c616265 6c000000");
}

TEST_F(Counters, keys_and_labels_are_cut_to_their_fields) {
  const std::vector<std::byte> key(200, std::byte{7});
  const std::string label(500, 'l');
  ASSERT_TRUE(manager_.allocate({.key = key, .label = label}, 0));
  const auto view = manager_.find(0);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->label, std::string(380, 'l'));
  EXPECT_EQ(view->key.size(), 112U);
  EXPECT_EQ(view->key.back(), std::byte{7});
  EXPECT_EQ(manager_.state(1), CounterState::kUnused) << "nothing ran over into the next record";
}

TEST_F(Counters, ids_are_dense_and_reused_first_in_first_out_after_their_time) {
  for (std::int32_t id = 0; id < 4; ++id) EXPECT_EQ(allocate(), id);
  manager_.free(2, 100);
  manager_.free(1, 200);
  EXPECT_EQ(allocate("x", 1099), 4) << "not before the deadline";
  EXPECT_EQ(allocate("x", 1200), 2);
  EXPECT_EQ(allocate("x", 1200), 1);
  EXPECT_EQ(allocate("x", 1200), 5);
}

TEST_F(Counters, freed_counter_keeps_label_ids_and_value_but_not_its_key) {
  const auto key = to_bytes("key");
  const auto id = manager_.allocate({.type_id = 9, .key = key, .label = "label", .registration_id = 3, .initial_value = 77}, 0);
  manager_.free(*id, 5000);
  EXPECT_EQ(manager_.state(*id), CounterState::kReclaimed);
  EXPECT_FALSE(manager_.find(*id));
  EXPECT_EQ(load_le<std::int64_t>(record(*id).data() + 8), 6000);
  EXPECT_EQ(to_hex(record(*id).subspan(16, 4)), "00000000");
  EXPECT_EQ(to_hex(record(*id).subspan(132, 5)), "6c616265 6c");
  EXPECT_EQ(manager_.counter(*id).get(), 77);
  manager_.free(*id, 6000);
  EXPECT_EQ(allocate("x", 7000), *id) << "freed twice, reused once";
  EXPECT_NE(allocate("x", 8000), *id);
  EXPECT_EQ(manager_.counter(*id).get(), 0);
}

TEST_F(Counters, there_are_no_more_than_the_values_have_room_for) {
  std::set<std::int32_t> ids;
  for (std::size_t i = 0; i < kCapacity; ++i) ids.insert(allocate());
  EXPECT_EQ(ids.size(), kCapacity);
  const auto none = manager_.allocate({}, 0);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, ErrorCode::kNoSpace);
  EXPECT_NE(none.error().message.find("max counter id exceeded"), std::string::npos);
  manager_.free(-1, 0);
  manager_.free(static_cast<std::int32_t>(kCapacity), 0);
  manager_.update_label(-1, "no");
  EXPECT_FALSE(manager_.find(static_cast<std::int32_t>(kCapacity)));
}

TEST_F(Counters, readers_skip_freed_records_and_stop_at_the_first_unused_one) {
  for (int i = 0; i < 5; ++i) allocate("c" + std::to_string(i));
  manager_.free(1, 0);
  std::vector<std::string> labels;
  CountersReader{metadata_, values_}.for_each([&](const CountersReader::View& view) { labels.emplace_back(view.label); });
  EXPECT_EQ(labels, (std::vector<std::string>{"c0", "c2", "c3", "c4"}));
}

TEST_F(Counters, successor_takes_up_what_its_predecessor_left) {
  for (int i = 0; i < 6; ++i) allocate("c" + std::to_string(i));
  manager_.free(4, 300);
  manager_.free(2, 500);
  store_le<std::int64_t>(record(2).data() + 8, std::numeric_limits<std::int64_t>::max());  // died inside allocate()
  CountersManager successor{metadata_, values_, kReuse_ms};
  successor.recover(1000);
  EXPECT_EQ(successor.allocate({}, 1000).value(), 6) << "nothing is due";
  EXPECT_EQ(successor.allocate({}, 1300).value(), 4);
  EXPECT_EQ(successor.allocate({}, 2000).value(), 2);
  EXPECT_EQ(successor.find(5)->label, "c5");
}

TEST_F(Counters, client_that_scribbles_over_the_records_cannot_make_two_owners_share_one) {
  for (int i = 0; i < 4; ++i) allocate();
  for (const std::int32_t state : {0, -1, 7}) {
    store_le(record(1).data(), state);
    EXPECT_GE(allocate("x", 1'000'000), 4) << state;
  }
  store_le<std::int32_t>(record(3).data() + 128, -5);
  EXPECT_TRUE(manager_.find(3)->label.empty());
  store_le<std::int32_t>(record(3).data() + 128, 1 << 30);
  EXPECT_EQ(manager_.find(3)->label.size(), kCounterLabelMax);
  store_le<std::int32_t>(record(1).data(), 0);
  CountersManager successor{metadata_, values_, kReuse_ms};
  successor.recover(0);
  EXPECT_EQ(successor.state(1), CounterState::kReclaimed) << "holes are closed, or readers would stop there";
}

TEST_F(Counters, readers_never_see_a_half_made_counter_as_allocated) {
  std::atomic<bool> is_over{false};
  std::thread reader{[&] {
    const CountersReader counters{metadata_, values_};
    while (!is_over) {
      const auto view = counters.find(0);
      EXPECT_TRUE(!view || view->type_id == 42);
      std::this_thread::yield();
    }
  }};
  ASSERT_TRUE(manager_.allocate({.type_id = 42, .label = "x"}, 0));
  for (int i = 0; i < 100; ++i) manager_.counter(0).add(1);
  is_over = true;
  reader.join();
  EXPECT_EQ(manager_.counter(0).get(), 100);
}

TEST(CounterKey, layouts_cut_long_texts) {
  const std::string channel(200, 'c');
  EXPECT_EQ(to_hex(stream_key(7, -1, 40, "aeron:ipc").span().first(32)),
            "07000000 00000000 ffffffff 28000000 09000000 6165726f 6e3a6970 63000000");
  EXPECT_EQ(load_le<std::int32_t>(stream_key(7, 1, 2, channel).bytes + 16), 92);
  EXPECT_EQ(stream_key(7, 1, 2, channel).bytes[111], std::byte{'c'});
  EXPECT_EQ(load_le<std::int32_t>(channel_key(channel).bytes), 108);
  EXPECT_EQ(channel_key(channel).bytes[111], std::byte{'c'});
  EXPECT_EQ(to_hex(sockaddr_key(47, "10.77.0.1:24222").span().first(24)), "2f000000 0f000000 31302e37 372e302e 313a3234 32323200");
  EXPECT_EQ(load_le<std::int32_t>(sockaddr_key(1, channel).bytes + 4), 103);
  EXPECT_EQ(sockaddr_key(1, channel).bytes[111], std::byte{0});
  EXPECT_EQ(to_hex(heartbeat_key(258).span().first(12)), "02010000 00000000 00000000");
  EXPECT_EQ(stream_label("pub-lmt", 7, -1, 40, "aeron:ipc"), "pub-lmt: 7 -1 40 aeron:ipc");
}

TEST_F(Counters, system_counters_must_come_first) {
  allocate();
  EXPECT_FALSE(allocate_system_counters(manager_, "SHARED", "", 0));
}

TEST(LaneCounters, are_summed_into_stock_counters_that_exist) {
  std::set<std::string_view> names;
  for (const LaneCounterInfo& info : kLaneCounters) {
    EXPECT_TRUE(names.insert(info.name).second) << info.name;
    EXPECT_FALSE(info.help.empty());
    EXPECT_LT(info.stock, kSystemCounterCount);
  }
}

}  // namespace
}  // namespace thalweg::shm
