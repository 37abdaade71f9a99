// Logs that take long to populate hold nobody up, and sparse ones are left alone (design, section 3).
#include <fstream>

#include "tests/component/stream_fixture.hpp"

namespace thalweg::test {
namespace {

class LargeLogs : public StreamTest {
 protected:
  static constexpr std::int32_t kLargeTerm = 32 << 20;
  void SetUp() override { make_nodes(); }
  // An IPC publication with terms of that length; nobody has looked at it yet.
  std::uint32_t add(std::int32_t term_length, std::int32_t stream_id, bool is_sparse) {
    const std::uint32_t index = control().add_publication({.stream_id = stream_id, .term_length = term_length, .is_ipc = true});
    log_of(index).desired.is_sparse = is_sparse ? 1 : 0;
    return index;
  }
  FakeControl& control() { return nodes->a.control; }
  shm::LogSlot& log_of(std::uint32_t index) { return control().registry().logs[control().registry().publications[index].desired.log]; }
  bool is_active(std::uint32_t index) { return control().registry().publications[index].observed.ObservedHead::state.load() == shm::Observed::kActive; }
  // How much of the log the data plane's mapping has in memory: the application's has next to nothing.
  std::uint64_t resident_bytes(std::uint32_t index) {
    const auto& wanted = log_of(index).desired;
    const std::string path = shm::log_path(control().directory(), wanted.use, wanted.id);
    std::ifstream maps{"/proc/self/smaps"};
    std::uint64_t most = 0;
    bool is_this = false;
    for (std::string line; std::getline(maps, line);) {
      if (line.find('-') != std::string::npos && line.find("kB") == std::string::npos) is_this = line.find(path) != std::string::npos;
      if (is_this && line.rfind("Rss:", 0) == 0) most = std::max<std::uint64_t>(most, std::stoull(line.substr(4)) << 10);
    }
    return most;
  }
};

TEST_F(LargeLogs, one_is_used_at_once_and_filled_when_nobody_waits_for_anything) {
  const std::uint32_t large = add(kLargeTerm, 1, false);
  const std::uint32_t small = add(64 << 10, 2, false);
  ASSERT_TRUE(run_until([&] { return is_active(large) && is_active(small); }));
  EXPECT_LT(resident_bytes(large), log_of(large).desired.file_length / 2);
  EXPECT_EQ(resident_bytes(small), log_of(small).desired.file_length);
  EXPECT_TRUE(run_until([&] { return resident_bytes(large) == log_of(large).desired.file_length; }));
}

TEST_F(LargeLogs, a_sparse_one_is_not_touched_before_it_is_used) {
  const std::uint32_t sparse = add(kLargeTerm, 1, true);
  const std::uint32_t full = add(kLargeTerm, 2, false);
  ASSERT_TRUE(run_until([&] { return is_active(sparse) && resident_bytes(full) == log_of(full).desired.file_length; }));
  EXPECT_LE(resident_bytes(sparse), 4U << 20);
}

TEST_F(LargeLogs, one_of_the_pool_is_there_when_it_is_complete) {
  const std::uint32_t large = add(kLargeTerm, 1, false);
  shm::LogSlot& log = log_of(large);
  const auto& wanted = log.desired;
  const std::string path = shm::log_path(control().directory(), shm::LogUse::kPool, wanted.id);
  ASSERT_EQ(std::rename(shm::log_path(control().directory(), wanted.use, wanted.id).c_str(), path.c_str()), 0);
  log.desired.use = shm::LogUse::kPool;
  control().registry().publications[large].desired.state.store(shm::Desired::kFree);
  ASSERT_TRUE(run_until([&] { return log.observed.state.load() == shm::Observed::kActive; }));
  EXPECT_EQ(resident_bytes(large), wanted.file_length);
}

TEST_F(LargeLogs, one_is_unmapped_in_steps) {
  const std::uint32_t large = add(kLargeTerm, 1, false);
  shm::LogSlot& log = log_of(large);
  ASSERT_TRUE(run_until([&] { return is_active(large) && resident_bytes(large) == log.desired.file_length; }));
  control().close_publication(large);
  ASSERT_TRUE(run_until([&] { return nodes->a.plane->lane(0).publication_count() == 0; }, 60 * kSecond_ns));
  log.desired.state.store(shm::Desired::kClosing);
  control().ask_for_rescan();
  nodes->a.plane->step(nodes->now_ns);
  EXPECT_NE(log.observed.state.load(), shm::Observed::kDone) << "it goes in the background";
  EXPECT_TRUE(run_until([&] { return log.observed.state.load() == shm::Observed::kDone; }));
  EXPECT_EQ(nodes->a.plane->steward().mapped_log_count(), 0U);
}

}  // namespace
}  // namespace thalweg::test
