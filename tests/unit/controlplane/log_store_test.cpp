// Log buffers: pooled, made on demand, released, and what happens when there is no memory for them (design section 3).
#include <fmt/format.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "tests/unit/controlplane/fixture.hpp"

namespace thalweg::conductor::testing {
namespace {

namespace fs = std::filesystem;

using shm::ClientError;
using shm::Response;

class Logs : public ConductorTest {
 protected:
  std::size_t files_in(const char* folder) {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator{settings.directory + "/" + folder}, {}));
  }
  // Turns the conductor without its worker: what slow work would have to wait for.
  void run_without_worker() {
    for (int i = 0; i < 10; ++i) {
      conductor->poll(now);
      data_plane->step();
    }
  }
};

TEST_F(Logs, a_pool_hit_needs_no_slow_work_and_the_pool_fills_up_again) {
  log_options.pool = {{64 << 10, 2}};
  start();
  EXPECT_EQ(files_in("pool"), 2U);
  shm::AddPublication command;
  command.client_id = kClient;
  command.correlation_id = next_id();
  command.channel = "aeron:ipc";
  now.now_ns += kMillisecond_ns;   // long idle
  send(shm::Command::kAddPublication, command);
  run_without_worker();
  EXPECT_EQ(files_in("publications"), 1U);
  EXPECT_EQ(files_in("pool"), 1U);
  run();
  EXPECT_EQ(response_types(), (std::vector<std::int32_t>{0x0F08, 0x0F03}));
  EXPECT_EQ(files_in("pool"), 1U) << "not while the worker would take a CPU from whoever waits for an answer";
  advance(200 * kMicrosecond_ns);
  EXPECT_EQ(files_in("pool"), 2U);
}

TEST_F(Logs, a_size_that_is_not_pooled_is_made_by_the_worker) {
  log_options.pool = {{64 << 10, 1}};
  start();
  add_publication("aeron:ipc?term-length=128k");
  EXPECT_EQ(response_types(), (std::vector<std::int32_t>{0x0F08, 0x0F03}));
  EXPECT_EQ(files_in("pool"), 1U);
}

TEST_F(Logs, a_log_from_the_pool_is_clean_and_has_the_stream_s_metadata) {
  log_options.pool = {{64 << 10, 1}};
  start();
  for (int i = 0; i < 3; ++i) {
    const std::int64_t id = add_publication("aeron:ipc?session-id=" + std::to_string(100 + i), 10 + i);
    skip_all();
    auto file = shm::MappedFile::open(settings.directory + "/publications/" + std::to_string(id) + ".logbuffer", shm::MappedFile::Access::kReadWrite);
    ASSERT_TRUE(file);
    for (std::size_t at = 0; at < 3U * (64U << 10); at += 4096) ASSERT_EQ(load_le<std::int64_t>(file->data() + at), 0);
    EXPECT_EQ(load_le<std::int64_t>(file->data() + file->length() - shm::kLogMetadataLength + shm::meta::kCorrelationId), id);
    std::memset(file->data(), 0x55, 4096);  // a stream was here
    remove_publication(id);
    data_plane->finish_publication(world().publications.used().front());
    run();
    skip_all();
  }
  EXPECT_EQ(files_in("publications"), 0U);
}

TEST_F(Logs, a_large_log_lets_smaller_ones_overtake_it) {
  start();
  const auto add = [this](std::int64_t client, const std::string& channel, std::int32_t stream_id) {
    shm::AddPublication command;
    command.stream_id = stream_id;
    command.client_id = client;
    command.correlation_id = next_id();
    command.channel = channel;
    send(shm::Command::kAddPublication, command);
  };
  add(kClient, "aeron:ipc?sparse=false|term-length=128m", 1);
  add(kOther, "aeron:ipc?term-length=64k", 2);
  run_without_worker();
  ASSERT_EQ(world().logs.used().size(), 2U);
  for (int steps = 0; steps < 2; ++steps) {  // one of the large, the small
    ASSERT_TRUE(worker->run_one());
    run_without_worker();
  }
  std::map<std::int32_t, host::LogStatus> status;
  for (const std::uint32_t publication : world().publications.used()) {
    const auto& wanted = world().publications.slot(publication).desired;
    status[wanted.stream_id] = world().logs.status(wanted.log);
  }
  EXPECT_EQ(status[1], host::LogStatus::kCreating);
  EXPECT_EQ(status[2], host::LogStatus::kReady);
  run();
  struct stat file {};
  for (const auto& entry : fs::directory_iterator{settings.directory + "/publications"}) {
    ASSERT_EQ(::stat(entry.path().c_str(), &file), 0);
    EXPECT_GE(file.st_blocks * 512, file.st_size) << "all of it is allocated";
  }
}

TEST_F(Logs, a_sparse_log_is_told_to_the_steward) {
  start();
  add_publication("aeron:ipc?sparse=true|term-length=8m");
  const std::uint32_t first = world().logs.used().front();
  EXPECT_EQ(registry().logs[first].desired.is_sparse, 1U);
  struct stat file {};
  ASSERT_EQ(::stat(world().logs.path(first).c_str(), &file), 0);
  EXPECT_EQ(file.st_blocks * 512, (8 << 20) + 2 * 4'096) << "its first partition, the page behind it, the metadata";
  add_publication("aeron:ipc?sparse=false|term-length=8m|session-id=7", 11);
  add_publication("aeron:ipc?sparse=true|term-length=4m|session-id=8", 12);
  const auto& logs = world().logs.used();
  EXPECT_EQ(std::count_if(logs.begin(), logs.end(), [this](std::uint32_t log) { return registry().logs[log].desired.is_sparse == 0; }), 2);
}

TEST_F(Logs, a_publication_dropped_while_its_log_is_made_leaves_no_file) {
  start();
  shm::AddPublication command;
  command.client_id = kClient;
  command.correlation_id = next_id();
  command.channel = "aeron:ipc";
  send(shm::Command::kAddPublication, command);
  run_without_worker();
  EXPECT_EQ(world().logs.used().size(), 1U);
  conductor->poll(now);
  static_cast<void>(worker->run_one());  // the file is there, the conductor has not heard of it
  run();
  const std::uint32_t index = world().publications.used().front();
  remove_publication(command.correlation_id);
  data_plane->finish_publication(index);
  run();
  EXPECT_EQ(files_in("publications"), 0U);
  EXPECT_TRUE(world().logs.used().empty());
}

TEST_F(Logs, a_log_that_the_steward_cannot_map_fails_its_publication_only) {
  start();
  data_plane->answers_logs = false;
  data_plane->answers_publications = false;
  const std::int64_t id = add_publication("aeron:ipc");
  auto& log = registry().logs[world().logs.used().front()];
  log.observed.generation = log.desired.generation;
  std::snprintf(log.observed.error.text, sizeof log.observed.error.text, "no room to map it");
  log.observed.state.store(shm::Observed::kFailed);
  registry().header.steward_to_control.ring({shm::SlotKind::kLog, world().logs.used().front()});
  data_plane->answers_logs = true;
  data_plane->answers_publications = true;
  run();
  const auto error = expect<shm::OnError>(Response::kError);
  EXPECT_EQ(error.offending_correlation_id, id);
  EXPECT_EQ(error.text, "no room to map it");
  const std::vector<std::uint32_t> left = world().publications.used();
  for (const std::uint32_t index : left) data_plane->finish_publication(index);
  run();
  EXPECT_TRUE(world().publications.used().empty());
  EXPECT_TRUE(world().logs.used().empty());
}

// In a child with a mount namespace of its own: a tmpfs that has room for the instance's files and little more.
class SmallFileSystem : public Logs {
 protected:
  template <typename Body>
  void with_room_for(const char* size, Body&& body) {
    fs::create_directory(settings.directory);
    std::fflush(nullptr);
    const pid_t child = ::fork();
    if (child == 0) {
      const int spaces = CLONE_NEWNS | (::geteuid() == 0 ? 0 : CLONE_NEWUSER);
      const bool is_ready = ::unshare(spaces) == 0 && ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                            ::mount("tmpfs", settings.directory.c_str(), "tmpfs", 0, size) == 0;
      if (!is_ready) ::_exit(kNotAllowed);
      body();
      std::fflush(nullptr);
      ::_exit(HasFailure() ? 1 : 0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    if (WEXITSTATUS(status) == kNotAllowed) GTEST_SKIP() << "no mount namespaces here";
    EXPECT_EQ(WEXITSTATUS(status), 0);
  }
  static constexpr int kNotAllowed = 77;
};

TEST_F(SmallFileSystem, when_there_is_no_space_the_error_says_how_much_is_needed) {
  with_room_for("size=96m", [&] {
    start();
    const std::int64_t id = add_publication("aeron:ipc?term-length=16m");
    const auto error = expect_error(id, ClientError::kStorageSpace);
    EXPECT_NE(error.text.find(fmt::format("insufficient usable storage for new log of length={}", shm::log_file_length(16 << 20, 4096))), std::string::npos) << error.text;
    EXPECT_EQ(files_in("publications"), 0U);
    EXPECT_TRUE(labels().empty());
    EXPECT_TRUE(world().logs.used().empty());
    add_publication("aeron:ipc");
    EXPECT_EQ(response_types(), (std::vector<std::int32_t>{0x0F08, 0x0F03})) << "smaller ones still fit";
  });
}

TEST_F(SmallFileSystem, a_pool_that_does_not_fit_is_a_warning_and_streams_go_on) {
  with_room_for("size=96m", [&] {
    log_options.pool = {{16 << 20, 2}};
    start();
    const auto warning = conductor->take_warning();
    EXPECT_NE(warning.value_or("").find("log pool: insufficient usable storage"), std::string::npos) << warning.value_or("none");
    add_publication("aeron:ipc");
    EXPECT_EQ(response_types(), (std::vector<std::int32_t>{0x0F08, 0x0F03}));
  });
}

TEST_F(SmallFileSystem, a_pool_that_can_never_fit_is_tried_once_and_told_once) {
  with_room_for("size=160m", [&] {
    log_options.pool = {{16 << 20, 1000}};
    start();
    EXPECT_TRUE(conductor->take_warning());
    EXPECT_LT(world().logs.used().size(), 8U) << "the whole pool was asked for";
    for (int i = 0; i < 10; ++i) {
      const std::int64_t id = add_publication("aeron:ipc");
      remove_publication(id);
      advance(kSecond_ns);
      EXPECT_FALSE(conductor->take_warning()) << "told again";
    }
  });
}

TEST_F(SmallFileSystem, a_pool_beyond_the_file_system_is_an_error_at_start_that_says_how_much) {
  with_room_for("size=200m", [&] {
    instance.pool_bytes = 1ULL << 30;
    const auto files = host::InstanceFiles::open(instance, now.now_ms, now.now_ns);
    ASSERT_FALSE(files);
    EXPECT_EQ(files.error().code, ErrorCode::kNoSpace);
    EXPECT_NE(files.error().message.find("1024 MiB of it for memory.pool"), std::string::npos) << files.error().message;
    EXPECT_NE(files.error().hint.find("remount"), std::string::npos) << files.error().hint;
  });
}

TEST(Memory, that_the_machine_needs_itself_is_not_given_to_logs) {
  const std::string text = "MemTotal:       16000 kB\nMemFree:   1 kB\nMemAvailable:    5000 kB\n";
  EXPECT_EQ(host::allocatable_memory(text), 4000ULL << 10);
  EXPECT_EQ(host::allocatable_memory("MemTotal: 16000 kB\nMemAvailable: 10 kB\n"), 0U);
  EXPECT_FALSE(host::allocatable_memory("MemTotal: 16000 kB\n"));
}

TEST_F(SmallFileSystem, an_instance_that_does_not_fit_is_an_error_that_says_so) {
  with_room_for("size=8m", [&] {
    const auto files = host::InstanceFiles::open(instance, now.now_ms, now.now_ns);
    ASSERT_FALSE(files);
    EXPECT_EQ(files.error().code, ErrorCode::kNoSpace) << files.error().message;
    EXPECT_FALSE(files.error().hint.empty()) << files.error().message;
  });
}

TEST_F(Logs, large_logs_lie_on_huge_pages_and_keep_their_place_over_a_restart) {
  TempDirectory mount;  // stands in for a hugetlbfs mount: it only has to hold files of whole huge pages
  log_options.hugetlbfs = mount.path();
  log_options.pool = {{4 << 20, 1}};
  start();
  std::int32_t stream_id = 10;
  const auto publish = [&] {
    add_publication("aeron:ipc?term-length=4m", stream_id++);
    if (stream_id == 11) expect<shm::OnCounter>(Response::kCounterReady);
    return std::string{expect<shm::OnPublicationReady>(Response::kPublicationReady).log_path};
  };
  const std::string first = publish();
  EXPECT_EQ(first.substr(0, mount.path().size()), mount.path());
  EXPECT_EQ(fs::file_size(first) % (2U << 20), 0U);
  const auto identity = [](const std::string& path) {
    struct stat status {};
    EXPECT_EQ(::stat(path.c_str(), &status), 0);
    return status.st_ino;
  };
  const auto inode = identity(first);
  crash_and_restart();
  std::set<std::string> paths{first};
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(paths.insert(publish()).second) << "a name was given twice";
  EXPECT_EQ(identity(first), inode) << "a living log was replaced";
  conductor->close(now);
  EXPECT_TRUE(fs::is_empty(mount.path()));
}

// What a flood of forged SETUPs may cost (design, section 9).
// proves 7/21
TEST_F(Logs, images_stop_at_their_limit_and_streams_of_this_machine_go_on) {
  constexpr std::int32_t kTermLength = 64 << 10;
  log_options.image_limit_bytes = 3 * shm::log_file_length(kTermLength, shm::kDefaultPageSize);
  start();
  add_subscription("aeron:udp?endpoint=127.0.0.1:24325", 7);
  std::uint32_t endpoint = 0;
  for (const std::uint32_t index : world().endpoints.used()) {
    if (registry().endpoints[index].desired.kind == shm::EndpointKind::kReceive) endpoint = index;
  }
  for (std::int32_t session = 0; session < 20; ++session) {
    data_plane->request_image(endpoint, 7, 1000 + session);
    run();
  }
  EXPECT_EQ(world().images.used().size(), 3U);
  EXPECT_EQ(files_in("images"), 3U);
  skip_all();
  add_publication("aeron:ipc");
  EXPECT_EQ(response_types(), (std::vector<std::int32_t>{0x0F03}));
  // One goes, and there is room for one again.
  data_plane->finish_image(world().images.used().front());
  run();
  data_plane->request_image(endpoint, 7, 2000);
  run();
  EXPECT_EQ(world().images.used().size(), 3U);
  crash_and_restart();
  data_plane->request_image(endpoint, 7, 3000);
  run();
  EXPECT_EQ(world().images.used().size(), 3U) << "a restart forgot what there was";
}

TEST_F(Logs, low_space_is_a_warning) {
  log_options.low_storage_warning_bytes = ~0ULL;
  start();
  add_publication("aeron:ipc");
  const auto warning = conductor->take_warning();
  ASSERT_TRUE(warning);
  EXPECT_NE(warning->find("space is running low"), std::string::npos);
  EXPECT_FALSE(conductor->take_warning());
}

}  // namespace
}  // namespace thalweg::conductor::testing
