#include "controlplane/cli/grammar.hpp"

#include <fmt/format.h>

#include <functional>
#include <vector>

#include "config/schema/reference.hpp"
#include "controlplane/cli/stock_settings.hpp"

namespace thalweg::cli {
namespace {

std::vector<const CLI::App*> verbs_of(const CLI::App& app) {
  auto verbs = app.get_subcommands([](const CLI::App* sub) { return !sub->get_name().empty(); });
  return {verbs.begin(), verbs.end()};
}

// Every noun and verb behind `app`, with the words that lead there.
void walk(const CLI::App& app, const std::string& path, const std::function<void(const CLI::App&, const std::string&)>& visit) {
  for (const CLI::App* sub : verbs_of(app)) {
    const std::string words = path.empty() ? sub->get_name() : path + " " + sub->get_name();
    visit(*sub, words);
    walk(*sub, words, visit);
  }
}

bool is_positional(const CLI::Option& option) { return option.get_lnames().empty() && option.get_snames().empty(); }
bool takes_value(const CLI::Option& option) { return option.get_expected_max() > 0 && option.get_type_size_max() > 0; }
bool is_value_optional(const CLI::Option& option) { return takes_value(option) && option.get_expected_min() == 0; }
bool is_help(const CLI::Option& option) { return option.check_lname("help"); }

std::vector<const CLI::Option*> options_of(const CLI::App& app) {
  std::vector<const CLI::Option*> options;
  for (const CLI::Option* option : app.get_options()) {
    if (!is_help(*option)) options.push_back(option);
  }
  return options;
}

// "-c, --config" or the name of a positional.
std::string names_of(const CLI::Option& option) {
  if (is_positional(option)) return option.get_name(true);
  std::string names;
  for (const std::string& name : option.get_snames()) names += (names.empty() ? "-" : ", -") + name;
  for (const std::string& name : option.get_lnames()) names += (names.empty() ? "--" : ", --") + name;
  return names;
}

// "FILE", "[DURATION]", "" for flags; checks that CLI11 appends ("INT:POSITIVE") are left out.
std::string value_of(const CLI::Option& option) {
  if (!takes_value(option) || is_positional(option)) return {};
  std::string type = option.get_type_name();
  type = type.substr(0, type.find(':'));
  if (type.empty()) type = "VALUE";
  return is_value_optional(option) ? "[" + type + "]" : type;
}

std::string positional_usage(const CLI::App& app) {
  std::string usage;
  for (const CLI::Option* option : options_of(app)) {
    const std::string name = option->get_name(true);
    if (option->get_positional() && !name.empty()) usage += option->get_required() ? " <" + name + ">" : " [" + name + "]";
  }
  return usage;
}

// The example that set_example() left in the footer, without "Example:".
std::string example_of(const CLI::App& app) {
  const std::string footer = app.get_footer();
  const std::size_t begin = footer.find("  thalweg ");
  return begin == std::string::npos ? std::string{} : footer.substr(begin + 2);
}

struct ExitText {
  int code;
  const char* text;
};
constexpr ExitText kExits[] = {{0, "everything went well"},
                               {1, "failed; standard error says why"},
                               {2, "the command line, a channel or an argument is wrong"},
                               {3, "no instance can be reached"},
                               {4, "a check found problems"},
                               {5, "not in time"}};

// ---- scdoc ----
std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '_' || c == '*' || c == '\\' || c == '#' || c == '~' || c == '`') out += '\\';
    out += c;
  }
  return out;
}

std::string man_options(const CLI::App& app) {
  std::string text;
  for (const CLI::Option* option : options_of(app)) {
    const std::string value = value_of(*option);
    text += fmt::format("*{}*{}\n\t{}.\n\n", escaped(names_of(*option)), value.empty() ? "" : " _" + escaped(value) + "_", escaped(option->get_description()));
  }
  return text;
}

// ---- bash ----
std::string long_names(const CLI::App& app, const std::function<bool(const CLI::Option&)>& is_wanted) {
  std::string names;
  for (const CLI::Option* option : app.get_options()) {
    if (!is_wanted(*option)) continue;
    for (const std::string& name : option->get_lnames()) names += (names.empty() ? "--" : " --") + name;
  }
  return names;
}

bool takes_file(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  return type == "FILE" || type == "DIR" || type == "PATH";
}

bool has_file_argument(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional() && takes_file(*option)) return true;
  }
  return false;
}

std::string bash_case(const CLI::App& app, const std::string& path) {
  std::string words;
  for (const CLI::App* sub : verbs_of(app)) words += (words.empty() ? "" : " ") + sub->get_name();
  const auto must_have_value = [](const CLI::Option& option) { return takes_value(option) && !is_value_optional(option); };
  return fmt::format("    '{}')\n      verbs='{}'\n      options='{}'\n      valued='{}'\n      files='{}'\n      takes_files={}\n      ;;\n", path, words,
                     long_names(app, [](const CLI::Option&) { return true; }), long_names(app, must_have_value), long_names(app, takes_file),
                     has_file_argument(app) ? 1 : 0);
}

constexpr const char* kBashHead = R"(# Completion of thalweg for bash. Generated by `ninja cli-reference`; do not edit.
_thalweg_grammar() {
  case $1 in
)";
constexpr const char* kBashTail = R"(    *) verbs='' options='' valued='' files='' takes_files=0 ;;
  esac
}

_thalweg() {
  local current=${COMP_WORDS[COMP_CWORD]} previous='' path='' verbs='' options='' valued='' files='' takes_files=0
  local root_options root_valued root_files word i
  COMPREPLY=()
  _thalweg_grammar ''
  root_options=$options root_valued=$valued root_files=$files
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    if [[ " $valued $root_valued " == *" $previous "* && -n $previous ]]; then
      previous=''
      continue
    fi
    previous=$word
    if [[ $word != -* && " $verbs " == *" $word "* ]]; then
      path=${path:+$path }$word
      _thalweg_grammar "$path"
    fi
  done
  if [[ -n $previous && " $valued $root_valued " == *" $previous "* ]]; then
    if [[ " $files $root_files " == *" $previous "* ]]; then mapfile -t COMPREPLY < <(compgen -f -- "$current"); fi
  elif [[ $current == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$options $root_options" -- "$current" | sort -u)
  elif [[ -n $verbs ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$verbs" -- "$current")
  elif ((takes_files)); then
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  fi
}
complete -o filenames -F _thalweg thalweg
)";

std::string stock_settings_page() {
  std::string page = "# Settings of thalweg media-driver\n\nGenerated from controlplane/cli/stock_settings.cpp by `ninja cli-reference`; do not edit.\n\n"
                     "What the stock driver's executable reads, and the key of our configuration (docs/reference/configuration.md) that it sets. The name of the property of "
                     "the same meaning is that of the variable in lower case with dots: AERON_MTU_LENGTH is aeron.mtu.length. Precedence: configuration file (`--config`), "
                     "AERON_* variables, properties files, `-D`, THALWEG_* variables, `--directory` and `--set`.\n\n"
                     "Sizes may end in k, m or g, durations in ns, us, ms or s; without a suffix they are bytes and nanoseconds. Settings that are unknown, or without effect "
                     "here, are named on standard error when the driver starts; values that cannot be granted end the start.\n\n"
                     "| variable | key | remark |\n|---|---|---|\n";
  for (const StockKey& key : stock_keys()) {
    page += fmt::format("| {} | {} | {}{} |\n", key.name, key.path.empty() ? "" : fmt::format("`{}`", key.path), key.has_effect ? "" : "no effect: ", key.remark);
  }
  return page;
}

}  // namespace

std::string reference_page(const CLI::App& root) {
  std::string page = "# thalweg\n\nGenerated from the command's grammar by `ninja cli-reference`; do not edit.\n\n" + root.get_description() + ".\n\n";
  const auto table = [](const CLI::App& app) {
    std::string rows;
    for (const CLI::Option* option : options_of(app)) {
      const std::string value = value_of(*option);
      rows += fmt::format("| `{}{}` | {} |\n", names_of(*option), value.empty() ? "" : " " + value, option->get_description());
    }
    return rows.empty() ? std::string{} : "| option | meaning |\n|---|---|\n" + rows + "\n";
  };
  page += "Options of every verb:\n\n" + table(root);
  page += "| exit code | meaning |\n|---|---|\n";
  for (const ExitText& exit : kExits) page += fmt::format("| {} | {} |\n", exit.code, exit.text);
  walk(root, {}, [&](const CLI::App& app, const std::string& path) {
    if (!verbs_of(app).empty()) return;
    page += fmt::format("\n## thalweg {}{}\n\n{}.\n\n{}", path, positional_usage(app), app.get_description(), table(app));
    if (const std::string example = example_of(app); !example.empty()) page += "```\n" + example + "\n```\n";
  });
  return page;
}

std::string man_page(const CLI::App& root) {
  std::string page = "thalweg(1)\n\n# NAME\n\nthalweg - start, watch and check a Thalweg messaging appliance\n\n# SYNOPSIS\n\n*thalweg* [options] _verb_ [arguments]\n\n"
                     "# DESCRIPTION\n\nResults go to standard output, everything else to standard error. With *--json* results and errors are JSON with raw units "
                     "(bytes, nanoseconds) and fields that stay.\n\n# OPTIONS OF EVERY VERB\n\n";
  page += man_options(root);
  page += "# VERBS\n\n";
  walk(root, {}, [&](const CLI::App& app, const std::string& path) {
    if (!verbs_of(app).empty()) return;
    page += fmt::format("## thalweg {}{}\n\n{}.\n\n{}", path, escaped(positional_usage(app)), escaped(app.get_description()), man_options(app));
    if (const std::string example = example_of(app); !example.empty()) page += "```\n" + example + "\n```\n\n";
  });
  page += "# EXIT STATUS\n\n";
  for (const ExitText& exit : kExits) page += fmt::format("*{}*\n\t{}.\n\n", exit.code, exit.text);
  page += "# ENVIRONMENT\n\n*AERON\\_DIR*\n\tInstance directory, where neither the option nor the configuration names one.\n\n"
          "*AERON\\_...*\n\tThe stock driver's settings, for *thalweg media-driver*; docs/reference/media-driver.md lists them.\n\n"
          "*THALWEG\\_SECTION\\_KEY*\n\tOverrides one key of the configuration, such as THALWEG\\_STREAMS\\_MTU=1408.\n\n"
          "*NO\\_COLOR*\n\tNo colours on a terminal.\n\n# SEE ALSO\n\n*thalweg.yaml*(5), *thalweg-controlplane*(8), *thalweg-dataplane*(8)\n";
  return page;
}

std::string bash_completion(const CLI::App& root) {
  std::string script = kBashHead + bash_case(root, {});
  walk(root, {}, [&](const CLI::App& app, const std::string& path) { script += bash_case(app, path); });
  return script + kBashTail;
}

std::vector<std::pair<std::string, std::string>> generated_files() {
  Context context{Output::standard(), {}, Exit::kOk};
  const auto root = make_grammar(context);
  const std::string yaml = "thalweg.yaml(5)\n\n# NAME\n\nthalweg.yaml - configuration of a Thalweg instance\n\n# DESCRIPTION\n\n"
                           "One file for both processes. A file on the command line is overridden by THALWEG\\_SECTION\\_KEY variables, and these by "
                           "*--set* section.key=value. *thalweg config check* reports every mistake with its line, *thalweg config show --effective* every value "
                           "with its origin.\n\n# KEYS\n\nEvery key with its default:\n\n```\n" +
                           config::default_yaml() + "```\n\n# SEE ALSO\n\n*thalweg*(1)\n";
  return {{"docs/reference/cli.md", reference_page(*root)},
          {"docs/reference/media-driver.md", stock_settings_page()},
          {"docs/man/thalweg.1.scd", man_page(*root)},
          {"docs/man/thalweg.yaml.5.scd", yaml},
          {"config/system/thalweg.bash", bash_completion(*root)}};
}

}  // namespace thalweg::cli
