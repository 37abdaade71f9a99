#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "config/schema/config.hpp"
#include "controlplane/cli/host_check.hpp"

// What `host check` finds and a command can mend until the next boot, done and undone. The kernel takes all of it through files.
namespace thalweg::cli {

struct FileWrite {
  std::string file;   // without Host::root
  std::string value;
  // As an operator would do it by hand.
  [[nodiscard]] std::string command() const { return "echo " + value + " > " + file; }
};

struct HostStep {
  std::string why;                // "hugepages: 94 more for 188 MiB of packet buffers"
  std::vector<FileWrite> writes;  // in this order
  std::vector<FileWrite> undo;    // in this order
};

// The steps that would change something; empty where the machine is as the configuration wants it. Precondition: `config` is valid.
// Errors: kNotFound (a device, or the driver for it).
[[nodiscard]] Result<std::vector<HostStep>> plan_host(const config::Config& config, const Host& host);

// Does one step; what it had written before a failure is undone. Errors: kPermission, kIo with the command that failed, kNoSpace where the
// kernel took another value.
[[nodiscard]] Result<void> apply(const HostStep& step, const Host& host);
// Undoes one step. A file that somebody has changed since is not touched; its command is answered, for a remark.
[[nodiscard]] Result<std::vector<std::string>> undo(const HostStep& step, const Host& host);

// What was done, for `host undo`: <root>/run/thalweg-host-init.json. It is gone with the next boot, as the settings are.
[[nodiscard]] Result<void> save_steps(const std::vector<HostStep>& steps, const Host& host);
[[nodiscard]] Result<std::vector<HostStep>> load_steps(const Host& host);  // none: empty
void forget_steps(const Host& host);

}  // namespace thalweg::cli
