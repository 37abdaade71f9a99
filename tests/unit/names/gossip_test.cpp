#include "controlplane/names/gossip.hpp"

#include <gtest/gtest.h>

#include "dataplane/base/time.hpp"
#include "dataplane/wire/resolution_frame.hpp"

namespace thalweg::names {
namespace {

using wire::ResolutionEntry;
using Frame = std::vector<std::byte>;

constexpr std::int64_t kStart_ns = 5'000 * kSecond_ns;
const Address kOurs = Address::ipv4(0x0A000001, 8050);     // 10.0.0.1
const Address kBravo = Address::ipv4(0x0A000002, 8050);
const Address kCharlie = Address::ipv4(0x0A000003, 9000);
const Address kDelta = Address::ipv4(0x0A000004, 9000);

struct Told {
  std::string name;
  Address address;
  bool is_self{};
  std::int32_t age_ms{};
};

ResolutionEntry entry_of(const Told& told) {
  ResolutionEntry entry;
  entry.address_type = told.address.type;
  entry.is_self = told.is_self;
  entry.port = told.address.port;
  entry.age_ms = told.age_ms;
  std::copy(told.address.bytes.begin(), told.address.bytes.end(), entry.address);
  entry.name = std::as_bytes(std::span{told.name});
  return entry;
}

Frame frame_of(const std::vector<Told>& all) {
  Frame frame(wire::FrameHeader::kLength);
  for (const Told& told : all) {
    const std::size_t at = frame.size();
    frame.resize(at + entry_of(told).length());
    wire::build(frame.data() + at, entry_of(told));
  }
  wire::put_header(frame.data(), static_cast<std::int32_t>(frame.size()), 0, wire::FrameType::kResolution);
  return frame;
}

std::vector<Told> entries_of(std::span<const std::byte> frame) {
  std::vector<Told> all;
  const bool is_good = wire::FrameHeader::is_valid(frame) && wire::for_each_resolution(frame, [&](const ResolutionEntry& entry) {
    Told told{{reinterpret_cast<const char*>(entry.name.data()), entry.name.size()}, {.type = entry.address_type, .port = entry.port}, entry.is_self, entry.age_ms};
    std::copy_n(entry.address, entry.address_length(), told.address.bytes.begin());
    all.push_back(told);
  });
  EXPECT_TRUE(is_good) << "a frame of ours does not parse";
  return all;
}

class GossipTest : public ::testing::Test {
 protected:
  struct Sent {
    Address to;
    Frame frame;
    std::vector<Told> entries;
  };
  void start() { gossip.emplace(options, now_ns); }
  void hear(const std::vector<Told>& all, const Address& source) { gossip->receive(frame_of(all), source, now_ns); }
  // Steps of 10 ms up to the given time from now on; what was sent meanwhile.
  std::vector<Sent> run(std::int64_t duration_ns) {
    std::vector<Sent> sent;
    for (const std::int64_t end_ns = now_ns + duration_ns; now_ns < end_ns;) {
      now_ns += 10 * kMillisecond_ns;
      gossip->turn(now_ns);
      while (const auto outgoing = gossip->next_outgoing()) {
        sent.push_back({outgoing->to, {outgoing->frame.begin(), outgoing->frame.end()}, entries_of(outgoing->frame)});
      }
    }
    return sent;
  }
  static std::vector<Sent> only(const std::vector<Sent>& sent, bool is_self) {
    std::vector<Sent> out;
    for (const Sent& one : sent) if (one.entries.front().is_self == is_self) out.push_back(one);
    return out;
  }
  [[nodiscard]] std::optional<Address> find(const std::string& name) const { return gossip->find(name, ResolutionEntry::kIpv4); }

  std::int64_t now_ns{kStart_ns};
  GossipOptions options{.name = "alpha", .bound = kOurs, .bootstraps = {"10.0.0.2:8050"}};
  std::optional<Gossip> gossip;
};

// ---- step 1: received frames ----

TEST_F(GossipTest, a_self_entry_makes_a_name_and_a_neighbor) {
  start();
  hear({{"bravo", kBravo, true, 0}}, kBravo);
  EXPECT_EQ(find("bravo"), kBravo);
  EXPECT_TRUE(gossip->neighbors().contains(kBravo));
  EXPECT_EQ(gossip->statistics().frames_received, 1U);
}

// proves 6.2/4, 6.2/5
TEST_F(GossipTest, an_entry_about_a_third_driver_makes_a_name_and_a_neighbor_of_that_age) {
  start();
  hear({{"charlie", kCharlie, false, 400}}, kBravo);
  EXPECT_EQ(find("charlie"), kCharlie);
  EXPECT_EQ(gossip->neighbors().at(kCharlie), kStart_ns - 400 * kMillisecond_ns);
  EXPECT_FALSE(gossip->neighbors().contains(kBravo)) << "who passes on says nothing of itself";
}

TEST_F(GossipTest, every_entry_of_a_frame_counts) {
  start();
  hear({{"bravo", kBravo, true, 0}, {"charlie", kCharlie, false, 1}, {"d", kDelta, false, 2}}, kBravo);
  EXPECT_EQ(gossip->names().size(), 3U);
}

// proves 6.2/2
TEST_F(GossipTest, a_self_entry_with_the_wildcard_takes_address_and_port_of_its_datagram) {
  start();
  hear({{"bravo", Address::ipv4(0, 4242), true, 0}}, kBravo);
  EXPECT_EQ(find("bravo"), kBravo);
}

TEST_F(GossipTest, the_wildcard_of_a_third_driver_is_unusable) {
  start();
  hear({{"charlie", Address::ipv4(0, 9000), false, 0}}, kBravo);
  EXPECT_EQ(find("charlie"), std::nullopt);
  EXPECT_EQ(gossip->statistics().entries_unusable, 1U);
}

// proves 6.2/3
TEST_F(GossipTest, an_entry_with_our_name_and_port_is_ignored) {
  start();
  hear({{"alpha", Address::ipv4(0x7F000001, 8050), false, 0}}, kBravo);
  EXPECT_TRUE(gossip->names().empty());
  EXPECT_TRUE(gossip->neighbors().empty());
}

// proves 6.2/3
TEST_F(GossipTest, our_name_at_another_port_is_another_driver) {
  start();
  hear({{"alpha", kCharlie, true, 0}}, kCharlie);
  EXPECT_EQ(find("alpha"), kCharlie) << "the cache comes before our own name";
}

// proves 6.2/5
TEST_F(GossipTest, only_self_entries_refresh_a_neighbor) {
  start();
  hear({{"bravo", kBravo, true, 0}}, kBravo);
  run(kSecond_ns);
  hear({{"bravo", kBravo, false, 0}}, kCharlie);
  EXPECT_EQ(gossip->neighbors().at(kBravo), kStart_ns);
  hear({{"bravo", kBravo, true, 0}}, kBravo);
  EXPECT_EQ(gossip->neighbors().at(kBravo), now_ns);
}

TEST_F(GossipTest, a_later_sign_of_life_moves_a_name_and_an_older_one_does_not) {
  start();
  hear({{"charlie", kCharlie, false, 100}}, kBravo);
  hear({{"charlie", kDelta, false, 500}}, kBravo);
  EXPECT_EQ(find("charlie"), kCharlie);
  hear({{"charlie", kDelta, true, 0}}, kDelta);
  EXPECT_EQ(find("charlie"), kDelta);
  EXPECT_EQ(gossip->statistics().names_moved, 1U);
}

TEST_F(GossipTest, ages_that_forget_how_long_they_were_under_way_do_not_keep_a_dead_driver_known) {
  start();
  hear({{"charlie", kCharlie, true, 0}}, kCharlie);
  for (int round = 1; round <= 4; ++round) {
    run(2 * kSecond_ns);
    hear({{"charlie", kCharlie, false, round * (2'000 - 100)}}, kBravo);  // 100 ms younger each time it comes back
    EXPECT_EQ(gossip->names().begin()->second.last_activity_ns, kStart_ns);
  }
  run(2 * kSecond_ns);
  EXPECT_EQ(find("charlie"), std::nullopt);
}

TEST_F(GossipTest, what_others_tell_keeps_a_driver_known_that_we_do_not_hear_ourselves) {
  start();
  for (int i = 0; i < 30; ++i) {
    hear({{"charlie", kCharlie, false, 700}}, kBravo);
    run(2 * kSecond_ns);
    EXPECT_EQ(find("charlie"), kCharlie);
  }
}

TEST_F(GossipTest, an_age_from_the_future_counts_as_now) {
  start();
  hear({{"bravo", kBravo, false, -2'000'000'000}}, kBravo);
  run(options.neighbor_timeout_ns);
  EXPECT_EQ(find("bravo"), std::nullopt);
  EXPECT_TRUE(gossip->neighbors().empty());
}

TEST_F(GossipTest, an_entry_as_old_as_the_time_out_is_not_taken) {
  start();
  hear({{"bravo", kBravo, false, 10'000}}, kBravo);
  EXPECT_TRUE(gossip->names().empty());
  hear({{"bravo", kBravo, false, 9'999}}, kBravo);
  EXPECT_EQ(gossip->names().size(), 1U);
}

// proves 6.2/1
TEST_F(GossipTest, a_broken_entry_ends_its_datagram_and_is_counted) {
  start();
  Frame frame = frame_of({{"bravo", kBravo, true, 0}, {"charlie", kCharlie, false, 0}, {"delta", kDelta, false, 0}});
  frame[8 + 24] = std::byte{3};  // the type of the second entry
  gossip->receive(frame, kBravo, now_ns);
  EXPECT_EQ(gossip->names().size(), 1U);
  EXPECT_EQ(gossip->statistics().frames_invalid, 1U);
}

// proves 6.2/1
TEST_F(GossipTest, wrong_version_type_and_length_are_counted_and_say_nothing) {
  start();
  const Frame good = frame_of({{"bravo", kBravo, true, 0}});
  std::vector<Frame> bad(5, good);
  bad[0][4] = std::byte{1};                        // version
  bad[1][6] = std::byte{2};                        // NAK
  bad[2][0] = std::byte{0xFF};                     // longer than the datagram
  bad[3].resize(21);                               // shorter than any entry
  bad[4][0] = std::byte{8};                        // no entry
  for (const Frame& frame : bad) gossip->receive(frame, kBravo, now_ns);
  gossip->receive({}, kBravo, now_ns);
  EXPECT_TRUE(gossip->names().empty());
  EXPECT_EQ(gossip->statistics().frames_invalid, 6U);
}

TEST_F(GossipTest, groups_port_0_and_names_that_are_no_hosts_are_unusable) {
  start();
  hear({{"a", Address::ipv4(0xE0000001, 9000), false, 0}}, kBravo);
  hear({{"b", Address::ipv4(0xFFFFFFFF, 9000), false, 0}}, kBravo);
  hear({{"c", Address::ipv4(0x0A000009, 0), false, 0}}, kBravo);
  hear({{"localhost6", Address::ipv4(0xF0000001, 9000), false, 0}}, kBravo);   // of the block that handles of IPv6 addresses are taken from
  hear({{"d\x1b[2J", kDelta, false, 0}}, kBravo);
  hear({{"e\xff", kDelta, false, 0}}, kBravo);
  EXPECT_EQ(gossip->statistics().entries_unusable, 6U);
  EXPECT_TRUE(gossip->names().empty());
}

// proves 6.1/3
TEST_F(GossipTest, ipv6_entries_are_kept_and_passed_on_but_not_written_to) {
  start();
  Address six{.type = ResolutionEntry::kIpv6, .port = 9000};
  six.bytes[0] = std::byte{0xFE}, six.bytes[1] = std::byte{0x80}, six.bytes[15] = std::byte{1};
  hear({{"bravo", kBravo, true, 0}, {"six", six, false, 0}}, kBravo);
  EXPECT_EQ(gossip->find("six", ResolutionEntry::kIpv6), six);
  EXPECT_EQ(find("six"), std::nullopt) << "the family is part of the question";
  const auto sent = run(2'050 * kMillisecond_ns);
  for (const Sent& one : sent) EXPECT_EQ(one.to, kBravo);
  const auto passed_on = only(sent, false);
  ASSERT_EQ(passed_on.size(), 1U);
  ASSERT_EQ(passed_on[0].entries.size(), 2U);
  EXPECT_EQ(passed_on[0].entries[1].address, six);
  EXPECT_EQ(six.to_string(), "[fe80::1]:9000");
}

// ---- step 2: time-outs ----

// proves 6.2/6
TEST_F(GossipTest, a_silent_driver_is_forgotten_when_its_time_out_is_reached) {
  start();
  hear({{"bravo", kBravo, true, 0}}, kBravo);
  run(options.neighbor_timeout_ns - 10 * kMillisecond_ns);
  EXPECT_EQ(find("bravo"), kBravo);
  run(10 * kMillisecond_ns);
  EXPECT_EQ(find("bravo"), std::nullopt);
  EXPECT_TRUE(gossip->neighbors().empty());
  EXPECT_EQ(gossip->statistics().names_expired, 1U);
  EXPECT_EQ(gossip->statistics().neighbors_expired, 1U);
}

// proves 6.2/4, 6.2/6
TEST_F(GossipTest, the_age_of_what_others_tell_counts_towards_the_time_out) {
  start();
  hear({{"charlie", kCharlie, false, 9'000}}, kBravo);
  run(kSecond_ns - 10 * kMillisecond_ns);
  EXPECT_EQ(find("charlie"), kCharlie);
  run(10 * kMillisecond_ns);
  EXPECT_EQ(find("charlie"), std::nullopt);
}

// ---- step 3: who we are ----

TEST_F(GossipTest, nothing_is_sent_while_nobody_is_known) {
  options.bootstraps.clear();
  start();
  EXPECT_TRUE(run(30 * kSecond_ns).empty());
}

// proves 6.2/7
TEST_F(GossipTest, a_resolved_bootstrap_neighbor_is_told_each_interval) {
  start();
  gossip->set_bootstrap(0, kBravo);
  const auto sent = run(3'100 * kMillisecond_ns);
  ASSERT_EQ(sent.size(), 4U);  // at once, then each second
  for (const Sent& one : sent) {
    EXPECT_EQ(one.to, kBravo);
    ASSERT_EQ(one.entries.size(), 1U);
    EXPECT_TRUE(one.entries[0].is_self);
    EXPECT_EQ(one.entries[0].name, "alpha");
    EXPECT_EQ(one.entries[0].address, kOurs);
    EXPECT_EQ(one.entries[0].age_ms, 0);
  }
}

// proves 6.1/1, 6.1/4
TEST_F(GossipTest, the_self_frame_is_the_reference_frame) {  // wire-protocol 9.4
  start();
  gossip->set_bootstrap(0, kBravo);
  const auto sent = run(10 * kMillisecond_ns);
  ASSERT_EQ(sent.size(), 1U);
  const std::vector<unsigned> expected{0x20, 0, 0, 0, 0, 0, 7, 0, 1, 0x80, 0x72, 0x1F, 0, 0, 0, 0, 10, 0, 0, 1, 5, 0, 'a', 'l', 'p', 'h', 'a', 0, 0, 0, 0, 0};
  ASSERT_EQ(sent[0].frame.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(std::to_integer<unsigned>(sent[0].frame[i]), expected[i]) << i;
}

// proves 6.2/7
TEST_F(GossipTest, bootstrap_neighbors_and_others_are_told_once_each) {
  options.bootstraps = {"10.0.0.2:8050", "bravo.example:8050", "10.0.0.1:8050"};
  start();
  gossip->set_bootstrap(0, kBravo);
  gossip->set_bootstrap(1, kBravo);   // the same driver by another word
  gossip->set_bootstrap(2, kOurs);    // one list for all
  hear({{"bravo", kBravo, true, 0}, {"charlie", kCharlie, false, 0}}, kBravo);
  const auto sent = only(run(10 * kMillisecond_ns), true);
  ASSERT_EQ(sent.size(), 2U);
  EXPECT_EQ(sent[0].to, kBravo);
  EXPECT_EQ(sent[1].to, kCharlie);
}

TEST_F(GossipTest, a_driver_without_bootstrap_neighbors_answers_who_speaks_to_it) {
  options.bootstraps.clear();
  start();
  run(5 * kSecond_ns);
  hear({{"bravo", kBravo, true, 0}}, kBravo);
  EXPECT_EQ(only(run(10 * kMillisecond_ns), true).size(), 1U);
}

// ---- step 4: whom we know ----

// proves 6.2/8
TEST_F(GossipTest, every_neighbor_gets_every_name_each_interval_its_own_included) {
  start();
  hear({{"bravo", kBravo, true, 0}, {"charlie", kCharlie, false, 0}}, kBravo);
  const auto sent = only(run(2'050 * kMillisecond_ns), false);
  ASSERT_EQ(sent.size(), 2U);
  for (const Sent& one : sent) {
    ASSERT_EQ(one.entries.size(), 2U);
    EXPECT_EQ(one.entries[0].name, "bravo");
    EXPECT_EQ(one.entries[1].name, "charlie");
    EXPECT_EQ(one.entries[0].age_ms, 2'010);
    EXPECT_FALSE(one.entries[0].is_self);
  }
  EXPECT_EQ(only(run(2 * kSecond_ns), false).size(), 2U);
}

// proves 6.2/8
TEST_F(GossipTest, names_are_packed_into_frames_of_at_most_the_mtu) {
  options.mtu = 128;
  start();
  std::vector<Told> all;
  for (unsigned i = 0; i < 20; ++i) all.push_back({"name-" + std::to_string(i), Address::ipv4(0x0A000100 + i, 9000), false, 0});
  hear(all, kBravo);
  hear({{"bravo", kBravo, true, 0}}, kBravo);
  const auto sent = only(run(2'050 * kMillisecond_ns), false);
  std::size_t told = 0;
  for (const Sent& one : sent) {
    EXPECT_LE(one.frame.size(), 128U);
    if (one.to == kBravo) told += one.entries.size();
  }
  EXPECT_EQ(told, 21U);
}

TEST_F(GossipTest, a_round_may_be_sent_in_slices_and_is_not_started_twice) {
  start();
  hear({{"bravo", kBravo, true, 0}, {"charlie", kCharlie, true, 0}}, kBravo);
  now_ns += 10 * kMillisecond_ns;
  gossip->turn(now_ns);
  ASSERT_TRUE(gossip->next_outgoing());  // one of two, then a pause
  now_ns += 1'500 * kMillisecond_ns;
  gossip->turn(now_ns);
  EXPECT_EQ(gossip->statistics().rounds_skipped, 1U);
  EXPECT_TRUE(gossip->next_outgoing());
  EXPECT_FALSE(gossip->next_outgoing());
}

// ---- step 5: bootstrap neighbours ----

// proves 6.2/9
TEST_F(GossipTest, bootstrap_hosts_are_looked_up_at_once_and_again_while_they_are_no_neighbors) {
  options.bootstraps = {"bravo:8050", "charlie:9000"};
  start();
  EXPECT_EQ(gossip->next_lookup(now_ns), 0U);
  EXPECT_EQ(gossip->next_lookup(now_ns), 1U);
  EXPECT_EQ(gossip->next_lookup(now_ns), std::nullopt);
  gossip->set_bootstrap(0, kBravo);
  gossip->set_bootstrap(1, kCharlie);
  run(5 * kSecond_ns);
  hear({{"charlie", kCharlie, true, 0}}, kCharlie);
  EXPECT_EQ(gossip->next_lookup(now_ns), std::nullopt);
  run(5 * kSecond_ns);
  EXPECT_EQ(gossip->next_lookup(now_ns), 0U) << "bravo never answered: it may have moved";
  EXPECT_EQ(gossip->next_lookup(now_ns), std::nullopt) << "charlie did";
}

TEST_F(GossipTest, a_bootstrap_neighbor_that_moved_is_told_at_its_new_address) {
  start();
  gossip->set_bootstrap(0, kBravo);
  run(kSecond_ns);
  gossip->set_bootstrap(0, kDelta);
  const auto sent = run(1'100 * kMillisecond_ns);
  ASSERT_FALSE(sent.empty());
  EXPECT_EQ(sent.back().to, kDelta);
}

TEST_F(GossipTest, no_more_than_twenty_bootstrap_neighbors_count) {
  options.bootstraps.assign(25, "10.0.0.2:8050");
  start();
  EXPECT_EQ(gossip->bootstraps().size(), kBootstrapsMax);
}

// ---- questions ----

// proves 6.2/10
TEST_F(GossipTest, our_own_name_is_where_we_are_bound) {
  start();
  EXPECT_EQ(find("alpha"), kOurs);
  EXPECT_EQ(find("alph"), std::nullopt);
  EXPECT_EQ(gossip->find("alpha", ResolutionEntry::kIpv6), std::nullopt);
}

// ---- floods ----

TEST_F(GossipTest, a_flood_of_names_fills_the_tables_and_no_more) {
  start();
  hear({{"bravo", kBravo, true, 0}}, kBravo);
  for (unsigned i = 0; i < 5'000; ++i) hear({{"flood-" + std::to_string(i), Address::ipv4(0x0B000000 + i, 9000), true, 0}}, kBravo);
  EXPECT_EQ(gossip->names().size(), kNamesMax);
  EXPECT_EQ(gossip->neighbors().size(), kNeighborsMax);
  EXPECT_EQ(gossip->statistics().names_refused, 5'001 - kNamesMax);
  EXPECT_EQ(gossip->statistics().neighbors_refused, 5'001 - kNeighborsMax);
  now_ns += kSecond_ns;
  hear({{"bravo", kBravo, true, 0}}, kBravo);
  EXPECT_EQ(gossip->neighbors().at(kBravo), now_ns) << "who was there before is still served";
  run(options.neighbor_timeout_ns);
  EXPECT_TRUE(gossip->names().empty());
  EXPECT_TRUE(gossip->neighbors().empty());
}

}  // namespace
}  // namespace thalweg::names
