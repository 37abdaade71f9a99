#pragma once
#include <string>
#include <sys/types.h>
#include <vector>

namespace thalweg::pmd::test {

// A program run for a test, its standard output piped here. Killed and reaped at the latest when this goes away.
class ChildProcess {
 public:
  // Starts `program`, an absolute path.
  ChildProcess(const std::string& program, const std::vector<std::string>& arguments);
  ~ChildProcess() { kill(); }
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  // Waits for one line of output; "" when the process ends or ten seconds pass before.
  [[nodiscard]] std::string read_line();
  // Ends it at once, with no chance to clean up.
  void kill();
  // Stops it where it is, and lets it go on.
  void freeze() const;
  void thaw() const;
  // Asks it to end and answers its exit code, -1 when it did not end by itself.
  [[nodiscard]] int stop();

 private:
  pid_t pid_{-1};
  int output_{-1};
  std::string buffer_;
};

}  // namespace thalweg::pmd::test
