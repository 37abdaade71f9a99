#include "controlplane/host/instance_directory.hpp"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <grp.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string_view>
#include <utility>
#include <vector>

#include "controlplane/host/log_files.hpp"
#include "dataplane/base/random.hpp"
#include "dataplane/base/time.hpp"
#include "dataplane/shm/error_log.hpp"
#include "dataplane/shm/ring_buffer.hpp"

namespace thalweg::host {
namespace {

namespace fs = std::filesystem;

Result<gid_t> group_id(const std::string& name) {
  std::vector<char> buffer(16384);
  struct group entry {};
  struct group* found = nullptr;
  ::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (found == nullptr) return fail(ErrorCode::kInvalidConfig, fmt::format("instance group '{}' does not exist", name), "create it with groupadd");
  return found->gr_gid;
}

// What an appliance or a stock driver keeps in its directory. Nothing else in there is ever touched.
constexpr std::string_view kOwnNames[] = {"cnc.dat", "registry.dat", "registry.dat.new", "loss-report.dat", "control.sock", "publications", "images", "pool"};
constexpr std::string_view kLockName = "instance.lock";

bool is_own_name(const std::string& name) {
  return name == kLockName || std::find(std::begin(kOwnNames), std::end(kOwnNames), name) != std::end(kOwnNames);
}

// Never an instance's own, even when empty: closing them would lock everybody else out.
constexpr std::string_view kSharedDirectories[] = {"/", "/dev/shm", "/run", "/run/shm", "/tmp", "/var/tmp"};

constexpr const char* kDirectoryHint = "name a new or an empty directory of your own in instance.directory, such as /dev/shm/thalweg";

// A directory that exists may be taken only when it is ours already or empty: a start makes the instance's files new and closes the directory
// to others, and a mistyped path must not cost anybody a file. `path` need not exist.
Result<void> check_directory(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) return {};  // made, or refused, by mkdir
    return fail_errno(ErrorCode::kPermission, path, errno, kDirectoryHint);
  }
  if (!S_ISDIR(status.st_mode)) return fail(ErrorCode::kPermission, path + " is not a directory", kDirectoryHint);
  if (status.st_uid != ::geteuid()) {
    return fail(ErrorCode::kPermission, fmt::format("{} belongs to user {}, and this process runs as user {}", path, status.st_uid, ::geteuid()),
                fmt::format("chown {} {}, or choose another instance.directory", ::geteuid(), path));
  }
  std::error_code error;
  const std::string real = fs::canonical(path, error).string();
  if (std::find(std::begin(kSharedDirectories), std::end(kSharedDirectories), real) != std::end(kSharedDirectories)) {
    return fail(ErrorCode::kPermission, path + " is shared by all users", "name a directory inside it in instance.directory");
  }
  std::string foreign;
  bool is_instance = false;
  for (const auto& entry : fs::directory_iterator{path, error}) {
    const std::string name = entry.path().filename().string();
    is_instance = is_instance || name == kLockName || name == "cnc.dat" || name == "registry.dat";
    if (foreign.empty() || !is_own_name(name)) foreign = name;
  }
  if (error) return fail(ErrorCode::kPermission, fmt::format("{}: {}", path, error.message()), kDirectoryHint);
  if (is_instance || foreign.empty()) return {};
  return fail(ErrorCode::kInUse, fmt::format("{} is no instance directory and holds other files ('{}')", path, foreign), kDirectoryHint);
}

// The group, if any, may read the directory and write the files in it: set-group-id hands the group down to everything created there.
Result<void> make_directory(const std::string& path, const std::string& group) {
  const mode_t mode = group.empty() ? 0700 : 02750;
  const Result<gid_t> gid = group.empty() ? Result<gid_t>{static_cast<gid_t>(-1)} : group_id(group);
  if (!gid) return tl::unexpected{gid.error()};  // before anything is made
  if (::mkdir(path.c_str(), mode) != 0 && errno != EEXIST) {
    return fail_errno(errno == ENOSPC ? ErrorCode::kNoSpace : ErrorCode::kPermission, "create " + path, errno,
                      "its parent must exist and be writable for this user; instance.directory names another place");
  }
  if (!group.empty() && ::chown(path.c_str(), static_cast<uid_t>(-1), *gid) != 0) {
    return fail_errno(ErrorCode::kPermission, "give " + path + " to group " + group, errno);
  }
  if (::chmod(path.c_str(), mode) != 0) return fail_errno(ErrorCode::kPermission, "set the mode of " + path, errno);
  return {};
}

// What Linux tells of a process (proc(5), stat) from its third field on, which is its state: the name before it may have anything in it. "" where
// nothing can be read.
std::string stat_of(pid_t pid) {
  std::ifstream file{fmt::format("/proc/{}/stat", pid)};
  const std::string stat{std::istreambuf_iterator<char>{file}, {}};
  return stat.substr(std::min(stat.rfind(')') + 1, stat.size()));
}

// One that ended and that nobody collected yet is not: its number is taken still, and for long where the first process of a container does not care.
bool is_process_alive(std::uint32_t pid) {
  if (pid == 0 || (::kill(static_cast<pid_t>(pid), 0) != 0 && errno != EPERM)) return false;
  return !stat_of(static_cast<pid_t>(pid)).starts_with(" Z");
}

// A data plane that still works on the registry: its process lives and stored its heartbeat lately.
bool is_data_plane_alive(const shm::RegistryFile& registry, std::int64_t timeout_ms, std::int64_t now_ns) {
  const auto& process = registry->header.data_plane;
  const std::int64_t age_ns = now_ns - process.heartbeat_ns.load(std::memory_order_acquire);
  return is_process_alive(process.pid.load(std::memory_order_acquire)) && age_ns >= 0 && age_ns <= timeout_ms * kMillisecond_ns;
}

// A data plane holds a lock on the registry it works on, whatever its version.
bool is_registry_in_use(const std::string& directory) {
  const int fd = ::open((directory + "/registry.dat").c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return false;
  const bool is_in_use = ::flock(fd, LOCK_EX | LOCK_NB) != 0;
  ::close(fd);
  return is_in_use;
}

// The end of the instance was accepted by processes that are all gone, and whoever started them: what is left of it is to do for us.
bool is_end_of_another_run(const shm::RegistryHeader& header, std::uint32_t run) noexcept {
  const std::uint32_t accepted_by = header.is_termination_accepted.load(std::memory_order_acquire);
  return accepted_by != 0 && accepted_by != run && accepted_by != kAnyRun && run != kAnyRun;
}

Result<std::string> save_error_log(const std::string& directory, const shm::CncFile& cnc, std::int64_t now_ms) {
  std::string text;
  shm::read_error_log(std::span<const std::byte>{cnc.error_log()}, [&text](const shm::ErrorLogEntry& entry) {
    text += fmt::format("{} observations from {:%Y-%m-%dT%H:%M:%SZ} to {:%Y-%m-%dT%H:%M:%SZ} for:\n {}\n", entry.observation_count,
                        fmt::gmtime(entry.first_ms / 1000), fmt::gmtime(entry.last_ms / 1000), entry.text);
  });
  if (text.empty()) return std::string{};
  const std::string path = fmt::format("{}-{:%Y-%m-%d-%H-%M-%S}-{:03}-error.log", directory, fmt::gmtime(now_ms / 1000), now_ms % 1000);
  const int fd = ::open(path.c_str(), O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return fail_errno(ErrorCode::kIo, "save the error log to " + path, errno);
  const ssize_t written = ::write(fd, text.data(), text.size());
  ::close(fd);
  if (written != static_cast<ssize_t>(text.size())) return fail(ErrorCode::kIo, "save the error log to " + path + ": short write");
  return path;
}

struct Predecessor {
  bool may_attach{};
  std::string saved_error_log;
};

// Decides what to do about the files that are there: take them over, remove them, or refuse.
Result<Predecessor> examine(const InstanceOptions& options, std::int64_t now_ms, std::int64_t now_ns) {
  Predecessor result;
  auto cnc = shm::CncFile::open(options.directory, shm::MappedFile::Access::kReadWrite);
  auto registry = shm::RegistryFile::open(options.directory);
  if (registry) {
    const bool is_alive = is_data_plane_alive(*registry, options.driver_timeout_ms, now_ns);
    const std::uint32_t pid = (*registry)->header.data_plane.pid.load(std::memory_order_relaxed);
    const bool is_ours = cnc && cnc->pid() == static_cast<std::int64_t>((*registry)->header.control_plane.pid.load(std::memory_order_acquire));
    const std::int64_t heartbeat_ms = cnc ? shm::ManyToOneRing{cnc->to_driver()}.consumer_heartbeat() : -1;
    const bool is_over = is_ours && !is_alive && is_end_of_another_run((*registry)->header, options.run);
    if (is_over && heartbeat_ms != -1) shm::ManyToOneRing{cnc->to_driver()}.consumer_heartbeat(-1);  // its clients were not told
    // Clients wait for a lost driver this long; until then they can be served again.
    const bool has_clients_waiting = !is_over && heartbeat_ms > 0 && now_ms - heartbeat_ms <= options.driver_timeout_ms;
    // Somebody died while it ended the instance: its successor has to go on with that.
    const bool is_half_closed = is_alive && (*registry)->header.is_termination_accepted.load(std::memory_order_acquire) != 0 &&
                                (*registry)->header.control_plane.state.load(std::memory_order_acquire) != shm::Observed::kDone;
    result.may_attach = is_ours && ((heartbeat_ms != -1 && (is_alive || (has_clients_waiting && !options.delete_on_start))) || is_half_closed);
    if (result.may_attach) return result;
    if (is_alive) {
      return fail(ErrorCode::kInUse, fmt::format("{}: the data plane of a stopped instance still runs (process {})", options.directory, pid),
                  fmt::format("end it first: kill {}", pid));
    }
  } else if (registry.error().code == ErrorCode::kVersion && (!options.delete_on_start || is_registry_in_use(options.directory))) {
    Error error = std::move(registry).error();
    error.hint = "stop the instance that made it, then remove the directory or start with --set instance.delete-on-start=true";
    return tl::unexpected{std::move(error)};
  }
  // With our own registry beside it the heartbeat is that of our predecessor, who lost the lock: only a stock driver counts here.
  if (!registry) {
    const auto activity = shm::check_driver_active(options.directory, options.driver_timeout_ms, now_ms);
    if (!activity) return tl::unexpected{activity.error()};
    if (*activity == shm::DriverActivity::kActive) {
      return fail(ErrorCode::kInUse, "active media driver detected in " + options.directory, "stop that driver, or choose another instance.directory");
    }
  }
  if (cnc && !options.delete_on_start) {
    auto saved = save_error_log(options.directory, *cnc, now_ms);
    if (!saved) return tl::unexpected{std::move(saved).error()};
    result.saved_error_log = std::move(*saved);
  }
  return result;
}

Result<InstanceFiles> attach(const InstanceOptions& options, DirectoryLock lock) {
  auto cnc = shm::CncFile::open(options.directory, shm::MappedFile::Access::kReadWrite);
  if (!cnc) return tl::unexpected{std::move(cnc).error()};
  auto registry = shm::RegistryFile::open(options.directory);
  if (!registry) return tl::unexpected{std::move(registry).error()};
  auto loss = shm::MappedFile::open(options.directory + "/loss-report.dat", shm::MappedFile::Access::kReadWrite);
  if (!loss) return tl::unexpected{std::move(loss).error()};
  return InstanceFiles{std::move(lock), std::move(*cnc), std::move(*registry), std::move(*loss), true, options.run, {}};
}

// What the files of an instance without streams take.
std::uint64_t files_length(const InstanceOptions& options) {
  const shm::CncLayout& cnc = options.cnc;
  const std::uint64_t metadata = std::uint64_t{shm::kCounterMetadataLength / shm::kCounterValueLength} * static_cast<std::uint64_t>(cnc.counter_values_length);
  const auto sections = static_cast<std::uint64_t>(cnc.to_driver_length) + static_cast<std::uint64_t>(cnc.to_clients_length) +
                        static_cast<std::uint64_t>(cnc.counter_values_length) + static_cast<std::uint64_t>(cnc.error_log_length);
  return sizeof(shm::Registry) - sizeof(shm::Registry::texts) + metadata + sections + static_cast<std::uint64_t>(cnc.page_size) + options.loss_report_bytes;
}

// Too little room is told at once and as a whole, not file by file and stream by stream.
Result<void> check_room(const InstanceOptions& options) {
  const std::uint64_t need = files_length(options) + options.pool_bytes;
  const auto usable = allocatable_bytes(options.directory);
  if (!usable || *usable >= need) return {};
  const auto mebibytes = [](std::uint64_t bytes) { return (bytes + (1U << 20) - 1) >> 20; };
  return fail(ErrorCode::kNoSpace,
              fmt::format("{} MiB needed in {} ({} MiB of it for memory.pool), {} MiB free", mebibytes(need), options.directory, mebibytes(options.pool_bytes), *usable >> 20),
              fmt::format("mount -o remount,size={}M on its file system, or smaller memory.pool and control-plane.counters", mebibytes(2 * need)));
}

Result<InstanceFiles> create(const InstanceOptions& options, DirectoryLock lock, std::int64_t now_ms) {
  if (auto removed = remove_instance_tree(options.directory, false); !removed) return tl::unexpected{std::move(removed).error()};
  for (const char* name : {"/publications", "/images", "/pool"}) {
    if (auto made = make_directory(options.directory + name, options.group); !made) return tl::unexpected{std::move(made).error()};
  }
  if (auto room = check_room(options); !room) return tl::unexpected{std::move(room).error()};
  // The registry comes first: whoever finds cnc.dat of a crashed start finds the registry that tells it is ours.
  auto registry = shm::RegistryFile::create(options.directory);
  if (!registry) return tl::unexpected{std::move(registry).error()};
  (*registry)->header.control_plane.pid.store(static_cast<std::uint32_t>(::getpid()), std::memory_order_release);
  auto cnc = shm::CncFile::create(options.directory, options.cnc, ::getpid(), now_ms);
  if (!cnc) return tl::unexpected{std::move(cnc).error()};
  const auto page = static_cast<std::uint64_t>(options.cnc.page_size);
  auto loss = shm::MappedFile::create(options.directory + "/loss-report.dat", {.length = align_up(options.loss_report_bytes, page)});
  if (!loss) return tl::unexpected{std::move(loss).error()};
  return InstanceFiles{std::move(lock), std::move(*cnc), std::move(*registry), std::move(*loss), false, options.run, {}};
}

}  // namespace

std::uint32_t run_of_this_process() {
  const pid_t parent = ::getppid();
  std::istringstream fields{stat_of(parent)};
  std::string field;
  for (int number = 3; number < 22 && fields >> field;) ++number;  // the start is the 22nd; what cannot be read is 0
  std::uint64_t start = 0;
  fields >> start;
  const auto mark = static_cast<std::uint32_t>(Random{start << 22U ^ static_cast<std::uint64_t>(parent)}.next());
  return std::max(mark, kAnyRun + 1);
}

Result<DirectoryLock> DirectoryLock::take(const std::string& directory, const std::string& group) {
  const std::string path = directory + "/instance.lock";
  for (;;) {
    if (auto checked = check_directory(directory); !checked) return tl::unexpected{std::move(checked).error()};
    if (auto made = make_directory(directory, group); !made) return tl::unexpected{std::move(made).error()};
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return fail_errno(ErrorCode::kPermission, "open " + path, errno);
    DirectoryLock lock{fd};
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
      return fail(ErrorCode::kInUse, directory + " is owned by a running control plane", "stop it, or choose another instance.directory");
    }
    // An owner that removed its directory at shutdown took the file we waited for with it.
    struct stat ours {};
    struct stat there {};
    if (::fstat(fd, &ours) == 0 && ::stat(path.c_str(), &there) == 0 && ours.st_ino == there.st_ino && ours.st_dev == there.st_dev) return lock;
  }
}

DirectoryLock::DirectoryLock(DirectoryLock&& other) noexcept : fd_{std::exchange(other.fd_, -1)} {}
DirectoryLock& DirectoryLock::operator=(DirectoryLock&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}
DirectoryLock::~DirectoryLock() {
  if (fd_ >= 0) ::close(fd_);
}

Result<InstanceFiles> InstanceFiles::open(const InstanceOptions& options, std::int64_t now_ms, std::int64_t now_ns) {
  auto lock = DirectoryLock::take(options.directory, options.group);
  if (!lock) return tl::unexpected{std::move(lock).error()};
  auto predecessor = examine(options, now_ms, now_ns);
  if (!predecessor) return tl::unexpected{std::move(predecessor).error()};
  auto files = predecessor->may_attach ? attach(options, std::move(*lock)) : create(options, std::move(*lock), now_ms);
  if (files) {
    files->saved_error_log = std::move(predecessor->saved_error_log);
    const auto pid = static_cast<std::uint32_t>(::getpid());
    files->registry->header.control_plane.state.store(shm::Observed::kNone, std::memory_order_relaxed);  // that of one that died; ours is told when all is taken up
    shm::set_release(files->registry->header.control_plane, THALWEG_VERSION);
    files->registry->header.control_plane.pid.store(pid, std::memory_order_release);
    files->registry->header.control_plane.starts.fetch_add(1, std::memory_order_relaxed);
    files->cnc.set_pid(pid);
  }
  return files;
}

Result<void> remove_instance_tree(const std::string& directory, bool is_whole) {
  std::error_code error;
  for (const char* name : {"/publications", "/images", "/pool"}) {
    for (const auto& entry : fs::directory_iterator{directory + name, error}) {
      if (entry.is_symlink(error)) static_cast<void>(delete_log_file(entry.path().string()));  // remove_all below reports what stays
    }
  }
  error.clear();
  for (const std::string_view name : kOwnNames) {
    const fs::path path = fs::path{directory} / name;
    fs::remove_all(path, error);
    if (error) return fail(ErrorCode::kIo, fmt::format("remove {}: {}", path.string(), error.message()));
  }
  if (is_whole) {
    fs::remove(directory + "/instance.lock", error);
    fs::remove(directory, error);  // stays, without an error, when somebody keeps files in it
  }
  return {};
}

}  // namespace thalweg::host
