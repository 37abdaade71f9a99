// Writes the generated reference into a source tree: `generate <source root>`.
#include <cstdio>
#include <memory>
#include <string>

#include "config/schema/reference.hpp"

namespace {

bool write(const std::string& path, const std::string& text) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file{std::fopen(path.c_str(), "w"), &std::fclose};
  if (file && std::fwrite(text.data(), 1, text.size(), file.get()) == text.size() && std::fflush(file.get()) == 0) return true;
  std::perror(path.c_str());
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s <source root>\n", argv[0]);
    return 2;
  }
  const std::string root = argv[1];
  const bool is_done = write(root + "/config/default.yaml", thalweg::config::default_yaml()) &&
                       write(root + "/docs/reference/configuration.md", thalweg::config::reference_page()) &&
                       write(root + "/config/schema/thalweg.schema.json", thalweg::config::json_schema());
  return is_done ? 0 : 1;
}
