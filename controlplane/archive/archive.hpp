#pragma once
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "controlplane/archive/control_service.hpp"
#include "controlplane/archive/recorder.hpp"
#include "controlplane/archive/replayer.hpp"
#include "controlplane/archive/replicator.hpp"

namespace thalweg::archive {

// The archive of an instance: an ordinary client of its media driver, on threads of its own. One records, one waits for the disk, one replays. Spec: archive-log 16.4.
class Archive {
 public:
  // Opens the directory (created when missing), ends what a crash left open and starts the threads. They wait for the driver. Errors: kInUse when another
  // archive has the directory; kVersion, kIo, kNoSpace, kPermission.
  [[nodiscard]] static Result<std::unique_ptr<Archive>> start(Settings settings, EventSink events);
  // Ends all recordings and the threads.
  ~Archive();
  Archive(const Archive&) = delete;
  Archive& operator=(const Archive&) = delete;

  // What a task may use; valid inside it only.
  struct World {
    Recorder& recorder;
    RecordingCatalog& catalog;
    ActiveRecordings& active;
    Replayer& replayer;
    Replicator& replicator;
    Checksums& checksums;
    log::FileSystem& files;
    const Settings& settings;
    bool is_connected;
  };
  // Runs `task` on the archive's thread. Any thread; returns at once. An archive that ends throws away what it has not begun.
  void post(std::function<void(World&)> task);
  // Tasks that it has not begun. Any thread.
  [[nodiscard]] std::size_t task_count() const;
  [[nodiscard]] const Settings& settings() const noexcept { return settings_; }
  // The driver has answered for every stream that is to be recorded from the start: what is published from now on is recorded from its beginning. Told by the event
  // archive_ready. Any thread.
  [[nodiscard]] bool is_ready() const noexcept { return is_ready_.load(std::memory_order_acquire); }

 private:
  Archive(Settings settings, EventSink events);
  void run();
  void run_disk();
  void connect();
  [[nodiscard]] bool run_tasks();
  [[nodiscard]] World world();
  void rest(bool has_worked);
  void tell(Event::Level level, const char* name, std::string text) const;

  const Settings settings_;
  const EventSink events_;
  std::unique_ptr<log::FileSystem> files_;
  log::SystemClock clock_;
  std::optional<RecordingCatalog> catalog_;
  std::unique_ptr<ActiveRecordings> active_;
  std::unique_ptr<Replayer> replayer_;
  std::unique_ptr<Recorder> recorder_;
  std::unique_ptr<Replicator> replicator_;
  std::optional<Checksums> checksums_;
  std::unique_ptr<ControlService> control_;
  ControlService::Hands hands_;

  // The archive's thread.
  std::optional<client::Client> client_;
  std::int64_t next_connect_ns_{};
  unsigned idle_turns_{};

  std::atomic<bool> is_ready_{false};
  mutable std::mutex mutex_;
  std::condition_variable wanted_;      // a task, or the end
  std::condition_variable disk_wanted_; // the end
  std::vector<std::function<void(World&)>> tasks_;
  bool stop_{};
  std::thread thread_;
  std::thread disk_thread_;
};

}  // namespace thalweg::archive
