#pragma once
#include <string>
#include <utility>
#include <vector>

#include "controlplane/cli/cli.hpp"

// Pages and scripts made from the grammar itself, so that they cannot tell anything else than --help. `ninja cli-reference` writes them
// into the tree; a test says when they are stale.
namespace thalweg::cli {

// Markdown: every verb with its options and example (docs/reference/cli.md).
[[nodiscard]] std::string reference_page(const CLI::App& root);
// scdoc source of thalweg(1).
[[nodiscard]] std::string man_page(const CLI::App& root);
// Completion for bash: verbs, options, and file names where an option takes one.
[[nodiscard]] std::string bash_completion(const CLI::App& root);

// Every generated file, by its path in the source tree; thalweg.yaml(5) is made from config/default.yaml.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> generated_files();

}  // namespace thalweg::cli
