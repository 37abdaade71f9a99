#include "controlplane/cli/cli.hpp"

#include <CLI/Error.hpp>
#include <algorithm>
#include <cmath>
#include <csignal>
#include <ctime>
#include <exception>

#include "config/schema/rule.hpp"
#include "controlplane/cli/verbs.hpp"
#include "dataplane/base/time.hpp"
#include "dataplane/base/units.hpp"
#include "dataplane/shm/cnc.hpp"

namespace thalweg::cli {
namespace {

volatile std::sig_atomic_t interrupted = 0;
void on_signal(int) { interrupted = 1; }

// "thalweg stream list".
std::string words_to(const CLI::App& app) { return app.get_parent() == nullptr ? app.get_name() : words_to(*app.get_parent()) + " " + app.get_name(); }

// What --help says of the command with the words that lead there.
std::string help_of(const CLI::App& app) {
  const CLI::App* const parent = app.get_parent();
  if (parent == nullptr) return app.help();
  return app.help(words_to(*parent)) + "\nOptions of all commands, such as --directory and --json: thalweg --help\n";
}

// The deepest subcommand that was recognised.
const CLI::App& deepest(const CLI::App& app) {
  const auto parsed = app.get_subcommands();
  return parsed.empty() ? app : deepest(*parsed.front());
}

std::vector<std::string> expected_words(const CLI::App& at, bool is_option) {
  std::vector<std::string> words;
  if (!is_option) {
    for (const CLI::App* sub : at.get_subcommands([](const CLI::App*) { return true; })) {
      if (!sub->get_name().empty()) words.push_back(sub->get_name());
    }
    return words;
  }
  for (const CLI::App* app = &at; app != nullptr; app = app->get_parent()) {
    for (const CLI::Option* option : app->get_options()) {
      for (const std::string& name : option->get_lnames()) words.push_back("--" + name);
    }
  }
  return words;
}

struct Fault {
  std::size_t index;  // of the argument at fault; arguments.size(): something is missing at the end
  bool is_extra;      // an argument nobody expects
};

// The name of a CLI11 error may be the subcommand's; its code tells the kind.
bool is_kind(const CLI::ParseError& error, CLI::ExitCodes code) { return error.get_exit_code() == static_cast<int>(code); }

Fault find_fault(const CLI::App& root, const CLI::ParseError& error, const std::vector<std::string>& arguments) {
  if (is_kind(error, CLI::ExitCodes::ExtrasError) || is_kind(error, CLI::ExitCodes::RequiredError)) {
    const auto extras = root.remaining(true);
    for (std::size_t i = 0; i < arguments.size() && !extras.empty(); ++i) {
      if (arguments[i] == extras.front()) return {i, true};
    }
  }
  // "--watch: ..." and "Could not convert: --watch = x": the option named in the message, and its value if that stands apart.
  const std::string what = error.what();
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string name = arguments[i].substr(0, arguments[i].find('='));
    if (!name.starts_with("-") || what.find(name) == std::string::npos) continue;
    const bool has_own_value = arguments[i].size() == name.size() && i + 1 < arguments.size();
    return {has_own_value ? i + 1 : i, false};
  }
  return {arguments.size(), false};
}

// "Could not convert: --stream = x" is CLI11's for a number that is none, or too large for what it sets.
std::string text_of(const CLI::ParseError& error) {
  constexpr std::string_view kPrefix = "Could not convert: ";
  std::string text = error.what();
  const auto equals = text.find(" = ");
  if (!text.starts_with(kPrefix) || equals == std::string::npos) return text;
  return text.substr(kPrefix.size(), equals - kPrefix.size()) + " needs a number in its range; found '" + text.substr(equals + 3) + "'";
}

// The line, a caret under the argument at fault, and what would be right there.
std::string explain(const CLI::App& root, const CLI::ParseError& error, const std::vector<std::string>& arguments, std::string& hint) {
  const Fault fault = find_fault(root, error, arguments);
  std::string line = "thalweg";
  std::size_t column = 0;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (i == fault.index) column = line.size() + 1;
    line += " " + arguments[i];
  }
  if (fault.index == arguments.size()) column = line.size() + 1;
  const CLI::App& at = deepest(root);
  const std::string word = fault.is_extra ? arguments[fault.index] : std::string{};
  std::string message = fault.is_extra ? "unexpected '" + word + "'" : text_of(error);
  const auto words = expected_words(at, word.starts_with("-"));
  if (const std::string near = config::nearest_word(word, words); !near.empty()) message += "; did you mean '" + near + "'?";
  const bool is_missing = is_kind(error, CLI::ExitCodes::RequiredError);
  if ((fault.is_extra || is_missing) && !words.empty() && !word.starts_with("-")) {
    hint = "expected one of:";
    for (const std::string& expected : words) hint += " " + expected;
  } else {
    hint = "see " + words_to(at) + " --help";
  }
  return message + "\n  " + line + "\n  " + std::string(column, ' ') + "^";
}

bool wants_json(const std::vector<std::string>& arguments) {
  for (const std::string& argument : arguments) {
    if (argument == "--") break;
    if (argument == "-j" || argument == "--json") return true;
  }
  return false;
}

template <typename Parse>
CLI::Option* add_quantity(CLI::App& verb, const std::string& name, std::int64_t& target, const std::string& help, const char* type, const char* wanted,
                          Parse parse) {
  const auto convert = [&target, name, wanted, parse](const CLI::results_t& results) {
    const auto value = parse(results.back());
    if (!value) throw CLI::ConversionError{name + " needs " + wanted + "; found '" + results.back() + "'"};
    target = *value;
    return true;
  };
  CLI::Option* option = verb.add_option(name, convert, help);
  option->type_name(type)->expected(1);
  return option;
}

}  // namespace

std::string Context::instance_directory() const { return directory.empty() ? shm::default_directory() : directory; }

bool is_interrupted() noexcept {
  static const bool kInstalled = [] {
    struct sigaction action {};
    action.sa_handler = on_signal;  // without SA_RESTART: a sleep ends at once
    return ::sigaction(SIGINT, &action, nullptr) == 0 && ::sigaction(SIGTERM, &action, nullptr) == 0;
  }();
  static_cast<void>(kInstalled);
  return interrupted != 0;
}

void sleep_interruptible(std::int64_t duration_ns) noexcept {
  const std::int64_t deadline = monotonic_ns() + duration_ns;
  while (!is_interrupted()) {
    const std::int64_t left = deadline - monotonic_ns();
    if (left <= 0) return;
    // A signal between the check and the sleep costs one slice, not the whole sleep.
    const std::int64_t slice = std::min<std::int64_t>(left, 100 * kMillisecond_ns);
    const timespec wait{slice / kSecond_ns, slice % kSecond_ns};
    ::nanosleep(&wait, nullptr);
  }
}

void on_run(CLI::App& verb, Context& context, std::function<Exit()> body) {
  verb.callback([&context, body = std::move(body)] {
    context.exit = body();
    context.out.flush();
  });
}

void on_run_watched(CLI::App& verb, Context& context, std::function<Exit()> body) {
  const auto interval = std::make_shared<std::int64_t>(0);
  add_duration(verb, "--watch", *interval, "Repeat every interval (1s when none is given) until interrupted")->expected(0, 1)->default_str("1s");
  CLI::Option* watch = verb.get_option("--watch");
  on_run(verb, context, [&context, interval, watch, body = std::move(body)] {
    if (watch->count() == 0) return body();
    if (*interval <= 0) *interval = kSecond_ns;
    Exit exit = Exit::kOk;
    while (exit == Exit::kOk && !is_interrupted()) {
      context.out.begin_round();
      exit = body();
      context.out.flush();
      if (exit == Exit::kOk) sleep_interruptible(*interval);
    }
    return exit;
  });
}

void set_example(CLI::App& verb, const std::string& example) { verb.footer("Example:\n  thalweg " + example); }

CLI::Option* add_duration(CLI::App& verb, const std::string& name, std::int64_t& target_ns, const std::string& help) {
  return add_quantity(verb, name, target_ns, help, "DURATION", "a duration such as 500us, 100ms or 5s", [](const std::string& text) { return parse_duration_ns(text); });
}
CLI::Option* add_size(CLI::App& verb, const std::string& name, std::int64_t& target_bytes, const std::string& help) {
  return add_quantity(verb, name, target_bytes, help, "SIZE", "a size such as 288, 64KiB or 1MiB", [](const std::string& text) { return parse_size(text); });
}

CLI::Validator non_negative_number() {
  return CLI::Validator{[](std::string& text) {
                          double value = -1;
                          const bool is_number = CLI::detail::lexical_cast(text, value);
                          return is_number && std::isfinite(value) && value >= 0 ? std::string{} : "needs a number, 0 or more; found '" + text + "'";
                        },
                        "", "non_negative_number"};
}
CLI::Validator positive_count() {
  return CLI::Validator{[](std::string& text) {
                          std::int64_t value = 0;
                          return CLI::detail::lexical_cast(text, value) && value > 0 ? std::string{} : "needs a whole number, 1 or more; found '" + text + "'";
                        },
                        "", "positive_count"};
}

std::unique_ptr<CLI::App> make_grammar(Context& context) {
  auto root = std::make_unique<CLI::App>("Thalweg: a kernel-bypass messaging appliance that speaks the Aeron protocols", "thalweg");
  root->fallthrough();  // global options are right behind a verb, too
  root->require_subcommand(1);
  root->set_version_flag("--version", std::string{"thalweg "} + THALWEG_VERSION, "Print the version");
  root->add_option("-d,--directory", context.directory, "Instance directory; default $AERON_DIR or /dev/shm/aeron-<user>")->type_name("DIR");
  root->add_flag_callback("-j,--json", [&context] { context.out.set_json(true); }, "Print JSON with raw units; errors too")->trigger_on_parse();
  register_up(*root, context);
  register_media_driver(*root, context);
  register_upgrade(*root, context);
  register_stream(*root, context);
  register_counters(*root, context);
  register_top(*root, context);
  register_capture(*root, context);
  register_trace(*root, context);
  register_archive(*root, context);
  register_route(*root, context);
  register_names(*root, context);
  register_host(*root, context);
  register_config(*root, context);
  register_support_bundle(*root, context);
  register_pub(*root, context);
  register_sub(*root, context);
  register_ping(*root, context);
  register_pong(*root, context);
  register_bench(*root, context);
  set_example(*root, "stream list --json");  // last: subcommands inherit what their parent has when they are added
  return root;
}

namespace {

// Results that could not be written are no success, whatever the verb found.
int end(Context& context, Exit exit) {
  context.out.flush();
  if (exit != Exit::kOk || !context.out.has_failed()) return static_cast<int>(exit);
  return static_cast<int>(context.out.fail("output", Error{ErrorCode::kIo, "the results could not be written", "is the file system of standard output full?"}));
}

}  // namespace

int run(Context& context, const std::vector<std::string>& arguments) {
  context.out.set_json(wants_json(arguments));
  const auto root = make_grammar(context);
  try {
    root->parse(std::vector<std::string>{arguments.rbegin(), arguments.rend()});
    return end(context, context.exit);
  } catch (const CLI::CallForHelp&) {
    context.out.raw(help_of(deepest(*root)));
    return end(context, Exit::kOk);
  } catch (const CLI::CallForVersion& version) {
    context.out.raw(std::string{version.what()} + "\n");
    return end(context, Exit::kOk);
  } catch (const CLI::ParseError& error) {
    std::string hint;
    const std::string message = explain(*root, error, arguments, hint);
    static_cast<void>(context.out.fail("usage", Error{ErrorCode::kInvalidArgument, message, hint}));
    return static_cast<int>(Exit::kUsage);
  } catch (const std::exception& error) {
    return static_cast<int>(context.out.fail("failed", Error{ErrorCode::kGeneric, error.what(), {}}));
  }
}

}  // namespace thalweg::cli
