#include "dataplane/shm/broadcast.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <limits>
#include <thread>

#include "dataplane/base/time.hpp"
#include "tests/support/hex.hpp"
#include "tests/support/shared_memory.hpp"

namespace thalweg::shm {
namespace {

using test::ByteVector;
using test::SharedMemory;
using test::to_bytes;

constexpr std::size_t kCapacity = 1024;
constexpr std::size_t kLength = kCapacity + kBroadcastTrailerLength;
constexpr std::int64_t kDeadline_ns = 30 * kSecond_ns;

class Broadcast : public testing::Test {
 protected:
  [[nodiscard]] std::int64_t trailer(std::size_t offset) const { return load_le<std::int64_t>(memory_.data() + kCapacity + offset); }

  SharedMemory memory_{kLength};
  BroadcastTransmitter transmitter_{memory_.bytes()};
};

std::optional<ByteVector> receive(BroadcastReceiver& receiver) {
  std::int32_t type = 0;
  std::span<const std::byte> body;
  if (!receiver.receive(type, body)) return std::nullopt;
  return ByteVector{body.begin(), body.end()};
}

TEST_F(Broadcast, record_and_trailer_are_laid_out_as_section_4_says) {
  ASSERT_TRUE(transmitter_.transmit(0x0F04, to_bytes("abc")));
  ASSERT_TRUE(transmitter_.transmit(0x0F05, to_bytes("12345678")));
  EXPECT_EQ(test::to_hex(memory_.bytes().first(32)), "0b000000 040f0000 61626300 00000000 10000000 050f0000 31323334 35363738");
  EXPECT_EQ(trailer(0), 32) << "tail intent";
  EXPECT_EQ(trailer(8), 32) << "tail";
  EXPECT_EQ(trailer(16), 16) << "latest";
}

TEST_F(Broadcast, limits_are_an_eighth_of_a_power_of_two) {
  EXPECT_TRUE(BroadcastTransmitter::is_valid_length((1 << 20) + 128));
  EXPECT_FALSE(BroadcastTransmitter::is_valid_length(1 << 20));
  EXPECT_FALSE(BroadcastTransmitter::is_valid_length(128));
  EXPECT_EQ(transmitter_.max_message_length(), 128U);
  EXPECT_TRUE(transmitter_.transmit(1, ByteVector(128)));
  EXPECT_FALSE(transmitter_.transmit(1, ByteVector(129)));
}

TEST_F(Broadcast, new_receiver_starts_with_the_latest_message) {
  ASSERT_TRUE(transmitter_.transmit(1, to_bytes("first")));
  ASSERT_TRUE(transmitter_.transmit(1, to_bytes("second")));
  BroadcastReceiver receiver{memory_.bytes()};
  EXPECT_EQ(receive(receiver), to_bytes("second"));
  EXPECT_FALSE(receive(receiver));
}

TEST_F(Broadcast, receivers_follow_through_wraps_at_every_offset) {
  BroadcastReceiver receiver{memory_.bytes()};
  BroadcastReceiver slower{memory_.bytes()};
  for (int i = 0; i < 5000; ++i) {
    const ByteVector message(static_cast<std::size_t>(i * 5 % 129), static_cast<std::byte>(i));
    ASSERT_TRUE(transmitter_.transmit(i + 1, message));
    ASSERT_EQ(receive(receiver), message) << i;
    ASSERT_FALSE(receive(receiver));
    if (i % 3 == 2) {
      for (int behind = 2; behind >= 0; --behind) {
        ASSERT_EQ(receive(slower), ByteVector(static_cast<std::size_t>((i - behind) * 5 % 129), static_cast<std::byte>(i - behind)));
      }
    }
  }
  EXPECT_EQ(receiver.lapped_count(), 0);
  EXPECT_EQ(slower.lapped_count(), 0);
}

TEST_F(Broadcast, receiver_that_was_overtaken_counts_a_lap_and_continues_with_the_latest) {
  BroadcastReceiver receiver{memory_.bytes()};
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(transmitter_.transmit(1, ByteVector(100, static_cast<std::byte>(i))));
  EXPECT_EQ(receive(receiver), ByteVector(100, std::byte{19}));
  EXPECT_EQ(receiver.lapped_count(), 1);
  EXPECT_FALSE(receive(receiver));
}

TEST_F(Broadcast, message_that_is_being_overwritten_is_not_delivered) {
  BroadcastReceiver receiver{memory_.bytes()};
  ASSERT_TRUE(transmitter_.transmit(1, to_bytes("old")));
  store_le<std::int64_t>(memory_.data() + kCapacity, 16 + static_cast<std::int64_t>(kCapacity));  // a transmitter that announced a whole lap
  EXPECT_FALSE(receive(receiver).has_value() && receiver.lapped_count() == 0);
  EXPECT_GE(receiver.lapped_count(), 1);
}

TEST_F(Broadcast, hostile_records_and_positions_never_lead_out_of_the_buffer) {
  for (const std::int32_t length : {0, -1, 7, 1 << 20, std::numeric_limits<std::int32_t>::max(), std::numeric_limits<std::int32_t>::min()}) {
    SharedMemory memory{kLength};
    BroadcastReceiver receiver{memory.bytes()};
    ASSERT_TRUE(BroadcastTransmitter{memory.bytes()}.transmit(1, ByteVector(64)));
    store_le(memory.data(), length);
    const auto message = receive(receiver);
    EXPECT_TRUE(!message || message->size() <= kCapacity / 8);
  }
  for (const std::int64_t position : {std::int64_t{-8}, std::int64_t{3}, std::int64_t{1} << 40, std::numeric_limits<std::int64_t>::max(),
                                      std::numeric_limits<std::int64_t>::min()}) {
    SharedMemory memory{kLength};
    for (const std::size_t at : {0U, 8U, 16U}) store_le(memory.data() + kCapacity + at, position);
    BroadcastReceiver receiver{memory.bytes()};
    BroadcastTransmitter transmitter{memory.bytes()};
    for (int i = 0; i < 20; ++i) {
      ASSERT_TRUE(transmitter.transmit(1, ByteVector(100)));
      static_cast<void>(receive(receiver));
    }
  }
}

// A message whose bytes all tell its number, so that a torn copy shows.
ByteVector numbered(std::uint32_t number) {
  ByteVector message(4 * (1 + number % 25));
  for (std::size_t at = 0; at < message.size(); at += 4) store_le(message.data() + at, number);
  return message;
}

// Receives until the last message; numbers must rise and none may be torn. Lost ones are allowed only with laps.
bool follow(std::span<std::byte> section, std::uint32_t last, std::atomic<std::uint32_t>& ready) {
  BroadcastReceiver receiver{section};
  ready.fetch_add(1);
  std::int64_t expected = 1;
  const std::int64_t deadline = monotonic_ns() + kDeadline_ns;
  while (monotonic_ns() < deadline) {
    const auto message = receive(receiver);
    if (!message) {
      std::this_thread::yield();
      continue;
    }
    const auto number = load_le<std::uint32_t>(message->data());
    if (*message != numbered(number)) return false;
    if (number < expected || (number > expected && receiver.lapped_count() == 0)) return false;
    expected = number + 1;
    if (number == last) return true;
  }
  return false;
}

TEST_F(Broadcast, threads_see_whole_messages_in_order_whatever_the_speed_of_the_transmitter) {
  constexpr std::uint32_t kMessages = 20000;
  std::atomic<std::uint32_t> ready{0};
  std::atomic<int> right{0};
  std::vector<std::thread> receivers;
  for (int i = 0; i < 3; ++i) {
    receivers.emplace_back([&] { right += follow(memory_.bytes(), kMessages, ready); });
  }
  while (ready.load() != 3) std::this_thread::yield();
  for (std::uint32_t i = 1; i <= kMessages; ++i) ASSERT_TRUE(transmitter_.transmit(1, numbered(i)));
  for (auto& receiver : receivers) receiver.join();
  EXPECT_EQ(right.load(), 3);
}

TEST_F(Broadcast, processes_receive_too) {
  constexpr std::uint32_t kMessages = 5000;
  SharedMemory words{4096};
  auto& ready = *new (words.data()) std::atomic<std::uint32_t>{0};
  const pid_t first = test::in_child([&] { return follow(memory_.bytes(), kMessages, ready) ? 0 : 1; });
  const pid_t second = test::in_child([&] { return follow(memory_.bytes(), kMessages, ready) ? 0 : 1; });
  const std::int64_t deadline = monotonic_ns() + kDeadline_ns;
  while (ready.load() != 2 && monotonic_ns() < deadline) std::this_thread::yield();
  for (std::uint32_t i = 1; i <= kMessages; ++i) ASSERT_TRUE(transmitter_.transmit(1, numbered(i)));
  EXPECT_EQ(test::wait_for(first), 0);
  EXPECT_EQ(test::wait_for(second), 0);
}

}  // namespace
}  // namespace thalweg::shm
