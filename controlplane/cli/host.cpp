// thalweg host check | init | undo: what the machine is like, what can be mended at once, and that taken back.
#include <fmt/format.h>

#include <algorithm>
#include <iostream>

#include "controlplane/cli/host_check.hpp"
#include "controlplane/cli/host_init.hpp"
#include "controlplane/cli/verbs.hpp"
#include "dataplane/base/time.hpp"
#include "dataplane/shm/cnc.hpp"

namespace thalweg::cli {
namespace {

struct HostOptions {
  std::string config;
  std::vector<std::string> set;
  std::int64_t probe_ns{2 * kSecond_ns};
  bool has_no_probe{};
  bool is_strict{};
};

struct InitOptions {
  std::string config;
  std::vector<std::string> set;
  std::string root;    // "": this machine
  bool is_sure{};      // --yes
  bool is_dry_run{};
};

std::string_view name_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::kOk: return "ok";
    case Verdict::kNote: return "note";
    case Verdict::kWarning: return "warning";
    case Verdict::kProblem: return "problem";
  }
  return "ok";
}

Style style_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::kOk: return Style::kGood;
    case Verdict::kNote: return Style::kFaint;
    case Verdict::kWarning: return Style::kWarn;
    case Verdict::kProblem: return Style::kBad;
  }
  return Style::kPlain;
}

// The CPUs that lanes will have; where they float, every CPU they may float on.
std::vector<std::uint32_t> cpus_to_probe(const config::Config& config, const core::Machine& machine) {
  std::vector<core::LaneOptions> lanes;
  for (const config::Lane& lane : config.dataplane.lanes) lanes.push_back({lane.cpu, lane.ports});
  const auto mode = config.dataplane.cpu_mode == config::CpuMode::kExclusive ? core::CpuMode::kExclusive : core::CpuMode::kShared;
  std::vector<std::uint32_t> cpus;
  if (const auto plan = core::plan_cpus(machine, lanes, mode, static_cast<std::uint32_t>(config.ports.size() + 2))) {
    for (const core::LanePlan& lane : plan->lanes) {
      if (lane.cpu) cpus.push_back(*lane.cpu);
    }
  }
  return cpus.empty() ? machine.allowed.cpus : cpus;
}

Exit check(Context& context, HostOptions options) {
  if (!context.directory.empty()) options.set.push_back("instance.directory=" + context.directory);
  const auto config = config::load_file(options.config, options.set);
  if (!config) return context.out.fail("host check", config.error());
  const Host host = this_host(config->instance.directory.empty() ? shm::default_directory() : config->instance.directory);
  std::vector<Finding> findings = check_host(*config, host);
  if (!options.has_no_probe && options.probe_ns > 0) {
    for (const ClockGap& gap : measure_clock_gaps(cpus_to_probe(*config, host.machine), options.probe_ns)) {
      findings.push_back(judge(gap, host.machine.isolated.contains(gap.cpu)));
    }
  }
  Table table{"findings", {{"item", "ITEM"}, {"verdict", "STATE"}, {"need", "WE NEED"}, {"found", "WE FOUND"}, {"fix", "WHAT HELPS"}}};
  Verdict worst = Verdict::kOk;
  for (const Finding& finding : findings) {
    worst = std::max(worst, finding.verdict);
    table.add({finding.item, Cell{name_of(finding.verdict)}.styled(style_of(finding.verdict)), finding.need, finding.found, finding.fix.empty() ? Cell{} : Cell{finding.fix}});
  }
  context.out.print(table);
  context.out.value("worst", "worst", Cell{name_of(worst)}.styled(style_of(worst)));
  return worst >= (options.is_strict ? Verdict::kWarning : Verdict::kProblem) ? Exit::kProblems : Exit::kOk;
}

Table steps_table() { return Table{"steps", {{"why", "WHY"}, {"command", "COMMAND"}, {"result", "RESULT"}}}; }

// On a terminal somebody may say no; elsewhere --yes has said yes.
Result<bool> is_wanted(Context& context, const InitOptions& options, std::string_view verb) {
  if (options.is_sure) return true;
  if (!context.out.is_terminal() || context.out.is_json()) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("{} changes this machine: say --yes, or --dry-run to see how", verb));
  }
  context.out.line("Go on? [y/N]");
  context.out.flush();
  std::string answer;
  std::getline(std::cin, answer);
  return answer == "y" || answer == "Y" || answer == "yes";
}

Exit print_plan(Context& context, const std::vector<HostStep>& steps, bool is_undo) {
  Table table = steps_table();
  for (const HostStep& step : steps) {
    for (const FileWrite& write : is_undo ? step.undo : step.writes) table.add({step.why, write.command(), Cell{}});
  }
  context.out.print(table, is_undo ? "nothing to undo" : "nothing to do");
  return Exit::kOk;
}

// Each command is printed with what came of it; the first failure ends it. What is done is kept for `host undo` before it is done: whoever is
// killed in between leaves a step too many there, which changes nothing, and none too few.
Exit do_steps(Context& context, const std::vector<HostStep>& steps, const Host& host) {
  auto done = load_steps(host);
  if (!done) return context.out.fail("host init", done.error());
  Table table = steps_table();
  Result<void> result;
  for (const HostStep& step : steps) {
    done->push_back(step);
    if (result = save_steps(*done, host); !result) break;
    result = apply(step, host);
    for (const FileWrite& write : step.writes) table.add({step.why, write.command(), result ? Cell{"done"}.styled(Style::kGood) : Cell{"failed"}.styled(Style::kBad)});
    if (result) continue;
    done->pop_back();
    if (const auto saved = save_steps(*done, host); !saved) context.out.note("note: " + saved.error().message);
    break;
  }
  context.out.print(table);
  return result ? Exit::kOk : context.out.fail("host init", result.error());
}

Host host_of(const InitOptions& options, const std::string& instance_directory) {
  Host host = this_host(instance_directory);
  host.root = options.root;
  return host;
}

// Whoever sets up a copy of a machine's files needs no more than to write them.
bool may_change(const Host& host) noexcept { return host.user_id == 0 || !host.root.empty(); }

Exit init(Context& context, InitOptions options) {
  if (!context.directory.empty()) options.set.push_back("instance.directory=" + context.directory);
  const auto config = config::load_file(options.config, options.set);
  if (!config) return context.out.fail("host init", config.error());
  const Host host = host_of(options, config->instance.directory.empty() ? shm::default_directory() : config->instance.directory);
  const auto steps = plan_host(*config, host);
  if (!steps) return context.out.fail("host init", steps.error());
  if (options.is_dry_run || steps->empty()) return print_plan(context, *steps, false);
  if (!may_change(host)) return context.out.fail("host init", Error{ErrorCode::kPermission, "only root may change the machine", "sudo thalweg host init, or --dry-run to see the commands"});
  if (!options.is_sure && context.out.is_terminal()) static_cast<void>(print_plan(context, *steps, false));
  const auto wanted = is_wanted(context, options, "host init");
  if (!wanted) return context.out.fail("host init", wanted.error());
  return *wanted ? do_steps(context, *steps, host) : Exit::kOk;
}

Exit undo_all(Context& context, const InitOptions& options) {
  const Host host = host_of(options, "/");
  auto steps = load_steps(host);
  if (!steps) return context.out.fail("host undo", steps.error());
  if (options.is_dry_run || steps->empty()) return print_plan(context, {steps->rbegin(), steps->rend()}, true);
  if (!may_change(host)) return context.out.fail("host undo", Error{ErrorCode::kPermission, "only root may change the machine", "sudo thalweg host undo"});
  const auto wanted = is_wanted(context, options, "host undo");
  if (!wanted) return context.out.fail("host undo", wanted.error());
  if (!*wanted) return Exit::kOk;
  Table table = steps_table();
  Result<void> result;
  while (!steps->empty() && result) {
    const HostStep& step = steps->back();
    const auto left = undo(step, host);
    if (!left) {
      result = tl::unexpected{left.error()};
      break;
    }
    for (const FileWrite& write : step.undo) {
      const bool is_left = std::find(left->begin(), left->end(), write.command()) != left->end();
      table.add({step.why, write.command(), is_left ? Cell{"left: somebody has changed it since"}.styled(Style::kWarn) : Cell{"done"}.styled(Style::kGood)});
    }
    steps->pop_back();
    result = save_steps(*steps, host);  // what is left can be tried again
  }
  if (result) forget_steps(host);
  context.out.print(table);
  return result ? Exit::kOk : context.out.fail("host undo", result.error());
}

void add_init_options(CLI::App& verb, InitOptions& options) {
  verb.add_flag("--dry-run", options.is_dry_run, "Print the commands and run none");
  verb.add_flag("--yes", options.is_sure, "Do not ask; needed where nobody can answer");
  verb.add_option("--root", options.root, "Another machine's files: the directory that has its proc, sys and run")->type_name("DIR");
}

void register_init(CLI::App& noun, Context& context) {
  CLI::App* verb = noun.add_subcommand("init", "Set the machine up for a configuration, until the next boot: hugepages, governors, socket buffers, devices; prints each command it runs");
  const auto options = std::make_shared<InitOptions>();
  verb->add_option("-c,--config", options->config, "Configuration file; none: the built-in defaults")->type_name("FILE");
  verb->add_option("--set", options->set, "Override one key, as section.key=value; may be repeated")->type_name("KEY=VALUE")->expected(1)->take_all();
  add_init_options(*verb, *options);
  set_example(*verb, "host init --config /etc/thalweg/thalweg.yaml --dry-run");
  on_run(*verb, context, [&context, options] { return init(context, *options); });

  CLI::App* back = noun.add_subcommand("undo", "Take back what host init did, last first; what somebody has changed since is left");
  const auto undo_options = std::make_shared<InitOptions>();
  add_init_options(*back, *undo_options);
  set_example(*back, "host undo --yes");
  on_run(*back, context, [&context, undo_options] { return undo_all(context, *undo_options); });
}

}  // namespace

void register_host(CLI::App& root, Context& context) {
  CLI::App* noun = root.add_subcommand("host", "The machine below the instance")->require_subcommand(1);
  CLI::App* verb = noun->add_subcommand("check", "What a configuration needs, what this machine has, and what helps; exit 4 on problems");
  const auto options = std::make_shared<HostOptions>();
  verb->add_option("-c,--config", options->config, "Configuration file; none: the built-in defaults")->type_name("FILE");
  verb->add_option("--set", options->set, "Override one key, as section.key=value; may be repeated")->type_name("KEY=VALUE")->expected(1)->take_all();
  add_duration(*verb, "--probe", options->probe_ns, "How long to look for clock gaps on the lanes' CPUs (default 2s)");
  verb->add_flag("--no-probe", options->has_no_probe, "Do not look for clock gaps");
  verb->add_flag("--strict", options->is_strict, "Exit 4 on warnings, too");
  set_example(*verb, "host check --config /etc/thalweg/thalweg.yaml");
  on_run(*verb, context, [&context, options] { return check(context, *options); });
  register_init(*noun, context);
}

}  // namespace thalweg::cli
