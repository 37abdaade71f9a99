// thalweg host check on machines that exist as files only.
#include <filesystem>
#include <fstream>

#include "controlplane/cli/host_check.hpp"
#include "tests/unit/cli/instance_fixture.hpp"

namespace thalweg::cli {
namespace {

class HostCheck : public ::testing::Test {
 protected:
  void SetUp() override {
    host_.root = directory_.path();
    for (std::uint32_t cpu = 0; cpu < 4; ++cpu) {
      host_.machine.allowed.cpus.push_back(cpu);
      write("/sys/devices/system/node/node" + std::to_string(cpu / 2) + "/cpu" + std::to_string(cpu) + "/x", "");
      write("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/cpufreq/scaling_governor", "performance");
    }
    host_.machine.isolated.cpus = {2, 3};
    host_.memlock_bytes = UINT64_MAX;
    host_.file_count = 65536;
    host_.shm_free_bytes = 64ULL << 30;
    write("/proc/cpuinfo", "processor : 0\nflags\t\t: fpu constant_tsc nonstop_tsc avx2\n");
    write("/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc");
    write("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never");
    write("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "2048");
    config_.dataplane.lanes = {{.cpu = 2, .ports = {}}};
  }

  void write(const std::string& file, const std::string& text) const {
    const std::filesystem::path path = host_.root + file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream{path} << text << '\n';
  }
  void link(const std::string& file, const std::string& target) const {
    const std::filesystem::path path = host_.root + file;
    std::filesystem::create_directories(path.parent_path());
    std::filesystem::create_symlink(target, path);
  }
  [[nodiscard]] Finding find(const std::string& item) const {
    for (Finding& finding : check_host(config_, host_)) {
      if (finding.item == item) return std::move(finding);
    }
    ADD_FAILURE() << "no finding about " << item;
    return {};
  }
  void add_port(const std::string& type, const std::string& device) {
    config::Port port;
    port.name = "a";
    port.type = type;
    port.device = device;
    port.address = "10.0.0.1/24";
    config_.ports.push_back(port);
  }

  thalweg::test::TemporaryDirectory directory_{"host"};
  config::Config config_;
  Host host_;
};

TEST_F(HostCheck, a_machine_set_up_well_has_nothing_to_mend) {
  for (const Finding& finding : check_host(config_, host_)) EXPECT_EQ(finding.verdict, Verdict::kOk) << finding.item << ": " << finding.found;
}

TEST_F(HostCheck, a_user_to_become_must_exist_and_be_within_reach) {
  config_.instance.user = "no-such-user-here";
  EXPECT_EQ(find("user").verdict, Verdict::kProblem);
  EXPECT_NE(find("user").fix.find("useradd"), std::string::npos);
  config_.instance.user = "nobody";
  host_.user_id = 0;
  EXPECT_EQ(find("user").verdict, Verdict::kOk);
  host_.user_id = 4711;
  EXPECT_EQ(find("user").verdict, Verdict::kProblem);
  EXPECT_NE(find("user").fix.find("root"), std::string::npos);
}

TEST_F(HostCheck, a_cpu_that_does_not_exist_is_a_problem_that_names_those_that_do) {
  config_.dataplane.lanes = {{.cpu = 99, .ports = {}}};
  const Finding finding = find("cpus");
  EXPECT_EQ(finding.verdict, Verdict::kProblem);
  EXPECT_NE(finding.found.find("99"), std::string::npos);
  EXPECT_NE(finding.found.find("0,1,2,3"), std::string::npos) << finding.found;
}

TEST_F(HostCheck, a_lane_on_a_shared_cpu_is_a_warning_with_the_boot_parameters) {
  config_.dataplane.lanes = {{.cpu = 1, .ports = {}}};
  const Finding finding = find("isolation");
  EXPECT_EQ(finding.verdict, Verdict::kWarning);
  EXPECT_EQ(finding.fix, "boot with isolcpus=1 nohz_full=1 rcu_nocbs=1");
}

TEST_F(HostCheck, an_exclusive_lane_on_a_shared_cpu_is_a_problem) {
  config_.dataplane.lanes = {{.cpu = 1, .ports = {}}};
  config_.dataplane.cpu_mode = config::CpuMode::kExclusive;
  EXPECT_EQ(find("cpus").verdict, Verdict::kProblem);
}

TEST_F(HostCheck, too_few_hugepages_tell_how_much_is_needed_and_how_to_get_it) {
  write("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "1");
  const Finding missing = find("hugepages");
  EXPECT_EQ(missing.verdict, Verdict::kWarning) << "auto takes ordinary pages";
  EXPECT_EQ(missing.found, "2 MiB free; ordinary pages will be used");
  const auto needed_mib = std::stoul(missing.need);
  EXPECT_GT(needed_mib, 8U);
  EXPECT_EQ(missing.fix, "sysctl -w vm.nr_hugepages=" + std::to_string((needed_mib + 1) / 2 + 8));
  config_.dataplane.hugepages = config::Hugepages::kOn;
  EXPECT_EQ(find("hugepages").verdict, Verdict::kProblem);
  config_.dataplane.hugepages = config::Hugepages::kOff;
  EXPECT_EQ(find("hugepages").verdict, Verdict::kNote);
}

TEST_F(HostCheck, transparent_hugepages_everywhere_are_a_warning) {
  write("/sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never");
  EXPECT_EQ(find("transparent hugepages").verdict, Verdict::kWarning);
}

TEST_F(HostCheck, a_clock_that_needs_system_calls_is_a_warning) {
  write("/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet");
  EXPECT_EQ(find("clock").verdict, Verdict::kWarning);
}

TEST_F(HostCheck, a_saving_governor_is_named_with_its_cpu) {
  write("/sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "powersave");
  const Finding finding = find("governor");
  EXPECT_EQ(finding.verdict, Verdict::kWarning);
  EXPECT_EQ(finding.found, "CPU 2 powersave");
}

TEST_F(HostCheck, lanes_on_two_nodes_are_a_warning) {
  config_.dataplane.lanes = {{.cpu = 1, .ports = {}}, {.cpu = 2, .ports = {}}};
  EXPECT_EQ(find("numa").verdict, Verdict::kWarning);
}

TEST_F(HostCheck, too_little_shared_memory_is_a_problem_that_tells_the_size) {
  config_.memory.pool = {{1ULL << 30, 4}};
  host_.shm_free_bytes = 1ULL << 30;
  const Finding finding = find("shared memory");
  EXPECT_EQ(finding.verdict, Verdict::kProblem);
  EXPECT_GE(std::stoul(finding.need), 12U * 1024) << "four logs of three terms of 1 GiB";
  EXPECT_NE(finding.fix.find("mount -o remount,size="), std::string::npos);
}

TEST_F(HostCheck, locked_memory_matters_for_devices_only) {
  host_.memlock_bytes = 8U << 20;
  EXPECT_EQ(find("memlock").verdict, Verdict::kOk);
  add_port("pci", "0000:01:00.0");
  EXPECT_EQ(find("memlock").verdict, Verdict::kProblem);
}

TEST_F(HostCheck, few_open_files_are_a_warning) {
  host_.file_count = 256;
  EXPECT_EQ(find("open files").verdict, Verdict::kWarning);
}

TEST_F(HostCheck, a_nic_needs_to_be_there_bound_grouped_and_accessible) {
  add_port("pci", "0000:01:00.0");
  const std::string folder = "/sys/bus/pci/devices/0000:01:00.0";
  EXPECT_EQ(find("port a").found, "no such device");
  write(folder + "/numa_node", "1");
  link(folder + "/driver", "../../drivers/ixgbe");
  EXPECT_EQ(find("port a").found, "on ixgbe");
  EXPECT_EQ(find("port a").fix, "dpdk-devbind.py --bind=vfio-pci 0000:01:00.0");
  std::filesystem::remove(host_.root + folder + "/driver");
  link(folder + "/driver", "../../drivers/vfio-pci");
  EXPECT_EQ(find("port a").found, "no IOMMU group");
  link(folder + "/iommu_group", "../../iommu_groups/7");
  EXPECT_EQ(find("port a").found, "no access to /dev/vfio/7");
  write("/dev/vfio/7", "");
  EXPECT_EQ(find("port a").verdict, Verdict::kOk);
  EXPECT_EQ(find("numa").verdict, Verdict::kOk);
  write(folder + "/numa_node", "0");
  EXPECT_EQ(find("numa").verdict, Verdict::kWarning) << "the lane is on node 1";
}

TEST_F(HostCheck, an_interface_that_is_not_there_is_a_problem) {
  add_port("af_packet", "eth9");
  EXPECT_EQ(find("port a").verdict, Verdict::kProblem);
  write("/sys/class/net/eth9/address", "");
  EXPECT_EQ(find("port a").verdict, Verdict::kOk);
}

// `lanes: auto` has to work unedited on any machine.
class DefaultConfiguration : public ::testing::TestWithParam<std::uint32_t> {};
TEST_P(DefaultConfiguration, is_valid_and_finds_cpus_on_a_machine_of_any_size) {
  const auto config = config::load_file(THALWEG_SOURCE_ROOT "/config/default.yaml");
  ASSERT_TRUE(config) << config.error().message;
  Host host{.root = "/nonexistent", .machine = {}, .memlock_bytes = 8U << 20, .file_count = 65536, .shm_free_bytes = 1ULL << 30};
  for (std::uint32_t cpu = 0; cpu < GetParam(); ++cpu) host.machine.allowed.cpus.push_back(cpu);
  for (const Finding& finding : check_host(*config, host)) EXPECT_NE(finding.verdict, Verdict::kProblem) << finding.item << ": " << finding.found;
}
INSTANTIATE_TEST_SUITE_P(Cpus, DefaultConfiguration, ::testing::Values(1, 2, 3, 64, 256));

TEST(ClockGaps, are_measured_and_judged) {
  const std::vector<std::uint32_t> cpus{core::read_machine().allowed.cpus.front()};
  const auto gaps = measure_clock_gaps(cpus, 1'000'000);
  ASSERT_EQ(gaps.size(), 1U);
  EXPECT_EQ(gaps[0].cpu, cpus[0]);
  EXPECT_GT(gaps[0].longest_ns, 0);
  EXPECT_EQ(judge({.cpu = 3, .longest_ns = 9'000, .count = 0}, false).verdict, Verdict::kOk);
  const Finding shared = judge({.cpu = 3, .longest_ns = 50'000, .count = 4}, false);
  EXPECT_EQ(shared.verdict, Verdict::kWarning);
  EXPECT_EQ(shared.found, "longest 50us, 4 above 10us");
  EXPECT_NE(shared.fix.find("isolcpus=3"), std::string::npos);
}

TEST(HostVerb, prints_each_finding_and_ends_with_4_on_problems) {
  const auto good = test::thalweg({"host", "check", "--no-probe", "--json", "--directory", "/dev/shm/thalweg-host-verb"});
  EXPECT_TRUE(good.exit == 0 || good.exit == 4) << good.err;
  EXPECT_GT(good.json()["findings"].size(), 8U);
  const auto bad = test::thalweg({"host", "check", "--no-probe", "--json", "--set", "dataplane.lanes=[{cpu: 1023}]"});
  EXPECT_EQ(bad.exit, 4) << bad.err;
  EXPECT_EQ(bad.json()["worst"], "problem");
}

}  // namespace
}  // namespace thalweg::cli
