// thalweg host check: one line for each thing that matters.
#include "controlplane/cli/host_check.hpp"
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
}

}  // namespace thalweg::cli
