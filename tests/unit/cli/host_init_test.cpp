// thalweg host init | undo on machines that exist as files only.
#include "controlplane/cli/host_init.hpp"

#include <filesystem>
#include <fstream>
#include <map>

#include "tests/unit/cli/instance_fixture.hpp"

namespace thalweg::cli {
namespace {

class HostInit : public ::testing::Test {
 protected:
  static constexpr const char* kPages = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
  static constexpr const char* kThp = "/sys/kernel/mm/transparent_hugepage/enabled";
  static constexpr const char* kGovernor = "/sys/devices/system/cpu/cpu2/cpufreq/scaling_governor";
  static constexpr const char* kRmem = "/proc/sys/net/core/rmem_max";

  void SetUp() override {
    host_.root = directory_.path();
    host_.machine.allowed.cpus = {0, 1, 2, 3};
    write(kPages, "8");
    write("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "4");
    write(kThp, "[always] madvise never");
    write(kGovernor, "powersave");
    write(kRmem, "65536");
    write("/proc/sys/net/core/wmem_max", "65536");
    std::filesystem::create_directories(host_.root + "/run");
    config_.dataplane.lanes = {{.cpu = 2, .ports = {}}};
  }
  void write(const std::string& file, const std::string& text) const {
    const std::filesystem::path path = host_.root + file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream{path} << text << '\n';
  }
  [[nodiscard]] std::string read(const std::string& file) const {
    std::ifstream in{host_.root + file};
    std::string line;
    std::getline(in, line);
    return line;
  }
  [[nodiscard]] std::vector<HostStep> plan() const {
    auto steps = plan_host(config_, host_);
    EXPECT_TRUE(steps) << steps.error().message;
    return steps ? std::move(*steps) : std::vector<HostStep>{};
  }
  void apply_all(const std::vector<HostStep>& steps) const {
    for (const HostStep& step : steps) {
      const auto applied = apply(step, host_);
      EXPECT_TRUE(applied) << applied.error().message;
    }
  }
  void add_device(const std::string& address, const std::string& driver) {
    const std::string device = "/sys/bus/pci/devices/" + address;
    write(device + "/driver_override", "(null)");
    if (!driver.empty()) {
      write("/sys/bus/pci/drivers/" + driver + "/unbind", "");
      std::filesystem::create_symlink("../../drivers/" + driver, host_.root + device + "/driver");
    }
    write("/sys/bus/pci/drivers_probe", "");
    config::Port port;
    port.name = "wire";
    port.type = "pci";
    port.device = address;
    port.address = "10.0.0.1/24";
    config_.ports.push_back(port);
  }

  thalweg::test::TemporaryDirectory directory_{"host-init"};
  config::Config config_;
  Host host_;
};

TEST_F(HostInit, what_is_missing_is_planned_with_the_commands_an_operator_would_type) {
  std::string commands;
  for (const HostStep& step : plan()) commands += step.writes.at(0).command() + "\n";
  EXPECT_NE(commands.find("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled\n"), std::string::npos) << commands;
  EXPECT_NE(commands.find("echo performance > /sys/devices/system/cpu/cpu2/cpufreq/scaling_governor\n"), std::string::npos) << commands;
  EXPECT_NE(commands.find("echo 131072 > /proc/sys/net/core/rmem_max\n"), std::string::npos) << commands;
  EXPECT_NE(commands.find(" > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages\n"), std::string::npos) << commands;
  EXPECT_EQ(commands.find("wmem_max"), std::string::npos) << "nobody asks for more: " << commands;
}

TEST_F(HostInit, a_machine_that_is_set_up_needs_nothing) {
  apply_all(plan());
  write("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "4096");
  EXPECT_TRUE(plan().empty());
}

TEST_F(HostInit, without_hugepages_in_the_configuration_none_are_taken) {
  config_.dataplane.hugepages = config::Hugepages::kOff;
  for (const HostStep& step : plan()) EXPECT_NE(step.writes.at(0).file, kPages);
}

TEST_F(HostInit, undo_puts_back_what_was_there_last_first) {
  const auto steps = plan();
  apply_all(steps);
  EXPECT_EQ(read(kThp), "madvise");
  EXPECT_EQ(read(kGovernor), "performance");
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    const auto left = undo(*step, host_);
    ASSERT_TRUE(left) << left.error().message;
    EXPECT_TRUE(left->empty());
  }
  EXPECT_EQ(read(kThp), "always");
  EXPECT_EQ(read(kGovernor), "powersave");
  EXPECT_EQ(read(kPages), "8");
  EXPECT_EQ(read(kRmem), "65536");
}

TEST_F(HostInit, what_somebody_has_changed_since_is_left) {
  const auto steps = plan();
  apply_all(steps);
  write(kRmem, "8388608");
  for (const HostStep& step : steps) {
    const auto left = undo(step, host_);
    ASSERT_TRUE(left);
    EXPECT_EQ(left->size(), step.writes.at(0).file == kRmem ? 1U : 0U);
  }
  EXPECT_EQ(read(kRmem), "8388608");
}

TEST_F(HostInit, a_device_goes_to_vfio_and_back_to_its_driver) {
  add_device("0000:01:00.0", "ixgbe");
  EXPECT_EQ(plan_host(config_, host_).error().hint, "modprobe vfio-pci");
  write("/sys/bus/pci/drivers/vfio-pci/unbind", "");
  const HostStep step = plan().back();
  EXPECT_EQ(step.why, "port wire: 0000:01:00.0 to vfio-pci, from ixgbe");
  ASSERT_EQ(step.writes.size(), 3U);
  EXPECT_EQ(step.writes[0].command(), "echo vfio-pci > /sys/bus/pci/devices/0000:01:00.0/driver_override");
  EXPECT_EQ(step.writes[1].command(), "echo 0000:01:00.0 > /sys/bus/pci/drivers/ixgbe/unbind");
  EXPECT_EQ(step.writes[2].command(), "echo 0000:01:00.0 > /sys/bus/pci/drivers_probe");
  ASSERT_TRUE(apply(step, host_));
  EXPECT_EQ(read("/sys/bus/pci/devices/0000:01:00.0/driver_override"), "vfio-pci");
  ASSERT_TRUE(undo(step, host_));
  EXPECT_EQ(read("/sys/bus/pci/devices/0000:01:00.0/driver_override"), "");
  EXPECT_EQ(read("/sys/bus/pci/drivers/vfio-pci/unbind"), "0000:01:00.0");
}

TEST_F(HostInit, devices_that_are_there_already_or_share_with_their_kernel_driver_are_left_alone) {
  write("/sys/bus/pci/drivers/vfio-pci/unbind", "");
  add_device("0000:01:00.0", "vfio-pci");
  add_device("0000:02:00.0", "mlx5_core");
  for (const HostStep& step : plan()) EXPECT_EQ(step.why.find("port "), std::string::npos) << step.why;
  config_.ports[0].device = "0000:09:00.0";
  EXPECT_EQ(plan_host(config_, host_).error().code, ErrorCode::kNotFound);
}

TEST_F(HostInit, a_step_that_fails_half_way_is_taken_back) {
  write("/sys/bus/pci/drivers/vfio-pci/unbind", "");
  add_device("0000:01:00.0", "ixgbe");
  const HostStep step = plan().back();
  std::filesystem::remove_all(host_.root + "/sys/bus/pci/drivers/ixgbe");
  const auto applied = apply(step, host_);
  ASSERT_FALSE(applied);
  EXPECT_NE(applied.error().message.find("echo 0000:01:00.0 > /sys/bus/pci/drivers/ixgbe/unbind"), std::string::npos) << applied.error().message;
  EXPECT_EQ(read("/sys/bus/pci/devices/0000:01:00.0/driver_override"), "");
}

// A file of the kernel that keeps only the first 15 bytes of what it is told: this thread's name.
TEST_F(HostInit, a_value_that_the_kernel_does_not_take_as_it_is_is_an_error_and_taken_back) {
  const Host real;
  std::ifstream in{"/proc/thread-self/comm"};
  std::string before;
  std::getline(in, before);
  const HostStep step{"a long name", {{"/proc/thread-self/comm", "longer than the kernel keeps"}}, {{"/proc/thread-self/comm", before}}};
  const auto applied = apply(step, real);
  ASSERT_FALSE(applied);
  EXPECT_EQ(applied.error().code, ErrorCode::kNoSpace);
  EXPECT_NE(applied.error().message.find("the kernel made it longer than the"), std::string::npos) << applied.error().message;
  std::ifstream again{"/proc/thread-self/comm"};
  std::string after;
  std::getline(again, after);
  EXPECT_EQ(after, before);
}

TEST_F(HostInit, what_was_done_is_remembered_until_it_is_undone) {
  EXPECT_TRUE(load_steps(host_)->empty());
  const auto steps = plan();
  ASSERT_TRUE(save_steps(steps, host_));
  const auto loaded = load_steps(host_);
  ASSERT_TRUE(loaded);
  ASSERT_EQ(loaded->size(), steps.size());
  EXPECT_EQ(loaded->front().why, steps.front().why);
  EXPECT_EQ(loaded->front().writes.at(0).command(), steps.front().writes.at(0).command());
  EXPECT_EQ(loaded->back().undo.at(0).command(), steps.back().undo.at(0).command());
  write("/run/thalweg-host-init.json", "{\"no\": [1]}");
  EXPECT_FALSE(load_steps(host_));
  write("/run/thalweg-host-init.json", "nonsense");
  EXPECT_FALSE(load_steps(host_));
  forget_steps(host_);
  EXPECT_TRUE(load_steps(host_)->empty());
}

// The verbs, on files that are no machine's.
class HostVerbs : public HostInit {
 protected:
  test::Outcome host_verb(const std::string& verb, std::vector<std::string> arguments = {"--yes"}) const {
    arguments.insert(arguments.begin(), {"host", verb, "--json", "--root", host_.root});
    if (verb == "init") arguments.insert(arguments.end(), {"--set", "dataplane.hugepages=off"});
    return test::thalweg(arguments);
  }
  // Everything that a machine's files say.
  std::map<std::string, std::string> files() const {
    std::map<std::string, std::string> all;
    for (const auto& entry : std::filesystem::recursive_directory_iterator{host_.root}) {
      if (entry.is_regular_file()) all[entry.path().string()] = read(entry.path().string().substr(host_.root.size()));
    }
    return all;
  }
};

TEST_F(HostVerbs, init_changes_undo_restores_and_neither_does_anything_twice) {
  const auto before = files();
  const test::Outcome first = host_verb("init");
  ASSERT_EQ(first.exit, 0) << first.err;
  const auto taken = first.json();
  ASSERT_FALSE(taken["steps"].empty());
  for (const auto& step : taken["steps"]) EXPECT_EQ(step["result"], "done");
  const auto changed = files();
  EXPECT_EQ(read(kThp), "madvise");
  const test::Outcome again = host_verb("init");
  EXPECT_EQ(again.exit, 0) << again.err;
  EXPECT_TRUE(again.json()["steps"].empty()) << again.out;
  EXPECT_EQ(files(), changed);
  const test::Outcome back = host_verb("undo");
  EXPECT_EQ(back.exit, 0) << back.err;
  EXPECT_EQ(back.json()["steps"].size(), first.json()["steps"].size());
  write(kThp, "[always] madvise never");  // a kernel would say it this way
  EXPECT_EQ(files(), before);
  EXPECT_TRUE(host_verb("undo").json()["steps"].empty());
  EXPECT_EQ(files(), before);
}

TEST_F(HostVerbs, a_dry_run_of_either_changes_nothing) {
  const auto before = files();
  EXPECT_FALSE(host_verb("init", {"--dry-run"}).json()["steps"].empty());
  EXPECT_EQ(files(), before);
  ASSERT_EQ(host_verb("init").exit, 0);
  const auto changed = files();
  EXPECT_FALSE(host_verb("undo", {"--dry-run"}).json()["steps"].empty());
  EXPECT_EQ(files(), changed);
}

TEST_F(HostVerbs, where_nothing_can_be_remembered_nothing_is_changed) {
  const auto before = files();
  std::filesystem::remove_all(host_.root + "/run");
  EXPECT_EQ(host_verb("init").exit, 1);
  EXPECT_EQ(files(), before);
}

TEST(HostVerbsHere, init_prints_its_commands_and_wants_a_yes_where_nobody_can_answer) {
  const test::Outcome dry = test::thalweg({"host", "init", "--dry-run", "--json"});
  EXPECT_EQ(dry.exit, 0) << dry.err;
  EXPECT_TRUE(dry.json()["steps"].is_array());
  const test::Outcome wet = test::thalweg({"host", "init", "--set", "streams.socket-rcvbuf=1GiB", "--set", "streams.receiver-window=1MiB"});
  EXPECT_NE(wet.exit, 0);
  EXPECT_TRUE(wet.err.find("--yes") != std::string::npos || wet.err.find("root") != std::string::npos) << wet.err;
}

}  // namespace
}  // namespace thalweg::cli
