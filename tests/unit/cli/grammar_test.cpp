// Generated pages are current, and the completion completes in a real shell.
#include "controlplane/cli/grammar.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <functional>
#include <memory>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

namespace thalweg::cli {
namespace {

const std::string kRoot = THALWEG_SOURCE_ROOT;

std::string read(const std::string& path) {
  std::ifstream file{path};
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(GeneratedPages, are_what_the_grammar_says) {
  for (const auto& [path, text] : generated_files()) EXPECT_EQ(read(kRoot + "/" + path), text) << path << " is stale: run `ninja cli-reference` in the build directory";
}

void expect_described(const CLI::App& app) {
  EXPECT_FALSE(app.get_description().empty()) << app.get_name();
  const auto verbs = app.get_subcommands([](const CLI::App* sub) { return !sub->get_name().empty(); });
  const bool has_example = app.get_footer().find("Example:\n  thalweg ") != std::string::npos;
  EXPECT_TRUE(has_example || !verbs.empty()) << app.get_name() << " has no example";
  for (const CLI::Option* option : app.get_options()) EXPECT_FALSE(option->get_description().empty()) << app.get_name() << " " << option->get_name();
  for (const CLI::App* verb : verbs) expect_described(*verb);
}

TEST(Grammar, every_verb_is_described_and_has_an_example) {
  Context context{Output::standard(), {}, Exit::kOk};
  expect_described(*make_grammar(context));
}

struct Outcome {
  int exit;
  std::string error;
};
Outcome run_with(const std::vector<std::string>& arguments, std::ostream& out) {
  std::ostringstream err;
  Context context{Output{out, err, {}}, {}, Exit::kOk};
  const int exit = run(context, arguments);
  return {exit, err.str()};
}
TEST(Help, names_the_whole_command_and_shows_an_example_of_its_own) {
  std::ostringstream out;
  EXPECT_EQ(run_with({"archive", "list", "--help"}, out).exit, 0);
  EXPECT_NE(out.str().find("Usage: thalweg archive list [OPTIONS]"), std::string::npos) << out.str();
  EXPECT_NE(out.str().find("  thalweg archive list"), std::string::npos) << out.str();
  EXPECT_NE(out.str().find("thalweg --help"), std::string::npos) << "where the options of all commands are";
  out.str({});
  EXPECT_EQ(run_with({"archive", "--help"}, out).exit, 0);
  EXPECT_NE(out.str().find("Usage: thalweg archive [OPTIONS] SUBCOMMAND"), std::string::npos) << out.str();
  EXPECT_EQ(out.str().find("stream list"), std::string::npos) << "an example of something else";
}

Outcome run_with(const std::vector<std::string>& arguments) {
  std::ostringstream out;
  return run_with(arguments, out);
}

TEST(Arguments, a_number_or_quantity_that_is_none_is_named_with_what_is_wanted) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases{
      {{"pub", "--rate", "-1"}, "--rate: needs a number, 0 or more; found '-1'"},
      {{"pub", "--rate", "nan"}, "--rate: needs a number, 0 or more; found 'nan'"},
      {{"pub", "--rate", "fast"}, "--rate: needs a number, 0 or more; found 'fast'"},
      {{"pub", "--count", "0"}, "--count: needs a whole number, 1 or more; found '0'"},
      {{"capture", "a", "/tmp/x", "--count", "-1"}, "--count: needs a whole number, 1 or more; found '-1'"},
      {{"pub", "--size", "big"}, "--size needs a size such as 288, 64KiB or 1MiB; found 'big'"},
      {{"top", "--interval", "-1s"}, "--interval needs a duration such as 500us, 100ms or 5s; found '-1s'"},
      {{"pub", "--stream", "abc"}, "--stream needs a number in its range; found 'abc'"},
      {{"pub", "--stream", "99999999999"}, "--stream needs a number in its range; found '99999999999'"},
      {{"stat", "--watch=abc"}, "--watch needs a duration such as 500us, 100ms or 5s; found 'abc'"},
  };
  for (const auto& [arguments, wanted] : cases) {
    const Outcome outcome = run_with(arguments);
    EXPECT_EQ(outcome.exit, static_cast<int>(Exit::kUsage));
    EXPECT_NE(outcome.error.find(wanted), std::string::npos) << outcome.error;
  }
}

TEST(Results, that_cannot_be_written_are_no_success) {
  std::ofstream full{"/dev/full"};
  const Outcome outcome = run_with({"--version"}, full);
  EXPECT_EQ(outcome.exit, static_cast<int>(Exit::kFailed));
  EXPECT_NE(outcome.error.find("could not be written"), std::string::npos);
}

// `text` as a shell would split it; a comment ends it.
std::vector<std::string> split_command(const std::string& text) {
  std::vector<std::string> words;
  std::string word;
  char quote = 0;
  for (const char c : text + " ") {
    if (quote == 0 && (c == '#' || c == '|' || c == '&')) break;
    if (quote == 0 && (c == '\'' || c == '"')) {
      quote = c;
    } else if (c == quote) {
      quote = 0;
    } else if (quote == 0 && c == ' ') {
      if (!word.empty()) words.push_back(std::move(word));
      word.clear();
    } else {
      word += c;
    }
  }
  return words;
}

// Every `thalweg ...` in back quotes or at the begin of a line of a page for operators.
std::vector<std::string> commands_in(const std::string& page) {
  static const std::regex kCommand{"(?:^|\\n)thalweg ([^\\n]+)|`thalweg ([^`\\n]+)`"};
  std::vector<std::string> commands;
  for (std::sregex_iterator at{page.begin(), page.end(), kCommand}, end; at != end; ++at) commands.push_back((*at)[1].str() + (*at)[2].str());
  return commands;
}

// Takes away what the verbs do, and gives it to `kept`: what the options write into lives in there.
void disarm(CLI::App& app, std::vector<std::function<void()>>& kept) {
  struct Access : CLI::App {
    static auto callback() { return &Access::final_callback_; }
  };
  kept.push_back(app.*Access::callback());
  app.callback({});
  for (CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; })) disarm(*verb, kept);
}

TEST(Documentation, shows_commands_that_the_grammar_takes) {
  int seen = 0;
  for (const char* path : {"README.md", "docs/operate/install.md", "docs/operate/host-setup.md", "docs/operate/configure.md", "docs/operate/what-to-do-when.md"}) {
    for (const std::string& command : commands_in(read(kRoot + "/" + path))) {
      std::vector<std::string> words = split_command(command);
      Context context{Output::standard(), {}, Exit::kOk};
      const auto grammar = make_grammar(context);
      std::vector<std::function<void()>> kept;
      disarm(*grammar, kept);
      std::reverse(words.begin(), words.end());
      EXPECT_NO_THROW(grammar->parse(words)) << path << ": thalweg " << command;
      ++seen;
    }
  }
  EXPECT_GT(seen, 10) << "the pages are not read as they are written";
}

// What bash offers for the last of these words.
std::string completed(const std::string& words) {
  const std::string script = "source " + kRoot + "/config/system/thalweg.bash; COMP_WORDS=(thalweg " + words +
                             "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _thalweg; echo \"${COMPREPLY[*]}\"";
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> shell{::popen(("bash -c '" + script + "'").c_str(), "r"), &::pclose};
  std::string text;
  std::array<char, 4096> buffer{};
  while (std::fgets(buffer.data(), buffer.size(), shell.get()) != nullptr) text += buffer.data();
  return text.substr(0, text.find('\n'));
}

TEST(Completion, offers_verbs_options_and_file_names) {
  EXPECT_EQ(completed("stre"), "stream");
  EXPECT_EQ(completed("stream \"\""), "list why");
  EXPECT_EQ(completed("stream list --back"), "--backlogged");
  EXPECT_EQ(completed("--directory /x stream list --back"), "--backlogged") << "the value of an option is no verb";
  EXPECT_EQ(completed("config check " + kRoot + "/config/default.ya"), kRoot + "/config/default.yaml");
  EXPECT_EQ(completed("up --config " + kRoot + "/config/default.ya"), kRoot + "/config/default.yaml");
  EXPECT_EQ(completed("stream list --dir"), "--directory") << "options of every verb";
  EXPECT_EQ(completed("top --interval \"\""), "") << "a value nobody can guess";
  EXPECT_EQ(completed("nonsense \"\""), completed("\"\"")) << "a typing error leads nowhere";
}

}  // namespace
}  // namespace thalweg::cli
