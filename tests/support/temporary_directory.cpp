#include "tests/support/temporary_directory.hpp"

#include <cstdlib>
#include <filesystem>
#include <stdexcept>

namespace thalweg::test {

TemporaryDirectory::TemporaryDirectory(const std::string& name) : path_{"/dev/shm/thalweg-" + name + "-XXXXXX"} {
  if (::mkdtemp(path_.data()) == nullptr) throw std::runtime_error{"cannot make " + path_};
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;  // nothing to be done about it in a destructor; the smoke tests look for leftovers
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace thalweg::test
