#pragma once
#include <string>

namespace thalweg::test {

// A fresh directory on /dev/shm (like an instance directory), removed with everything in it at the end of the scope.
class TemporaryDirectory {
 public:
  explicit TemporaryDirectory(const std::string& name = "test");
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory();
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace thalweg::test
