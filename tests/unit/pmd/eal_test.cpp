#include "pmd/eal.hpp"

#include <rte_lcore.h>
#include <sched.h>

#include <algorithm>
#include <thread>

#include "tests/unit/pmd/eal_environment.hpp"

namespace thalweg::pmd::test {
namespace {

bool contains(const std::vector<std::string>& all, std::string_view wanted) {
  return std::find(all.begin(), all.end(), wanted) != all.end();
}

TEST(EalArguments, ordinary_pages_never_meet_in_memory_mode) {
  const auto arguments = eal_arguments({.memory_bytes = (64U << 20) + 1}, false, {0, 3}, "p");
  EXPECT_TRUE(contains(arguments, "--no-huge") && contains(arguments, "--no-shconf"));
  EXPECT_FALSE(contains(arguments, "--in-memory"));
  EXPECT_TRUE(contains(arguments, "65")) << "memory is rounded up to MiB";
  EXPECT_TRUE(contains(arguments, "0@(0,3)"));
}

TEST(EalArguments, hugepages_are_used_in_memory_so_that_no_file_stays) {
  const auto arguments = eal_arguments({}, true, {0}, "p");
  EXPECT_TRUE(contains(arguments, "--in-memory"));
  EXPECT_FALSE(contains(arguments, "--no-huge"));
}

TEST(EalArguments, always_ask_for_virtual_addresses_and_no_telemetry_socket) {
  for (const bool hugepages : {false, true}) {
    const auto arguments = eal_arguments({}, hugepages, {0}, "p");
    EXPECT_TRUE(contains(arguments, "--iova-mode=va") && contains(arguments, "--no-telemetry"));
  }
}

TEST(EalArguments, name_each_pci_device_or_keep_away_from_the_bus) {
  EXPECT_TRUE(contains(eal_arguments({}, true, {0}, "p"), "--no-pci"));
  EalOptions options;
  options.pci_addresses = {"0000:01:00.0", "0000:01:00.1"};
  const auto arguments = eal_arguments(options, true, {0}, "p");
  EXPECT_FALSE(contains(arguments, "--no-pci"));
  EXPECT_EQ(std::count(arguments.begin(), arguments.end(), "-a"), 2);
  EXPECT_TRUE(contains(arguments, "0000:01:00.1"));
}

TEST(Eal, a_second_start_in_one_process_is_refused) {
  const auto again = Eal::start({.memory = EalMemory::kOrdinaryPages});
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, ErrorCode::kInUse);
}

TEST(Eal, asking_for_more_hugepages_than_are_free_names_both_numbers) {
  const auto refused = Eal::start({.memory = EalMemory::kHugepages, .memory_bytes = std::uint64_t{1} << 50});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kNoSpace);
  EXPECT_NE(refused.error().message.find("1073741824 MiB needed"), std::string::npos);
  EXPECT_NE(refused.error().hint.find("vm.nr_hugepages"), std::string::npos);
}

TEST(Eal, its_log_comes_through_the_sink) { EXPECT_FALSE(EalEnvironment::log_lines().empty()); }

TEST(Eal, the_calling_thread_keeps_its_affinity) {
  cpu_set_t set;
  ASSERT_EQ(sched_getaffinity(0, sizeof set, &set), 0);
  EXPECT_EQ(static_cast<unsigned>(CPU_COUNT(&set)), std::thread::hardware_concurrency());
}

TEST(Eal, a_registered_lane_has_an_lcore_id_and_gives_it_back) {
  for (int round = 0; round < 2 * RTE_MAX_LCORE; ++round) {
    unsigned id = LCORE_ID_ANY;
    std::thread lane{[&id] {
      const auto registration = LaneRegistration::create();
      ASSERT_TRUE(registration) << registration.error().message;
      id = rte_lcore_id();
    }};
    lane.join();
    ASSERT_LT(id, static_cast<unsigned>(RTE_MAX_LCORE));
  }
}

TEST(Eal, reports_its_memory) {
  const Eal::MemoryReport report = EalEnvironment::eal().memory();
  EXPECT_GE(report.total_bytes, 64U << 20);
  EXPECT_LE(report.used_bytes, report.total_bytes);
}

TEST(PacketPool, room_is_made_for_the_mtu_and_the_link_header) {
  const auto pool = PacketPool::create({.name = "jumbo", .count = 63, .mtu = 9000});
  ASSERT_TRUE(pool) << pool.error().message;
  EXPECT_GE(rte_pktmbuf_data_room_size(pool->get()), RTE_PKTMBUF_HEADROOM + 9000 + 18);
}

TEST(PacketPool, a_name_in_use_and_an_impossible_size_are_told_apart) {
  const auto first = PacketPool::create({.name = "twice", .count = 63});
  ASSERT_TRUE(first);
  EXPECT_EQ(PacketPool::create({.name = "twice", .count = 63}).error().code, ErrorCode::kInUse);
  EXPECT_EQ(PacketPool::create({.name = "huge", .count = 1U << 24}).error().code, ErrorCode::kNoSpace);
  EXPECT_EQ(PacketPool::create({.name = "wide", .count = 63, .mtu = 65500}).error().code, ErrorCode::kInvalidArgument);
}

TEST(PacketPool, the_memory_estimate_covers_what_a_pool_takes) {
  const std::uint64_t before = EalEnvironment::eal().memory().used_bytes;
  const auto pool = PacketPool::create({.name = "measured", .count = 8191});
  ASSERT_TRUE(pool);
  EXPECT_LE(EalEnvironment::eal().memory().used_bytes - before, packet_memory_bytes({}, {{1500, 8191}}));
}

}  // namespace
}  // namespace thalweg::pmd::test
