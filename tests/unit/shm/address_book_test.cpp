#include "dataplane/shm/address_book.hpp"

#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "dataplane/shm/registry.hpp"
#include "tests/support/temporary_directory.hpp"

namespace thalweg::shm {
namespace {

using enum AddressBook::By;

ScopedIpv6 address(const char* text, std::uint32_t scope = 0) { return {*wire::parse_ipv6(text), scope}; }

ScopedIpv6 numbered(std::uint32_t number, std::uint8_t network = 1) {
  ScopedIpv6 made = address("2001:db8::");
  made.address.bytes[7] = network;
  store_be32(std::as_writable_bytes(std::span{made.address.bytes}).data() + 12, number);
  return made;
}

class AddressBookTest : public testing::Test {
 protected:
  std::unique_ptr<AddressBook> book_ = std::make_unique<AddressBook>();
};

TEST_F(AddressBookTest, an_address_keeps_its_handle_and_comes_back_from_it) {
  const std::uint32_t first = book_->enter(address("2001:db8::1"), kNamed, 0);
  const std::uint32_t second = book_->enter(address("2001:db8::2"), kNamed, 0);
  EXPECT_TRUE(wire::is_handle(first));
  EXPECT_FALSE(wire::is_group(first));
  EXPECT_NE(first, second);
  EXPECT_EQ(book_->enter(address("2001:db8::1"), kLearned, 0), first);
  EXPECT_EQ(book_->find(address("2001:db8::2"), 0), second);
  EXPECT_EQ(book_->find(address("2001:db8::3"), 0), 0U);
  EXPECT_EQ(book_->address(second), address("2001:db8::2"));
  EXPECT_EQ(book_->size(), 2U);
}

TEST_F(AddressBookTest, link_local_addresses_of_two_interfaces_are_two) {
  const std::uint32_t second = book_->enter(address("fe80::1", 2), kNamed, 0);
  EXPECT_NE(book_->enter(address("fe80::1", 3), kNamed, 0), second);
  EXPECT_EQ(book_->address(second).scope, 2U);
}

TEST_F(AddressBookTest, a_scope_is_the_name_or_number_of_an_interface) {
  EXPECT_EQ(parse_scoped_ipv6("fe80::1%lo"), address("fe80::1", 1));
  EXPECT_EQ(parse_scoped_ipv6("fe80::1%7"), address("fe80::1", 7));
  EXPECT_EQ(parse_scoped_ipv6("::1"), address("::1"));
  for (const char* wrong : {"fe80::1%", "fe80::1%nosuchif", "fe80::1%0", "%lo", "localhost"}) EXPECT_FALSE(parse_scoped_ipv6(wrong)) << wrong;
}

TEST_F(AddressBookTest, any_and_loopback_have_handles_in_every_book) {
  EXPECT_EQ(book_->enter(address("::"), kNamed, 0), wire::kAnyIpv6);
  EXPECT_EQ(book_->find(address("::1"), 0), wire::kLoopbackIpv6);
  EXPECT_EQ(book_->address(wire::kLoopbackIpv6), address("::1"));
  EXPECT_EQ(book_->size(), 0U);
}

TEST_F(AddressBookTest, the_handles_of_a_group_and_its_control_group_are_neighbours) {
  const std::uint32_t data = book_->enter(address("ff02::9:1"), kNamed, 0);
  ASSERT_TRUE(wire::is_group(data));
  const std::uint32_t control = wire::control_group(data);
  EXPECT_EQ(book_->address(control), address("ff02::9:2"));
  EXPECT_EQ(book_->find(address("ff02::9:2"), 0), control);
  EXPECT_EQ(wire::data_group(control), data);
  EXPECT_EQ(data % 2, 1U);
  EXPECT_EQ(book_->enter(address("ff02::9:2"), kNamed, 0), control);
  const std::uint32_t wrapped = book_->enter(address("ff02::a:0"), kNamed, 0);
  EXPECT_EQ(wire::data_group(wrapped), book_->find(address("ff02::a:ff"), 0));
  EXPECT_EQ(book_->group_count(), 2U);
  EXPECT_EQ(book_->enter(address("ff02::9:3"), kLearned, 0), 0U) << "nobody sends from a group";
}

TEST_F(AddressBookTest, addresses_and_endpoints_are_written_as_channels_write_them) {
  const std::uint32_t global = book_->enter(address("2001:db8:0:0::1"), kNamed, 0);
  EXPECT_EQ(book_->format_endpoint(global, 40456), "[2001:db8::1]:40456");
  EXPECT_EQ(book_->format(book_->enter(address("fe80::1", 2), kNamed, 0)), "fe80::1%2");
  EXPECT_EQ(book_->format_endpoint(wire::kAnyIpv6, 7), "[::]:7");
  EXPECT_EQ(book_->format_endpoint(0x0A000001, 40456), "10.0.0.1:40456");
}

TEST_F(AddressBookTest, peers_fill_a_part_of_it_and_no_more) {
  std::uint32_t entered = 0;
  for (std::uint32_t i = 0; i < AddressBook::kPlaces; ++i) entered += book_->enter(numbered(i), kLearned, 0) != 0 ? 1 : 0;
  EXPECT_EQ(entered, AddressBook::kLearnedMax);
  EXPECT_TRUE(book_->is_half_full());
  for (std::uint32_t i = 0; i < 8192; ++i) ASSERT_NE(book_->enter(numbered(i, 2), kNamed, 0), 0U) << "there is room for what is configured";
}

TEST_F(AddressBookTest, what_is_named_later_no_longer_counts_as_learned) {
  const std::uint32_t handle = book_->enter(numbered(1), kLearned, 0);
  EXPECT_EQ(book_->learned(), 1U);
  EXPECT_EQ(book_->enter(numbered(1), kNamed, 0), handle);
  EXPECT_EQ(book_->learned(), 0U);
  EXPECT_EQ(book_->size(), 1U);
}

TEST_F(AddressBookTest, a_full_book_says_so) {
  std::uint32_t refused = 0;
  for (std::uint32_t i = 0; i < AddressBook::kPlaces; ++i) refused += book_->enter(numbered(i), kNamed, 0) == 0 ? 1 : 0;
  EXPECT_EQ(book_->size(), AddressBook::kAddressesMax);
  EXPECT_EQ(refused, AddressBook::kPlaces - AddressBook::kAddressesMax);
  EXPECT_NE(book_->find(numbered(5), 0), 0U);
}

TEST_F(AddressBookTest, threads_that_enter_the_same_addresses_agree) {
  constexpr std::uint32_t kAddresses = 2000;
  std::array<std::vector<std::uint32_t>, 2> handles;
  {
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < handles.size(); ++t) {
      threads.emplace_back([this, &mine = handles.at(t)] {
        for (std::uint32_t i = 0; i < kAddresses; ++i) mine.push_back(book_->enter(numbered(i), kNamed, i * kSecond_ns));
      });
    }
  }
  EXPECT_EQ(handles[0], handles[1]);
  EXPECT_EQ(std::set<std::uint32_t>(handles[0].begin(), handles[0].end()).size(), kAddresses);
  EXPECT_EQ(book_->size(), kAddresses);
}

TEST(LearnBudgetTest, lets_a_burst_through_and_then_so_many_a_second) {
  LearnBudget budget;
  const auto taken = [&budget](std::int64_t now_ns) {
    int count = 0;
    while (budget.take(now_ns)) ++count;
    return count;
  };
  EXPECT_EQ(taken(kSecond_ns), LearnBudget::kBurst);
  EXPECT_EQ(taken(kSecond_ns), 0);
  EXPECT_EQ(taken(2 * kSecond_ns), LearnBudget::kPerSecond);
  EXPECT_EQ(taken(1000 * kSecond_ns), LearnBudget::kBurst);
}

// One registry for all of them: it is large.
class RecycleTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    directory_ = std::make_unique<test::TemporaryDirectory>("book");
    auto created = RegistryFile::create(directory_->path());
    ASSERT_TRUE(created) << created.error().message;
    file_ = std::make_unique<RegistryFile>(std::move(*created));
  }
  static void TearDownTestSuite() {
    file_.reset();
    directory_.reset();
  }
  void SetUp() override { recycle_addresses(registry_, kForever_ns); }

  static constexpr std::int64_t kForever_ns = 1'000'000 * kSecond_ns;
  inline static std::unique_ptr<test::TemporaryDirectory> directory_;
  inline static std::unique_ptr<RegistryFile> file_;
  Registry& registry_ = **file_;
  AddressBook& book_ = registry_.addresses;
};

TEST_F(RecycleTest, strangers_are_forgotten_and_their_places_used_again) {
  for (std::uint32_t i = 0; i < AddressBook::kPlaces; ++i) static_cast<void>(book_.enter(numbered(i), kLearned, 0));
  EXPECT_EQ(book_.enter(numbered(1, 9), kLearned, 0), 0U);
  EXPECT_EQ(recycle_addresses(registry_, AddressBook::kLearnedAge_s * kSecond_ns), 0U) << "not yet";
  EXPECT_EQ(recycle_addresses(registry_, (AddressBook::kLearnedAge_s + 1) * kSecond_ns), AddressBook::kLearnedMax);
  const std::uint32_t handle = book_.enter(numbered(1, 9), kLearned, kForever_ns);
  EXPECT_EQ(book_.address(handle), numbered(1, 9));
}

TEST_F(RecycleTest, who_was_looked_up_lately_stays) {
  const std::uint32_t handle = book_.enter(numbered(1), kLearned, 0);
  EXPECT_EQ(book_.find(numbered(1), 20 * kSecond_ns), handle);
  EXPECT_EQ(recycle_addresses(registry_, 50 * kSecond_ns), 0U);
  EXPECT_EQ(recycle_addresses(registry_, 51 * kSecond_ns), 1U);
}

TEST_F(RecycleTest, what_the_registry_refers_to_stays) {
  EndpointSlot& endpoint = registry_.endpoints[3];
  endpoint.desired.state.store(Desired::kActive);
  endpoint.desired.remote_address = book_.enter(numbered(1), kNamed, 0);
  ImageSlot& image = registry_.images[4];
  image.desired.state.store(Desired::kActive);
  image.observed.state.connections[2].control_address = book_.enter(numbered(2), kLearned, 0);
  PublicationSlot& publication = registry_.publications[5];
  publication.desired.state.store(Desired::kActive);
  publication.observed.state.receivers[63].address = book_.enter(numbered(3), kLearned, 0);
  endpoint.desired.local_address = wire::control_group(book_.enter(address("ff02::5"), kNamed, 0));
  registry_.ports[0].routes[31].gateway = book_.enter(numbered(4), kNamed, 0);
  EXPECT_EQ(recycle_addresses(registry_, kForever_ns), 0U);
  for (auto* state : {&endpoint.desired.state, &image.desired.state, &publication.desired.state}) state->store(Desired::kFree);
  registry_.ports[0].routes[31].gateway = 0;
  EXPECT_EQ(recycle_addresses(registry_, kForever_ns), 5U);
}

}  // namespace
}  // namespace thalweg::shm
