#include "controlplane/log/consumer.hpp"

#include <algorithm>
#include <set>

#include "tests/unit/log/consumer_fixture.hpp"

namespace thalweg::log {
namespace {

using Lines = std::vector<std::string>;

TEST_F(ConsumerTest, reads_from_its_groups_offset_and_moves_it_by_acknowledging) {
  make_shard(0);
  append(0, {"a", "b", "c"});
  const auto consumer = join();
  EXPECT_EQ(read(*consumer, 2), (Lines{"0-0:a", "0-1:b"}));
  EXPECT_EQ(read(*consumer), (Lines{"0-0:a", "0-1:b", "0-2:c"})) << "reading moves nothing";
  EXPECT_EQ(consumer->lag(0), 3U);
  ASSERT_TRUE(consumer->ack(EntryId{0, 1}));
  EXPECT_EQ(consumer->lag(0), 1U);
  EXPECT_EQ(read(*consumer), Lines{"0-2:c"});
  ASSERT_TRUE(consumer->ack(EntryId{0, 2}));
  EXPECT_EQ(read(*consumer), Lines{});
  append(0, {"d"});
  EXPECT_EQ(read(*consumer), Lines{"0-3:d"});
}

TEST_F(ConsumerTest, hands_over_all_of_a_message) {
  auto& shard = make_shard(0);
  ASSERT_TRUE(shard.append(Entry{.payload = bytes_of("payload"), .key = bytes_of("key"), .stream = 5, .type = -2, .timestamp_ns = clock.epoch + 7}));
  const auto consumer = join();
  const auto delivery = consumer->read(1);
  const Message& message = (*delivery)->messages.at(0);
  EXPECT_EQ(text_of(message.key), "key");
  EXPECT_EQ(text_of(message.payload), "payload");
  EXPECT_EQ(message.header.stream, 5U);
  EXPECT_EQ(message.header.type, -2);
  EXPECT_EQ(message.header.timestamp_ns, clock.epoch + 7);
}

TEST_F(ConsumerTest, sees_what_is_durable_only) {
  auto& shard = make_shard(0, SyncPolicy::kExplicit);
  append(0, {"a"});
  const auto consumer = join();
  EXPECT_EQ(read(*consumer), Lines{});
  EXPECT_EQ(consumer->ack(EntryId{0, 0}).error().code, ErrorCode::kInvalidArgument);
  ASSERT_TRUE(shard.sync());
  EXPECT_EQ(read(*consumer), Lines{"0-0:a"});
}

TEST_F(ConsumerTest, goes_on_where_its_predecessor_was) {
  make_shard(0);
  append(0, {"a", "b", "c"});
  ASSERT_TRUE(join()->ack(EntryId{0, 0}));
  EXPECT_EQ(read(*join()), (Lines{"0-1:b", "0-2:c"}));
  EXPECT_EQ(read(*join({.group = "other"})).size(), 3U) << "each group has its own offsets";
  EXPECT_EQ(read(*join({.group = "late", .start = GroupStart::kLatest})), Lines{});
  append(0, {"d"});
  EXPECT_EQ(read(*join({.group = "late"})), Lines{"0-3:d"}) << "it was there already";
}

TEST_F(ConsumerTest, deals_with_all_shards_in_changing_order_and_each_in_its_own) {
  for (const std::uint32_t shard : {0U, 1U, 2U}) {
    make_shard(shard);
    append(shard, {"a", "b"});
  }
  const auto consumer = join();
  std::set<std::uint32_t> first;
  for (int i = 0; i < 100; ++i) {
    const auto delivery = consumer->read(100);
    ASSERT_EQ((*delivery)->messages.size(), 6U);
    first.insert((*delivery)->messages[0].id.shard);
    for (std::size_t m = 0; m < 6; m += 2) {
      EXPECT_EQ((*delivery)->messages[m].id.entry, 0U);
      EXPECT_EQ((*delivery)->messages[m + 1].id, (EntryId{(*delivery)->messages[m].id.shard, 1}));
    }
  }
  EXPECT_EQ(first.size(), 3U);
  const EntryId ids[]{{0, 1}, {2, 0}, {1, 0}, {2, 1}, {0, 0}};
  ASSERT_TRUE(consumer->ack(ids));
  EXPECT_EQ(read(*consumer), Lines{"1-1:b"});
}

TEST_F(ConsumerTest, shares_shards_with_other_members_by_number) {
  for (const std::uint32_t shard : {0U, 1U, 2U, 3U, 4U}) make_shard(shard), append(shard, {"x"});
  EXPECT_EQ(join({.assignment = {0, 2}})->offsets().size(), 3U);
  const auto odd = join({.assignment = {1, 2}});
  auto lines = read(*odd);
  std::sort(lines.begin(), lines.end());
  EXPECT_EQ(lines, (Lines{"1-0:x", "3-0:x"}));
  EXPECT_EQ(odd->ack(EntryId{2, 0}).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(join({.shards = {4, 1}, .assignment = {1, 2}})->offsets().size(), 1U);
  EXPECT_EQ(Consumer::open(files, clock, kRoot, {.assignment = {2, 2}}).error().code, ErrorCode::kInvalidArgument);
}

// Defect of a predecessor: looking for shards made them.
TEST_F(ConsumerTest, finds_shards_and_makes_none) {
  make_shard(0);
  EXPECT_EQ(Consumer::open(files, clock, kRoot, {.shards = {0, 9}}).error().code, ErrorCode::kNotFound);
  const auto consumer = join();
  EXPECT_EQ(consumer->discover(), false);
  make_shard(7);
  append(7, {"new"});
  EXPECT_EQ(consumer->discover(), true);
  EXPECT_EQ(read(*consumer), Lines{"7-0:new"});
  EXPECT_EQ(list_shards(files, kRoot), (std::vector<std::uint32_t>{0, 7}));
}

// Defect of a predecessor: offsets could move backwards.
TEST_F(ConsumerTest, never_moves_its_offset_back_by_acknowledging) {
  make_shard(0);
  append(0, {"a", "b", "c"});
  const auto consumer = join();
  static_cast<void>(read(*consumer));
  ASSERT_TRUE(consumer->ack(EntryId{0, 2}));
  ASSERT_TRUE(consumer->ack(EntryId{0, 0}));
  ASSERT_TRUE(consumer->ack_range(0, 0, 1));
  EXPECT_EQ(consumer->lag(0), 0U);
}

TEST_F(ConsumerTest, acknowledges_nothing_of_a_list_with_a_wrong_entry) {
  make_shard(0);
  append(0, {"a", "b"});
  const auto consumer = join();
  for (const EntryId wrong : {EntryId{0, 2}, EntryId{1, 0}, EntryId{0, UINT64_MAX}}) {
    const EntryId ids[]{{0, 0}, wrong};
    EXPECT_EQ(consumer->ack(ids).error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(consumer->nack(ids, 0).error().code, ErrorCode::kInvalidArgument);
  }
  EXPECT_EQ(consumer->lag(0), 2U);
}

// The second and every later one goes a shorter way.
TEST_F(ConsumerTest, acknowledges_one_after_the_other_by_the_same_rules) {
  make_shard(0);
  append(0, {"a", "b", "c", "d", "e"});
  const auto one = join();
  const auto two = join();
  static_cast<void>(read(*one));
  for (const std::uint64_t entry : {0U, 2U, 1U}) ASSERT_TRUE(one->ack(EntryId{0, entry}));
  EXPECT_EQ(one->lag(0), 2U);
  EXPECT_EQ(two->lag(0), 2U);
  EXPECT_EQ(one->counters().acknowledged, 3U);
  for (const EntryId wrong : {EntryId{0, 5}, EntryId{1, 0}, EntryId{0, UINT64_MAX}}) EXPECT_EQ(one->ack(wrong).error().code, ErrorCode::kInvalidArgument);
  const EntryId fourth{0, 3};
  ASSERT_TRUE(one->nack({&fourth, 1}, 0));
  ASSERT_TRUE(one->ack(EntryId{0, 4}));
  EXPECT_EQ(one->lag(0), 2U) << "what was nacked holds the offset back";
  ASSERT_TRUE(one->ack(fourth));
  EXPECT_EQ(one->lag(0), 0U);
  ASSERT_TRUE(two->seek_begin());
  ASSERT_TRUE(one->ack(EntryId{0, 4}));
  EXPECT_EQ(one->counters().taken_back, 1U);
  EXPECT_EQ(one->lag(0), 5U) << "set by another one meanwhile";
  ASSERT_TRUE(one->close());
  EXPECT_EQ(one->ack(EntryId{0, 0}).error().code, ErrorCode::kClosed);
  ASSERT_TRUE(GroupTable::open(files, clock, "log/shard-0000")->remove("default"));
  EXPECT_EQ(two->ack(EntryId{0, 0}).error().code, ErrorCode::kNotFound);
}

TEST_F(ConsumerTest, acknowledges_ranges_that_it_has_read) {
  make_shard(0);
  append(0, {"a", "b", "c", "d"});
  const auto consumer = join();
  EXPECT_FALSE(consumer->ack_range(0, 0, 0)) << "nothing was read";
  static_cast<void>(read(*consumer, 3));
  EXPECT_FALSE(consumer->ack_range(0, 1, 0));
  EXPECT_FALSE(consumer->ack_range(0, 0, 3));
  EXPECT_FALSE(consumer->ack_range(1, 0, 0));
  ASSERT_TRUE(consumer->ack_range(0, 0, 0));
  EXPECT_EQ(consumer->counters().skipping_acks, 0U);
  ASSERT_TRUE(consumer->ack_range(0, 2, 2));
  EXPECT_EQ(consumer->counters().skipping_acks, 1U);
  EXPECT_EQ(read(*consumer), Lines{"0-3:d"});
}

TEST_F(ConsumerTest, delivers_again_what_was_nacked_when_it_is_time) {
  make_shard(0);
  append(0, {"a", "b", "c"});
  const auto consumer = join();
  static_cast<void>(read(*consumer));
  const EntryId b[]{{0, 1}};
  ASSERT_TRUE(consumer->nack(b, kSecond_ns));
  EXPECT_EQ(read(*consumer), (Lines{"0-0:a", "0-2:c"}));
  ASSERT_TRUE(consumer->ack(EntryId{0, 2}));
  EXPECT_EQ(consumer->lag(0), 2U) << "were it to die now, b must not be lost";
  EXPECT_EQ(read(*consumer), Lines{});
  clock.advance(kSecond_ns);
  const auto delivery = consumer->read(10);
  EXPECT_EQ(lines_of(**delivery), Lines{"0-1:b"});
  EXPECT_EQ((*delivery)->messages[0].delivery, 2U);
  EXPECT_EQ(read(*join()), (Lines{"0-1:b", "0-2:c"})) << "a successor gets both";
  ASSERT_TRUE(consumer->ack(b));
  EXPECT_EQ(consumer->lag(0), 0U);
  EXPECT_FALSE(consumer->nack(b, 0)) << "it was acknowledged";
}

TEST_F(ConsumerTest, bounds_what_waits_for_redelivery) {
  make_shard(0);
  append(0, {"a", "b", "c"});
  const auto consumer = join({.nacked_max = 2});
  for (std::uint64_t entry : {0U, 1U}) ASSERT_TRUE(consumer->nack(std::vector<EntryId>{{0, entry}}, 0));
  EXPECT_EQ(consumer->nack(std::vector<EntryId>{{0, 2}}, 0).error().code, ErrorCode::kNoSpace);
  EXPECT_EQ(consumer->health().status, HealthStatus::kDegraded);
}

TEST_F(ConsumerTest, leaves_out_what_was_processed_already) {
  make_shard(0);
  append(0, {"a", "b", "c"});
  const auto consumer = join({.is_deduplicated = true});
  consumer->mark_processed(std::vector<EntryId>{{0, 1}, {9, 9}});
  EXPECT_EQ(read(*consumer), (Lines{"0-0:a", "0-2:c"}));
  ASSERT_TRUE(consumer->reset_offset(0, 0));
  EXPECT_EQ(read(*consumer).size(), 3U) << "a reset forgets it";
}

struct ResetCase {
  std::int64_t to;
  std::uint64_t offset;
};
class ResetTest : public ConsumerTest, public testing::WithParamInterface<ResetCase> {};
TEST_P(ResetTest, sets_the_offset_within_what_is_there) {
  make_shard(0);
  append(0, {"a", "b", "c", "d"});
  const auto consumer = join();
  const auto other = join();
  static_cast<void>(read(*consumer));
  ASSERT_TRUE(consumer->ack(EntryId{0, 2}));
  ASSERT_TRUE(consumer->reset_offset(0, GetParam().to));
  EXPECT_EQ(consumer->offsets().at(0).committed, GetParam().offset);
  EXPECT_EQ(read(*consumer).size(), 4 - GetParam().offset);
  EXPECT_EQ(read(*other).size(), 4 - GetParam().offset) << "other members follow";
}
INSTANTIATE_TEST_SUITE_P(Spec, ResetTest, testing::Values(ResetCase{0, 0}, ResetCase{2, 2}, ResetCase{4, 4}, ResetCase{5, 4}, ResetCase{INT64_MAX, 4}, ResetCase{-1, 3}, ResetCase{-4, 0},
                                                          ResetCase{-5, 0}, ResetCase{INT64_MIN, 0}));

TEST_F(ConsumerTest, goes_to_a_time_to_the_begin_and_to_the_end) {
  auto& shard = make_shard(0);
  for (int i = 0; i < 8; ++i) {
    append(0, {std::string(20000, static_cast<char>('a' + i))});
    clock.advance(kSecond_ns);
  }
  const auto consumer = join();
  ASSERT_TRUE(consumer->reset_to_time(clock.epoch - 3 * kSecond_ns));
  EXPECT_EQ(consumer->lag(0), 3U);
  ASSERT_TRUE(consumer->seek_end());
  EXPECT_EQ(consumer->lag(0), 0U);
  ASSERT_TRUE(consumer->seek_begin());
  EXPECT_EQ(consumer->lag(0), 8U);
  ASSERT_TRUE(shard.delete_oldest(1));
  ASSERT_TRUE(consumer->seek_begin());
  EXPECT_EQ(consumer->offsets().at(0).committed, shard.first_entry());
  ASSERT_TRUE(consumer->reset_to_time(INT64_MAX));
  EXPECT_EQ(consumer->lag(0), 0U);
}

// What a member acknowledges that it had before a reset would move the group past what the reset was for.
TEST_F(ConsumerTest, acknowledges_nothing_from_before_a_reset) {
  make_shard(0);
  append(0, {"a", "b"});
  const auto one = join();
  const auto two = join();
  static_cast<void>(read(*one));
  ASSERT_TRUE(two->seek_begin());
  ASSERT_TRUE(one->ack(EntryId{0, 1}));
  EXPECT_EQ(one->counters().taken_back, 1U);
  EXPECT_EQ(one->lag(0), 2U);
  EXPECT_EQ(read(*one).size(), 2U);
  ASSERT_TRUE(one->ack(EntryId{0, 1}));
  EXPECT_EQ(two->lag(0), 0U);
}

TEST_F(ConsumerTest, is_told_when_its_group_was_removed) {
  make_shard(0);
  append(0, {"a"});
  const auto consumer = join();
  ASSERT_TRUE(GroupTable::open(files, clock, "log/shard-0000")->remove("default"));
  EXPECT_EQ(consumer->read(1).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(consumer->ack(EntryId{0, 0}).error().code, ErrorCode::kNotFound);
}

// Defect of predecessors: "retention moved me" looked like "no data".
TEST_F(ConsumerTest, is_told_of_what_retention_took) {
  auto& shard = make_shard(0);
  ASSERT_TRUE(join()->close());
  for (int i = 0; i < 6; ++i) append(0, {std::string(30000, 'x')});
  ASSERT_TRUE(shard.delete_oldest(1));
  const auto consumer = join();
  const auto delivery = consumer->read(1);
  ASSERT_EQ((*delivery)->skipped.size(), 1U);
  EXPECT_EQ(lines_of(**delivery).front(), "gap 0-0..2");
  EXPECT_EQ((*delivery)->messages.at(0).id.entry, 2U);
  EXPECT_EQ(read(*consumer, 1).size(), 1U) << "told once";
  EXPECT_EQ(consumer->counters().gap_entries, 2U);
  EXPECT_EQ(consumer->health().status, HealthStatus::kDegraded);
  EXPECT_EQ(join({.group = "new"})->counters().gap_entries, 0U) << "a new group begins with what there is";
}

TEST_F(ConsumerTest, is_told_of_damage_and_goes_on_behind_it) {
  make_shard(0);
  append(0, {"a", "b", "c"});
  auto content = files.content("log/shard-0000/" + segment_name(0));
  content[kDataOffset + 48 + 41] ^= std::byte{1};
  files.set_content("log/shard-0000/" + segment_name(0), content);
  EXPECT_EQ(read(*join()), (Lines{"corrupt 0-1..2", "0-0:a", "0-2:c"}));
  const auto strict = join({.on_corrupt = OnCorrupt::kFail});
  EXPECT_EQ(read(*strict), Lines{"0-0:a"});
  EXPECT_EQ(read(*strict), Lines{"0-0:a"});
  ASSERT_TRUE(strict->ack(EntryId{0, 0}));
  EXPECT_EQ(strict->read(10).error().code, ErrorCode::kIo);
  ASSERT_TRUE(strict->reset_offset(0, 2));
  EXPECT_EQ(read(*strict), Lines{"0-2:c"});
}

TEST_F(ConsumerTest, offset_beyond_what_survived_is_set_to_its_end) {
  make_shard(0);
  append(0, {"a", "b", "c"});
  ASSERT_TRUE(join()->ack(EntryId{0, 2}));
  shards.clear();
  auto content = files.content("log/shard-0000/" + segment_name(0));
  std::fill(content.begin() + static_cast<std::ptrdiff_t>(kDataOffset + 48), content.end(), std::byte{0});
  files.set_content("log/shard-0000/" + segment_name(0), content);
  ASSERT_TRUE(files.remove(std::string{"log/shard-0000/"} + kCoordinationName));
  make_shard(0);
  const auto consumer = join();
  EXPECT_EQ(consumer->counters().clamped_offsets, 1U);
  append(0, {"new"});
  EXPECT_EQ(read(*consumer), Lines{"0-1:new"});
}

// After a power failure the page may say that less is durable than was, until a writer comes.
TEST_F(ConsumerTest, offset_stays_where_it_is_when_only_the_page_is_old) {
  make_shard(0);
  append(0, {"a", "b", "c"});
  const auto page = files.content(std::string{"log/shard-0000/"} + kCoordinationName);
  ASSERT_TRUE(join()->ack(EntryId{0, 1}));
  shards.clear();
  auto old = page;
  std::fill_n(old.begin() + 128, 16, std::byte{0});
  files.set_content(std::string{"log/shard-0000/"} + kCoordinationName, old);
  const auto consumer = join();
  EXPECT_EQ(consumer->counters().clamped_offsets, 0U);
  EXPECT_EQ(consumer->lag(0), 0U);
  make_shard(0);
  EXPECT_EQ(read(*consumer), Lines{"0-2:c"});
}

TEST_F(ConsumerTest, syncs_offsets_when_it_is_time_and_on_close) {
  make_shard(0);
  append(0, {"a", "b", "c"});
  Random random{1};
  const auto consumer = join();
  ASSERT_TRUE(consumer->ack(EntryId{0, 0}));
  const std::uint64_t steps = files.steps();
  ASSERT_TRUE(consumer->maintain());
  EXPECT_EQ(files.steps(), steps);
  clock.advance(kSecond_ns);
  ASSERT_TRUE(consumer->maintain());
  EXPECT_EQ(files.steps(), steps + 1);
  EXPECT_EQ(read_groups(files, "log/shard-0000")->at(0).acknowledged, 1U);
  ASSERT_TRUE(consumer->ack(EntryId{0, 1}));
  ASSERT_TRUE(consumer->close());
  EXPECT_EQ(files.steps(), steps + 2);
  EXPECT_EQ(consumer->read(1).error().code, ErrorCode::kClosed);
  EXPECT_EQ(consumer->ack(EntryId{0, 2}).error().code, ErrorCode::kClosed);
  const auto careful = join({.sync_interval_ns = 0});
  ASSERT_TRUE(careful->ack(EntryId{0, 2}));
  EXPECT_EQ(files.steps(), steps + 3);
}

TEST_F(ConsumerTest, warns_when_it_is_far_behind) {
  make_shard(0);
  append(0, {"a", "b", "c"});
  const auto consumer = join({.lag_max = 2});
  const Health health = consumer->health();
  EXPECT_EQ(health.status, HealthStatus::kDegraded);
  ASSERT_EQ(health.problems.size(), 1U);
  EXPECT_NE(health.problems[0].what.find("3 entries behind"), std::string::npos) << health.problems[0].what;
  ASSERT_TRUE(consumer->ack(EntryId{0, 0}));
  EXPECT_EQ(consumer->health().status, HealthStatus::kGood);
}

// Every message is handled at least once, whatever crashes: writer and consumer lose power at any step, some of what the consumer does fails.
TEST_F(ConsumerTest, misses_nothing_when_the_machine_crashes) {
  for (std::uint64_t seed = 1; seed <= 300 && !HasFailure(); ++seed) {
    files = test::CrashFileSystem{96U << 10};
    Random random{seed};
    std::set<std::uint64_t> handled;
    std::uint64_t durable = 0;
    for (int life = 0; life < 6; ++life) {
      const bool is_last = life == 5;
      if (!is_last) files.stop_at(files.steps() + 1 + random.below(60));
      auto shard = Shard::open(files, clock, "log/shard-0000", small_options(SyncPolicy::kEveryBatch));
      auto consumer = shard ? Consumer::open(files, clock, kRoot, {.sync_interval_ns = 1}) : tl::unexpected{shard.error()};
      while (consumer && !files.has_stopped()) {
        clock.advance(2);
        if (!is_last)
          if (const auto appended = (*shard)->append(Entry{.payload = bytes_of("x")})) durable = std::max(durable, appended->first_entry + 1);
        const auto delivery = (*consumer)->read(1 + random.below(5));
        if (!delivery) break;
        ASSERT_TRUE((*delivery)->skipped.empty()) << seed;
        std::vector<EntryId> done;
        std::vector<EntryId> refused;
        for (const Message& message : (*delivery)->messages) {
          if (random.below(4) == 0 && !is_last) refused.push_back(message.id);
          else done.push_back(message.id);
        }
        static_cast<void>((*consumer)->nack(refused, static_cast<std::int64_t>(random.below(20))));
        for (const EntryId& id : done) handled.insert(id.entry);
        static_cast<void>((*consumer)->ack(done));
        static_cast<void>((*consumer)->maintain());
        if (random.below(30) == 0 && !is_last) static_cast<void>((*shard)->rotate());
        if (is_last && (*consumer)->lag(0) == 0) break;
      }
      if (!is_last) files.lose_power(random);
    }
    for (std::uint64_t entry = 0; entry < durable; ++entry) ASSERT_TRUE(handled.contains(entry)) << "seed " << seed << ": entry " << entry << " was never handled";
  }
}

}  // namespace
}  // namespace thalweg::log
