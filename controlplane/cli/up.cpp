// thalweg up: both processes of an instance, as a configuration file says.
#include "controlplane/cli/run_instance.hpp"
#include "controlplane/cli/verbs.hpp"

namespace thalweg::cli {
namespace {

struct UpOptions {
  std::vector<std::string> set;
  InstanceStart start{.verb = "up", .config = {}, .settings = {}};
};

Exit up(Context& context, UpOptions options) {
  if (!context.directory.empty()) options.set.push_back("instance.directory=" + context.directory);
  options.start.settings = config::make_overrides(options.set).flags;
  const auto loaded = load_configuration(options.start);
  return loaded ? run_instance(context, options.start, loaded->config) : context.out.fail("up", loaded.error());
}

}  // namespace

void register_up(CLI::App& root, Context& context) {
  CLI::App* verb = root.add_subcommand("up", "Start an instance and keep it running until interrupted");
  const auto options = std::make_shared<UpOptions>();
  verb->add_option("-c,--config", options->start.config, "Configuration file; none: the built-in defaults")->type_name("FILE");
  verb->add_option("--set", options->set, "Override one key, as section.key=value; may be repeated")->type_name("KEY=VALUE")->expected(1)->take_all();
  add_duration(*verb, "--ready-timeout", options->start.ready_timeout_ns, "Give up when it is not ready by then (default 60s)");
  verb->add_flag("--check", options->start.is_check, "Only say whether this program could start such an instance, or take its processes over");
  set_example(*verb, "up --config /etc/thalweg/thalweg.yaml --set logging.level=debug");
  on_run(*verb, context, [&context, options] { return up(context, *options); });
}

}  // namespace thalweg::cli
