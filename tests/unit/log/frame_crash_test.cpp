// The machine loses power, or every process is killed, at any step of recording, rotating, syncing, truncating and opening. Afterwards the stream is what
// was recorded, up to a frame at or behind what was durable. Spec: archive-log 12, 19.
#include <cstdlib>

#include "controlplane/log/frame_verify.hpp"
#include "tests/unit/log/frame_fixture.hpp"

namespace thalweg::log {
namespace {

class FrameLives {
 public:
  explicit FrameLives(std::uint64_t seed) : seed_{seed}, random_{seed}, start_{random_.below(3) * 4096 * 7 + random_.below(200) * 32}, source_{start_} {}

  void go() {
    for (int life = 0; life < 4 && !testing::Test::HasFailure(); ++life) {
      live();
      if (random_.below(3) == 0) files_.kill_all();
      else files_.lose_power(random_);
    }
    if (!open()) return fail("does not open when nothing fails");
    verify();
  }

 private:
  void fail(const std::string& what) { ADD_FAILURE() << "seed " << seed_ << ": " << what; }

  bool open() {
    constexpr std::array kPolicies{SyncPolicy::kNone, SyncPolicy::kPeriodic, SyncPolicy::kEverySegment, SyncPolicy::kEveryBytes, SyncPolicy::kEveryBatch, SyncPolicy::kExplicit};
    auto options = frame_options(kPolicies[random_.below(kPolicies.size())], start_);
    options.sync_every_bytes = 1 + random_.below(9000);
    options.sync_interval_ns = kMillisecond_ns;
    auto opened = FrameLog::open(files_, clock_, kDirectory, options);
    if (!opened) {
      if (!files_.has_stopped()) fail("does not open: " + opened.error().message);
      return false;
    }
    log_ = std::move(*opened);
    const std::uint64_t position = log_->position();
    if (position < durable_) fail("ends at " + std::to_string(position) + ", " + std::to_string(durable_) + " was durable");
    if (position > start_ + bytes_.size()) fail("ends behind what was recorded");
    if (log_->recovery().lost_entries != 0) fail("says that durable frames are lost");
    bytes_.resize(position - start_);
    source_ = FrameSource{position};
    if (files_.has_stopped()) return false;
    note_durable();
    return true;
  }

  void live() {
    files_.stop_at(files_.steps() + 1 + random_.below(50));
    if (open()) {
      verify();
      while (!files_.has_stopped() && act()) {}
    }
    log_.reset();
  }

  bool act() {
    if (++acts_ > 400) return false;
    clock_.advance(static_cast<std::int64_t>(random_.below(2 * kMillisecond_ns)));
    switch (random_.below(14)) {
      case 0: return done(log_->sync());
      case 1: return done(log_->maintain());
      case 2: return random_.below(3) != 0 || truncate();
      default: return append();
    }
  }
  bool done(const Result<void>& result) {
    note_durable();
    return result.has_value();
  }
  void note_durable() {
    if (!files_.has_stopped()) durable_ = std::max(durable_, log_->durable_position());
  }
  // A few frames, or many, in one block of one term.
  bool append() {
    std::vector<std::byte> block;
    const std::uint64_t term = source_.position() / kStream.term_bytes;
    for (std::uint64_t count = 1 + (random_.below(3) == 0 ? random_.below(40) : random_.below(3)); count > 0; --count) {
      const std::uint64_t before = source_.position();
      const auto frame = source_.next(static_cast<std::uint32_t>(random_.below(1376)));
      block.insert(block.end(), frame.begin(), frame.end());
      bytes_.insert(bytes_.end(), frame.begin(), frame.end());
      bytes_.resize(source_.position() - start_);
      ends_.push_back(before);
      if (source_.position() / kStream.term_bytes != term) break;
    }
    const auto result = log_->append(block);
    if (result && *result != source_.position()) fail("counts other positions than the stream");
    note_durable();
    return result.has_value();
  }
  // Back to a frame that was recorded in this life.
  bool truncate() {
    if (ends_.empty()) return true;
    const std::uint64_t to = ends_[random_.below(ends_.size())];
    ends_.clear();
    if (to < start_ || to > log_->position()) return true;
    durable_ = std::min(durable_, to);
    const bool is_done = log_->truncate(to).has_value();
    if (!is_done) return false;
    bytes_.resize(to - start_);
    source_ = FrameSource{to};
    return true;
  }

  void verify() {
    ends_.clear();
    const auto verified = verify_frame_log(files_, kDirectory, {.log_id = 5, .stream = kStream, .segment_bytes = kSegmentBytesMin, .start_position = start_, .stop_position = log_->position()});
    if (!verified) return fail("cannot be verified: " + verified.error().message);
    for (const auto& finding : verified->findings) fail(finding.path + " at " + std::to_string(finding.offset) + ": " + finding.what);
    auto reader = FrameReader::open(files_, kDirectory, {.stream = kStream, .is_uncommitted = true});
    if (!reader) return fail("cannot be read: " + reader.error().message);
    for (;;) {
      const auto read = reader->next(5000);
      if (!read) return fail("read: " + read.error().message);
      if (!*read) break;
      if (!std::equal((*read)->frames.begin(), (*read)->frames.end(), bytes_.begin() + static_cast<std::ptrdiff_t>((*read)->position - start_)))
        return fail("position " + std::to_string((*read)->position) + " is not what was recorded");
    }
    if (reader->position() != log_->position()) fail("reading ends at " + std::to_string(reader->position()) + " of " + std::to_string(log_->position()));
  }

  std::uint64_t seed_;
  Random random_;
  std::uint64_t start_;
  FrameSource source_;
  test::CrashFileSystem files_{128U << 10};
  ManualClock clock_;
  std::unique_ptr<FrameLog> log_;
  std::vector<std::byte> bytes_;     // the stream from start_ on
  std::vector<std::uint64_t> ends_;  // where frames of this life begin
  std::uint64_t durable_{0};
  int acts_{0};
};

// THALWEG_LOG_CRASH_SEED runs one seed alone.
TEST(FrameCrash, at_any_step_loses_nothing_that_was_durable) {
  const char* const only = std::getenv("THALWEG_LOG_CRASH_SEED");
  if (only != nullptr) return FrameLives{std::strtoull(only, nullptr, 10)}.go();
  for (std::uint64_t seed = 1; seed <= 800 && !HasFailure(); ++seed) FrameLives{seed}.go();
}

}  // namespace
}  // namespace thalweg::log
