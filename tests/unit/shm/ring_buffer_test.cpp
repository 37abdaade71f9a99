#include "dataplane/shm/ring_buffer.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <limits>
#include <thread>
#include <vector>

#include "dataplane/base/time.hpp"
#include "tests/support/hex.hpp"
#include "tests/support/shared_memory.hpp"

namespace thalweg::shm {
namespace {

using test::ByteVector;
using test::SharedMemory;
using test::to_bytes;
using Messages = std::vector<ByteVector>;

constexpr std::size_t kCapacity = 1024;
constexpr std::size_t kLength = kCapacity + kRingTrailerLength;
constexpr std::size_t kTail = kCapacity + 128;
constexpr std::size_t kHead = kCapacity + 384;
constexpr std::int64_t kDeadline_ns = 30 * kSecond_ns;  // of whole tests, never of a step

class Ring : public testing::Test {
 protected:
  [[nodiscard]] std::vector<ByteVector> read(int limit = 1000) {
    std::vector<ByteVector> messages;
    ring_.read(
        [&](std::int32_t, std::span<const std::byte> body) {
          messages.emplace_back(body.begin(), body.end());
          return true;
        },
        limit);
    return messages;
  }
  // What a producer leaves that dies between its CAS of the tail and its commit; `length` is what it wrote there, 0 = nothing yet.
  void claim_and_die(std::int64_t bytes, std::int32_t length) {
    const auto tail = load_le<std::int64_t>(memory_.data() + kTail);
    store_le(memory_.data() + kTail, tail + bytes);
    store_le(memory_.data() + (tail & (kCapacity - 1)), length);
  }
  [[nodiscard]] bool is_data_zero() const {
    const auto data = memory_.bytes().first(kCapacity);
    return std::all_of(data.begin(), data.end(), [](std::byte b) { return b == std::byte{}; });
  }

  SharedMemory memory_{kLength};
  ManyToOneRing ring_{memory_.bytes()};
};

TEST_F(Ring, record_is_laid_out_as_3_2_says) {
  ASSERT_TRUE(ring_.write(4, to_bytes("hello")));
  EXPECT_EQ(test::to_hex(memory_.bytes().first(16)), "0d000000 04000000 68656c6c 6f000000");
  EXPECT_EQ(ring_.producer_position(), 16);
  EXPECT_EQ(load_le<std::int64_t>(memory_.data() + kTail), 16);
  EXPECT_EQ(read(), Messages{to_bytes("hello")});
  EXPECT_EQ(load_le<std::int64_t>(memory_.data() + kHead), 16);
  EXPECT_TRUE(is_data_zero());
}

TEST_F(Ring, lengths_that_are_no_power_of_two_behind_the_trailer_are_refused) {
  EXPECT_TRUE(ManyToOneRing::is_valid_length((1 << 20) + 768));
  EXPECT_TRUE(ManyToOneRing::is_valid_length(kLength));
  for (const std::size_t length : {std::size_t{0}, std::size_t{767}, std::size_t{768}, std::size_t{1 << 20}, kLength + 8}) {
    EXPECT_FALSE(ManyToOneRing::is_valid_length(length)) << length;
  }
}

TEST_F(Ring, messages_up_to_an_eighth_of_the_ring_and_types_from_one_are_taken) {
  EXPECT_FALSE(ring_.write(1, ByteVector(129)));
  EXPECT_FALSE(ring_.write(0, {}));
  EXPECT_FALSE(ring_.write(-1, {}));
  EXPECT_EQ(ring_.producer_position(), 0);
  EXPECT_TRUE(ring_.write(1, ByteVector(128)));
  EXPECT_TRUE(ring_.write(1, {}));
  EXPECT_EQ(read().size(), 2U);
}

TEST_F(Ring, is_full_when_no_room_is_left_and_takes_more_after_a_read) {
  ASSERT_TRUE(ring_.write(1, ByteVector(56)));
  int written = 0;
  while (ring_.write(1, ByteVector(100))) ++written;
  EXPECT_EQ(written, 8) << "64 + 8 x 112 of 1024, 64 left";
  EXPECT_EQ(read(1).size(), 1U);
  EXPECT_FALSE(ring_.write(1, ByteVector(100))) << "128 bytes are free, but 64 at either end: 112 do not fit";
  EXPECT_EQ(read(1).size(), 1U);
  EXPECT_TRUE(ring_.write(1, ByteVector(100)));
  EXPECT_FALSE(ring_.write(1, ByteVector(100)));
  EXPECT_EQ(read().size(), 7U) << "one pass ends at the end of the buffer";
  EXPECT_EQ(read().size(), 1U);
  EXPECT_EQ(ring_.consumer_position(), ring_.producer_position());
  EXPECT_TRUE(is_data_zero());
}

TEST_F(Ring, wraps_at_every_offset_without_losing_or_changing_a_message) {
  for (int i = 0; i < 5000; ++i) {
    const ByteVector message(static_cast<std::size_t>(i * 7 % 129), static_cast<std::byte>(i));
    ASSERT_TRUE(ring_.write(1, message));
    auto messages = read();
    if (messages.empty()) messages = read();  // the first pass ate the padding at the end
    ASSERT_EQ(messages, Messages{message}) << i;
    ASSERT_TRUE(is_data_zero());
  }
}

TEST_F(Ring, message_that_the_handler_refuses_stays_and_comes_again) {
  ASSERT_TRUE(ring_.write(1, to_bytes("a")));
  ASSERT_TRUE(ring_.write(2, to_bytes("b")));
  int calls = 0;
  EXPECT_EQ(ring_.read([&](std::int32_t type, std::span<const std::byte>) { ++calls; return type == 1; }, 10), 1);
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(read(), Messages{to_bytes("b")});
}

TEST_F(Ring, correlation_ids_and_heartbeat_lie_in_the_trailer) {
  EXPECT_EQ(ring_.next_correlation_id(), 0);
  EXPECT_EQ(ring_.next_correlation_id(), 1);
  EXPECT_EQ(load_le<std::int64_t>(memory_.data() + kCapacity + 512), 2);
  ring_.consumer_heartbeat(-1);
  EXPECT_EQ(load_le<std::int64_t>(memory_.data() + kCapacity + 640), -1);
  EXPECT_EQ(ring_.consumer_heartbeat(), -1);
}

TEST_F(Ring, claim_of_a_dead_producer_becomes_padding) {
  claim_and_die(64, -60);
  ASSERT_TRUE(ring_.write(1, to_bytes("behind")));
  EXPECT_TRUE(read().empty());
  EXPECT_TRUE(ring_.unblock());
  EXPECT_EQ(read(), Messages{to_bytes("behind")});
  EXPECT_FALSE(ring_.unblock());
  EXPECT_TRUE(is_data_zero());
}

TEST_F(Ring, claim_that_never_showed_its_length_is_skipped_up_to_the_next_record) {
  claim_and_die(64, 0);
  EXPECT_FALSE(ring_.unblock()) << "nothing behind it tells how long it is";
  ASSERT_TRUE(ring_.write(1, to_bytes("behind")));
  EXPECT_TRUE(ring_.unblock());
  EXPECT_EQ(read(), Messages{to_bytes("behind")});
}

TEST_F(Ring, unblock_leaves_an_empty_ring_and_committed_messages_alone) {
  EXPECT_FALSE(ring_.unblock());
  ASSERT_TRUE(ring_.write(1, to_bytes("x")));
  EXPECT_FALSE(ring_.unblock());
  EXPECT_EQ(read().size(), 1U);
}

// A consumer that dies while it takes messages out of the ring leaves `zeroed` bytes of nothing before the head.
TEST_F(Ring, whoever_takes_over_from_a_consumer_that_died_over_it_takes_out_what_that_one_had_read) {
  for (const std::size_t zeroed : {0U, 8U, 16U, 40U, 48U}) {
    SharedMemory memory{kLength};
    ManyToOneRing ring{memory.bytes()};
    ASSERT_TRUE(ring.write(1, to_bytes("before")));
    EXPECT_EQ(ring.read([](std::int32_t, std::span<const std::byte>) { return true; }, 10), 1);
    for (const char* const text : {"first", "second", "third"}) ASSERT_TRUE(ring.write(1, to_bytes(text)));
    const std::int64_t head = ring.consumer_position();
    EXPECT_EQ(ring.read([](std::int32_t, std::span<const std::byte>) { return true; }, 3), 3);
    // Back to where it had only begun.
    ASSERT_TRUE(ring.write(1, to_bytes("behind")));
    std::fill_n(memory.data() + head, 48, std::byte{0x5A});
    std::fill_n(memory.data() + head, zeroed, std::byte{});
    store_le(memory.data() + kHead, head);
    ring.finish_release();
    EXPECT_EQ(ring.consumer_position(), head + 48);
    Messages messages;
    ring.read([&](std::int32_t, std::span<const std::byte> body) { messages.emplace_back(body.begin(), body.end()); return true; }, 10);
    EXPECT_EQ(messages, Messages{to_bytes("behind")}) << zeroed;
    ring.finish_release();
    EXPECT_EQ(ring.consumer_position(), ring.producer_position()) << "nothing to finish, nothing done";
  }
}

TEST_F(Ring, an_impossible_end_of_a_release_is_not_believed) {
  ASSERT_TRUE(ring_.write(1, to_bytes("message")));
  for (const std::int64_t end : {std::int64_t{-8}, std::int64_t{4}, std::int64_t{24}, std::int64_t{1} << 40, std::numeric_limits<std::int64_t>::min()}) {
    store_le(memory_.data() + kHead + 8, end);
    ring_.finish_release();
    EXPECT_EQ(ring_.consumer_position(), 0) << end;
  }
  EXPECT_EQ(read(), Messages{to_bytes("message")});
}

class RingAtItsEnd : public Ring {
 protected:
  // The next record goes to 896 of the second lap: 128 bytes before the end.
  void SetUp() override {
    for (int lap = 0; lap < 2; ++lap) {
      const int records = lap == 0 ? 8 : 7;
      for (int i = 0; i < records; ++i) ASSERT_TRUE(ring_.write(1, ByteVector(120)));
      EXPECT_EQ(read().size(), static_cast<std::size_t>(records));
    }
  }
};

TEST_F(RingAtItsEnd, a_claim_up_to_the_end_of_the_buffer_is_skipped_once_others_wrote_at_its_start) {
  claim_and_die(128, 0);
  EXPECT_FALSE(ring_.unblock()) << "nobody waits behind it";
  ASSERT_TRUE(ring_.write(1, to_bytes("wrapped")));
  EXPECT_TRUE(ring_.unblock());
  EXPECT_TRUE(read().empty()) << "only the end";
  EXPECT_EQ(read(), Messages{to_bytes("wrapped")});
  EXPECT_TRUE(is_data_zero());
}

TEST_F(RingAtItsEnd, a_producer_that_died_before_it_padded_the_end_blocks_the_others_no_longer_than_twice) {
  claim_and_die(128 + 200, 0);  // the end as padding and 200 bytes at the start
  EXPECT_FALSE(ring_.unblock());
  ASSERT_TRUE(ring_.write(1, to_bytes("behind")));
  EXPECT_TRUE(ring_.unblock());
  EXPECT_TRUE(read().empty());
  EXPECT_TRUE(ring_.unblock());
  EXPECT_EQ(read(), Messages{to_bytes("behind")});
  EXPECT_TRUE(is_data_zero());
}

TEST_F(RingAtItsEnd, one_that_fills_the_ring_is_skipped_too) {
  claim_and_die(128 + 200, 0);
  while (ring_.write(1, ByteVector(120))) {
  }
  EXPECT_TRUE(ring_.unblock());
  EXPECT_TRUE(read().empty());
  EXPECT_TRUE(ring_.unblock());
  EXPECT_EQ(read().size(), 5U);
  EXPECT_EQ(ring_.consumer_position(), ring_.producer_position());
}

TEST_F(Ring, hostile_lengths_and_positions_never_lead_out_of_the_buffer) {
  for (const std::int32_t length : {1, 7, 1025, 65536, std::numeric_limits<std::int32_t>::max()}) {
    SharedMemory memory{kLength};
    ManyToOneRing ring{memory.bytes()};
    ASSERT_TRUE(ring.write(1, ByteVector(24)));
    store_le(memory.data(), length);
    std::size_t seen = 0;
    ring.read([&](std::int32_t, std::span<const std::byte> body) { seen += body.size(); return true; }, 100);
    EXPECT_LE(seen, 24U);
    EXPECT_LE(ring.consumer_position(), ring.producer_position());
  }
  for (const std::int32_t length : {-1, -4096, std::numeric_limits<std::int32_t>::min()}) {
    SharedMemory memory{kLength};
    ManyToOneRing ring{memory.bytes()};
    ASSERT_TRUE(ring.write(1, ByteVector(24)));
    store_le(memory.data(), length);
    EXPECT_TRUE(ring.unblock());
    ring.read([](std::int32_t, std::span<const std::byte>) { return true; }, 100);
    EXPECT_LE(ring.consumer_position(), ring.producer_position());
  }
  for (const std::int64_t position : {std::int64_t{-1}, std::int64_t{3}, std::int64_t{1} << 40, std::numeric_limits<std::int64_t>::max(),
                                      std::numeric_limits<std::int64_t>::min()}) {
    for (const std::size_t at : {kTail, kHead}) {
      SharedMemory memory{kLength};
      ManyToOneRing ring{memory.bytes()};
      std::fill_n(memory.data(), kCapacity, std::byte{0x41});
      store_le(memory.data() + at, position);
      ring.read([](std::int32_t, std::span<const std::byte>) { return true; }, 100);
      ring.unblock();
      static_cast<void>(ring.write(1, ByteVector(24)));
    }
  }
}

// Messages of the concurrent tests: producer, sequence number, and a body that both determine.
ByteVector numbered(std::uint32_t producer, std::uint32_t number) {
  ByteVector message(8 + number % 100, static_cast<std::byte>(producer * 31 + number));
  store_le(message.data(), producer);
  store_le(message.data() + 4, number);
  return message;
}

// Reads until every producer's `count` messages came, each producer's in order. False at the deadline or for a wrong message.
bool read_all(ManyToOneRing& ring, std::uint32_t producers, std::uint32_t count) {
  std::vector<std::uint32_t> next(producers);
  std::uint64_t left = std::uint64_t{producers} * count;
  bool is_right = true;
  const std::int64_t deadline = monotonic_ns() + kDeadline_ns;
  while (left != 0 && is_right && monotonic_ns() < deadline) {
    const int n = ring.read(
        [&](std::int32_t type, std::span<const std::byte> body) {
          const auto producer = load_le<std::uint32_t>(body.data());
          is_right = is_right && type == 7 && producer < producers;
          const ByteVector expected = is_right ? numbered(producer, next[producer]++) : ByteVector{};
          is_right = is_right && std::equal(body.begin(), body.end(), expected.begin(), expected.end());
          return true;
        },
        64);
    left -= static_cast<std::uint64_t>(n);
    if (n == 0) std::this_thread::yield();
  }
  return left == 0 && is_right;
}

void write_all(ManyToOneRing ring, std::uint32_t producer, std::uint32_t count) {
  for (std::uint32_t i = 0; i < count; ++i) {
    const ByteVector message = numbered(producer, i);
    while (!ring.write(7, message)) std::this_thread::yield();
  }
}

TEST_F(Ring, many_threads_write_and_one_reads_through_many_wraps) {
  constexpr std::uint32_t kProducers = 4;
  constexpr std::uint32_t kCount = 5000;
  std::vector<std::thread> producers;
  for (std::uint32_t p = 0; p < kProducers; ++p) producers.emplace_back([this, p] { write_all(ring_, p, kCount); });
  EXPECT_TRUE(read_all(ring_, kProducers, kCount));
  for (auto& producer : producers) producer.join();
  EXPECT_TRUE(is_data_zero());
}

TEST_F(Ring, many_processes_write_and_one_reads) {
  constexpr std::uint32_t kProducers = 3;
  constexpr std::uint32_t kCount = 3000;
  std::vector<pid_t> children;
  for (std::uint32_t p = 0; p < kProducers; ++p) {
    children.push_back(test::in_child([this, p] { write_all(ring_, p, kCount); return 0; }));
  }
  EXPECT_TRUE(read_all(ring_, kProducers, kCount));
  for (const pid_t child : children) EXPECT_EQ(test::wait_for(child), 0);
}

TEST_F(Ring, producer_process_that_is_killed_inside_its_claim_blocks_the_others_only_until_unblock) {
  const pid_t child = test::in_child([this] {
    claim_and_die(48, -44);
    ::raise(SIGKILL);
    return 0;
  });
  EXPECT_EQ(test::wait_for(child), -1);
  std::thread producer{[this] { write_all(ring_, 0, 200); }};
  std::this_thread::yield();
  EXPECT_TRUE(ring_.unblock());
  EXPECT_TRUE(read_all(ring_, 1, 200));
  producer.join();
}

TEST_F(Ring, correlation_ids_are_unique_among_threads) {
  std::vector<std::thread> threads;
  std::vector<std::vector<std::int64_t>> ids(4);
  for (auto& mine : ids) {
    threads.emplace_back([this, &mine] { for (int i = 0; i < 1000; ++i) mine.push_back(ring_.next_correlation_id()); });
  }
  for (auto& thread : threads) thread.join();
  std::vector<std::int64_t> all;
  for (const auto& mine : ids) all.insert(all.end(), mine.begin(), mine.end());
  std::sort(all.begin(), all.end());
  for (std::size_t i = 0; i < all.size(); ++i) ASSERT_EQ(all[i], static_cast<std::int64_t>(i));
}

}  // namespace
}  // namespace thalweg::shm
