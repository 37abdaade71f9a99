// Writes the generated pages into a source tree: `cli_generate <source root>`.
#include <fstream>
#include <iostream>

#include "controlplane/cli/grammar.hpp"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: " << argv[0] << " <source root>\n";
    return 2;
  }
  for (const auto& [path, text] : thalweg::cli::generated_files()) {
    std::ofstream file{std::string{argv[1]} + "/" + path};
    file << text;
    if (!file.flush()) {
      std::cerr << "cannot write " << path << '\n';
      return 1;
    }
  }
  return 0;
}
