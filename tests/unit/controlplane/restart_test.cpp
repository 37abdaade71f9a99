// A control plane that starts where another one was: taking over, refusing, cleaning up (design section 1; client-protocol 1.3, 1.4, 1.7).
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "controlplane/api/control_client.hpp"
#include "controlplane/api/control_server.hpp"
#include "controlplane/conductor/control_verbs.hpp"
#include "tests/unit/controlplane/fixture.hpp"

namespace thalweg::conductor::testing {
namespace {

namespace fs = std::filesystem;

using shm::ClientError;
using shm::Command;
using shm::Response;

const std::string kUdp = "aeron:udp?endpoint=127.0.0.1:24325";

class Restart : public ConductorTest {
 protected:
  void SetUp() override { start(); }
};

TEST_F(Restart, everything_registered_is_taken_up_as_it_was) {
  const std::int64_t publication = add_publication(kUdp);
  add_publication("aeron:ipc", 40);
  const std::int64_t subscription = add_subscription(kUdp);
  add_subscription("aeron:ipc", 40);
  const std::int64_t counter = add_counter(1101, "orders");
  for (const std::uint32_t index : world().endpoints.used()) {
    if (registry().endpoints[index].desired.kind == shm::EndpointKind::kReceive) data_plane->request_image(index, 10, 7);
  }
  run();
  const auto before = labels();
  const std::int64_t heartbeat = ring().consumer_heartbeat();
  skip_all();
  crash_and_restart();
  EXPECT_TRUE(files().is_attached);
  EXPECT_TRUE(conductor->is_ready());
  EXPECT_EQ(labels(), before);
  EXPECT_EQ(ring().consumer_heartbeat(), heartbeat);
  EXPECT_EQ(response_types(), std::vector<std::int32_t>{}) << "clients notice nothing";
  // What was registered is known: shared again, removable, matched.
  const std::int64_t again = add_publication(kUdp);
  const auto ready = expect<shm::OnPublicationReady>(Response::kPublicationReady);
  EXPECT_EQ(ready.correlation_id, again);
  EXPECT_EQ(ready.original_registration_id, publication);
  remove_subscription(subscription);
  expect<shm::OnOperationSuccess>(Response::kOperationSuccess);
  shm::RemoveRegistration remove;
  remove.client_id = kClient;
  remove.correlation_id = next_id();
  remove.registration_id = counter;
  send(Command::kRemoveCounter, remove);
  run();
  EXPECT_EQ(response_types(), (std::vector<std::int32_t>{0x0F04, 0x0F09}));
}

TEST_F(Restart, a_command_that_waited_is_finished_by_the_successor) {
  data_plane->answers_publications = false;
  const std::int64_t id = add_publication("aeron:ipc");
  const std::int64_t behind = add_counter(1101, "behind it");
  expect_nothing();
  crash_and_restart();
  for (const std::uint32_t index : world().publications.used()) registry().header.control_to_steward.ring({shm::SlotKind::kPublication, index});
  run();
  expect<shm::OnCounter>(Response::kCounterReady);
  EXPECT_EQ(expect<shm::OnPublicationReady>(Response::kPublicationReady).correlation_id, id);
  EXPECT_EQ(expect<shm::OnCounter>(Response::kCounterReady).correlation_id, behind);
  expect_nothing();
  EXPECT_EQ(world().publications.used().size(), 1U);
}

TEST_F(Restart, an_image_whose_log_was_being_made_is_asked_for_again) {
  add_subscription(kUdp);
  skip_all();
  data_plane->request_image(world().endpoints.used().front(), 10, 7);
  conductor->poll(now);  // the image waits for its log, which only the worker can make
  EXPECT_EQ(world().images.used().size(), 1U);
  crash_and_restart();
  EXPECT_EQ(response_types(), (std::vector<std::int32_t>{0x0F02}));
  EXPECT_EQ(world().images.used().size(), 1U);
  EXPECT_EQ(labels().size(), 2U + 4U + 1U) << "channel, image with one position, client";
}

TEST_F(Restart, the_dead_client_of_a_dead_conductor_goes_too) {
  add_subscription("aeron:ipc");
  add_counter(1101, "orders");
  skip_all();
  crash_and_restart();
  for (int i = 0; i < 11; ++i) tick();
  EXPECT_EQ(response_types(), (std::vector<std::int32_t>{0x0F0A, 0x0F09, 0x0F09}));
  EXPECT_TRUE(labels().empty());
}

TEST_F(Restart, sums_of_lane_counters_do_not_count_twice) {
  registry().lanes[0].counters[static_cast<std::size_t>(shm::LaneCounter::kNaksSent)] = 5;
  advance(11 * kMillisecond_ns);
  crash_and_restart();
  advance(11 * kMillisecond_ns);
  EXPECT_EQ(system(shm::SystemCounter::kNaksSent), 5);
}

TEST_F(Restart, counters_and_logs_that_nobody_entered_are_removed) {
  add_publication("aeron:ipc");
  const auto before = labels();
  skip_all();
  ASSERT_GE(world().allocate_counter({.type_id = shm::counter_type::kPublisherLimit, .label = "pub-lmt: half made", .owner_id = kClient}), 0);
  std::ofstream{settings.directory + "/publications/4711.logbuffer"} << "half made";
  crash_and_restart();
  EXPECT_EQ(labels(), before);
  EXPECT_FALSE(fs::exists(settings.directory + "/publications/4711.logbuffer"));
  EXPECT_EQ(std::distance(fs::directory_iterator{settings.directory + "/publications"}, {}), 1);
}

// ---- an end that was asked for ----

TEST_F(Restart, a_termination_that_was_accepted_is_carried_out_by_the_successor) {
  add_publication("aeron:ipc");
  world().settings.is_termination_allowed = true;
  shm::TerminateDriver command;
  command.client_id = kClient;
  command.correlation_id = -1;
  send(Command::kTerminateDriver, command);
  run();
  ASSERT_TRUE(conductor->is_termination_requested());
  skip_all();
  crash_and_restart();
  EXPECT_TRUE(conductor->is_termination_requested()) << "though it is not allowed any more: it was when it was asked for";
}

TEST_F(Restart, a_control_plane_that_died_while_it_closed_has_a_successor_that_goes_on) {
  add_publication("aeron:ipc");
  registry().header.is_termination_accepted.store(1);
  ring().consumer_heartbeat(-1);  // as far as it came
  skip_all();
  conductor.reset();
  release_files();
  auto files = host::InstanceFiles::open(instance, now.now_ms, now.now_ns);
  ASSERT_TRUE(files) << files.error().message;
  EXPECT_TRUE(files->is_attached);
  close_instance(*files, settings.directory);
  EXPECT_TRUE(fs::is_empty(settings.directory + "/publications"));
  EXPECT_EQ(files->registry->header.control_plane.state.load(), shm::Observed::kDone);
  EXPECT_EQ(shm::ManyToOneRing{files->cnc.to_driver()}.consumer_heartbeat(), -1);
}

// Everybody was killed over it, and somebody starts the instance again before its clients gave it up: they asked for no end.
TEST_F(Restart, an_end_belongs_to_the_run_that_accepted_it) {
  instance.run = 4711;
  crash_and_restart();
  add_publication("aeron:ipc");
  world().settings.is_termination_allowed = true;
  shm::TerminateDriver command;
  command.client_id = kClient;
  command.correlation_id = -1;
  send(Command::kTerminateDriver, command);
  run();
  skip_all();
  const auto cnc = shm::CncFile::open(settings.directory, shm::MappedFile::Access::kReadWrite);  // as clients have it
  ASSERT_TRUE(cnc);
  registry().header.data_plane.pid.store(0);
  const auto restarted_by = [&](std::uint32_t run) {
    instance.run = run;
    crash_and_restart();
    return files().is_attached;
  };
  EXPECT_TRUE(restarted_by(4711));
  EXPECT_TRUE(conductor->is_termination_requested()) << "by the same supervisor: the end goes on";
  EXPECT_FALSE(restarted_by(4712));
  EXPECT_FALSE(conductor->is_termination_requested());
  EXPECT_EQ(shm::ManyToOneRing{cnc->to_driver()}.consumer_heartbeat(), -1) << "clients of the old run are told";
  EXPECT_TRUE(fs::is_empty(settings.directory + "/publications"));
}

// In a container whose first process collects nobody it stays so for ever.
TEST_F(Restart, a_data_plane_that_ended_and_was_not_collected_does_not_run) {
  const pid_t data_plane_pid = ::fork();
  ASSERT_GE(data_plane_pid, 0);
  if (data_plane_pid == 0) ::_exit(0);
  siginfo_t info{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(data_plane_pid), &info, WEXITED | WNOWAIT), 0);
  conductor->close(now);
  registry().header.data_plane.pid.store(static_cast<std::uint32_t>(data_plane_pid));
  crash_and_restart();
  EXPECT_FALSE(files().is_attached) << "a stopped instance, whose data plane has gone";
  ::waitpid(data_plane_pid, nullptr, 0);
}

TEST_F(Restart, the_mark_of_a_run_is_that_of_the_process_that_starts_others) {
  const std::uint32_t ours = host::run_of_this_process();
  EXPECT_EQ(host::run_of_this_process(), ours);
  EXPECT_GT(ours, host::kAnyRun);
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const std::uint32_t mark = host::run_of_this_process();
    ::_exit(::write(ends[1], &mark, sizeof mark) == sizeof mark ? 0 : 1);
  }
  std::uint32_t of_child = 0;
  ASSERT_EQ(::read(ends[0], &of_child, sizeof of_child), static_cast<ssize_t>(sizeof of_child));
  ::waitpid(child, nullptr, 0);
  ::close(ends[0]);
  ::close(ends[1]);
  EXPECT_NE(of_child, ours) << "what we start is another run than what our parent starts";
}

TEST_F(Restart, an_instance_that_was_closed_is_made_anew) {
  conductor->close(now);
  registry().header.data_plane.pid.store(0);
  skip_all();
  crash_and_restart();
  EXPECT_FALSE(files().is_attached);
  EXPECT_FALSE(conductor->is_termination_requested());
}

TEST_F(Restart, whoever_takes_over_says_of_which_release_it_is) {
  shm::set_release(registry().header.control_plane, "0.0.1");
  crash_and_restart();
  EXPECT_EQ(shm::release_of(registry().header.control_plane), THALWEG_VERSION);
}

TEST_F(Restart, twice_in_a_row_is_no_different) {
  const std::int64_t id = add_publication(kUdp);
  const auto before = labels();
  skip_all();
  for (int i = 0; i < 3; ++i) {
    crash_and_restart();
    advance(kSecond_ns);
  }
  EXPECT_EQ(labels(), before);
  EXPECT_EQ(registry().header.control_plane.starts.load(), 4U);
  remove_publication(id);
  expect<shm::OnOperationSuccess>(Response::kOperationSuccess);
}

// ---- directories that are not ours to take ----

class Directories : public ConductorTest {
 protected:
  Result<host::InstanceFiles> open() { return host::InstanceFiles::open(instance, now.now_ms, now.now_ns); }
};

TEST_F(Directories, one_that_a_running_control_plane_owns_is_refused_with_a_way_out) {
  start();
  const auto second = open();
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kInUse);
  EXPECT_NE(second.error().message.find(settings.directory), std::string::npos);
  EXPECT_NE(second.error().hint.find("instance.directory"), std::string::npos);
}

TEST_F(Directories, one_with_a_live_stock_driver_is_refused) {
  fs::create_directory(settings.directory);
  auto cnc = shm::CncFile::create(settings.directory, {}, ::getpid(), now.now_ms);
  ASSERT_TRUE(cnc) << cnc.error().message;
  cnc->mark_ready();
  shm::ManyToOneRing{cnc->to_driver()}.consumer_heartbeat(now.now_ms - 1000);
  const auto files = open();
  ASSERT_FALSE(files);
  EXPECT_EQ(files.error().code, ErrorCode::kInUse);
  EXPECT_NE(files.error().message.find("active media driver"), std::string::npos) << files.error().message;
  // Its heartbeat stops: eleven seconds later the directory is anybody's.
  now.now_ms += 11'000;
  const auto later = open();
  EXPECT_TRUE(later) << later.error().message;
}

TEST_F(Directories, one_that_was_left_behind_is_made_new_and_its_error_log_kept) {
  start();
  remove_subscription(4711);
  add_publication("aeron:ipc");
  const std::int64_t path_id = ring().next_correlation_id();
  registry().header.data_plane.pid.store(0);
  now.now_ms += 60'000;
  now.now_ns += 60 * kSecond_ns;
  skip_all();
  crash_and_restart();
  EXPECT_FALSE(files().is_attached);
  EXPECT_TRUE(labels().empty());
  EXPECT_TRUE(fs::is_empty(settings.directory + "/publications"));
  EXPECT_LT(ring().next_correlation_id(), path_id);
  ASSERT_FALSE(files().saved_error_log.empty());
  std::ifstream saved{files().saved_error_log};
  const std::string text{std::istreambuf_iterator<char>{saved}, {}};
  EXPECT_NE(text.find("registration_id=4711"), std::string::npos) << text;
  fs::remove(files().saved_error_log);
}

TEST_F(Directories, one_that_was_stopped_is_made_new_even_if_the_heartbeat_is_fresh) {
  start();
  add_counter(1101, "orders");
  conductor->close(now);
  registry().header.data_plane.pid.store(0);
  skip_all();
  crash_and_restart();
  EXPECT_FALSE(files().is_attached);
}

TEST_F(Directories, one_whose_data_plane_outlived_a_stop_is_refused_by_name) {
  start();
  conductor->close(now);  // and the data plane, this process, lives on
  conductor.reset();
  release_files();
  const auto files = open();
  ASSERT_FALSE(files);
  EXPECT_EQ(files.error().code, ErrorCode::kInUse);
  EXPECT_NE(files.error().message.find(std::to_string(::getpid())), std::string::npos);
}

TEST_F(Directories, garbage_in_the_files_is_an_error_or_a_fresh_start_but_no_crash) {
  instance.driver_timeout_ms = 20;  // how long a half-made cnc.dat is waited for
  for (const char* name : {"cnc.dat", "registry.dat", "loss-report.dat"}) {
    for (const std::size_t length : {0U, 4096U}) {
      fs::remove_all(settings.directory);
      fs::create_directory(settings.directory);
      std::ofstream{settings.directory + "/" + name, std::ios::binary} << std::string(length, '\x5A');
      const auto files = open();
      if (!files) {
        EXPECT_FALSE(files.error().message.empty());
      }
    }
  }
}

TEST_F(Directories, one_with_somebody_s_files_is_refused_and_not_a_byte_of_it_touched) {
  fs::create_directories(settings.directory + "/publications");
  std::ofstream{settings.directory + "/thesis.txt"} << "precious";
  std::ofstream{settings.directory + "/publications/paper.pdf"} << "precious too";
  fs::permissions(settings.directory, fs::perms::owner_all | fs::perms::others_read);
  const auto files = open();
  ASSERT_FALSE(files);
  EXPECT_NE(files.error().message.find("holds other files"), std::string::npos) << files.error().message;
  EXPECT_NE(files.error().hint.find("instance.directory"), std::string::npos);
  EXPECT_TRUE(fs::exists(settings.directory + "/thesis.txt"));
  EXPECT_TRUE(fs::exists(settings.directory + "/publications/paper.pdf"));
  EXPECT_FALSE(fs::exists(settings.directory + "/instance.lock"));
  EXPECT_NE(fs::status(settings.directory).permissions() & fs::perms::others_read, fs::perms::none) << "closed to others for nothing";
}

TEST_F(Directories, what_others_keep_beside_an_instance_survives_start_and_removal) {
  { ASSERT_TRUE(open()); }
  std::ofstream{settings.directory + "/notes.txt"} << "kept";
  instance.delete_on_start = true;
  { ASSERT_TRUE(open()); }
  EXPECT_TRUE(host::remove_instance_tree(settings.directory, true));
  EXPECT_TRUE(fs::exists(settings.directory + "/notes.txt"));
  EXPECT_FALSE(fs::exists(settings.directory + "/cnc.dat"));
  EXPECT_FALSE(fs::exists(settings.directory + "/instance.lock"));
}

TEST_F(Directories, a_directory_that_all_users_share_is_refused) {
  const auto before = fs::status("/dev/shm").permissions();
  instance.directory = "/dev/shm/";
  const auto files = open();
  ASSERT_FALSE(files);
  EXPECT_EQ(files.error().code, ErrorCode::kPermission);
  EXPECT_EQ(fs::status("/dev/shm").permissions(), before);
}

TEST_F(Directories, a_directory_of_another_user_is_refused) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a directory away";
  fs::create_directory(settings.directory);
  ASSERT_EQ(::chown(settings.directory.c_str(), 65534, 65534), 0);
  const auto files = open();
  ASSERT_FALSE(files);
  EXPECT_EQ(files.error().code, ErrorCode::kPermission);
  EXPECT_NE(files.error().message.find("belongs to user 65534"), std::string::npos) << files.error().message;
}

TEST_F(Directories, a_path_that_cannot_be_one_is_refused_with_a_hint) {
  std::ofstream{settings.directory} << "a file";
  const auto file = open();
  ASSERT_FALSE(file);
  EXPECT_NE(file.error().message.find("is not a directory"), std::string::npos) << file.error().message;
  instance.directory = directory.path() + "/no/such/parent";
  const auto orphan = open();
  ASSERT_FALSE(orphan);
  EXPECT_FALSE(orphan.error().hint.empty());
}

TEST_F(Directories, a_live_stock_driver_is_refused_even_where_the_directory_is_to_be_removed) {
  fs::create_directory(settings.directory);
  auto cnc = shm::CncFile::create(settings.directory, {}, ::getpid(), now.now_ms);
  ASSERT_TRUE(cnc) << cnc.error().message;
  cnc->mark_ready();
  shm::ManyToOneRing{cnc->to_driver()}.consumer_heartbeat(now.now_ms - 1000);
  instance.delete_on_start = true;
  const auto files = open();
  ASSERT_FALSE(files);
  EXPECT_EQ(files.error().code, ErrorCode::kInUse);
  EXPECT_TRUE(fs::exists(settings.directory + "/cnc.dat"));
}

TEST_F(Directories, an_unreadable_registry_is_refused_with_a_way_out_which_works) {
  fs::create_directory(settings.directory);
  std::ofstream{settings.directory + "/registry.dat"} << std::string(4096, '\x5A');
  const auto files = open();
  ASSERT_FALSE(files);
  EXPECT_NE(files.error().hint.find("delete-on-start"), std::string::npos);
  instance.delete_on_start = true;
  EXPECT_TRUE(open());
}

TEST_F(Directories, the_lock_dies_with_its_process) {
  fs::create_directory(settings.directory);
  const pid_t child = ::fork();
  if (child == 0) {
    const auto lock = host::DirectoryLock::take(settings.directory, "");
    ::_exit(lock ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_TRUE(host::DirectoryLock::take(settings.directory, ""));
}

TEST_F(Directories, the_instance_is_closed_to_other_users) {
  start();
  const auto mode = [](const std::string& path) { return fs::status(path).permissions() & fs::perms::mask; };
  EXPECT_EQ(mode(settings.directory), fs::perms::owner_all);
  EXPECT_EQ(mode(settings.directory + "/registry.dat"), fs::perms::owner_read | fs::perms::owner_write);
}

// ---- stop and restart ----

TEST_F(Restart, stop_tells_clients_and_restart_does_not) {
  add_publication("aeron:ipc");
  EXPECT_GT(ring().consumer_heartbeat(), 0);
  crash_and_restart();
  EXPECT_GT(ring().consumer_heartbeat(), 0) << "a restart is not seen by clients";
  conductor->close(now);
  EXPECT_EQ(ring().consumer_heartbeat(), -1) << "clients close at once";
  EXPECT_EQ(registry().header.control_plane.state.load(), shm::Observed::kDone) << "the data plane ends too";
}

// ---- the control socket ----

class ControlSocket : public ConductorTest {
 protected:
  void SetUp() override {
    start();
    auto& port = registry().ports[0];
    std::snprintf(port.name, sizeof port.name, "cable");
    registry().header.port_count = 1;
    verbs = std::make_unique<ControlVerbs>(*conductor, ControlVerbs::Options{.effective_config = "streams: {}\n",
                                                                            .terminate = [this] { is_terminated = true; },
                                                                            .set_log_level = [](const std::string& level) -> Result<void> {
                                                                              if (level == "loud") return fail(ErrorCode::kInvalidArgument, "no level 'loud'");
                                                                              return {};
                                                                            }});
    auto started = api::ControlServer::start({api::default_socket_path(settings.directory), ""}, [this](const api::Request& request) { return verbs->run(request); });
    ASSERT_TRUE(started) << started.error().message;
    server = std::move(*started);
  }
  // The verb from another thread, as in life, with the conductor turning here.
  Result<api::Json> call(const std::string& verb, const api::Json& args = api::Json::object()) {
    Result<api::Json> answer{api::Json{}};
    std::atomic<bool> is_done{false};
    std::thread caller{[&] {
      auto client = api::ControlClient::connect(api::default_socket_path(settings.directory));
      answer = client ? client->call(verb, args) : Result<api::Json>{tl::unexpected{client.error()}};
      is_done.store(true);
    }};
    while (!is_done.load()) conductor->poll(now);
    caller.join();
    return answer;
  }
  bool is_terminated{};
  std::unique_ptr<ControlVerbs> verbs;
  std::unique_ptr<api::ControlServer> server;
};

TEST_F(ControlSocket, status_names_the_commands_that_are_quarantined) {
  auto& crashes = registry().command_crashes;
  crashes.suspects[0] = {{kClient, 17, static_cast<std::int32_t>(Command::kAddCounter)}, shm::kCrashesMax};
  crashes.suspects[1] = {{kClient, 18, static_cast<std::int32_t>(Command::kAddCounter)}, shm::kCrashesMax - 1};
  const auto status = call("status");
  ASSERT_TRUE(status) << status.error().message;
  const api::Json expected{{"kind", "command"}, {"command", "ADD_COUNTER"}, {"client_id", kClient}, {"correlation_id", 17}, {"crashes", 3}};
  EXPECT_EQ(status->at("quarantined"), api::Json::array({expected}));
}

TEST_F(ControlSocket, status_says_who_runs_and_what_there_is) {
  add_publication("aeron:ipc");
  const auto status = call("status");
  ASSERT_TRUE(status) << status.error().message;
  EXPECT_EQ(status->at("publications"), 1);
  EXPECT_EQ(status->at("is_ready"), true);
  EXPECT_EQ(status->at("control_plane").at("pid"), ::getpid());
  EXPECT_EQ(status->at("ports").at(0).at("name"), "cable");
  EXPECT_EQ(status->at("directory"), settings.directory);
}

TEST_F(ControlSocket, config_terminate_and_log_level_answer) {
  EXPECT_EQ(call("config")->at("yaml"), "streams: {}\n");
  EXPECT_TRUE(call("log-level", {{"level", "debug"}}));
  EXPECT_EQ(call("log-level", {{"level", "loud"}}).error().code, ErrorCode::kInvalidArgument);
  EXPECT_FALSE(call("log-level"));
  EXPECT_FALSE(is_terminated);
  EXPECT_TRUE(call("terminate"));
  EXPECT_TRUE(is_terminated);
}

TEST_F(ControlSocket, captures_start_are_listed_and_stop) {
  EXPECT_EQ(call("capture-start", {{"port", "nothing"}, {"path", "/tmp/x.pcapng"}}).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(call("capture-start", {{"port", "cable"}, {"path", "x.pcapng"}}).error().code, ErrorCode::kInvalidArgument);
  const auto started = call("capture-start", {{"port", "cable"}, {"path", "/tmp/x.pcapng"}, {"snap_length", 96}, {"frame_limit", 10}, {"byte_limit", 65536}});
  ASSERT_TRUE(started) << started.error().message;
  const auto index = started->at("capture").get<std::uint32_t>();
  EXPECT_EQ(registry().captures[index].desired.snap_length, 96U);
  EXPECT_EQ(registry().captures[index].desired.frame_limit, 10U);
  EXPECT_EQ(registry().captures[index].desired.byte_limit, 65536U);
  EXPECT_STREQ(registry().captures[index].desired.path, "/tmp/x.pcapng");
  EXPECT_EQ(call("capture-status")->at("captures").size(), 1U);
  EXPECT_TRUE(call("capture-stop", {{"capture", index}}));
  EXPECT_FALSE(call("capture-stop", {{"capture", 77}}));
  EXPECT_FALSE(call("capture-stop", {{"capture", "first"}}));
  auto& observed = registry().captures[index].observed;
  observed.generation = registry().captures[index].desired.generation;
  observed.state.store(shm::Observed::kDone);
  EXPECT_EQ(call("capture-status")->at("captures").at(0).at("state"), "done") << "its last figures are told once";
  EXPECT_EQ(call("capture-status")->at("captures").size(), 0U);
}

TEST_F(ControlSocket, a_file_in_its_place_is_refused_and_left_alone) {
  const std::string path = directory.path() + "/precious";
  std::ofstream{path} << "precious";
  const auto started = api::ControlServer::start({path, ""}, [](const api::Request&) -> Result<api::Json> { return api::Json{}; });
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code, ErrorCode::kInUse);
  EXPECT_EQ(fs::file_size(path), 8U);
}

TEST_F(ControlSocket, is_found_through_a_link_in_the_directory) {
  const std::string usual = directory.path() + "/control.sock";
  fs::create_symlink(api::default_socket_path(settings.directory), usual);
  EXPECT_TRUE(api::ControlClient::connect(usual));
}

TEST_F(ControlSocket, an_unknown_verb_names_those_that_exist) {
  const auto answer = call("explode");
  ASSERT_FALSE(answer);
  EXPECT_NE(answer.error().hint.find("capture-start"), std::string::npos);
}

}  // namespace
}  // namespace thalweg::conductor::testing
