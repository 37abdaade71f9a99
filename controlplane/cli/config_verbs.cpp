// thalweg config check | show | diff.
#include "config/schema/config.hpp"
#include "config/schema/print.hpp"
#include "controlplane/cli/verbs.hpp"

namespace thalweg::cli {
namespace {

struct Source {
  std::string file;
  std::vector<std::string> set;
};

void add_source(CLI::App& verb, Source& source) {
  verb.add_option("-c,--config,file", source.file, "Configuration file; none: the built-in defaults")->type_name("FILE");
  verb.add_option("--set", source.set, "Override one key, as section.key=value; may be repeated")->type_name("KEY=VALUE")->expected(1)->take_all();
}

// Every diagnostic to standard error, or as a JSON list.
Exit report(Output& out, const std::vector<config::Diagnostic>& errors) {
  if (out.is_json()) {
    Table table{"errors", {{"file", "FILE"}, {"line", "LINE", Unit::kCount}, {"column", "COLUMN", Unit::kCount}, {"message", "MESSAGE"}}};
    for (const auto& error : errors) table.add({error.file, error.line, error.column, error.text});
    out.print(table);
  }
  for (const auto& error : errors) out.note(error.to_string());
  return errors.empty() ? Exit::kOk : Exit::kProblems;
}

Exit check(Context& context, const Source& source) {
  const auto loaded = config::load(source.file, config::make_overrides(source.set));
  if (!loaded) return context.out.fail("config check", loaded.error());
  const Exit exit = report(context.out, loaded->errors);
  if (exit == Exit::kOk) context.out.line((source.file.empty() ? "the built-in configuration" : source.file) + ": valid", Style::kGood);
  return exit;
}

Exit show(Context& context, const Source& source, bool is_effective) {
  const auto loaded = config::load(source.file, config::make_overrides(source.set));
  if (!loaded) return context.out.fail("config show", loaded.error());
  if (const Exit exit = report(context.out, loaded->errors); exit != Exit::kOk) return exit;
  if (!context.out.is_json()) {
    context.out.raw(config::to_yaml(*loaded, is_effective));
    return Exit::kOk;
  }
  Table table{"settings", {{"key", "KEY"}, {"value", "VALUE"}, {"origin", "ORIGIN"}, {"change", "CHANGE"}}};
  for (const auto& s : config::settings_of(*loaded)) {
    if (is_effective || s.is_given) table.add({s.path, s.value, s.origin, s.is_live ? "live" : "restart"});
  }
  context.out.print(table);
  return Exit::kOk;
}

Exit diff(Context& context, const std::string& before_file, const std::string& after_file) {
  const auto before = config::load(before_file, {});
  if (!before) return context.out.fail("config diff", before.error());
  const auto after = config::load(after_file, {});
  if (!after) return context.out.fail("config diff", after.error());
  if (const Exit exit = report(context.out, before->errors); exit != Exit::kOk) return exit;
  if (const Exit exit = report(context.out, after->errors); exit != Exit::kOk) return exit;
  Table table{"changes", {{"key", "KEY"}, {"before", "BEFORE"}, {"after", "AFTER"}, {"change", "NEEDS"}}};
  for (const auto& change : config::differences(*before, *after)) {
    table.add({change.path, change.before, change.after, Cell{change.is_live ? "live" : "restart"}.styled(change.is_live ? Style::kGood : Style::kWarn)});
  }
  context.out.print(table, "no difference");
  return Exit::kOk;
}

}  // namespace

void register_config(CLI::App& root, Context& context) {
  CLI::App* noun = root.add_subcommand("config", "Check, show and compare configuration files")->require_subcommand(1);
  {
    CLI::App* verb = noun->add_subcommand("check", "Report every mistake of a file; exit 4 when there is one");
    const auto source = std::make_shared<Source>();
    add_source(*verb, *source);
    set_example(*verb, "config check /etc/thalweg/thalweg.yaml");
    on_run(*verb, context, [&context, source] { return check(context, *source); });
  }
  {
    CLI::App* verb = noun->add_subcommand("show", "Print what the file and its overrides set");
    const auto source = std::make_shared<Source>();
    const auto is_effective = std::make_shared<bool>(false);
    add_source(*verb, *source);
    verb->add_flag("--effective", *is_effective, "Every key with its value and where it comes from, defaults included");
    set_example(*verb, "config show --effective /etc/thalweg/thalweg.yaml");
    on_run(*verb, context, [&context, source, is_effective] { return show(context, *source, *is_effective); });
  }
  {
    CLI::App* verb = noun->add_subcommand("diff", "Compare two files: what changed and whether that needs a restart");
    const auto before = std::make_shared<std::string>();
    const auto after = std::make_shared<std::string>();
    verb->add_option("before", *before, "The file in use")->required()->type_name("FILE");
    verb->add_option("after", *after, "The new file")->required()->type_name("FILE");
    set_example(*verb, "config diff /etc/thalweg/thalweg.yaml new.yaml");
    on_run(*verb, context, [&context, before, after] { return diff(context, *before, *after); });
  }
}

}  // namespace thalweg::cli
