#include "controlplane/cli/archive_access.hpp"

#include <fmt/format.h>

namespace thalweg::cli {
namespace {
constexpr std::int64_t kAnswerMs = 15'000;  // deleting a large recording takes its time
}  // namespace

void add_archive_socket(CLI::App& verb, ArchiveOptions& options) { verb.add_option("--socket", options.socket, "Control socket; default <directory>/control.sock")->type_name("PATH"); }

void add_archive_place(CLI::App& verb, ArchiveOptions& options) {
  verb.add_option("--archive", options.archive, "Directory of the archive; default: the one of the running instance")->type_name("DIR");
  add_archive_socket(verb, options);
}

Result<api::Json> ask_archive(const Context& context, const ArchiveOptions& options, const std::string& verb, api::Json args) {
  auto client = api::ControlClient::connect(options.socket.empty() ? api::default_socket_path(context.instance_directory()) : options.socket);
  if (!client) return tl::unexpected{std::move(client.error())};
  return client->call(verb, std::move(args), kAnswerMs);
}

Result<std::string> archive_directory(const Context& context, const ArchiveOptions& options) {
  if (!options.archive.empty()) return options.archive;
  auto status = ask_archive(context, options, "archive-status");
  if (status) return status->value("directory", std::string{});
  if (status.error().code == ErrorCode::kUnreachable) status.error().hint = "name the directory of the archive with --archive, or start the instance";
  return tl::unexpected{std::move(status.error())};
}

std::string text_of(const archive::RecordingView& view) {
  return fmt::format("recording {}: {} stream {} session {}", view.recording.id, view.recording.channel, view.recording.stream.stream_id, view.recording.stream.session_id);
}

}  // namespace thalweg::cli
