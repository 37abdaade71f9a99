#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "controlplane/archive/replay_session.hpp"
#include "controlplane/archive/settings.hpp"

namespace thalweg::archive {

// The replays of an archive: a client of their own on a thread of its own, so that recording does not notice them. Any thread may call any function.
// Spec: archive-log 13, 16.3.
class Replayer {
 public:
  Replayer(log::FileSystem& files, const log::Clock& clock, const Settings& settings, EventSink events);
  // Ends all replays.
  ~Replayer();
  Replayer(const Replayer&) = delete;
  Replayer& operator=(const Replayer&) = delete;

  using Answer = std::function<void(Result<ReplayView>)>;
  // Calls `answer` once, on the replaying thread: when the publication is there and waits for subscribers, or with the error. Errors: kInUse (as many as may be are
  // running), kUnreachable (no media driver), those of ReplaySession::start() and of the driver.
  void start(ReplayRequest request, Answer answer);
  // Ends one. Errors: kNotFound when none of that number runs.
  [[nodiscard]] Result<void> stop(std::int64_t replay);
  // Ends those of a recording; nullopt: all. Returns how many.
  std::size_t stop_all(std::optional<std::int64_t> recording);

  // Those that run and the last ones that ended, by number.
  [[nodiscard]] std::vector<ReplayView> views() const;
  [[nodiscard]] std::size_t active_count() const;
  [[nodiscard]] std::size_t active_count(std::int64_t recording) const;
  // The lowest position that a replay of the recording still has to read; nullopt: none does.
  [[nodiscard]] std::optional<std::uint64_t> lowest_position(std::int64_t recording) const;
  // Bytes of position sent by all replays since the start.
  [[nodiscard]] std::uint64_t sent_bytes() const;

 private:
  struct Replay {
    std::unique_ptr<ReplaySession> session;
    Answer answer;  // empty: given
  };
  struct Wanted {
    ReplayRequest request;
    Answer answer;
  };
  void run();
  [[nodiscard]] Result<void> connect();
  void begin(Wanted wanted);
  void look_at(Replay& replay);
  [[nodiscard]] std::uint64_t work();
  void publish();
  void rest(bool has_worked);
  void tell(Event::Level level, const char* name, const ReplayView& view, const std::string& text) const;

  log::FileSystem& files_;
  const log::Clock& clock_;
  const Settings& settings_;
  const EventSink events_;

  // The replaying thread.
  std::optional<client::Client> client_;
  std::vector<Replay> replays_;
  std::int64_t next_id_{0};
  unsigned idle_turns_{};
  std::uint64_t sent_{};

  mutable std::mutex mutex_;
  std::condition_variable wanted_change_;  // something is wanted, or the end
  std::deque<Wanted> wanted_;
  std::vector<std::int64_t> to_stop_;
  std::vector<ReplayView> active_;         // as of the last turn
  std::deque<ReplayView> ended_;
  std::uint64_t sent_bytes_{};
  bool stop_{};
  std::thread thread_;
};

}  // namespace thalweg::archive
