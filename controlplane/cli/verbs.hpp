#pragma once
#include "controlplane/cli/cli.hpp"

// One registration function per family of verbs; make_grammar() calls them in the order of the help page.
namespace thalweg::cli {

void register_config(CLI::App& root, Context& context);   // config check | show | diff

}  // namespace thalweg::cli
