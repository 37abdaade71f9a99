// The control plane is killed between any two steps of each command: its successor answers, does nothing twice and loses nothing (design section 1).
// A step is a store into what survives it: registry, cnc.dat, loss report. A process of its own really dies. THALWEG_STEPS=all takes every
// step of every command; without it, so many of each as a test run has time for.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>

#include "tests/support/store_steps.hpp"
#include "tests/unit/controlplane/fixture.hpp"

namespace thalweg::conductor::testing {
namespace {

using shm::Command;
using thalweg::test::StoreSteps;

constexpr std::uint64_t kStepsMax = 20;  // of one command without THALWEG_STEPS=all
constexpr std::int32_t kStaticType = 1103;
const std::string kUdp = "aeron:udp?endpoint=127.0.0.1:24325";
const std::string kManual = "aeron:udp?control-mode=manual";
const std::string kManualSubscription = "aeron:udp?control-mode=manual";

class CommandSteps;
struct Case {
  std::string name;
  std::function<void(CommandSteps&)> prepare{};  // with a control plane that lives
  std::function<std::int64_t(CommandSteps&)> act;  // puts the command into the ring; its correlation id
};

void PrintTo(const Case& one, std::ostream* out) { *out << one.name; }

class CommandSteps : public ConductorTest, public ::testing::WithParamInterface<Case> {
 public:
  void SetUp() override {
    shared_ = static_cast<std::uint64_t*>(::mmap(nullptr, sizeof(std::uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    start();
  }
  void TearDown() override { ::munmap(shared_, sizeof(std::uint64_t)); }

  using ConductorTest::add_counter, ConductorTest::add_publication, ConductorTest::add_subscription, ConductorTest::data_plane, ConductorTest::next_id,
      ConductorTest::registry, ConductorTest::run, ConductorTest::send, ConductorTest::world, ConductorTest::kClient, ConductorTest::kOther,
      ConductorTest::only_image;

  template <typename Message>
  std::int64_t ask(Command type, Message message) {
    message.client_id = kClient;
    message.correlation_id = next_id();
    send(type, message);
    return message.correlation_id;
  }
  void allow_termination() { settings.is_termination_allowed = world().settings.is_termination_allowed = true; }
  std::int64_t ask_for_publication(const std::string& channel, bool is_exclusive = false) {
    shm::AddPublication message;
    message.stream_id = 10;
    message.channel = channel;
    return ask(is_exclusive ? Command::kAddExclusivePublication : Command::kAddPublication, message);
  }
  std::int64_t ask_for_subscription(const std::string& channel) {
    shm::AddSubscription message;
    message.stream_id = 10;
    message.channel = channel;
    return ask(Command::kAddSubscription, message);
  }
  std::int64_t ask_to_remove(Command type, std::int64_t registration_id) {
    shm::RemoveRegistration message;
    message.registration_id = registration_id;
    return ask(type, message);
  }
  std::int64_t ask_for_static_counter() {
    shm::AddStaticCounter message;
    message.type_id = kStaticType;
    message.registration_id = 4711;
    message.label = "static";
    return ask(Command::kAddStaticCounter, message);
  }
  std::int64_t ask_about_destination(Command type, const std::string& channel) {
    shm::DestinationCommand message;
    message.registration_id = registered;
    message.channel = channel;
    return ask(type, message);
  }
  void request_image() {
    for (const std::uint32_t index : world().endpoints.used()) {
      if (registry().endpoints[index].desired.kind == shm::EndpointKind::kReceive) data_plane->request_image(index, 10, 7);
    }
  }

  std::int64_t registered{};   // by prepare(), for act()
  std::int64_t second{};

 protected:
  struct Result {
    std::vector<std::string> answers;   // each once, in the order of their first
    std::vector<std::string> state;
    bool operator==(const Result&) const = default;
  };

  // What is there in all tables, counters and folders, without numbers that differ from time to time.
  std::vector<std::string> state() {
    std::vector<std::string> all;
    const auto count = [&all](const char* name, std::size_t used) { all.push_back(std::string{name} + " " + std::to_string(used)); };
    count("endpoints", world().endpoints.used().size());
    count("publications", world().publications.used().size());
    count("images", world().images.used().size());
    count("interests", world().interests.used().size());
    count("links", world().links.used().size());
    count("clients", world().clients.used().size());
    count("subscriptions", world().subscriptions.used().size());
    count("references", world().refs.used().size());
    count("destinations", world().destinations.used().size());
    count("terminations", registry().header.is_termination_accepted.load());
    count("commands", static_cast<std::size_t>(std::count_if(registry().commands.begin(), registry().commands.end(),
                                                             [](const auto& slot) { return slot.head.state.load() != shm::Desired::kFree; })));
    for (const char* const folder : {"publications", "images"}) {
      count(folder, static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator{settings.directory + "/" + folder}, {})));
    }
    std::vector<std::string> counters;
    for (const std::string& one : labels()) counters.push_back(one.substr(0, one.find(':')));  // behind it are ids
    std::sort(counters.begin(), counters.end());
    all.insert(all.end(), counters.begin(), counters.end());
    return all;
  }

  std::vector<std::string> answers(std::int64_t command) {
    std::vector<std::string> all;
    for (const Received& received : take_all()) {
      std::string text = std::to_string(received.type);
      if (received.body.size() >= 8 && load_le<std::int64_t>(received.body.data()) == command) text += " to the command";
      if (received.type == static_cast<std::int32_t>(shm::Response::kError)) {
        if (const auto error = shm::decode<shm::OnError>(received.body)) text += ": " + std::string{error->text};
      }
      if (std::find(all.begin(), all.end(), text) == all.end()) all.push_back(std::move(text));
    }
    return all;
  }

  // A child goes on with our conductor until its step; true: it came to the end before.
  bool live_until(std::uint64_t step) {
    const pid_t child = ::fork();
    if (child == 0) {
      const std::vector<std::span<std::byte>> regions = shared_memory();
      StoreSteps steps{regions, step};
      for (int quiet = 0; quiet < 2;) {
        steps.arm();
        bool has_worked = conductor->poll(now) > 0;
        while (worker->run_one()) has_worked = true;
        steps.disarm();
        has_worked = data_plane->step() || has_worked;
        quiet = has_worked ? 0 : quiet + 1;
      }
      *shared_ = StoreSteps::count();
      ::_exit(0);
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
    return WEXITSTATUS(status) == 0;
  }

  // Every mapping of the instance's own files. Logs are no part of it: their contents are the streams' affair.
  std::vector<std::span<std::byte>> shared_memory() const {
    std::vector<std::span<std::byte>> found;
    std::ifstream maps{"/proc/self/maps"};
    for (std::string line; std::getline(maps, line);) {
      std::uintptr_t begin = 0, end = 0;
      const bool is_ours = line.find(settings.directory) != std::string::npos && line.find(".dat") != std::string::npos;
      if (!is_ours || std::sscanf(line.c_str(), "%" SCNxPTR "-%" SCNxPTR, &begin, &end) != 2) continue;
      found.emplace_back(reinterpret_cast<std::byte*>(begin), end - begin);
    }
    return found;
  }

  // One command, its control plane killed at `step`, and what the next one made of it. nullopt: it was through before that step.
  Result trial(std::uint64_t step, bool& is_through) {
    GetParam().prepare(*this);
    run();
    skip_all();
    const std::int64_t command = GetParam().act(*this);
    is_through = live_until(step);
    crash_and_restart();
    for (int ticks = 0; ticks < 2; ++ticks) tick();
    return {answers(command), state()};
  }

  // Everything that clients have goes, and nothing may stay behind.
  void clean_up() {
    registry().header.is_termination_accepted.store(0);
    for (const std::int64_t client : {kClient, kOther}) {
      shm::ClientCommand message;
      message.client_id = client;
      message.correlation_id = -1;
      send(Command::kClientClose, message);
    }
    run();
    std::vector<std::int32_t> fixed;  // they go with the driver only
    world().counters.for_each([&fixed](const shm::CountersReader::View& view) {
      if (view.type_id == kStaticType) fixed.push_back(view.id);
    });
    for (const std::int32_t id : fixed) world().free_counter(id);
    for (int round = 0; round < 3; ++round) {
      for (const std::uint32_t index : std::vector<std::uint32_t>{world().images.used()}) data_plane->finish_image(index);
      for (const std::uint32_t index : std::vector<std::uint32_t>{world().publications.used()}) data_plane->end_publication(index), data_plane->finish_publication(index);
      tick();
    }
    skip_all();
  }

  std::uint64_t* shared_{};
};

TEST_P(CommandSteps, a_control_plane_that_dies_at_any_of_them_has_a_successor_that_ends_the_command_once) {
  const std::vector<std::string> nothing = state();
  bool is_through = false;
  std::set<std::string> failures;  // each kind is told once
  const Result expected = trial(~std::uint64_t{0}, is_through);
  ASSERT_TRUE(is_through);
  const std::uint64_t count = *shared_;
  ASSERT_GT(count, 0U);
  clean_up();
  ASSERT_EQ(state(), nothing);
  const char* const wish = std::getenv("THALWEG_STEPS");
  const std::uint64_t stride = wish != nullptr && std::string_view{wish} == "all" ? 1 : std::max<std::uint64_t>(1, count / kStepsMax);
  std::uint64_t tried = 0;
  for (std::uint64_t step = 0; step < count; step += stride, ++tried) {
    const Result found = trial(step, is_through);
    if (found != expected && failures.insert(::testing::PrintToString(found.answers) + ::testing::PrintToString(found.state)).second) {
      EXPECT_EQ(found.answers, expected.answers) << "killed before store " << step << " of " << count;
      EXPECT_EQ(found.state, expected.state) << "killed before store " << step << " of " << count;
    }
    EXPECT_EQ(ring().consumer_position(), ring().producer_position()) << "commands are stuck, killed before store " << step << " of " << count;
    clean_up();
    ASSERT_EQ(state(), nothing) << "left behind, killed before store " << step << " of " << count;
  }
  RecordProperty("steps", std::to_string(count));
  RecordProperty("tried", std::to_string(tried));
}

void nothing(CommandSteps&) {}
void known(CommandSteps& t) { t.registered = t.add_counter(1101, "known"); }

const Case kCases[] = {
    {"add_publication_ipc", known, [](CommandSteps& t) { return t.ask_for_publication("aeron:ipc"); }},
    {"add_publication_udp", known, [](CommandSteps& t) { return t.ask_for_publication(kUdp); }},
    {"add_publication_of_a_new_client", nothing, [](CommandSteps& t) { return t.ask_for_publication(kUdp); }},
    {"add_publication_that_is_shared", [](CommandSteps& t) { t.add_publication(kUdp); }, [](CommandSteps& t) { return t.ask_for_publication(kUdp); }},
    {"add_publication_with_a_subscriber", [](CommandSteps& t) { t.add_subscription("aeron:ipc"); }, [](CommandSteps& t) { return t.ask_for_publication("aeron:ipc"); }},
    {"add_exclusive_publication", known, [](CommandSteps& t) { return t.ask_for_publication(kUdp, true); }},
    {"remove_publication", [](CommandSteps& t) { t.registered = t.add_publication(kUdp); },
     [](CommandSteps& t) {
       shm::RemovePublication message;
       message.registration_id = t.registered;
       return t.ask(Command::kRemovePublication, message);
     }},
    {"remove_publication_that_another_holds", [](CommandSteps& t) { t.registered = t.add_publication(kUdp), t.add_publication(kUdp, 10, false, CommandSteps::kOther); },
     [](CommandSteps& t) {
       shm::RemovePublication message;
       message.registration_id = t.registered;
       return t.ask(Command::kRemovePublication, message);
     }},
    {"add_subscription_udp", known, [](CommandSteps& t) { return t.ask_for_subscription(kUdp); }},
    {"add_subscription_ipc_to_a_stream", [](CommandSteps& t) { t.add_publication("aeron:ipc"); }, [](CommandSteps& t) { return t.ask_for_subscription("aeron:ipc"); }},
    {"add_subscription_spy", [](CommandSteps& t) { t.add_publication(kUdp); }, [](CommandSteps& t) { return t.ask_for_subscription("aeron-spy:" + kUdp); }},
    {"add_subscription_to_an_image", [](CommandSteps& t) { t.add_subscription(kUdp), t.request_image(); }, [](CommandSteps& t) { return t.ask_for_subscription(kUdp); }},
    {"remove_subscription", [](CommandSteps& t) { t.registered = t.add_subscription(kUdp), t.request_image(); },
     [](CommandSteps& t) { return t.ask_to_remove(Command::kRemoveSubscription, t.registered); }},
    {"remove_subscription_of_an_ipc_stream", [](CommandSteps& t) { t.add_publication("aeron:ipc"), t.registered = t.add_subscription("aeron:ipc"); },
     [](CommandSteps& t) { return t.ask_to_remove(Command::kRemoveSubscription, t.registered); }},
    {"add_counter", known,
     [](CommandSteps& t) {
       shm::AddCounter message;
       message.type_id = 1102;
       message.label = "another";
       return t.ask(Command::kAddCounter, message);
     }},
    {"add_static_counter", known, [](CommandSteps& t) { return t.ask_for_static_counter(); }},
    {"add_static_counter_of_a_new_client", nothing, [](CommandSteps& t) { return t.ask_for_static_counter(); }},
    // With a registration of its own: a client that has nothing else is told once more of its heartbeat counter.
    {"add_static_counter_that_is_there",
     [](CommandSteps& t) {
       known(t);
       t.ask_for_static_counter();
     },
     [](CommandSteps& t) { return t.ask_for_static_counter(); }},
    {"next_available_session_id", known,
     [](CommandSteps& t) {
       shm::GetNextAvailableSessionId message;
       message.stream_id = 10;
       return t.ask(Command::kGetNextAvailableSessionId, message);
     }},
    {"client_keepalive", known, [](CommandSteps& t) { return t.ask(Command::kClientKeepalive, shm::ClientCommand{}); }},
    {"terminate_driver_that_is_allowed", [](CommandSteps& t) { t.allow_termination(); }, [](CommandSteps& t) { return t.ask(Command::kTerminateDriver, shm::TerminateDriver{}); }},
    {"terminate_driver", known, [](CommandSteps& t) { return t.ask(Command::kTerminateDriver, shm::TerminateDriver{}); }},
    {"remove_counter", known, [](CommandSteps& t) { return t.ask_to_remove(Command::kRemoveCounter, t.registered); }},
    {"add_destination", [](CommandSteps& t) { t.registered = t.add_publication(kManual); },
     [](CommandSteps& t) { return t.ask_about_destination(Command::kAddDestination, kUdp); }},
    {"remove_destination",
     [](CommandSteps& t) {
       t.registered = t.add_publication(kManual);
       t.ask_about_destination(Command::kAddDestination, kUdp);
       t.run();
     },
     [](CommandSteps& t) { return t.ask_about_destination(Command::kRemoveDestination, kUdp); }},
    {"remove_destination_by_id",
     [](CommandSteps& t) {
       t.registered = t.add_publication(kManual);
       t.second = t.ask_about_destination(Command::kAddDestination, kUdp);
       t.run();
     },
     [](CommandSteps& t) {
       shm::RemoveDestinationById message;
       message.publication_registration_id = t.registered;
       message.destination_registration_id = t.second;
       return t.ask(Command::kRemoveDestinationById, message);
     }},
    {"add_receive_destination", [](CommandSteps& t) { t.registered = t.add_subscription(kManualSubscription); },
     [](CommandSteps& t) { return t.ask_about_destination(Command::kAddReceiveDestination, kUdp); }},
    {"remove_receive_destination",
     [](CommandSteps& t) {
       t.registered = t.add_subscription(kManualSubscription);
       t.ask_about_destination(Command::kAddReceiveDestination, kUdp);
       t.run();
     },
     [](CommandSteps& t) { return t.ask_about_destination(Command::kRemoveReceiveDestination, kUdp); }},
    {"reject_image", [](CommandSteps& t) { t.add_subscription(kUdp), t.request_image(); },
     [](CommandSteps& t) {
       shm::RejectImage message;
       message.image_correlation_id = t.registry().images[t.only_image()].desired.correlation_id;
       message.reason = "not today";
       return t.ask(Command::kRejectImage, message);
     }},
    {"client_close", [](CommandSteps& t) { t.add_publication("aeron:ipc"), t.add_subscription("aeron:ipc"), t.add_subscription(kUdp), t.request_image(); },
     [](CommandSteps& t) {
       shm::ClientCommand message;
       message.client_id = CommandSteps::kClient;
       message.correlation_id = -1;
       t.send(Command::kClientClose, message);
       return std::int64_t{-1};
     }},
    {"a_setup", [](CommandSteps& t) { t.add_subscription(kUdp); },
     [](CommandSteps& t) {
       t.request_image();
       return std::int64_t{-1};
     }},
};

INSTANTIATE_TEST_SUITE_P(Each, CommandSteps, ::testing::ValuesIn(kCases), [](const auto& one) { return one.param.name; });

}  // namespace
}  // namespace thalweg::conductor::testing
