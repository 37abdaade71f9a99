#pragma once
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <functional>
#include <memory>
#include <string>

#include "controlplane/cli/output.hpp"

// The frame every verb plugs into. A verb is registered by one function that adds its CLI11 subcommand, options and example; help,
// completion, man page and reference page are made from that same grammar.
namespace thalweg::cli {

// Lives as long as the command. The global options are valid once a verb's callback runs.
struct Context {
  Output out;
  std::string directory;  // --directory; "" = the default
  Exit exit{Exit::kOk};

  // --directory, else what clients use without being told (client-protocol 1.1).
  [[nodiscard]] std::string instance_directory() const;
};

// Makes `body` what the verb does. Its exit code becomes the command's; the JSON document is written behind it.
void on_run(CLI::App& verb, Context& context, std::function<Exit()> body);

// Adds `--watch [interval]` and runs `body` once, or again and again until interrupted (exit 0) or until it fails.
void on_run_watched(CLI::App& verb, Context& context, std::function<Exit()> body);

// True after SIGINT or SIGTERM; the handlers are set on the first call. Verbs that run long ask it between steps.
[[nodiscard]] bool is_interrupted() noexcept;
// Sleeps, but wakes at once for SIGINT or SIGTERM.
void sleep_interruptible(std::int64_t duration_ns) noexcept;

// One example line, shown by -h, the man page and the reference page. Without "thalweg" in front.
void set_example(CLI::App& verb, const std::string& example);

// The whole grammar. `context` must outlive it.
[[nodiscard]] std::unique_ptr<CLI::App> make_grammar(Context& context);
// Parses and runs; returns the process's exit code. Usage errors: the line, a caret and the expected words on standard error, exit 2.
[[nodiscard]] int run(Context& context, const std::vector<std::string>& arguments);

// CLI11 conversion of durations ("100ms") and sizes ("64KiB") into an integer option.
CLI::Option* add_duration(CLI::App& verb, const std::string& name, std::int64_t& target_ns, const std::string& help);
CLI::Option* add_size(CLI::App& verb, const std::string& name, std::int64_t& target_bytes, const std::string& help);
// What a number must be, in words: those of CLI11 print the largest double with all of its digits.
[[nodiscard]] CLI::Validator non_negative_number();
[[nodiscard]] CLI::Validator positive_count();

}  // namespace thalweg::cli
