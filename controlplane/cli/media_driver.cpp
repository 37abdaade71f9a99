// thalweg media-driver: an instance that takes the settings of the stock driver's executable.
#include <sys/stat.h>

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "config/schema/print.hpp"
#include "controlplane/cli/run_instance.hpp"
#include "controlplane/cli/stock_settings.hpp"
#include "controlplane/cli/verbs.hpp"
#include "dataplane/core/cpu_plan.hpp"
#include "dataplane/shm/cnc.hpp"

namespace thalweg::cli {
namespace {

struct MediaDriverOptions {
  std::vector<std::string> files;    // of properties
  std::vector<std::string> defines;
  std::vector<std::string> set;
  InstanceStart start{.verb = "media-driver", .config = {}, .settings = {}};
};

// Environment, then files, then definitions: what comes later counts.
Result<std::vector<StockSetting>> gather(const MediaDriverOptions& options) {
  std::vector<StockSetting> all = stock_settings_of_environment();
  for (const std::string& file : options.files) {
    auto settings = read_properties(file);
    if (!settings) return settings;
    all.insert(all.end(), settings->begin(), settings->end());
  }
  for (const std::string& definition : options.defines) {
    auto setting = stock_setting_of(definition);
    if (!setting) return tl::unexpected{setting.error()};
    all.push_back(std::move(*setting));
  }
  return all;
}

Result<StockTranslation> translated(const MediaDriverOptions& options) {
  const auto all = gather(options);
  if (!all) return tl::unexpected{all.error()};
  StockTranslation translation =
      translate(*all, {.cpu_count = static_cast<std::uint32_t>(core::read_machine().allowed.cpus.size()), .has_configuration = !options.start.config.empty()});
  if (translation.errors.empty()) return translation;
  std::string text;
  for (const config::Diagnostic& error : translation.errors) text += (text.empty() ? "" : "\n") + error.to_string();
  return fail(ErrorCode::kInvalidConfig, text, "docs/reference/media-driver.md lists what each setting may be");
}

// A THALWEG_* variable is meant for us, so it counts more than one for any driver; --directory and --set count most.
void add_settings(InstanceStart& start, const StockTranslation& translation, const std::vector<std::string>& set) {
  const config::Overrides own = config::make_overrides(set);
  for (const auto& setting : translation.settings) {
    const bool is_overridden = std::any_of(own.environment.begin(), own.environment.end(), [&](const auto& other) { return other.path == setting.path; });
    if (!is_overridden) start.settings.push_back(setting);
  }
  start.settings.insert(start.settings.end(), own.flags.begin(), own.flags.end());
}

std::string text_of(const std::vector<config::FrameLoss>& losses) {
  nlohmann::json list = nlohmann::json::array();  // which is YAML as well
  for (const config::FrameLoss& loss : losses) list.push_back({{"way", loss.way}, {"types", loss.types}, {"loss", loss.loss}, {"seed", loss.seed}});
  return list.dump();
}

// Loss on every port: those that are listed, or the two that are made when none is.
void add_losses(Context& context, InstanceStart& start, const std::vector<config::FrameLoss>& losses, const config::Config& config) {
  const std::string text = text_of(losses);
  const std::string origin = "the stock driver's loss settings";
  for (const config::Port& port : config.ports) start.settings.push_back({fmt::format("ports.{}.impair.frames", port.name), text, origin});
  for (const char* const type : {"loopback", "kernel"}) {
    const bool is_listed = std::any_of(config.ports.begin(), config.ports.end(), [&](const config::Port& port) { return port.type == type; });
    if (!config.ports.empty() && !is_listed) context.out.note(fmt::format("thalweg media-driver: nothing is lost on the {} port, which the configuration does not list", type));
  }
  if (!config.ports.empty()) return;
  const std::string impair = "impair: {frames: " + text + "}";
  start.settings.push_back({"ports", fmt::format("[{{name: loopback, type: loopback, {0}}}, {{name: kernel, type: kernel, {0}}}]", impair), origin});
}

void warn_if_exists(Context& context, const config::Config& config) {
  const std::string directory = config.instance.directory.empty() ? shm::default_directory() : config.instance.directory;
  struct stat status {};
  if (::stat(directory.c_str(), &status) == 0) context.out.note("thalweg media-driver: " + directory + " exists already");
}

Exit media_driver(Context& context, MediaDriverOptions options) {
  const auto translation = translated(options);
  if (!translation) return context.out.fail("media-driver", translation.error());
  const bool is_first = !options.start.is_check && !is_successor();
  if (is_first) {
    for (const std::string& note : translation->notes) context.out.note("thalweg media-driver: " + note);
  }
  if (!context.directory.empty()) options.set.push_back("instance.directory=" + context.directory);
  add_settings(options.start, *translation, options.set);
  auto loaded = load_configuration(options.start);
  if (loaded && !translation->frame_losses.empty()) {
    add_losses(context, options.start, translation->frame_losses, loaded->config);
    loaded = load_configuration(options.start);
  }
  if (!loaded) return context.out.fail("media-driver", loaded.error());
  if (!is_first) return run_instance(context, options.start, loaded->config);
  if (translation->warns_if_directory_exists) warn_if_exists(context, loaded->config);
  if (translation->prints_configuration && !context.out.is_json()) context.out.raw(config::to_yaml(*loaded, true));
  return run_instance(context, options.start, loaded->config);
}

}  // namespace

void register_media_driver(CLI::App& root, Context& context) {
  CLI::App* verb = root.add_subcommand("media-driver", "Start an instance in place of a stock media driver: with its environment variables and properties files, and without YAML");
  const auto options = std::make_shared<MediaDriverOptions>();
  verb->add_option("files", options->files, "Properties files (aeron.mtu.length=8k); they count more than AERON_* variables")->type_name("FILE");
  verb->add_option("-D,--define", options->defines, "One property, as aeron.name=value; counts more than files; may be repeated")
      ->type_name("NAME=VALUE")->expected(1)->take_all();
  verb->add_option("-c,--config", options->start.config, "Configuration file for what the stock driver has no settings for, such as further ports")->type_name("FILE");
  verb->add_option("--set", options->set, "Override one key of the configuration, as section.key=value; may be repeated")->type_name("KEY=VALUE")->expected(1)->take_all();
  add_duration(*verb, "--ready-timeout", options->start.ready_timeout_ns, "Give up when it is not ready by then (default 60s)");
  verb->add_flag("--check", options->start.is_check, "Only say whether this program could start such an instance, or take its processes over");
  set_example(*verb, "media-driver -D aeron.dir=/dev/shm/aeron-me -D aeron.threading.mode=SHARED");
  on_run(*verb, context, [&context, options] { return media_driver(context, *options); });
}

}  // namespace thalweg::cli
