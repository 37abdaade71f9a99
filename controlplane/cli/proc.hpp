#pragma once
#include <sys/types.h>

#include <string>
#include <vector>

#include "dataplane/base/result.hpp"

// What Linux tells of processes (proc(5)), and argument lists as system calls want them. Any thread.
namespace thalweg::cli {

// The whole of /proc/PID/FILE. Error kPermission: the process is another user's, or gone.
[[nodiscard]] Result<std::string> read_proc(pid_t pid, const char* file);

// "a\0b\0" as two texts: command lines and environments.
[[nodiscard]] std::vector<std::string> split_at_zero(const std::string& text);

// For exec: ends with a null pointer, valid as long as `texts` is left alone.
[[nodiscard]] std::vector<char*> pointers(std::vector<std::string>& texts);

// The process above `pid`; 0 when it cannot be told.
[[nodiscard]] pid_t parent_of(pid_t pid);

// "thalweg": the name of the program that `pid` runs, cut after 15 bytes; "" when it cannot be told.
[[nodiscard]] std::string program_name(pid_t pid);

// The file that `pid` was started from, by the name it had then: another file may have it by now. "" when it cannot be told.
[[nodiscard]] std::string program_path(pid_t pid);

// Whether `pid` takes `signal` from a signalfd, which is how a supervisor waits for its own.
[[nodiscard]] bool reads_signal(pid_t pid, int signal);

}  // namespace thalweg::cli
