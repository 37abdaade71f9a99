// thalweg support-bundle: what somebody who is asked for help wants to see, in one archive.
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "controlplane/api/control_client.hpp"
#include "controlplane/cli/instance.hpp"
#include "controlplane/cli/verbs.hpp"

namespace thalweg::cli {
namespace {

namespace fs = std::filesystem;

constexpr const char* kRunningConfig = "running-config.yaml";
constexpr std::size_t kStreamsMax = 256;     // whose causes are told
constexpr std::size_t kFileMax = 4U << 20;  // of what is copied from /proc and /sys

struct BundleOptions {
  std::string file;
  std::string config;
};

// A part of the bundle: a file of its own, and why it may be missing something.
struct Part {
  std::string name;
  std::uint64_t bytes{};
  std::string remark;
};

// A folder that is gone at the end.
class Folder {
 public:
  static Result<Folder> create(const std::string& name) {
    std::string base = fs::temp_directory_path().string() + "/thalweg-support-XXXXXX";
    if (::mkdtemp(base.data()) == nullptr) return fail_errno(ErrorCode::kIo, "make a folder in " + fs::temp_directory_path().string(), errno);
    std::error_code error;
    fs::create_directory(base + "/" + name, error);
    return Folder{base, name};
  }
  Folder(Folder&& other) noexcept : base_{std::exchange(other.base_, {})}, name_{std::move(other.name_)} {}
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  Folder& operator=(Folder&&) = delete;
  ~Folder() {
    std::error_code error;
    if (!base_.empty()) fs::remove_all(base_, error);
  }
  [[nodiscard]] const std::string& base() const noexcept { return base_; }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] std::string path(const std::string& part) const { return base_ + "/" + name_ + "/" + part; }

 private:
  Folder(std::string base, std::string name) : base_{std::move(base)}, name_{std::move(name)} {}
  std::string base_;
  std::string name_;
};

class Bundle {
 public:
  Bundle(const Folder& folder, std::string directory) : folder_{folder}, directory_{std::move(directory)} {}

  void add(const std::string& name, const std::string& text, std::string remark = {}) {
    std::ofstream out{folder_.path(name), std::ios::binary};
    out << text;
    parts_.push_back({name, text.size(), std::move(remark)});
  }

  // What one of our own verbs says, as JSON.
  void add_verb(const std::string& name, const std::vector<std::string>& arguments) {
    const Answer answer = ask_verb(arguments);
    add(name, answer.text, answer.remark);
  }

  // All streams, and what each waits for, one document a line.
  void add_streams() {
    const Answer list = ask_verb({"stream", "list"});
    add("stream-list.json", list.text, list.remark);
    std::string why;
    const api::Json streams = api::Json::parse(list.text, nullptr, false);
    std::size_t count = 0;
    for (const api::Json& stream : streams.is_object() ? streams.value("streams", api::Json::array()) : api::Json::array()) {
      if (++count > kStreamsMax) break;
      why += ask_verb({"stream", "why", std::to_string(stream.value("id", std::int64_t{0}))}).text;
    }
    add("stream-why.jsonl", why, count > kStreamsMax ? fmt::format("of {} streams only", kStreamsMax) : "");
  }

  // A file of the system, as far as it can be read.
  void add_file(const std::string& name, const std::string& path) {
    std::ifstream in{path, std::ios::binary};
    if (!in) {
      parts_.push_back({name, 0, path + " cannot be read"});
      return;
    }
    std::string text(kFileMax, '\0');
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(in.gcount()));
    add(name, text);
  }

  // The configuration that the control plane runs with, and its own word about itself.
  void add_control() {
    auto client = api::ControlClient::connect(api::default_socket_path(directory_));
    const auto ask = [&client](const std::string& verb) { return client ? client->call(verb) : Result<api::Json>{tl::unexpected{client.error()}}; };
    const auto config = ask("config");
    if (config) add(kRunningConfig, config->value("yaml", std::string{}));
    else parts_.push_back({kRunningConfig, 0, config.error().message});
    const auto status = ask("status");
    if (status) add("status.json", status->dump(1) + "\n");
    else parts_.push_back({"status.json", 0, status.error().message});
  }

  // What the machine lacks of what `config` asks for; without one of what the running one asks for.
  void add_host_check(const std::string& config) {
    std::vector<std::string> arguments{"host", "check", "--probe", "500ms"};
    const std::string running = folder_.path(kRunningConfig);
    if (!config.empty() || fs::exists(running)) arguments.insert(arguments.end(), {"--config", config.empty() ? running : config});
    add_verb("host-check.json", arguments);
    if (!config.empty()) add_file("thalweg.yaml", config);
  }

  // The two processes' own memory of the instance, byte for byte. Streams are in the log buffers, which stay where they are.
  void add_instance_files() {
    for (const char* const name : {"registry.dat", "cnc.dat", "loss-report.dat"}) {
      const std::string path = directory_ + "/" + name;
      struct stat found {};
      if (::access(path.c_str(), R_OK) != 0 || ::stat(path.c_str(), &found) != 0) {
        parts_.push_back({name, 0, path + " cannot be read"});
        continue;
      }
      raw_.emplace_back(name);
      parts_.push_back({name, static_cast<std::uint64_t>(found.st_blocks) * 512, {}});
    }
  }

  void add_system() {
    utsname system{};
    if (::uname(&system) == 0) add("uname.txt", fmt::format("{} {} {} {}\n", system.sysname, system.release, system.version, system.machine));
    for (const char* const file : {"cpuinfo", "meminfo", "cmdline", "interrupts", "softirqs", "mounts", "loadavg", "uptime", "buddyinfo", "net/dev", "net/snmp", "net/udp", "net/igmp", "net/route"}) {
      std::string name = file;
      for (char& c : name) c = c == '/' ? '-' : c;
      add_file("proc-" + name + ".txt", std::string{"/proc/"} + file);
    }
    for (const char* const file : {"kernel/mm/transparent_hugepage/enabled", "devices/system/cpu/isolated", "devices/system/cpu/online", "devices/system/clocksource/clocksource0/current_clocksource"}) {
      add_file("sys-" + fs::path{file}.filename().string() + ".txt", std::string{"/sys/"} + file);
    }
  }

  void add_processes() {
    const auto registry = shm::RegistryFile::open(directory_, shm::MappedFile::Access::kReadOnly);
    if (!registry) return;
    const shm::RegistryHeader& header = (*registry)->header;
    for (const auto& [name, pid] : {std::pair{"controlplane", header.control_plane.pid.load()}, std::pair{"dataplane", header.data_plane.pid.load()}}) {
      for (const char* const file : {"status", "limits", "sched", "maps"}) add_file(fmt::format("{}-{}.txt", name, file), fmt::format("/proc/{}/{}", pid, file));
    }
  }

  [[nodiscard]] const std::vector<Part>& parts() const noexcept { return parts_; }

  // Everything into one archive, the instance's files from where they are.
  Result<void> pack(const std::string& file) const {
    std::vector<std::string> words{"tar", "--create", "--gzip", "--sparse", "--file", file, "--warning=no-file-changed",
                                   "--transform=s,^\\(registry\\|cnc\\|loss-report\\)\\.dat$," + folder_.name() + "/&,", "-C", folder_.base(), folder_.name()};
    if (!raw_.empty()) words.insert(words.end(), {"-C", fs::absolute(directory_).string()});
    words.insert(words.end(), raw_.begin(), raw_.end());
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    pid_t pid = 0;
    if (const int error = ::posix_spawnp(&pid, "tar", nullptr, nullptr, arguments.data(), environ); error != 0) return fail_errno(ErrorCode::kGeneric, "start tar", error);
    constexpr int kChanged = 1;  // files of a live instance change while they are read
    int status = 0;
    if (::waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) > kChanged) {
      return fail(ErrorCode::kIo, "tar could not write " + file, "its message above says why; -o names another place");
    }
    return {};
  }

 private:
  struct Answer {
    std::string text;
    std::string remark;
  };
  [[nodiscard]] Answer ask_verb(std::vector<std::string> arguments) const {
    std::ostringstream out;
    std::ostringstream err;
    Context context{Output{out, err, {}}, {}, Exit::kOk};
    arguments.insert(arguments.end(), {"--json", "--directory", directory_});
    const int code = run(context, arguments);
    const bool is_answer = code == static_cast<int>(Exit::kOk) || code == static_cast<int>(Exit::kProblems);
    return {out.str() + err.str(), is_answer ? "" : fmt::format("exit {}", code)};
  }

  const Folder& folder_;
  std::string directory_;
  std::vector<Part> parts_;
  std::vector<std::string> raw_;  // files of the instance directory
};

std::string listing(const std::string& directory) {
  std::string text;
  std::error_code error;
  for (const auto& entry : fs::recursive_directory_iterator{directory, fs::directory_options::skip_permission_denied, error}) {
    std::error_code ignored;
    const auto size = entry.is_regular_file(ignored) ? entry.file_size(ignored) : 0;
    text += fmt::format("{:>14} {}\n", size, entry.path().string());
  }
  return text;
}

Exit support_bundle(Context& context, const BundleOptions& options) {
  const std::string name = fmt::format("thalweg-support-{:%Y%m%d-%H%M%S}", fmt::gmtime(std::time(nullptr)));
  const std::string file = fs::absolute(options.file.empty() ? name + ".tar.gz" : options.file).lexically_normal().string();
  const auto folder = Folder::create(name);
  if (!folder) return context.out.fail("support-bundle", folder.error());
  const std::string directory = context.instance_directory();
  Bundle bundle{*folder, directory};
  bundle.add("version.txt", std::string{"thalweg "} + THALWEG_VERSION + "\n");
  bundle.add("directory.txt", listing(directory));
  bundle.add_control();
  bundle.add_streams();
  bundle.add_verb("stat.json", {"stat"});
  bundle.add_verb("drops.json", {"drops", "--all", "--by-lane"});
  bundle.add_verb("errors.json", {"errors"});
  bundle.add_verb("loss.json", {"loss"});
  bundle.add_verb("names.json", {"names"});
  bundle.add_verb("top.json", {"top", "--count", "1", "--interval", "1s"});
  bundle.add_host_check(options.config);
  bundle.add_system();
  bundle.add_processes();
  bundle.add_instance_files();
  if (auto packed = bundle.pack(file); !packed) return context.out.fail("support-bundle", packed.error());
  Table table{"parts", {{"name", "PART"}, {"bytes", "SIZE", Unit::kBytes}, {"remark", "REMARK"}}};
  for (const Part& part : bundle.parts()) table.add({part.name, part.bytes, part.remark.empty() ? Cell{} : Cell{part.remark}.styled(Style::kWarn)});
  context.out.print(table);
  context.out.value("file", "file", file);
  return Exit::kOk;
}

}  // namespace

void register_support_bundle(CLI::App& root, Context& context) {
  CLI::App* verb = root.add_subcommand("support-bundle", "Collect what a question about this instance needs, into one archive; no message of a stream is in it");
  const auto options = std::make_shared<BundleOptions>();
  verb->add_option("-o,--output", options->file, "The archive; default thalweg-support-<time>.tar.gz here")->type_name("FILE");
  verb->add_option("-c,--config", options->config, "The instance's configuration file, for the host check and the archive")->type_name("FILE");
  set_example(*verb, "support-bundle --config /etc/thalweg/thalweg.yaml");
  on_run(*verb, context, [&context, options] { return support_bundle(context, *options); });
}

}  // namespace thalweg::cli
