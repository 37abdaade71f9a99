#pragma once
#include <cstdint>
#include <string>

#include "controlplane/api/control_client.hpp"
#include "controlplane/archive/view.hpp"
#include "controlplane/cli/verbs.hpp"

// Where the verbs of `thalweg archive` find what they are about.
namespace thalweg::cli {

struct ArchiveOptions {
  std::string archive;  // directory; "" = that of the instance
  std::string socket;
};

void add_archive_socket(CLI::App& verb, ArchiveOptions& options);
// --archive and --socket, of verbs that read the directory.
void add_archive_place(CLI::App& verb, ArchiveOptions& options);
// What the running instance answers. Errors: kUnreachable, and those of the verb.
[[nodiscard]] Result<api::Json> ask_archive(const Context& context, const ArchiveOptions& options, const std::string& verb, api::Json args = api::Json::object());
[[nodiscard]] Result<std::string> archive_directory(const Context& context, const ArchiveOptions& options);
// "recording 3: aeron:ipc stream 7 session 5".
[[nodiscard]] std::string text_of(const archive::RecordingView& view);

void register_archive_replay(CLI::App& noun, Context& context);  // archive replay | replays | stop-replay | tail
void register_archive_replication(CLI::App& noun, Context& context);  // archive replicate | replications | stop-replication

}  // namespace thalweg::cli
