#pragma once
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "dataplane/client/archive_client.hpp"
#include "dataplane/client/fragment_assembler.hpp"

namespace thalweg::client {

// A stream from a position of its recording on: first out of the recording, then live, without a gap and without a message twice. When the live image is lost it
// goes back to the recording and joins again; without `falls_back` it is what the field calls replay merge. Whole messages only. One thread; must not outlive its
// ArchiveClient. Spec: archive-log 16.3.
class PersistentSubscription {
 public:
  struct Options {
    std::int64_t recording{};
    std::optional<std::int64_t> position;       // where it begins, the end of a message; absent: with the lowest that there is
    std::string live_channel;                   // as any subscriber of the stream would write it
    std::int32_t live_stream{};
    std::string replay_channel{"aeron:ipc"};    // where replays come in; port 0 takes a free one. Not the live channel and stream
    std::int32_t replay_stream{};
    bool falls_back{true};
    // The live stream is subscribed to once the recording is no further ahead than this; from then on it holds its publisher back like any subscriber.
    std::int64_t join_window{1 << 20};          // bytes
    std::chrono::nanoseconds retry_interval{std::chrono::milliseconds{100}};
    std::function<void(std::int64_t position)> on_live_joined;
    std::function<void(std::int64_t position)> on_live_left;
    std::function<void(const Error&)> on_error; // what is tried again
  };
  // Errors: kInvalidArgument, kInvalidChannel.
  [[nodiscard]] static Result<PersistentSubscription> create(ArchiveClient& archive, Options options);
  PersistentSubscription(PersistentSubscription&&) noexcept = default;
  PersistentSubscription& operator=(PersistentSubscription&&) noexcept = default;
  // Ends its replay.
  ~PersistentSubscription();

  // Does what is due and hands over whole messages out of at most `fragment_limit` fragments; answers how many messages.
  template <FragmentHandler Handler>
  int poll(Handler&& handler, int fragment_limit) {
    step();
    if (image_ == nullptr) return 0;
    int messages = 0;
    image_->controlled_poll(
        [&](std::span<const std::byte> payload, const Header& header) {
          if (header.position() <= position_) return PollAction::kContinue;  // it came out of the recording
          const auto whole = builder_.add(payload, header);
          is_whole_ = (header.flags() & frame::kEnd) != 0;
          if (!whole) return PollAction::kContinue;
          position_ = header.position();
          ++messages;
          handler(*whole, header.assembled());
          return can_join() ? PollAction::kBreak : PollAction::kContinue;
        },
        fragment_limit);
    if (live_image_ != nullptr && image_ != live_image_ && is_whole_ && image_->position() >= live_image_->join_position()) join();
    return messages;
  }

  // Behind the last message that was handed over: where another one would have to begin.
  [[nodiscard]] std::int64_t position() const noexcept { return position_; }
  [[nodiscard]] bool is_live() const noexcept { return state_ == State::kLive; }
  // It cannot go on: failure() says why. Or it does not fall back, and the live stream ended.
  [[nodiscard]] bool is_over() const noexcept { return state_ == State::kFailed || state_ == State::kEnded; }
  [[nodiscard]] const std::optional<Error>& failure() const noexcept { return failure_; }

 private:
  enum class State : std::uint8_t { kAskingSession, kSubscribing, kResolving, kAskingRecording, kStartingReplay, kReplaying, kWaiting, kLive, kEnded, kFailed };
  PersistentSubscription(ArchiveClient& archive, Options options) noexcept : archive_{&archive}, options_{std::move(options)} {}
  void step();
  void ask_session();
  void subscribe();
  void resolve();
  void ask_recording();
  [[nodiscard]] bool has_asked_recording();
  void start_replay();
  void follow();
  void subscribe_to_live();
  void look_for_live();
  void watch_live();
  void begin_again();
  void join();
  void end_replay();
  void retry(const Error& error);
  void fail_with(Error error);
  [[nodiscard]] bool can_join() const noexcept { return live_image_ != nullptr && image_ != live_image_ && position_ >= live_image_->join_position(); }

  ArchiveClient* archive_;
  Options options_;
  State state_{State::kAskingSession};
  std::int64_t position_{-1};
  std::optional<Error> failure_;
  MessageBuilder builder_;
  bool is_whole_{true};
  std::int64_t not_before_ns_{};                // of the next try
  std::int64_t give_up_ns_{};                   // on the image of a replay
  int refusals_{};
  std::optional<RegistrationId> wanted_;
  std::optional<std::int64_t> request_;         // to the archive
  std::int32_t replay_session_{};
  std::string replay_channel_;                  // resolved
  std::optional<RecordingInfo> recording_;
  std::int64_t replay_id_{-1};
  Subscription replay_;
  std::optional<RegistrationId> live_wanted_;
  Subscription live_;
  std::shared_ptr<Image> image_;                // the one that is read; null: none
  std::shared_ptr<Image> live_image_;
};

}  // namespace thalweg::client
