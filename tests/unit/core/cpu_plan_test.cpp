// Which CPU each lane runs on: machines of 1, 2 and 64 CPUs, odd CPU sets, isolation and exclusive mode.
#include "dataplane/core/cpu_plan.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>

namespace thalweg::core {
namespace {

CpuSet range(std::uint32_t first, std::uint32_t count) {
  CpuSet set;
  for (std::uint32_t i = 0; i < count; ++i) set.cpus.push_back(first + i);
  return set;
}

std::vector<std::uint32_t> lane_cpus(const CpuPlan& plan) {
  std::vector<std::uint32_t> cpus;
  for (const LanePlan& lane : plan.lanes) {
    if (lane.cpu) cpus.push_back(*lane.cpu);
  }
  return cpus;
}

using Cpus = std::vector<std::uint32_t>;

TEST(CpuPlan, one_cpu_is_shared_by_an_unpinned_lane_and_the_steward) {
  const auto plan = plan_cpus({.allowed = range(0, 1)}, {}, CpuMode::kShared, 4);
  ASSERT_TRUE(plan);
  ASSERT_EQ(plan->lanes.size(), 1U);
  EXPECT_FALSE(plan->lanes[0].cpu);
  EXPECT_EQ(plan->steward.cpus, Cpus{0});
}

TEST(CpuPlan, two_cpus_give_a_lane_the_upper_one) {
  const auto plan = plan_cpus({.allowed = range(0, 2)}, {}, CpuMode::kShared, 4);
  ASSERT_TRUE(plan);
  EXPECT_EQ(lane_cpus(*plan), Cpus{1});
  EXPECT_EQ(plan->steward.cpus, Cpus{0});
}

TEST(CpuPlan, sixty_four_cpus_give_every_port_a_lane_and_leave_cpu_0_alone) {
  const auto plan = plan_cpus({.allowed = range(0, 64)}, {}, CpuMode::kShared, 4);
  ASSERT_TRUE(plan);
  EXPECT_EQ(lane_cpus(*plan), (Cpus{63, 62, 61, 60}));
  EXPECT_EQ(plan->steward.cpus.size(), 60U);
  const auto many = plan_cpus({.allowed = range(0, 64)}, {}, CpuMode::kShared, 60);
  ASSERT_TRUE(many);
  EXPECT_EQ(many->lanes.size(), 16U) << "one for every four CPUs";
  EXPECT_TRUE(many->steward.contains(0));
}

TEST(CpuPlan, isolated_cpus_are_taken_first_and_never_by_the_steward) {
  const auto plan = plan_cpus({.allowed = range(0, 16), .isolated = range(4, 3)}, {}, CpuMode::kShared, 8);
  ASSERT_TRUE(plan);
  EXPECT_EQ(lane_cpus(*plan), (Cpus{4, 5, 6}));
  for (const std::uint32_t cpu : Cpus{4, 5, 6}) EXPECT_FALSE(plan->steward.contains(cpu));
  const auto fewer = plan_cpus({.allowed = range(0, 16), .isolated = range(4, 3)}, {}, CpuMode::kShared, 2);
  ASSERT_TRUE(fewer);
  EXPECT_EQ(lane_cpus(*fewer), (Cpus{4, 5}));
  EXPECT_FALSE(fewer->steward.contains(6)) << "isolated, if unused";
}

TEST(CpuPlan, odd_cpu_sets_are_taken_as_they_are) {
  const auto plan = plan_cpus({.allowed = {{3, 17, 40, 41, 63}}}, {}, CpuMode::kShared, 2);
  ASSERT_TRUE(plan);
  EXPECT_EQ(lane_cpus(*plan), Cpus{63});
  EXPECT_EQ(plan->steward.cpus, (Cpus{3, 17, 40, 41}));
  const auto single = plan_cpus({.allowed = {{17}}}, {}, CpuMode::kShared, 2);
  ASSERT_TRUE(single);
  EXPECT_EQ(single->steward.cpus, Cpus{17});
  EXPECT_FALSE(plan_cpus({}, {}, CpuMode::kShared, 1)) << "an empty set";
}

TEST(CpuPlan, every_machine_gets_at_least_one_lane_and_a_steward) {
  for (std::uint32_t cpus = 1; cpus <= 130; ++cpus) {
    for (const std::uint32_t ports : {0U, 1U, 3U, 64U}) {
      const auto plan = plan_cpus({.allowed = range(cpus % 7, cpus)}, {}, CpuMode::kShared, ports);
      ASSERT_TRUE(plan);
      ASSERT_GE(plan->lanes.size(), 1U);
      ASSERT_LE(plan->lanes.size(), std::max(1U, ports));
      ASSERT_FALSE(plan->steward.cpus.empty());
      Cpus used = lane_cpus(*plan);
      std::sort(used.begin(), used.end());
      ASSERT_EQ(std::adjacent_find(used.begin(), used.end()), used.end()) << "a CPU was given twice";
    }
  }
}

TEST(CpuPlan, named_cpus_are_kept_and_unnamed_lanes_float) {
  const std::vector<LaneOptions> lanes{{.cpu = 2, .ports = {}}, {.cpu = {}, .ports = {}}};
  const auto plan = plan_cpus({.allowed = range(0, 4)}, lanes, CpuMode::kShared, 2);
  ASSERT_TRUE(plan);
  ASSERT_EQ(plan->lanes.size(), 2U);
  EXPECT_EQ(plan->lanes[0].cpu, 2U);
  EXPECT_FALSE(plan->lanes[1].cpu);
  EXPECT_EQ(plan->steward.cpus, (Cpus{0, 1, 3}));
}

TEST(CpuPlan, wishes_that_cannot_be_met_are_refused_with_a_reason) {
  const Machine machine{.allowed = range(0, 4), .isolated = {{2, 3}}, .taken = {{3}}};
  const auto code = [&machine](std::vector<LaneOptions> lanes, CpuMode mode) {
    const auto plan = plan_cpus(machine, lanes, mode, 1);
    return plan ? std::optional<ErrorCode>{} : plan.error().code;
  };
  EXPECT_EQ(code({{.cpu = 7, .ports = {}}}, CpuMode::kShared), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({{.cpu = 1, .ports = {}}, {.cpu = 1, .ports = {}}}, CpuMode::kShared), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({{.cpu = 3, .ports = {}}}, CpuMode::kExclusive), ErrorCode::kInUse);
  EXPECT_EQ(code({{.cpu = 1, .ports = {}}}, CpuMode::kExclusive), ErrorCode::kUnsupported);
  EXPECT_EQ(code({{.cpu = {}, .ports = {}}}, CpuMode::kExclusive), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({{.cpu = 2, .ports = {}}}, CpuMode::kExclusive), std::nullopt);
  EXPECT_EQ(code(std::vector<LaneOptions>(65), CpuMode::kShared), ErrorCode::kInvalidArgument);
}

TEST(CpuPlan, exclusive_auto_lanes_take_free_isolated_cpus_or_none) {
  const auto free = plan_cpus({.allowed = range(0, 16), .isolated = {{2, 3}}, .taken = {{2}}}, {}, CpuMode::kExclusive, 2);
  ASSERT_TRUE(free);
  EXPECT_EQ(lane_cpus(*free), Cpus{3});
  EXPECT_FALSE(plan_cpus({.allowed = range(0, 16)}, {}, CpuMode::kExclusive, 2));
  EXPECT_FALSE(plan_cpus({.allowed = range(0, 1)}, {}, CpuMode::kExclusive, 2)) << "one CPU cannot be had alone";
}

struct List {
  const char* text;
  std::optional<Cpus> cpus;
};
class CpuListTest : public ::testing::TestWithParam<List> {};
TEST_P(CpuListTest, is_read_as_the_kernel_writes_it) {
  const auto set = parse_cpu_list(GetParam().text);
  ASSERT_EQ(set.has_value(), GetParam().cpus.has_value());
  if (set) {
    EXPECT_EQ(set->cpus, *GetParam().cpus);
  }
}
INSTANTIATE_TEST_SUITE_P(lists, CpuListTest,
                         ::testing::Values(List{"", Cpus{}}, List{"\n", Cpus{}}, List{"0\n", Cpus{0}}, List{"0-3,8,10-11", Cpus{0, 1, 2, 3, 8, 10, 11}},
                                           List{"5,1-2,2", Cpus{1, 2, 5}}, List{"3-1", {}}, List{"a", {}}, List{"1-", {}}, List{"1,,2", {}},
                                           List{"-1", {}}, List{"99999999", {}}, List{"1 2", {}}));

TEST(CpuLock, an_exclusive_cpu_is_held_by_one_instance) {
  constexpr std::uint32_t kCpu = 1'000'003;   // no real one: other tests may run beside this one
  auto first = lock_cpu(kCpu);
  ASSERT_TRUE(first);
  auto second = lock_cpu(kCpu);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kInUse);
  ::close(*first);
  auto third = lock_cpu(kCpu);
  ASSERT_TRUE(third);
  ::close(*third);
}

TEST(CpuPlan, this_machine_can_be_read_and_planned_for) {
  const Machine machine = read_machine();
  ASSERT_FALSE(machine.allowed.cpus.empty());
  EXPECT_TRUE(plan_cpus(machine, {}, CpuMode::kShared, 2));
}

}  // namespace
}  // namespace thalweg::core
