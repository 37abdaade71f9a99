// The machine loses power, or every process is killed, at any step of appending, rotating, syncing and opening. Afterwards nothing that was
// acknowledged as durable is missing, nothing is there twice, and nothing is there that was not appended. Spec: archive-log 12, 19.
#include <cstdlib>
#include <set>

#include "controlplane/log/shared_shard.hpp"
#include "tests/unit/log/fixture.hpp"

namespace thalweg::log {
namespace {

// One that has the shard for itself.
class OneWriter {
 public:
  static std::unique_ptr<OneWriter> open(FileSystem& files, const Clock& clock, const ShardOptions& options, Random&) {
    auto opened = Shard::open(files, clock, kDirectory, options);
    return opened ? std::make_unique<OneWriter>(std::move(*opened)) : nullptr;
  }
  explicit OneWriter(std::unique_ptr<Shard> shard) : shard_{std::move(shard)} {}
  Shard& any() { return *shard_; }
  std::uint64_t next_entry() { return shard_->next_entry(); }
  std::uint64_t durable_entry() { return shard_->durable_entry(); }
  std::uint64_t first_entry() { return shard_->first_entry(); }
  bool delete_oldest(std::size_t count) { return shard_->delete_oldest(count).has_value(); }
  static constexpr bool kHasNumbersOfItsOwn = true;

 private:
  std::unique_ptr<Shard> shard_;
};

// Two that share it, as two processes would.
class TwoWriters {
 public:
  static std::unique_ptr<TwoWriters> open(FileSystem& files, const Clock& clock, const ShardOptions& options, Random& random) {
    auto writers = std::make_unique<TwoWriters>(random);
    for (auto& writer : writers->writers_) {
      auto opened = SharedShard::open(files, clock, kDirectory, options);
      if (!opened) return nullptr;
      writer = std::move(*opened);
    }
    return writers;
  }
  explicit TwoWriters(Random& random) : random_{random} {}
  SharedShard& any() { return *writers_[random_.below(2)]; }
  std::uint64_t next_entry() { return writers_[0]->next_entry(); }
  std::uint64_t durable_entry() { return writers_[0]->durable_entry(); }
  std::uint64_t first_entry() { return writers_[0]->health().first_entry; }
  bool delete_oldest(std::size_t count) {
    SharedShard& writer = any();
    return writer.retention_state(std::nullopt) && writer.delete_oldest(count);
  }
  static constexpr bool kHasNumbersOfItsOwn = false;  // after a failure it does not know what is there

 private:
  Random& random_;
  std::unique_ptr<SharedShard> writers_[2];
};

template <typename Log>
class Lives {
 public:
  explicit Lives(std::uint64_t seed) : seed_{seed}, random_{seed} {}

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
    auto options = small_options(static_cast<SyncPolicy>(random_.below(7)));
    options.sync_every_entries = 1 + random_.below(5);
    options.sync_every_bytes = 1 + random_.below(5000);
    options.sync_interval_ns = kMillisecond_ns;
    shard_ = Log::open(files_, clock_, options, random_);
    if (!shard_ || files_.has_stopped()) return false;  // it may also stop at what opening can do without
    if (shard_->next_entry() < durable_) fail("is shorter than what was durable: " + std::to_string(shard_->next_entry()) + " < " + std::to_string(durable_));
    if (shard_->next_entry() > appended_.size()) fail("has entries that nobody appended");
    appended_.resize(shard_->next_entry());  // what was accepted and got lost is appended anew under its number
    durable_at_crash_ = durable_;
    note_durable(shard_->durable_entry());
    return true;
  }

  void live() {
    files_.stop_at(files_.steps() + 1 + random_.below(60));
    if (open()) {
      verify();
      while (!files_.has_stopped() && act()) {}
    }
    shard_.reset();
  }

  bool act() {
    if (++acts_ > 400) return false;
    clock_.advance(static_cast<std::int64_t>(random_.below(2 * kMillisecond_ns)));
    switch (random_.below(12)) {
      case 0: return done(shard_->any().sync());
      case 1: return done(shard_->any().rotate());
      case 2: return done(shard_->any().maintain());
      case 3: return random_.below(2) == 0 && delete_oldest();  // false: in the middle of everything
      default: return append();
    }
  }
  bool delete_oldest() {
    const std::size_t count = random_.below(2);
    const std::uint64_t next = shard_->next_entry();
    const bool is_done = shard_->delete_oldest(count);
    // Where the machine stopped in between nobody knows how far it came.
    if (Log::kHasNumbersOfItsOwn || !files_.has_stopped()) deleted_to_ = std::max(deleted_to_, shard_->first_entry());
    else if (count > 0) deleted_to_ = next;
    return is_done;
  }
  bool done(const Result<void>& result) {
    note_durable(shard_->durable_entry());
    return result.has_value();
  }
  bool append() {
    std::vector<std::string> texts(1 + (random_.below(3) == 0 ? random_.below(6) : 0));
    std::vector<Entry> batch;
    for (auto& text : texts) {
      ++serial_;
      text = "s" + std::to_string(seed_) + "n" + std::to_string(serial_) + std::string(random_.below(random_.below(4) == 0 ? 20000 : 300), static_cast<char>('a' + serial_ % 26));
      batch.push_back({.payload = bytes_of(text)});
    }
    appended_.insert(appended_.end(), texts.begin(), texts.end());  // may be there whatever append() says
    const auto result = shard_->any().append(batch);
    if (!result && !Log::kHasNumbersOfItsOwn) return false;
    const std::uint64_t next = shard_->next_entry();
    if (next > appended_.size()) fail("counts more than was appended");
    if (result && result->first_entry + result->count != appended_.size()) fail("gave numbers twice");
    note_durable(shard_->durable_entry());
    if (result && result->is_durable) note_durable(result->first_entry + result->count);
    return result.has_value();
  }
  void note_durable(std::uint64_t entry) { durable_ = std::max(durable_, entry); }

  void verify() {
    auto reader = Reader::open(files_, kDirectory, {.is_uncommitted = true, .on_corrupt = OnCorrupt::kSkip});
    if (!reader) return fail("cannot be read: " + reader.error().message);
    std::uint64_t expected = 0;
    for (;;) {
      const auto read = reader->next();
      if (!read) return fail("read: " + read.error().message);
      if (read->status == ReadStatus::kEnd) break;
      if (read->status != ReadStatus::kRecord) {
        for (std::uint64_t lost = read->lost.from_entry; lost < read->lost.to_entry; ++lost)
          if (lost < durable_at_crash_ && lost >= deleted_to_ && !lost_.contains(lost)) fail("lost the durable entry " + std::to_string(lost));
          else lost_.insert(lost);
        expected = read->lost.to_entry;
        continue;
      }
      const RecordView& record = read->record;
      if (record.entry() != expected) return fail("entry " + std::to_string(record.entry()) + " where " + std::to_string(expected) + " should be");
      if (record.entry() >= appended_.size() || text_of(record.payload) != appended_[record.entry()]) return fail("entry " + std::to_string(record.entry()) + " is not what was appended");
      ++expected;
    }
    const auto catalog = read_catalog(files_, kDirectory);
    if (!catalog || catalog->entries().front().base_entry != shard_->first_entry()) fail("has another catalog than segments");
    if (expected != shard_->next_entry()) fail("ends at " + std::to_string(expected) + " of " + std::to_string(shard_->next_entry()));
  }

  std::uint64_t seed_;
  Random random_;
  test::CrashFileSystem files_{96U << 10};
  ManualClock clock_;
  std::unique_ptr<Log> shard_;
  std::vector<std::string> appended_;
  std::uint64_t durable_{0};
  std::uint64_t durable_at_crash_{0};
  std::set<std::uint64_t> lost_;  // accepted, never durable, and gone in a crash with later ones behind them
  std::uint64_t deleted_to_{0};
  std::uint64_t serial_{0};
  int acts_{0};
};

// THALWEG_LOG_CRASH_SEED runs one seed alone.
template <typename Log>
void live_and_die(std::uint64_t seeds) {
  const char* const only = std::getenv("THALWEG_LOG_CRASH_SEED");
  if (only != nullptr) return Lives<Log>{std::strtoull(only, nullptr, 10)}.go();
  for (std::uint64_t seed = 1; seed <= seeds && !testing::Test::HasFailure(); ++seed) Lives<Log>{seed}.go();
}

TEST(Crash, at_any_step_loses_nothing_that_was_durable) { live_and_die<OneWriter>(1500); }

TEST(Crash, of_two_writers_at_any_step_loses_nothing_that_was_durable) { live_and_die<TwoWriters>(1000); }

}  // namespace
}  // namespace thalweg::log
