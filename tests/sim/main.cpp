// thalweg-sim: the protocol under every fault we know, one 64-bit seed at a time. See README.md in this folder.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "dataplane/base/assert.hpp"
#include "tests/sim/world.hpp"

namespace {

using thalweg::sim::Fault;
using thalweg::sim::FaultCounts;
using thalweg::sim::Outcome;
using thalweg::sim::Scenario;

struct Options {
  std::string seeds{"0:1000"};
  std::optional<std::uint64_t> seed;
  bool is_verbose{};
  bool is_json{};
  bool keep_going{};
  bool is_twice{};
};

// What an abort (a THALWEG_ASSERT, a sanitizer) or a real fault prints: set before each run, read by the signal handlers.
char g_abort_message[256];

void tell_seed() {
  const auto written = ::write(STDERR_FILENO, g_abort_message, std::strlen(g_abort_message));
  static_cast<void>(written);
}

void on_abort(int) {
  tell_seed();
  std::signal(SIGABRT, SIG_DFL);
  std::raise(SIGABRT);
}

std::string command_line(std::uint64_t seed) { return fmt::format("thalweg-sim --seed {} --verbose", seed); }

nlohmann::json faults_json(const FaultCounts& counts) {
  nlohmann::json out = nlohmann::json::object();
  for (std::size_t i = 0; i < thalweg::sim::kFaultCount; ++i) {
    const auto fault = static_cast<Fault>(i);
    if (counts.get(fault) != 0) out[std::string{name_of(fault)}] = counts.get(fault);
  }
  return out;
}

void print_outcome(const Options& options, std::uint64_t seed, const Outcome& o) {
  if (options.is_json) {
    const nlohmann::json line{{"seed", seed}, {"ok", o.failure.empty()}, {"failure", o.failure}, {"virtual_ns", o.virtual_ns}, {"steps", o.steps},
                              {"messages_sent", o.messages_sent}, {"messages_read", o.messages_read}, {"naks", o.naks},
                              {"retransmits", o.retransmits}, {"trace", fmt::format("{:016x}", o.trace)}, {"faults", faults_json(o.faults)}};
    std::puts(line.dump().c_str());
    return;
  }
  if (options.is_verbose) {
    fmt::print("seed {}: {} messages sent, {} read, {} NAKs, {} retransmits, {:.3f} virtual s, {} steps, trace {:016x}, faults {}\n", seed, o.messages_sent,
               o.messages_read, o.naks, o.retransmits, static_cast<double>(o.virtual_ns) / 1e9, o.steps, o.trace, faults_json(o.faults).dump());
  }
  if (!o.failure.empty()) fmt::print("FAILED seed {}: {}\n  run it alone: {}\n", seed, o.failure, command_line(seed));
  std::fflush(stdout);
}

bool parse_range(const std::string& text, std::uint64_t& from, std::uint64_t& count) {
  char* end = nullptr;
  from = std::strtoull(text.c_str(), &end, 10);
  if (end == text.c_str() || *end != ':') return false;
  const char* second = end + 1;
  count = std::strtoull(second, &end, 10);
  return end != second && *end == '\0' && count > 0;
}

int run(const Options& options, std::uint64_t from, std::uint64_t count) {
  const auto begin = std::chrono::steady_clock::now();
  FaultCounts faults;
  std::uint64_t failed = 0;
  std::uint64_t done = 0;
  std::uint64_t messages = 0;
  for (std::uint64_t seed = from; seed != from + count && (failed == 0 || options.keep_going); ++seed, ++done) {
    const Scenario scenario = Scenario::from_seed(seed);
    std::snprintf(g_abort_message, sizeof g_abort_message, "aborted in seed %llu\n  run it alone: %s\n", static_cast<unsigned long long>(seed),
                  command_line(seed).c_str());
    if (options.is_verbose && !options.is_json) fmt::print("{}", scenario.describe());
    Outcome outcome = thalweg::sim::World{scenario}.run();
    if (options.is_twice && outcome.failure.empty()) {
      const Outcome again = thalweg::sim::World{scenario}.run();
      if (again.trace != outcome.trace || again.steps != outcome.steps) {
        outcome.failure = fmt::format("the second run differs: trace {:016x} and {:016x}, {} and {} steps", outcome.trace, again.trace, outcome.steps, again.steps);
      }
    }
    faults.add(outcome.faults);
    messages += outcome.messages_read;
    if (!outcome.failure.empty()) ++failed;
    print_outcome(options, seed, outcome);
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (options.is_json) {
    std::puts(nlohmann::json{{"seeds", done}, {"failed", failed}, {"messages_read", messages}, {"seconds", seconds}, {"faults", faults_json(faults)}}
                  .dump()
                  .c_str());
  } else {
    fmt::print("{} seeds, {} failed, {} messages checked, {:.1f} s, faults {}\n", done, failed, messages, seconds, faults_json(faults).dump());
  }
  return failed == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app{"Runs the protocol under seeded faults and checks that nothing is lost, reordered, leaked or stuck."};
  app.add_option("--seeds", options.seeds, "seeds FROM:COUNT")->capture_default_str();
  app.add_option("--seed", options.seed, "this seed alone");
  app.add_flag("--verbose", options.is_verbose, "print each scenario and what happened");
  app.add_flag("--json", options.is_json, "one JSON object a seed, and a summary");
  app.add_flag("--twice", options.is_twice, "run each seed twice and require the same trace");
  app.add_flag("--keep-going", options.keep_going, "do not stop at the first failing seed");
  CLI11_PARSE(app, argc, argv);
  std::uint64_t from = 0;
  std::uint64_t count = 0;
  if (options.seed) {
    from = *options.seed;
    count = 1;
  } else if (!parse_range(options.seeds, from, count)) {
    fmt::print(stderr, "--seeds wants FROM:COUNT, for example 0:1000\n");
    return 2;
  }
  thalweg::sim::CrashGuard::install(tell_seed);
  std::signal(SIGABRT, on_abort);
  return run(options, from, count);
}
