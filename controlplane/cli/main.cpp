#include "controlplane/cli/cli.hpp"

// `thalweg`: the operator's and developer's command.
int main(int argc, char** argv) {
  thalweg::cli::Context context{thalweg::cli::Output::standard(), {}, thalweg::cli::Exit::kOk};
  return thalweg::cli::run(context, std::vector<std::string>{argv + 1, argv + argc});
}
