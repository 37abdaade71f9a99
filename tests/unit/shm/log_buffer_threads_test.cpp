// Publishers, a consumer and the owning lane on one log buffer at once: claim, commit, rotate, clean and unblock (client-protocol 7.5 to 7.8).
#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <thread>
#include <vector>

#include "dataplane/base/time.hpp"
#include "dataplane/shm/log_buffer.hpp"
#include "dataplane/wire/frames.hpp"
#include "tests/support/shared_memory.hpp"

namespace thalweg::shm {
namespace {

constexpr std::int32_t kTerm = 65536;
constexpr std::int32_t kInitial = 2147483646;  // wraps in the third term
constexpr std::int64_t kWindow = kTerm / 2;
constexpr std::int64_t kDeadline_ns = 40 * kSecond_ns;

// Words that the lane's unblock scan may look at while a publisher writes them; real publishers write plain bytes there and the scan is
// a heuristic by design, here both sides are atomic so that a thread sanitizer sees only what is ours to get right.
void store_word(std::byte* p, std::int32_t value) { std::atomic_ref<std::int32_t>{*reinterpret_cast<std::int32_t*>(p)}.store(value, std::memory_order_relaxed); }
std::int32_t load_word(std::byte* p) { return std::atomic_ref<std::int32_t>{*reinterpret_cast<std::int32_t*>(p)}.load(std::memory_order_relaxed); }

struct Stream {
  LogBuffer log;
  std::atomic<std::int64_t> limit{kWindow};

  // One turn of the publish algorithm of 7.5; false: try again. `dies` leaves the claim without a length or uncommitted.
  enum class Fate { kCommits, kDiesWithLength, kDiesWithoutLength };
  bool offer(std::int32_t words, std::int32_t producer, std::int32_t number, Fate fate) {
    const std::int32_t count = log.active_term_count();
    const int index = count % 3;
    const std::int64_t raw = log.raw_tail(index);
    const std::int32_t term_id = tail_term_id(raw);
    if (wire::wrapping_sub(term_id, kInitial) != count) return false;
    const std::int64_t position = wire::position_of(term_id, tail_offset(raw, kTerm), kInitial, log.position_bits());
    if (position >= limit.load(std::memory_order_acquire)) return false;
    const std::int32_t length = wire::kDataHeaderLength + 4 * words;
    const std::int64_t old = std::atomic_ref<std::int64_t>{*reinterpret_cast<std::int64_t*>(log.metadata() + 8 * index)}.fetch_add(wire::align_frame(length));
    const std::int64_t offset = old & 0xFFFFFFFF;
    const std::int32_t claimed_id = tail_term_id(old);
    if (offset + wire::align_frame(length) > kTerm) {
      if (offset < kTerm) commit(log.term(index) + offset, static_cast<std::int32_t>(offset), claimed_id, static_cast<std::int32_t>(kTerm - offset), wire::FrameType::kPad);
      rotate_log(log, wire::wrapping_sub(claimed_id, kInitial), claimed_id);
      return false;
    }
    std::byte* const frame = log.term(index) + offset;
    if (fate == Fate::kDiesWithoutLength) return true;
    frame_length_release(frame, -length);
    if (fate == Fate::kDiesWithLength) return true;
    store_word(frame + 32, producer);
    for (std::int32_t i = 1; i < words; ++i) store_word(frame + 32 + 4 * i, number);
    commit(frame, static_cast<std::int32_t>(offset), claimed_id, length, wire::FrameType::kData);
    return true;
  }
  void commit(std::byte* frame, std::int32_t offset, std::int32_t term_id, std::int32_t length, wire::FrameType type) {
    frame_length_release(frame, -length);
    store_word(frame + 4, static_cast<std::int32_t>(0xC000U | static_cast<std::uint32_t>(type) << 16));
    store_word(frame + 8, offset);
    store_word(frame + 20, term_id);
    frame_length_release(frame, length);
  }
};

// The owning lane and the consumer in one: consumes what is committed, cleans behind it, raises the limit, unblocks when asked.
class Lane {
 public:
  Lane(Stream& stream, std::size_t producers) : stream_{stream}, next_(producers) {}

  // Consumes at most one frame; false: nothing is committed at the position.
  bool consume() {
    std::byte* const frame = stream_.log.at(position_);
    const std::int32_t length = frame_length_acquire(frame);
    if (length <= 0) return false;
    const std::int32_t offset = wire::term_offset_of(position_, stream_.log.position_bits());
    is_right_ = is_right_ && length <= kTerm - offset;
    if (!is_right_) return false;
    const bool is_pad = (static_cast<std::uint32_t>(load_word(frame + 4)) >> 16) == 0;
    if (is_pad) {
      ++pads_;
    } else {
      is_right_ = is_right_ && load_word(frame + 8) == offset && load_word(frame + 20) == wire::term_id_of(position_, kInitial, stream_.log.position_bits());
      check_message(frame + 32, (length - 32) / 4);
    }
    const std::int64_t end = position_ + wire::align_frame(length);
    clean_log(stream_.log, position_, end);
    position_ = end;
    stream_.limit.store(position_ + kWindow, std::memory_order_release);
    return true;
  }
  bool unblock() { return unblock_log(stream_.log, position_, kInitial); }
  [[nodiscard]] bool is_right() const { return is_right_; }
  [[nodiscard]] std::int64_t position() const { return position_; }
  [[nodiscard]] int messages() const { return messages_; }
  [[nodiscard]] int pads() const { return pads_; }

 private:
  void check_message(std::byte* body, std::int32_t words) {
    const std::int32_t producer = load_word(body);
    is_right_ = is_right_ && producer >= 0 && static_cast<std::size_t>(producer) < next_.size();
    if (!is_right_) return;
    const std::int32_t expected = next_[static_cast<std::size_t>(producer)]++;
    for (std::int32_t i = 1; i < words; ++i) is_right_ = is_right_ && load_word(body + 4 * i) == expected;
    ++messages_;
  }

  Stream& stream_;
  std::vector<std::int32_t> next_;
  std::int64_t position_{};
  int messages_{};
  int pads_{};
  bool is_right_{true};
};

class LogThreads : public testing::Test {
 protected:
  void SetUp() override { init_log_metadata(stream_.log, {.initial_term_id = kInitial, .start_term_id = kInitial, .term_length = kTerm}); }

  static std::int32_t words_of(std::int32_t number) { return 2 + number * 13 % 300; }
  void publish_all(std::int32_t producer, std::int32_t count) {
    for (std::int32_t i = 0; i < count; ++i) {
      while (!is_over_ && !stream_.offer(words_of(i), producer, i, Stream::Fate::kCommits)) std::this_thread::yield();
    }
  }
  // Consumes until `count` messages came; stops the publishers if they do not.
  bool consume_all(Lane& lane, int count) {
    const std::int64_t deadline = monotonic_ns() + kDeadline_ns;
    while (lane.messages() < count && lane.is_right() && monotonic_ns() < deadline) {
      if (!lane.consume()) std::this_thread::yield();
    }
    is_over_ = lane.messages() < count;
    return lane.messages() == count && lane.is_right();
  }

  std::atomic<bool> is_over_{};
  test::SharedMemory memory_{log_file_length(kTerm, 4096)};
  Stream stream_{.log = LogBuffer{memory_.data(), log_file_length(kTerm, 4096), kTerm}};
};

TEST_F(LogThreads, concurrent_publishers_rotate_through_many_terms_without_losing_a_message) {
  constexpr int kProducers = 4;
  constexpr int kCount = 1500;
  std::vector<std::thread> publishers;
  for (int p = 0; p < kProducers; ++p) publishers.emplace_back([this, p] { publish_all(p, kCount); });
  Lane lane{stream_, kProducers};
  EXPECT_TRUE(consume_all(lane, kProducers * kCount));
  for (auto& publisher : publishers) publisher.join();
  EXPECT_GT(lane.position(), 30 * kTerm);
  while (lane.consume()) {
  }
  EXPECT_EQ(producer_position(stream_.log, kInitial), lane.position());
}

TEST_F(LogThreads, publishers_in_processes_rotate_too) {
  constexpr int kCount = 1000;
  test::SharedMemory shared{4096};
  auto* const limit = new (shared.data()) std::atomic<std::int64_t>{kWindow};
  const std::int64_t deadline = monotonic_ns() + kDeadline_ns;
  std::vector<pid_t> children;
  for (int p = 0; p < 2; ++p) {
    children.push_back(test::in_child([this, p, limit, deadline] {
      for (std::int32_t i = 0; i < kCount && monotonic_ns() < deadline;) {
        stream_.limit.store(limit->load(std::memory_order_acquire), std::memory_order_relaxed);
        if (stream_.offer(words_of(i), p, i, Stream::Fate::kCommits)) ++i;
        else std::this_thread::yield();
      }
      return 0;
    }));
  }
  Lane lane{stream_, 2};
  while (lane.messages() < 2 * kCount && lane.is_right() && monotonic_ns() < deadline) {
    if (!lane.consume()) std::this_thread::yield();
    limit->store(stream_.limit.load(std::memory_order_relaxed), std::memory_order_release);
  }
  EXPECT_EQ(lane.messages(), 2 * kCount);
  EXPECT_TRUE(lane.is_right());
  for (const pid_t child : children) EXPECT_EQ(test::wait_for(child), 0);
}

TEST_F(LogThreads, publisher_killed_between_claim_and_commit_is_unblocked_while_others_publish) {
  for (const auto fate : {Stream::Fate::kDiesWithLength, Stream::Fate::kDiesWithoutLength}) {
    SCOPED_TRACE(static_cast<int>(fate));
    std::memset(memory_.data(), 0, memory_.bytes().size());
    stream_.limit.store(kWindow);
    SetUp();
    const pid_t child = test::in_child([this, fate] {
      stream_.offer(50, 0, 0, fate);
      ::raise(SIGKILL);
      return 0;
    });
    EXPECT_EQ(test::wait_for(child), -1);
    ASSERT_TRUE(stream_.offer(words_of(0), 0, 0, Stream::Fate::kCommits));
    Lane lane{stream_, 2};
    EXPECT_FALSE(lane.consume());
    std::thread publisher{[this] { publish_all(1, 1000); }};
    EXPECT_TRUE(lane.unblock());
    EXPECT_TRUE(consume_all(lane, 1001));
    publisher.join();
    EXPECT_GE(lane.pads(), 1);
  }
}

TEST_F(LogThreads, publisher_killed_before_rotating_is_rotated_for) {
  std::atomic_ref<std::int64_t>{*reinterpret_cast<std::int64_t*>(stream_.log.metadata())}.fetch_add(kTerm);  // filled the term exactly, then died
  stream_.commit(stream_.log.base(), 0, kInitial, kTerm, wire::FrameType::kPad);
  Lane lane{stream_, 1};
  ASSERT_TRUE(lane.consume());
  EXPECT_EQ(lane.position(), kTerm);
  EXPECT_TRUE(lane.unblock());
  EXPECT_EQ(stream_.log.active_term_count(), 1);
  std::thread publisher{[this] { publish_all(0, 300); }};
  EXPECT_TRUE(consume_all(lane, 300));
  publisher.join();
}

}  // namespace
}  // namespace thalweg::shm
