#pragma once
#include <cstdint>
#include <string>

#include "controlplane/cli/output.hpp"

namespace thalweg::cli {

// How far something long is, on one line of standard error that is drawn anew and gone at the end. Silent when standard error is no terminal, and in JSON
// mode. One thread.
class ProgressBar {
 public:
  ProgressBar(const Output& out, std::string what);
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  ~ProgressBar();
  // Cheap: draws ten times a second at most.
  void update(std::uint64_t done_bytes, std::uint64_t total_bytes);

 private:
  std::string what_;
  bool is_shown_;
  bool is_drawn_{};
  std::int64_t begin_ns_;
  std::int64_t next_ns_{};
};

}  // namespace thalweg::cli
