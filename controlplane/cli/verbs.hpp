#pragma once
#include "controlplane/cli/cli.hpp"

// One registration function per family of verbs; make_grammar() calls them in the order of the help page.
namespace thalweg::cli {

void register_config(CLI::App& root, Context& context);   // config check | show | diff
void register_pub(CLI::App& root, Context& context);      // pub
void register_sub(CLI::App& root, Context& context);      // sub
void register_ping(CLI::App& root, Context& context);     // ping
void register_pong(CLI::App& root, Context& context);     // pong
void register_bench(CLI::App& root, Context& context);    // bench throughput | rtt

}  // namespace thalweg::cli
