// Logs that take long to populate hold nobody up, and sparse ones get their memory when it is needed (design, section 3).
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <fstream>

#include "dataplane/shm/commands.hpp"
#include "tests/component/stream_fixture.hpp"

namespace thalweg::test {
namespace {

class LargeLogs : public StreamTest {
 protected:
  static constexpr std::int32_t kLargeTerm = 32 << 20;
  void SetUp() override { make_nodes(); }
  // An IPC publication with terms of that length; nobody has looked at it yet.
  std::uint32_t add(std::int32_t term_length, std::int32_t stream_id) {
    return control().add_publication({.stream_id = stream_id, .term_length = term_length, .is_ipc = true});
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
  const std::uint32_t large = add(kLargeTerm, 1);
  const std::uint32_t small = add(64 << 10, 2);
  ASSERT_TRUE(run_until([&] { return is_active(large) && is_active(small); }));
  EXPECT_LT(resident_bytes(large), log_of(large).desired.file_length / 2);
  EXPECT_EQ(resident_bytes(small), log_of(small).desired.file_length);
  EXPECT_TRUE(run_until([&] { return resident_bytes(large) == log_of(large).desired.file_length; }));
}

TEST_F(LargeLogs, one_of_the_pool_is_there_when_it_is_complete) {
  const std::uint32_t large = add(kLargeTerm, 1);
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
  const std::uint32_t large = add(kLargeTerm, 1);
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

// ---- sparse logs ----

constexpr std::int64_t kTerm = 64 << 10;

class SparseLogs : public StreamTest {
 protected:
  void SetUp() override {
    make_nodes();
    nodes->a.control.is_sparse = nodes->b.control.is_sparse = true;
  }
  // Partitions that have all their memory.
  static std::int64_t partitions(FakeControl& control, std::uint32_t log) {
    const auto& wanted = control.registry().logs[log].desired;
    struct stat file {};
    EXPECT_EQ(::stat(shm::log_path(control.directory(), wanted.use, wanted.id).c_str(), &file), 0);
    return file.st_blocks * 512 / kTerm;
  }
  std::int64_t sent_partitions() { return partitions(nodes->a.control, nodes->a.control.registry().publications[publication].desired.log); }
  std::int64_t received_partitions() {
    return partitions(nodes->b.control, nodes->b.control.registry().images[nodes->b.control.images().front()].desired.log);
  }
  // A message of 1 KiB at a time until the stream has come this far, or stands still.
  void send_up_to(std::int64_t position) {
    const std::string message(1'000, 'x');
    run_until([&] {
      while (sender().producer_position < position && publisher().offer(bytes(message))) nodes->a.step(nodes->now_ns);
      subscriber().poll();
      return receiver().rebuild_position >= position;
    }, 100 * kMillisecond_ns);
  }
};

TEST_F(SparseLogs, get_a_partition_when_the_stream_comes_near_it) {
  connect();
  EXPECT_EQ(sent_partitions(), 1);
  EXPECT_EQ(received_partitions(), 1);
  send_up_to(kTerm / 2);
  EXPECT_EQ(sent_partitions(), 2) << "before the limit may enter it";
  EXPECT_EQ(received_partitions(), 2);
  send_up_to(kTerm + kTerm / 2);
  EXPECT_EQ(sent_partitions(), 3);
  EXPECT_EQ(received_partitions(), 3);
  expect_transfer(make_messages(1'000, 0, 3'000), 5 * kSecond_ns);
  EXPECT_FALSE(nodes->a.plane->steward().is_watching_logs());
  nodes->a.control.close_publication(publication);
  run_for(10 * kMillisecond_ns);
  EXPECT_FALSE(nodes->a.plane->steward().is_watching_logs()) << "what is complete stays so";
}

TEST_F(SparseLogs, of_a_stream_that_starts_elsewhere_begin_there) {
  connect({.start_position = 5 * kTerm + 4'096});
  EXPECT_EQ(sent_partitions(), 1);
  expect_transfer(make_messages(1'000, 0, 3'000), 5 * kSecond_ns);
}

TEST_F(SparseLogs, grow_on_after_a_restart_of_the_data_plane) {
  connect();
  send_up_to(kTerm / 2);
  nodes->restart(nodes->a);
  nodes->restart(nodes->b);
  expect_transfer(make_messages(1'000, 0, 3'000), 20 * kSecond_ns);
}

TEST_F(SparseLogs, of_ipc_streams_grow_too) {
  publication = nodes->a.control.add_publication({.is_ipc = true});
  Subscriber& reader = nodes->a.control.subscriber(nodes->a.control.add_ipc_subscriber(publication));
  ASSERT_TRUE(run_until([this] { return sender().is_connected != 0 && sender().publisher_limit > 0; }));
  const auto messages = make_messages(1'000, 0, 3'000);
  std::size_t offered = 0;
  ASSERT_TRUE(run_until([&] {
    while (offered < messages.size() && publisher().offer(bytes(messages[offered]))) ++offered;
    reader.poll();
    return reader.messages().size() == messages.size();
  }, 5 * kSecond_ns));
  EXPECT_EQ(reader.messages(), messages);
  EXPECT_EQ(sent_partitions(), 3);
}

// In a file system that has room for the first partition and not for the second.
TEST_F(SparseLogs, without_memory_the_stream_waits_and_says_so) {
  const std::string logs = nodes->a.control.directory() + "/publications";
  const int spaces = CLONE_NEWNS | (::geteuid() == 0 ? 0 : CLONE_NEWUSER);
  const bool is_allowed = ::unshare(spaces) == 0 && ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                          ::mount("tmpfs", logs.c_str(), "tmpfs", 0, "size=100k") == 0;
  if (!is_allowed) GTEST_SKIP() << "no mount namespaces here";
  connect();
  send_up_to(2 * kTerm);
  EXPECT_LE(sender().producer_position, kTerm);
  EXPECT_EQ(sender().publisher_limit, kTerm) << "back-pressure at the end of what there is";
  const shm::SlotError& error = nodes->a.control.registry().logs[nodes->a.control.registry().publications[publication].desired.log].observed.error;
  EXPECT_EQ(error.code, static_cast<std::int32_t>(shm::ClientError::kStorageSpace));
  EXPECT_NE(std::string_view{error.text}.find("waits for memory for its log"), std::string_view::npos) << error.text;
  ASSERT_EQ(::mount("tmpfs", logs.c_str(), "tmpfs", MS_REMOUNT, "size=1m"), 0);
  run_for(2 * kSecond_ns);
  expect_transfer(make_messages(500, 0, 3'000), 5 * kSecond_ns);
  EXPECT_EQ(error.code, 0);
  ::umount2(logs.c_str(), MNT_DETACH);
}

}  // namespace
}  // namespace thalweg::test
