// The host tables of RFC 3376 (section 5) and RFC 2236 (section 6), with simulated time.
#include "dataplane/core/igmp_host.hpp"

#include <gtest/gtest.h>

#include <optional>

namespace thalweg::core {
namespace {

using wire::IgmpRecord;
using wire::IgmpView;

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::uint32_t kGroup = 0xE00A0901;
constexpr std::uint32_t kOther = 0xE00A0903;

struct Sent {
  std::int64_t time_ns{};
  std::uint32_t destination{};
  std::uint8_t type{};
  std::optional<IgmpRecord> record;
  std::vector<std::uint32_t> groups;
};

class Wire final : public IgmpHost::Output {
 public:
  void send_igmp(std::uint32_t destination, std::span<const std::byte> message) noexcept override {
    const auto view = IgmpView::parse(message);
    ASSERT_TRUE(view) << "the checksum is right";
    Sent sent{now, destination, view->type, {}, {}};
    if (view->type == IgmpView::kReportV3) {
      const std::size_t records = load_be16(message.data() + 6);
      ASSERT_EQ(message.size(), wire::igmp_v3_report_length(records));
      sent.record = static_cast<IgmpRecord>(message[8]);
      for (std::size_t i = 0; i < records; ++i) sent.groups.push_back(load_be32(message.data() + wire::igmp_v3_report_length(i) + 4));
    } else {
      sent.groups = {view->group};
    }
    all.push_back(sent);
  }
  std::int64_t now{1'000 * kSecond};
  std::vector<Sent> all;
};

class Igmp : public ::testing::Test {
 protected:
  void run_for(std::int64_t ns) {
    constexpr std::int64_t kStep_ns = 10'000'000;
    for (const std::int64_t end = wire.now + ns; wire.now < end; wire.now += kStep_ns) host.tick(wire.now);
  }
  // Lets the reports of joins pass, so that a test sees only what comes after.
  void settle() {
    run_for(25 * kSecond);
    wire.all.clear();
  }
  void query(std::uint32_t group, std::int64_t max_ns, bool is_v3 = true, std::uint8_t robustness = 0) {
    IgmpView view;
    view.type = IgmpView::kQuery;
    view.max_response = static_cast<std::uint8_t>(max_ns / 100'000'000);
    view.group = group;
    view.is_v3_query = is_v3;
    view.robustness = robustness;
    EXPECT_TRUE(host.on_message(view, group == 0 ? IgmpHost::kAllHosts : group, wire.now));
  }
  void report(std::uint32_t group) {
    IgmpView view;
    view.type = IgmpView::kReportV2;
    view.group = group;
    host.on_message(view, group, wire.now);
  }
  Wire wire;
  IgmpHost host{{.seed = 3}, wire};
};

TEST_F(Igmp, a_join_is_told_at_once_and_once_more_within_a_second) {
  host.join(kGroup, wire.now);
  ASSERT_EQ(wire.all.size(), 1U);
  EXPECT_EQ(wire.all[0].destination, IgmpHost::kReportTo);
  EXPECT_EQ(wire.all[0].record, IgmpRecord::kToExclude);
  EXPECT_EQ(wire.all[0].groups, std::vector{kGroup});
  run_for(60 * kSecond);
  ASSERT_EQ(wire.all.size(), 2U) << "robustness is 2";
  EXPECT_EQ(wire.all[1].record, IgmpRecord::kToExclude);
  EXPECT_LE(wire.all[1].time_ns - wire.all[0].time_ns, kSecond);
  EXPECT_EQ(host.next_ns(), std::numeric_limits<std::int64_t>::max()) << "nothing is due";
}

TEST_F(Igmp, only_the_first_member_joins_and_only_the_last_one_leaves) {
  host.join(kGroup, wire.now);
  settle();
  host.join(kGroup, wire.now);
  host.leave(kGroup, wire.now);
  run_for(5 * kSecond);
  EXPECT_TRUE(wire.all.empty());
  EXPECT_TRUE(host.has(kGroup));
  host.leave(kGroup, wire.now);
  EXPECT_FALSE(host.has(kGroup));
  run_for(5 * kSecond);
  ASSERT_EQ(wire.all.size(), 2U);
  EXPECT_EQ(wire.all[0].record, IgmpRecord::kToInclude);
  EXPECT_EQ(wire.all[1].record, IgmpRecord::kToInclude);
  host.leave(kGroup, wire.now);
  EXPECT_EQ(wire.all.size(), 2U) << "left once is enough";
}

TEST_F(Igmp, a_change_of_mind_takes_the_place_of_the_report_under_way) {
  host.join(kGroup, wire.now);
  host.leave(kGroup, wire.now);
  host.join(kGroup, wire.now);
  run_for(5 * kSecond);
  ASSERT_EQ(wire.all.size(), 4U);
  EXPECT_EQ(wire.all[1].record, IgmpRecord::kToInclude);
  EXPECT_EQ(wire.all[2].record, IgmpRecord::kToExclude);
  EXPECT_EQ(wire.all[3].record, IgmpRecord::kToExclude);
}

TEST_F(Igmp, a_storm_of_queries_gets_few_answers_and_each_kind_the_same) {
  host.join(kGroup, wire.now);
  host.join(kOther, wire.now);
  for (const std::uint32_t group : {0U, kGroup}) {
    settle();
    for (const std::int64_t end = wire.now + kSecond; wire.now < end; wire.now += 10'000) {   // 100 k queries that want an answer at once
      query(group, 0);
      host.tick(wire.now);
    }
    EXPECT_GE(wire.all.size(), 15U);
    EXPECT_LE(wire.all.size(), static_cast<std::size_t>(kSecond / IgmpHost::kQuiet_ns + 1));
  }
}

TEST_F(Igmp, a_general_query_is_answered_with_all_groups_within_the_time_it_gives) {
  host.join(kGroup, wire.now);
  host.join(kOther, wire.now);
  settle();
  const std::int64_t asked = wire.now;
  query(0, 10 * kSecond);
  run_for(11 * kSecond);
  ASSERT_EQ(wire.all.size(), 1U);
  EXPECT_EQ(wire.all[0].record, IgmpRecord::kIsExclude);
  EXPECT_EQ(wire.all[0].groups, (std::vector{kGroup, kOther}));
  EXPECT_LE(wire.all[0].time_ns - asked, 10 * kSecond);
}

TEST_F(Igmp, a_storm_of_queries_gets_one_answer) {
  host.join(kGroup, wire.now);
  settle();
  for (int i = 0; i < 1000; ++i) query(0, 10 * kSecond);
  run_for(11 * kSecond);
  EXPECT_EQ(wire.all.size(), 1U);
}

TEST_F(Igmp, a_query_for_a_group_is_answered_for_that_group_if_it_is_ours) {
  host.join(kGroup, wire.now);
  host.join(kOther, wire.now);
  settle();
  query(kOther, kSecond);
  query(0xE00A0905, kSecond);
  run_for(2 * kSecond);
  ASSERT_EQ(wire.all.size(), 1U);
  EXPECT_EQ(wire.all[0].groups, std::vector{kOther});
}

TEST_F(Igmp, an_answer_to_all_answers_for_each) {
  host.join(kGroup, wire.now);
  settle();
  query(kGroup, 20 * kSecond);
  query(0, 1);
  run_for(25 * kSecond);
  EXPECT_EQ(wire.all.size(), 1U);
}

TEST_F(Igmp, who_left_does_not_answer) {
  host.join(kGroup, wire.now);
  settle();
  query(kGroup, 5 * kSecond);
  host.leave(kGroup, wire.now);
  run_for(10 * kSecond);
  for (const Sent& sent : wire.all) EXPECT_EQ(sent.record, IgmpRecord::kToInclude);
}

TEST_F(Igmp, the_robustness_of_the_querier_is_taken_over) {
  query(0, kSecond, true, 4);
  run_for(2 * kSecond);
  host.join(kGroup, wire.now);
  run_for(10 * kSecond);
  EXPECT_EQ(wire.all.size(), 4U);
}

TEST_F(Igmp, after_a_version_2_query_version_2_is_spoken_until_the_querier_has_been_silent_for_its_time) {
  host.join(kGroup, wire.now);
  settle();
  query(0, 10 * kSecond, false);
  EXPECT_TRUE(host.speaks_v2(wire.now));
  run_for(11 * kSecond);
  ASSERT_EQ(wire.all.size(), 1U);
  EXPECT_EQ(wire.all[0].type, IgmpView::kReportV2);
  EXPECT_EQ(wire.all[0].destination, kGroup) << "sent to the group it is about";
  host.join(kOther, wire.now);
  EXPECT_EQ(wire.all.back().type, IgmpView::kReportV2);
  EXPECT_EQ(wire.all.back().destination, kOther);
  run_for(260 * kSecond);  // RFC 3376 8.12: 2 * 125 s + 10 s
  EXPECT_FALSE(host.speaks_v2(wire.now));
  wire.all.clear();
  query(0, kSecond);
  run_for(2 * kSecond);
  ASSERT_EQ(wire.all.size(), 1U);
  EXPECT_EQ(wire.all[0].type, IgmpView::kReportV3);
}

TEST_F(Igmp, in_version_2_the_answer_of_another_host_is_enough) {
  host.join(kGroup, wire.now);
  settle();
  query(0, 10 * kSecond, false);
  report(kGroup);
  run_for(11 * kSecond);
  EXPECT_TRUE(wire.all.empty());
  host.leave(kGroup, wire.now);
  run_for(5 * kSecond);
  EXPECT_TRUE(wire.all.empty()) << "whoever reported last says goodbye";
}

TEST_F(Igmp, in_version_2_the_last_reporter_leaves_at_all_routers) {
  query(0, kSecond, false);
  host.join(kGroup, wire.now);
  settle();
  host.leave(kGroup, wire.now);
  run_for(5 * kSecond);
  ASSERT_EQ(wire.all.size(), 1U);
  EXPECT_EQ(wire.all[0].type, IgmpView::kLeave);
  EXPECT_EQ(wire.all[0].destination, IgmpHost::kAllRouters);
  EXPECT_EQ(wire.all[0].groups, std::vector{kGroup});
}

TEST_F(Igmp, in_version_3_the_answers_of_others_do_not_count) {
  host.join(kGroup, wire.now);
  settle();
  query(0, 10 * kSecond);
  report(kGroup);
  run_for(11 * kSecond);
  EXPECT_EQ(wire.all.size(), 1U);
}

TEST_F(Igmp, the_group_of_all_hosts_is_nobodys_business) {
  host.join(IgmpHost::kAllHosts, wire.now);
  query(0, kSecond);
  query(IgmpHost::kAllHosts, kSecond);
  run_for(5 * kSecond);
  EXPECT_TRUE(wire.all.empty());
}

TEST_F(Igmp, many_groups_are_answered_in_several_reports_and_one_too_many_is_refused) {
  for (std::uint32_t i = 0; i < IgmpHost::kGroupsMax; ++i) EXPECT_TRUE(host.join(kGroup + i, wire.now));
  EXPECT_FALSE(host.join(kGroup + IgmpHost::kGroupsMax, wire.now));
  settle();
  query(0, kSecond);
  run_for(2 * kSecond);
  std::size_t answered = 0;
  for (const Sent& sent : wire.all) answered += sent.groups.size();
  EXPECT_EQ(answered, IgmpHost::kGroupsMax);
  for (std::uint32_t i = 0; i < IgmpHost::kGroupsMax; ++i) host.leave(kGroup + i, wire.now);
  run_for(5 * kSecond);
  for (std::uint32_t i = 0; i < IgmpHost::kGroupsMax; ++i) EXPECT_TRUE(host.join(kOther + 4096 + i, wire.now)) << "room is made again";
}

TEST_F(Igmp, a_link_that_came_up_hears_of_every_group) {
  host.join(kGroup, wire.now);
  host.join(kOther, wire.now);
  settle();
  host.report_all(wire.now);
  EXPECT_EQ(wire.all.size(), 2U);
}

TEST(IgmpSilent, a_port_whose_kernel_speaks_for_it_says_nothing) {
  Wire wire;
  IgmpHost host{{.seed = 1, .is_silent = true}, wire};
  EXPECT_TRUE(host.join(kGroup, wire.now));
  EXPECT_TRUE(host.has(kGroup));
  host.leave(kGroup, wire.now);
  EXPECT_FALSE(host.has(kGroup));
  EXPECT_TRUE(wire.all.empty());
}

}  // namespace
}  // namespace thalweg::core
