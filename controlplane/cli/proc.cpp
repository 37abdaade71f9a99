#include "controlplane/cli/proc.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace thalweg::cli {

namespace fs = std::filesystem;

Result<std::string> read_proc(pid_t pid, const char* file) {
  std::ifstream in{fmt::format("/proc/{}/{}", pid, file), std::ios::binary};
  if (!in) return fail(ErrorCode::kPermission, fmt::format("/proc/{}/{} cannot be read", pid, file), "run this as the instance's user or as root");
  return std::string{std::istreambuf_iterator<char>{in}, {}};
}

std::vector<std::string> split_at_zero(const std::string& text) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\0', begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> all;
  for (std::string& text : texts) all.push_back(text.data());
  all.push_back(nullptr);
  return all;
}

pid_t parent_of(pid_t pid) {
  const auto status = read_proc(pid, "stat");
  const std::size_t end_of_name = status ? status->rfind(')') : std::string::npos;
  int parent = 0;
  char state = 0;
  if (end_of_name == std::string::npos || std::sscanf(status->c_str() + end_of_name + 1, " %c %d", &state, &parent) != 2) return 0;
  return parent;
}

std::string program_name(pid_t pid) {
  const auto name = read_proc(pid, "comm");
  return name ? name->substr(0, name->find('\n')) : std::string{};
}

std::string program_path(pid_t pid) {
  constexpr std::string_view kReplaced = " (deleted)";
  std::error_code error;
  std::string path = fs::read_symlink(fmt::format("/proc/{}/exe", pid), error).string();
  if (path.ends_with(kReplaced)) path.resize(path.size() - kReplaced.size());
  return path;
}

bool reads_signal(pid_t pid, int signal) {
  constexpr std::string_view kMask = "sigmask:\t";
  std::error_code error;
  const fs::directory_iterator descriptors{fmt::format("/proc/{}/fdinfo", pid), error};
  for (const fs::directory_entry& descriptor : descriptors) {
    std::ifstream in{descriptor.path()};
    const std::string text{std::istreambuf_iterator<char>{in}, {}};
    const std::size_t at = text.find(kMask);
    if (at == std::string::npos) continue;
    std::uint64_t mask = 0;
    const char* const digits = text.data() + at + kMask.size();
    const auto read = std::from_chars(digits, text.data() + text.size(), mask, 16);
    if (read.ec == std::errc{} && (mask >> (signal - 1) & 1U) != 0) return true;
  }
  return false;
}

}  // namespace thalweg::cli
