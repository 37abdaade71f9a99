#pragma once
#include "controlplane/cli/cli.hpp"

// One registration function per family of verbs; make_grammar() calls them in the order of the help page.
namespace thalweg::cli {

void register_up(CLI::App& root, Context& context);        // up
void register_media_driver(CLI::App& root, Context& context);  // media-driver
void register_upgrade(CLI::App& root, Context& context);   // upgrade
void register_stream(CLI::App& root, Context& context);    // stream list | why
void register_counters(CLI::App& root, Context& context);  // stat, drops, errors, loss
void register_host(CLI::App& root, Context& context);      // host check | init | undo
void register_capture(CLI::App& root, Context& context);   // capture
void register_trace(CLI::App& root, Context& context);      // trace
void register_support_bundle(CLI::App& root, Context& context);  // support-bundle
void register_archive(CLI::App& root, Context& context);  // archive status | record | stop | truncate | purge | list | describe | dump | verify | checksum | replay | replays | stop-replay | tail | replicate | replications | stop-replication
void register_route(CLI::App& root, Context& context);     // route get
void register_names(CLI::App& root, Context& context);     // names
void register_top(CLI::App& root, Context& context);       // top
void register_pub(CLI::App& root, Context& context);       // pub
void register_sub(CLI::App& root, Context& context);       // sub
void register_ping(CLI::App& root, Context& context);      // ping
void register_pong(CLI::App& root, Context& context);      // pong
void register_bench(CLI::App& root, Context& context);     // bench throughput | rtt
void register_config(CLI::App& root, Context& context);    // config check | show | diff

}  // namespace thalweg::cli
