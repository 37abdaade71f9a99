#include "dataplane/shm/commands.hpp"

#include <gtest/gtest.h>

#include <functional>

#include "dataplane/shm/broadcast.hpp"
#include "tests/support/hex.hpp"
#include "tests/support/shared_memory.hpp"

namespace thalweg::shm {
namespace {

using test::from_hex;
using test::to_bytes;
using test::to_hex;

template <typename T>
Buffer encoded(const T& message) {
  Buffer bytes{std::byte{0xEE}};  // what was in the buffer before is replaced
  encode(bytes, message);
  return bytes;
}

// ---- the broadcast records of 10.3 ----
struct Reference {
  const char* name;
  Response type;
  std::function<Buffer()> encode;
  const char* hex;
};
void PrintTo(const Reference& r, std::ostream* out) { *out << r.name; }

OnPublicationError publication_error(std::string_view text) {
  OnPublicationError m{.registration_id = 2, .session_id = 1146854850, .stream_id = 31, .receiver_id = 0x3188814bad1e0fad, .address_type = 1,
                       .source_port = 24888, .code = 13, .text = text};
  m.address[0] = std::byte{127};
  m.address[3] = std::byte{1};
  return m;
}

class BroadcastRecord : public testing::TestWithParam<Reference> {};
TEST_P(BroadcastRecord, is_the_reference_of_10_3) {
  test::SharedMemory memory{4096 + kBroadcastTrailerLength};
  ASSERT_TRUE(BroadcastTransmitter{memory.bytes()}.transmit(static_cast<std::int32_t>(GetParam().type), GetParam().encode()));
  const auto expected = from_hex(GetParam().hex);
  EXPECT_EQ(to_hex(memory.bytes().first(expected.size())), to_hex(expected));
}
INSTANTIATE_TEST_SUITE_P(
    Spec, BroadcastRecord,
    testing::Values(
        Reference{"counter_ready", Response::kCounterReady, [] { return encoded(OnCounter{1, 54}); },
                  "14000000 080f0000 01000000 00000000 36000000 00000000"},
        Reference{"subscription_ready", Response::kSubscriptionReady, [] { return encoded(OnSubscriptionReady{4, 64}); },
                  "14000000 070f0000 04000000 00000000 40000000 00000000"},
        Reference{"operation_success", Response::kOperationSuccess, [] { return encoded(OnOperationSuccess{7}); },
                  "10000000 040f0000 07000000 00000000"},
        Reference{"publication_ready", Response::kPublicationReady,
                  [] { return encoded(OnPublicationReady{6, 6, 5, 40, 73, -1, "0123456789012345678901234567890123456789012345"}); },
                  "5a000000 030f0000 06000000 00000000 06000000 00000000 05000000 28000000 49000000 ffffffff 2e000000 30313233"},
        Reference{"available_image", Response::kAvailableImage,
                  [] { return encoded(OnAvailableImage{5, 1146854850, 31, 4, 71, "0123456789012345678901234567890123456789", "10.77.0.2:58845"}); },
                  "63000000 020f0000 05000000 00000000 c29d5b44 1f000000 04000000 00000000 47000000 28000000 30313233 34353637 38393031 "
                  "32333435 36373839 30313233 34353637 38393031 32333435 36373839 0f000000 31302e37"},
        Reference{"publication_error", Response::kPublicationError, [] { return encoded(publication_error("reason")); },
                  "52000000 0c0f0000 02000000 00000000 ffffffff ffffffff c29d5b44 1f000000 ad0f1ead 4b818831 ffffffff ffffffff "
                  "01003861 7f000001 00000000 00000000 00000000 0d000000 06000000 72656173 6f6e"}),
    [](const auto& test_case) { return std::string{test_case.param.name}; });

// ---- layouts of 6.2 and 6.3 ----
constexpr CommandHeader kHeader{0x0102, 0x0304};
constexpr const char* kHeaderHex = "02010000 00000000 04030000 00000000";

struct Layout {
  const char* name;
  std::function<Buffer()> encode;
  const char* hex;  // behind the common 16 bytes
};
void PrintTo(const Layout& l, std::ostream* out) { *out << l.name; }
class CommandLayout : public testing::TestWithParam<Layout> {};
TEST_P(CommandLayout, is_that_of_6_2) { EXPECT_EQ(to_hex(GetParam().encode()), to_hex(from_hex(std::string{kHeaderHex} + GetParam().hex))); }

const Buffer& key_of_five() {
  static const Buffer key = to_bytes("KEY12");
  return key;
}
INSTANTIATE_TEST_SUITE_P(
    Spec, CommandLayout,
    testing::Values(
        Layout{"add_publication", [] { return encoded(AddPublication{kHeader, 9, "aeron:ipc"}); }, "09000000 09000000 6165726f 6e3a6970 63"},
        Layout{"remove_publication", [] { return encoded(RemovePublication{kHeader, 5, true}); }, "05000000 00000000 01000000 00000000"},
        Layout{"add_subscription", [] { return encoded(AddSubscription{kHeader, -1, 9, "ab"}); }, "ffffffff ffffffff 09000000 02000000 6162"},
        Layout{"remove_subscription", [] { return encoded(RemoveRegistration{kHeader, 5}); }, "05000000 00000000"},
        Layout{"destination", [] { return encoded(DestinationCommand{kHeader, 5, "abc"}); }, "05000000 00000000 03000000 616263"},
        Layout{"destination_by_id", [] { return encoded(RemoveDestinationById{kHeader, 5, 6}); }, "05000000 00000000 06000000 00000000"},
        Layout{"add_counter", [] { return encoded(AddCounter{kHeader, 1001, key_of_five(), "lab"}); },
               "e9030000 05000000 4b455931 32000000 03000000 6c6162"},
        Layout{"add_static_counter", [] { return encoded(AddStaticCounter{kHeader, 7, 1001, key_of_five(), "lab"}); },
               "07000000 00000000 e9030000 05000000 4b455931 32000000 03000000 6c6162"},
        Layout{"keepalive", [] { return encoded(ClientCommand{kHeader}); }, ""},
        Layout{"terminate", [] { return encoded(TerminateDriver{kHeader, key_of_five()}); }, "05000000 4b455931 32"},
        Layout{"reject_image", [] { return encoded(RejectImage{kHeader, 5, 64, "reason"}); },
               "05000000 00000000 40000000 00000000 06000000 72656173 6f6e"},
        Layout{"reject_image_of_short_reason", [] { return encoded(RejectImage{kHeader, 5, 64, "r"}); },
               "05000000 00000000 40000000 00000000 01000000 72000000"},
        Layout{"next_session", [] { return encoded(GetNextAvailableSessionId{kHeader, 9}); }, "09000000"}),
    [](const auto& test_case) { return std::string{test_case.param.name}; });

// ---- what is encoded is decoded, and no prefix of it is ----
template <typename T, typename Equal>
void expect_round_trip(const T& message, Equal&& equal, std::size_t needed = 0) {
  const Buffer bytes = encoded(message);
  const auto back = decode<T>(bytes);
  ASSERT_TRUE(back);
  EXPECT_TRUE(equal(*back));
  if (needed == 0) needed = bytes.size();
  for (std::size_t length = 0; length < needed; ++length) {
    const Buffer cut{bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(length)};  // its own memory: a sanitizer sees every byte too far
    EXPECT_FALSE(decode<T>(cut)) << length << " of " << bytes.size();
  }
}
bool same(const CommandHeader& m) { return m.client_id == kHeader.client_id && m.correlation_id == kHeader.correlation_id; }
bool same(Bytes a, Bytes b) { return std::equal(a.begin(), a.end(), b.begin(), b.end()); }

TEST(Commands, are_decoded_whole_or_not_at_all) {
  expect_round_trip(AddPublication{kHeader, 9, "aeron:ipc"}, [](auto& m) { return same(m) && m.stream_id == 9 && m.channel == "aeron:ipc"; });
  expect_round_trip(RemovePublication{kHeader, 5, true}, [](auto& m) { return same(m) && m.registration_id == 5 && m.revoke; }, 24);
  expect_round_trip(AddSubscription{kHeader, -1, 9, "ab"}, [](auto& m) { return same(m) && m.stream_id == 9 && m.channel == "ab"; });
  expect_round_trip(RemoveRegistration{kHeader, 5}, [](auto& m) { return same(m) && m.registration_id == 5; });
  expect_round_trip(DestinationCommand{kHeader, 5, "abc"}, [](auto& m) { return same(m) && m.registration_id == 5 && m.channel == "abc"; });
  expect_round_trip(RemoveDestinationById{kHeader, 5, 6},
                    [](auto& m) { return same(m) && m.publication_registration_id == 5 && m.destination_registration_id == 6; });
  expect_round_trip(AddCounter{kHeader, 1001, key_of_five(), "lab"},
                    [](auto& m) { return same(m) && m.type_id == 1001 && same(m.key, key_of_five()) && m.label == "lab"; });
  expect_round_trip(AddStaticCounter{kHeader, 7, 1001, key_of_five(), "lab"},
                    [](auto& m) { return same(m) && m.registration_id == 7 && m.type_id == 1001 && same(m.key, key_of_five()) && m.label == "lab"; });
  expect_round_trip(ClientCommand{kHeader}, [](auto& m) { return same(m); });
  expect_round_trip(TerminateDriver{kHeader, key_of_five()}, [](auto& m) { return same(m) && same(m.token, key_of_five()); });
  expect_round_trip(RejectImage{kHeader, 5, 64, "reason"}, [](auto& m) { return same(m) && m.position == 64 && m.reason == "reason"; });
  expect_round_trip(GetNextAvailableSessionId{kHeader, 9}, [](auto& m) { return same(m) && m.stream_id == 9; });
}

TEST(Responses, are_decoded_whole_or_not_at_all) {
  expect_round_trip(OnError{1, 13, "text"}, [](auto& m) { return m.offending_correlation_id == 1 && m.code == 13 && m.text == "text"; });
  expect_round_trip(OnPublicationReady{6, 5, 4, 3, 2, -1, "/path"}, [](auto& m) {
    return m.correlation_id == 6 && m.original_registration_id == 5 && m.session_id == 4 && m.stream_id == 3 && m.publisher_limit_counter_id == 2 &&
           m.channel_status_counter_id == -1 && m.log_path == "/path";
  });
  expect_round_trip(OnSubscriptionReady{1, 2}, [](auto& m) { return m.correlation_id == 1 && m.channel_status_counter_id == 2; });
  expect_round_trip(OnAvailableImage{1, 2, 3, 4, 5, "/pa", "aeron:ipc"}, [](auto& m) {
    return m.correlation_id == 1 && m.session_id == 2 && m.stream_id == 3 && m.subscription_registration_id == 4 &&
           m.subscriber_position_counter_id == 5 && m.log_path == "/pa" && m.source_identity == "aeron:ipc";
  });
  expect_round_trip(OnUnavailableImage{1, 2, 3, "ch"}, [](auto& m) {
    return m.correlation_id == 1 && m.subscription_registration_id == 2 && m.stream_id == 3 && m.channel == "ch";
  });
  expect_round_trip(OnOperationSuccess{1}, [](auto& m) { return m.correlation_id == 1; });
  expect_round_trip(OnCounter{1, 2}, [](auto& m) { return m.correlation_id == 1 && m.counter_id == 2; });
  expect_round_trip(OnClientTimeout{1}, [](auto& m) { return m.client_id == 1; });
  expect_round_trip(OnNextAvailableSessionId{1, 2}, [](auto& m) { return m.correlation_id == 1 && m.session_id == 2; });
  expect_round_trip(publication_error("because"), [](auto& m) {
    return m.registration_id == 2 && m.destination_registration_id == -1 && m.group_tag == -1 && m.address[0] == std::byte{127} &&
           m.source_port == 24888 && m.code == 13 && m.text == "because";
  });
}

TEST(Responses, publication_error_is_never_shorter_than_stock_clients_accept) {
  EXPECT_EQ(encoded(publication_error("")).size(), 72U);
  EXPECT_EQ(encoded(publication_error("four")).size(), 72U);
  EXPECT_EQ(encoded(publication_error("fives")).size(), 73U);
}

TEST(Commands, of_older_and_foreign_clients_are_understood) {
  Buffer remove = encoded(RemovePublication{kHeader, 5, true});
  remove.resize(24);
  EXPECT_FALSE(decode<RemovePublication>(remove)->revoke) << "before 1.48";
  Buffer reject = encoded(RejectImage{kHeader, 5, 64, "r"});
  reject.resize(37);
  EXPECT_EQ(decode<RejectImage>(reject)->reason, "r") << "Java sends 36 + r bytes";
  Buffer counter = encoded(AddCounter{kHeader, 1001, key_of_five(), "lab"});
  counter.resize(counter.size() + 4);
  EXPECT_EQ(decode<AddCounter>(counter)->label, "lab") << "Java claims four bytes more than it needs";
}

TEST(Commands, hostile_lengths_are_malformed) {
  for (const std::int32_t n : {-1, INT32_MIN, 10, 1 << 20, INT32_MAX}) {
    Buffer add = encoded(AddPublication{kHeader, 9, "aeron:ipc"});
    store_le(add.data() + 20, n);
    EXPECT_FALSE(decode<AddPublication>(add)) << n;
    Buffer counter = encoded(AddCounter{kHeader, 1001, key_of_five(), "lab"});
    store_le(counter.data() + 32, n);
    EXPECT_FALSE(decode<AddCounter>(counter)) << n;
    counter = encoded(AddCounter{kHeader, 1001, key_of_five(), "lab"});
    store_le(counter.data() + 20, n == 10 ? 13 : n);
    EXPECT_FALSE(decode<AddCounter>(counter)) << n;
  }
}

}  // namespace
}  // namespace thalweg::shm
