// Generated pages are current, and the completion completes in a real shell.
#include "controlplane/cli/grammar.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <memory>
#include <sstream>

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
  EXPECT_EQ(completed("stream \"\""), "list");
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
