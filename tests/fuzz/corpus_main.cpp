// Runs a target as an ordinary test: its committed corpus, then a fixed number of mutations of each input, the same in every run.
//   TARGET CORPUS MUTATIONS [--must-crash]    MUTATIONS in all, spread over the corpus
//   TARGET FILE                               one input, in this process: for a debugger
// The work is done in a child, so that the parent can say which input ended it and save it. --must-crash: the canary; the corpus must
// pass and a mutation must not, or the whole layer proves nothing.
#include <fcntl.h>
#include <sys/wait.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/fuzz/mutate.hpp"
#include "tests/support/shared_memory.hpp"

namespace {
using thalweg::fuzz::Bytes;
namespace fs = std::filesystem;

struct Entry {
  std::string name;
  std::vector<std::byte> bytes;
};

// What the child is doing, seen by the parent.
struct Progress {
  std::uint64_t inputs;
  std::uint32_t is_corpus_done;
  std::uint32_t length;
  char name[256];
  std::byte bytes[thalweg::fuzz::kInputMax];
};

std::vector<std::byte> read(const fs::path& path) {
  std::ifstream file{path, std::ios::binary};
  const std::string text{std::istreambuf_iterator<char>{file}, {}};
  const auto* const p = reinterpret_cast<const std::byte*>(text.data());
  return {p, p + std::min(text.size(), thalweg::fuzz::kInputMax)};
}

std::vector<Entry> read_corpus(const fs::path& folder) {
  std::vector<Entry> corpus;
  for (const auto& entry : fs::directory_iterator{folder}) corpus.push_back({entry.path().filename().string(), read(entry.path())});
  std::sort(corpus.begin(), corpus.end(), [](const Entry& a, const Entry& b) { return a.name < b.name; });
  return corpus;
}

void run_one(Bytes bytes, const std::string& name, Progress& progress) {
  ++progress.inputs;
  progress.length = static_cast<std::uint32_t>(bytes.size());
  std::snprintf(progress.name, sizeof progress.name, "%s", name.c_str());
  std::copy(bytes.begin(), bytes.end(), progress.bytes);
  const thalweg::fuzz::GuardedMemory guarded{bytes};
  thalweg::fuzz::run(guarded.bytes());
}

int run_all(const std::vector<Entry>& corpus, std::size_t mutations, Progress& progress) {
  for (const Entry& entry : corpus) run_one(entry.bytes, entry.name, progress);
  progress.is_corpus_done = 1;
  const std::size_t each = (mutations + corpus.size() - 1) / corpus.size();
  for (std::size_t i = 0; i < corpus.size(); ++i) {
    thalweg::Random random{i};
    for (std::size_t n = 0; n < each; ++n) {
      std::vector<std::byte> bytes = corpus[i].bytes;
      thalweg::fuzz::mutate(bytes, corpus[random.below(corpus.size())].bytes, random);
      run_one(bytes, corpus[i].name + " mutation " + std::to_string(n), progress);
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2) {
    thalweg::fuzz::run(read(argv[1]));
    return 0;
  }
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s CORPUS MUTATIONS [--must-crash] | FILE\n", argv[0]);
    return 2;
  }
  const bool must_crash = argc > 3 && std::string{argv[3]} == "--must-crash";
  const std::vector<Entry> corpus = read_corpus(argv[1]);
  if (corpus.empty()) {
    std::fprintf(stderr, "no corpus in %s\n", argv[1]);
    return 1;
  }
  const thalweg::test::SharedMemory memory{sizeof(Progress)};
  auto& progress = *reinterpret_cast<Progress*>(memory.data());
  const pid_t child = thalweg::test::in_child([&] { return run_all(corpus, std::stoul(argv[2]), progress); });
  int status = 0;
  if (child <= 0 || ::waitpid(child, &status, 0) != child) return 1;
  const bool has_passed = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  std::printf("%llu inputs, %zu of them the corpus\n", static_cast<unsigned long long>(progress.inputs), corpus.size());
  if (must_crash) {
    std::printf("%s\n", has_passed ? "the planted mistake was NOT found" : "the planted mistake was found, as it must be");
    return !has_passed && progress.is_corpus_done != 0 ? 0 : 1;
  }
  if (has_passed) return 0;
  const std::string saved = "crash-" + fs::path{argv[0]}.filename().string();
  std::ofstream{saved, std::ios::binary}.write(reinterpret_cast<const char*>(progress.bytes), progress.length);
  std::fprintf(stderr, "ended by input '%s' (%u bytes), saved as %s; run %s %s\n", progress.name, progress.length, saved.c_str(), argv[0], saved.c_str());
  return 1;
}
