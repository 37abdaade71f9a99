// thalweg names: the drivers this appliance knows by name, and what a host in a channel stands for.
#include "controlplane/api/control_client.hpp"
#include "controlplane/cli/verbs.hpp"

namespace thalweg::cli {
namespace {

using api::Json;

struct NamesOptions {
  std::string host;
  std::string socket;
};

Result<api::ControlClient> connect(Context& context, const NamesOptions& options) {
  return api::ControlClient::connect(options.socket.empty() ? api::default_socket_path(context.instance_directory()) : options.socket);
}

std::string text_of(const Json& object, const char* key) { return object.value(key, std::string{}); }

Exit resolve(Context& context, api::ControlClient& client, const std::string& host) {
  const auto answer = client.call("resolve", {{"host", host}}, 30'000);  // the system's resolver has patience
  if (!answer) return context.out.fail("names", answer.error());
  context.out.value("host", "host", text_of(*answer, "host"));
  context.out.value("address", "address", text_of(*answer, "address"));
  context.out.value("source", "by", text_of(*answer, "source"));
  return Exit::kOk;
}

void print_known(Output& out, const Json& answer) {
  Table names{"names", {{"name", "NAME"}, {"address", "ADDRESS"}, {"age_ns", "HEARD", Unit::kDuration}}};
  for (const Json& one : answer.value("names", Json::array())) names.add({text_of(one, "name"), text_of(one, "address"), one.value("age_ns", std::int64_t{0})});
  out.line("");
  out.print(names, "no driver has told its name");
  Table neighbors{"neighbors", {{"address", "NEIGHBOUR"}, {"age_ns", "HEARD", Unit::kDuration}}};
  for (const Json& one : answer.value("neighbors", Json::array())) neighbors.add({text_of(one, "address"), one.value("age_ns", std::int64_t{0})});
  out.line("");
  out.print(neighbors, "no neighbours");
  Table bootstraps{"bootstraps", {{"host", "BOOTSTRAP"}, {"address", "ADDRESS"}, {"is_heard", "HEARD"}}};
  for (const Json& one : answer.value("bootstraps", Json::array())) {
    const std::string address = text_of(one, "address");
    const bool is_heard = one.value("is_heard", false);
    bootstraps.add({text_of(one, "host"), address.empty() ? Cell{"unresolved"}.styled(Style::kBad) : Cell{address},
                    Cell{is_heard}.styled(is_heard ? Style::kGood : Style::kWarn)});
  }
  out.line("");
  out.print(bootstraps, "no bootstrap neighbours");
}

Exit names(Context& context, const NamesOptions& options) {
  auto client = connect(context, options);
  if (!client) return context.out.fail("names", client.error());
  if (!options.host.empty()) return resolve(context, *client, options.host);
  const auto answer = client->call("names");
  if (!answer) return context.out.fail("names", answer.error());
  const bool is_enabled = answer->value("is_enabled", false);
  context.out.value("is_enabled", "driver names", is_enabled);
  if (!is_enabled) {
    context.out.line("names.name is empty: hosts are asked of the system alone");
    return Exit::kOk;
  }
  context.out.value("name", "name", text_of(*answer, "name"));
  context.out.value("bound", "bound", text_of(*answer, "bound"));
  print_known(context.out, *answer);
  Table statistics{"statistics", {{"name", "COUNTER"}, {"value", "VALUE", Unit::kCount}}};
  for (const auto& [name, value] : answer->value("statistics", Json::object()).items()) statistics.add({name, value.get<std::int64_t>()});
  context.out.line("");
  context.out.print(statistics);
  return Exit::kOk;
}

}  // namespace

void register_names(CLI::App& root, Context& context) {
  CLI::App* verb = root.add_subcommand("names", "Drivers known by name, and what a host in a channel stands for");
  const auto options = std::make_shared<NamesOptions>();
  verb->add_option("host,--host", options->host, "Resolve this host as a channel's would be: driver names first, then the system")->type_name("HOST");
  verb->add_option("--socket", options->socket, "Control socket; default <directory>/control.sock")->type_name("PATH");
  set_example(*verb, "names --watch 2s");
  on_run_watched(*verb, context, [&context, options] { return names(context, *options); });
}

}  // namespace thalweg::cli
