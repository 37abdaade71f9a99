#include "dataplane/shm/registry.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <set>
#include <thread>

#include "dataplane/base/time.hpp"
#include "tests/support/shared_memory.hpp"
#include "tests/support/temporary_directory.hpp"

namespace thalweg::shm {
namespace {

constexpr std::uint64_t kTables = sizeof(Registry) - sizeof(Registry::texts);

struct stat status_of(const std::string& path) {
  struct stat status {};
  EXPECT_EQ(::stat(path.c_str(), &status), 0);
  return status;
}

// One registry for all tests that only look at it: it is large.
class RegistryTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    directory_ = std::make_unique<test::TemporaryDirectory>("registry");
    auto created = RegistryFile::create(directory_->path());
    ASSERT_TRUE(created) << created.error().message << ", " << created.error().hint;
    file_ = std::make_unique<RegistryFile>(std::move(*created));
  }
  static void TearDownTestSuite() {
    file_.reset();
    directory_.reset();
  }
  [[nodiscard]] static std::uint64_t allocated_bytes() {
    return static_cast<std::uint64_t>(status_of(directory_->file("registry.dat")).st_blocks) * 512;
  }

  inline static std::unique_ptr<test::TemporaryDirectory> directory_;
  inline static std::unique_ptr<RegistryFile> file_;
};

TEST_F(RegistryTest, file_appears_complete_private_and_only_its_texts_are_holes) {
  const struct stat status = status_of(directory_->file("registry.dat"));
  EXPECT_EQ(status.st_mode & 0777, 0600U);
  EXPECT_EQ(static_cast<std::uint64_t>(status.st_size), sizeof(Registry));
  EXPECT_EQ(allocated_bytes(), kTables);
  EXPECT_FALSE(std::filesystem::exists(directory_->file("registry.dat.new")));
  EXPECT_EQ(RegistryFile::create(directory_->path()).error().code, ErrorCode::kInUse);
  EXPECT_FALSE(std::filesystem::exists(directory_->file("registry.dat.new")));
}

// proves 3.1/3
TEST_F(RegistryTest, receiver_ids_begin_elsewhere_in_each_instance_and_are_never_0) {
  std::set<std::uint64_t> starts{(*file_)->header.next_receiver_id.load()};
  {
    test::TemporaryDirectory another{"registry"};
    const auto created = RegistryFile::create(another.path());
    ASSERT_TRUE(created) << created.error().message;
    starts.insert((**created).header.next_receiver_id.load());
  }
  EXPECT_EQ(starts.size(), 2U);
  for (const std::uint64_t start : starts) {
    EXPECT_GT(start, 0U);
    EXPECT_LE(start, static_cast<std::uint64_t>(INT64_MAX));
  }
}

TEST_F(RegistryTest, every_table_starts_with_its_defaults) {
  const Registry& r = **file_;
  EXPECT_EQ(r.header.magic, kRegistryMagic);
  EXPECT_EQ(r.header.control_to_steward.rescan.load(), 1U) << "whoever attaches rescans first";
  EXPECT_EQ(r.lanes.back().to_control.rescan.load(), 1U);
  EXPECT_EQ(r.lanes.back().setups.back().endpoint, kNoSlot);
  EXPECT_EQ(r.endpoints.back().desired.text, kNoSlot);
  EXPECT_EQ(r.publications.back().desired.pub_pos_id, -1);
  EXPECT_EQ(r.images.back().desired.loss_report_entry, -1);
  EXPECT_EQ(r.links.back().desired.counter_id, -1);
  EXPECT_EQ(r.captures.back().desired.port, kNoSlot);
  EXPECT_EQ(r.commands.back().target, kNoSlot);
  EXPECT_EQ(r.clients.front().head.state.load(), Desired::kFree);
}

TEST_F(RegistryTest, texts_take_one_page_each) {
  const std::uint64_t before = allocated_bytes();
  const auto first = file_->put_text("aeron:udp?endpoint=localhost:5");
  const auto second = file_->put_text(std::string(4092, 'x'));
  ASSERT_TRUE(first && second);
  EXPECT_NE(*first, *second);
  EXPECT_EQ(allocated_bytes(), before + 8192);
  EXPECT_EQ(file_->text(*first), "aeron:udp?endpoint=localhost:5");
  EXPECT_EQ(file_->text(*second).size(), 4092U);
  EXPECT_EQ(file_->put_text(std::string(4093, 'x')).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(file_->put_text("").value(), kNoSlot);
  EXPECT_EQ(file_->text(kNoSlot), "");
  file_->free_text(*first);
  file_->free_text(*first);
  file_->free_text(*second);
  file_->free_text(kNoSlot);
  EXPECT_EQ(allocated_bytes(), before + 8192) << "kept for the next texts";
  EXPECT_NE(*file_->put_text("again"), *file_->put_text("and again"));
  EXPECT_EQ(allocated_bytes(), before + 8192);
}

TEST_F(RegistryTest, only_a_few_pages_of_texts_are_kept_when_many_go) {
  const std::uint64_t before = allocated_bytes();
  std::vector<std::uint32_t> slots;
  for (int i = 0; i < 100; ++i) slots.push_back(*file_->put_text("text"));
  EXPECT_EQ(std::set<std::uint32_t>(slots.begin(), slots.end()).size(), 100U);
  for (const std::uint32_t slot : slots) file_->free_text(slot);
  EXPECT_EQ(allocated_bytes(), before + 16 * 4096);
}

TEST_F(RegistryTest, successor_finds_the_texts_in_use_without_touching_the_others) {
  const auto kept = file_->put_text("kept");
  const auto gone = file_->put_text("gone");
  file_->free_text(*gone);
  const std::uint64_t before = allocated_bytes();
  auto successor = RegistryFile::open(directory_->path());
  ASSERT_TRUE(successor);
  EXPECT_EQ(allocated_bytes(), before);
  EXPECT_EQ(successor->text(*kept), "kept");
  for (int i = 0; i < 10; ++i) EXPECT_NE(successor->put_text("more").value(), *kept);
  EXPECT_EQ(successor->text(*kept), "kept");
}

TEST_F(RegistryTest, length_of_a_text_is_clamped) {
  const auto slot = file_->put_text("text");
  (*file_)->texts[*slot].length = 0xFFFFFFFF;
  EXPECT_EQ(file_->text(*slot).size(), sizeof(TextPage::text));
  file_->free_text(*slot);
}

TEST_F(RegistryTest, other_version_size_or_magic_is_refused_and_both_are_named) {
  RegistryHeader& header = (*file_)->header;
  header.version = kRegistryVersion + 1;
  const auto other = RegistryFile::open(directory_->path());
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code, ErrorCode::kVersion);
  EXPECT_NE(other.error().message.find("version " + std::to_string(kRegistryVersion + 1)), std::string::npos) << other.error().message;
  header.version = kRegistryVersion;
  header.length += 1;
  EXPECT_EQ(RegistryFile::open(directory_->path()).error().code, ErrorCode::kVersion);
  header.length -= 1;
  header.magic ^= 1;
  EXPECT_EQ(RegistryFile::open(directory_->path()).error().code, ErrorCode::kVersion);
  header.magic ^= 1;
  EXPECT_TRUE(RegistryFile::open(directory_->path(), MappedFile::Access::kReadOnly));
  const test::TemporaryDirectory empty;
  EXPECT_EQ(RegistryFile::open(empty.path()).error().code, ErrorCode::kNotFound);
  ASSERT_TRUE(MappedFile::create(empty.file("registry.dat"), {.length = 100}));
  EXPECT_EQ(RegistryFile::open(empty.path()).error().code, ErrorCode::kVersion);
}

TEST_F(RegistryTest, moving_hands_file_and_descriptor_on) {
  auto opened = RegistryFile::open(directory_->path());
  ASSERT_TRUE(opened);
  RegistryFile moved = std::move(*opened);
  EXPECT_FALSE(*opened);
  RegistryFile assigned;
  assigned = std::move(moved);
  EXPECT_TRUE(assigned);
  const auto slot = assigned.put_text("after the move");
  ASSERT_TRUE(slot);
  EXPECT_EQ(assigned.text(*slot), "after the move");
  assigned.free_text(*slot);
}

TEST_F(RegistryTest, two_processes_see_the_same_slots) {
  const pid_t child = test::in_child([] {
    auto registry = RegistryFile::open(directory_->path());
    if (!registry) return 1;
    (*registry)->endpoints[7].desired.remote_port = 4711;
    (*registry)->endpoints[7].desired.state.store(Desired::kActive, std::memory_order_release);
    wake((*registry)->header.control_wake);
    return 0;
  });
  const std::int64_t deadline = monotonic_ns() + 20 * kSecond_ns;
  auto& slot = (*file_)->endpoints[7].desired;
  while (slot.state.load(std::memory_order_acquire) != Desired::kActive && monotonic_ns() < deadline) {
    wait((*file_)->header.control_wake, 0, 10 * kMillisecond_ns);
  }
  EXPECT_EQ(slot.remote_port, 4711);
  EXPECT_EQ(test::wait_for(child), 0);
  EXPECT_EQ((*file_)->header.control_wake.load(), 1U);
}

TEST(Futex, wait_returns_at_once_when_the_word_has_moved_and_at_the_timeout_otherwise) {
  std::atomic<std::uint32_t> word{5};
  wait(word, 4, 3600 * kSecond_ns);
  wait(word, 5, 0);
  wait(word, 5, -1);
  wait(word, 5, kMillisecond_ns);
}

TEST(Futex, waiter_is_woken) {
  std::atomic<std::uint32_t> word{0};
  std::thread waiter{[&] {
    while (word.load(std::memory_order_acquire) == 0) wait(word, 0, 20 * kSecond_ns);
  }};
  wake(word);
  waiter.join();
  EXPECT_EQ(word.load(), 1U);
}

TEST(BellRing, carries_references_in_order_and_asks_for_a_rescan_when_full) {
  auto ring = std::make_unique<BellRing>();
  EXPECT_TRUE(ring->take_rescan());
  EXPECT_FALSE(ring->take_rescan());
  for (std::uint32_t i = 0; i < kBellCapacity; ++i) ASSERT_TRUE(ring->ring({SlotKind::kImage, i}));
  EXPECT_FALSE(ring->ring({SlotKind::kImage, 1}));
  EXPECT_TRUE(ring->take_rescan());
  SlotRef ref;
  for (std::uint32_t i = 0; i < kBellCapacity; ++i) {
    ASSERT_TRUE(ring->take(ref));
    ASSERT_EQ(ref.index, i);
    ASSERT_EQ(ref.kind, SlotKind::kImage);
  }
  EXPECT_FALSE(ring->take(ref));
  EXPECT_TRUE(ring->is_empty());
}

TEST(BellRing, passes_everything_between_two_threads) {
  auto ring = std::make_unique<BellRing>();
  constexpr std::uint32_t kCount = 100'000;
  std::thread producer{[&] {
    for (std::uint32_t i = 0; i < kCount; ++i) {
      while (!ring->ring({SlotKind::kLink, i})) std::this_thread::yield();
    }
  }};
  bool is_right = true;
  SlotRef ref;
  for (std::uint32_t i = 0; i < kCount;) {
    if (!ring->take(ref)) {
      std::this_thread::yield();
      continue;
    }
    is_right = is_right && ref.index == i++;
  }
  producer.join();
  EXPECT_TRUE(is_right);
}

TEST(LogPath, names_the_folder_of_its_use) {
  EXPECT_EQ(log_path("/d", LogUse::kPool, 3), "/d/pool/3.logbuffer");
  EXPECT_EQ(log_path("/d", LogUse::kPublication, 7), "/d/publications/7.logbuffer");
  EXPECT_EQ(log_path("/d", LogUse::kImage, -1), "/d/images/-1.logbuffer");
}

TEST_F(RegistryTest, a_process_says_of_which_release_it_is) {
  ProcessInfo process;
  EXPECT_EQ(release_of(process), "") << "one that does not say";
  set_release(process, "1.2.3");
  EXPECT_EQ(release_of(process), "1.2.3");
  set_release(process, std::string(100, 'x'));
  EXPECT_EQ(release_of(process), std::string(23, 'x'));
}

// What a running instance of another release of the same registry version finds where. Whoever changes one of these numbers gives kRegistryVersion a new
// one, and the CHANGELOG says that instances must be stopped for the upgrade (docs/operate/upgrade.md).
TEST_F(RegistryTest, the_layout_is_that_of_its_version) {
  EXPECT_EQ(kRegistryVersion, 10U);
  const std::vector<std::size_t> sizes{sizeof(RegistryHeader), sizeof(PortSlot),        sizeof(LaneSlot),           sizeof(EndpointSlot),    sizeof(LogSlot),
                                       sizeof(PublicationSlot), sizeof(ImageSlot),       sizeof(InterestSlot),       sizeof(LinkSlot),        sizeof(ClientSlot),
                                       sizeof(SubscriptionSlot), sizeof(PublicationRefSlot), sizeof(DestinationSlot), sizeof(CommandSlot),     sizeof(CommandCrashes),
                                       sizeof(AddressBook),     sizeof(CaptureSlot),     sizeof(PublicationState),   sizeof(ImageState),      sizeof(Registry)};
  EXPECT_EQ(sizes, (std::vector<std::size_t>{36'864, 640, 33'792, 384, 320, 4'416, 2'240, 128, 128, 64, 64, 32, 320, 40, 1'056, 1'179'680, 576, 3'840, 1'728, 176'275'456}));
  const std::vector<std::size_t> offsets{offsetof(RegistryHeader, control_plane), offsetof(RegistryHeader, data_plane), offsetof(RegistryHeader, control_wake),
                                         offsetof(RegistryHeader, control_to_steward)};
  EXPECT_EQ(offsets, (std::vector<std::size_t>{64, 128, 192, 384}));
}

}  // namespace
}  // namespace thalweg::shm
