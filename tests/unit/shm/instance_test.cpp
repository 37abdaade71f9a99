#include <gtest/gtest.h>

#include "dataplane/shm/broadcast.hpp"
#include "dataplane/shm/channel_uri.hpp"
#include "dataplane/shm/cnc.hpp"
#include "dataplane/shm/commands.hpp"
#include "dataplane/shm/counters.hpp"
#include "dataplane/shm/registry.hpp"
#include "dataplane/shm/ring_buffer.hpp"
#include "tests/support/temporary_directory.hpp"

namespace thalweg::shm {
namespace {

TEST(Instance, files_of_a_fresh_directory_can_be_used) {
  const test::TemporaryDirectory directory;
  auto cnc = CncFile::create(directory.path(), {}, 42, 1000);
  ASSERT_TRUE(cnc) << cnc.error().message;
  EXPECT_EQ(cnc->length(), 48238592U);
  cnc->mark_ready();
  auto opened = CncFile::open(directory.path(), MappedFile::Access::kReadWrite);
  ASSERT_TRUE(opened) << opened.error().message;
  ManyToOneRing producer{opened->to_driver()};
  ManyToOneRing consumer{cnc->to_driver()};
  Buffer bytes;
  encode(bytes, AddPublication{{1, 2}, 3, "aeron:ipc"});
  ASSERT_TRUE(producer.write(1, bytes));
  int seen = 0;
  EXPECT_EQ(consumer.read([&](std::int32_t type, Bytes body) {
    const auto m = decode<AddPublication>(body);
    seen += type == 1 && m && m->channel == "aeron:ipc" && m->stream_id == 3;
    return true;
  }, 10), 1);
  EXPECT_EQ(seen, 1);
  CountersManager counters{cnc->counter_metadata(), cnc->counter_values(), 1000};
  ASSERT_TRUE(allocate_system_counters(counters, "DEDICATED", "", 0));
  EXPECT_EQ(CountersReader(opened->counter_metadata(), opened->counter_values()).find(43)->value, 65536);
  BroadcastReceiver receiver{opened->to_clients()};
  BroadcastTransmitter transmitter{cnc->to_clients()};
  ASSERT_TRUE(transmitter.transmit(7, bytes));
  std::int32_t type = 0;
  Bytes body;
  ASSERT_TRUE(receiver.receive(type, body));
  EXPECT_EQ(type, 7);
  EXPECT_EQ(Buffer(body.begin(), body.end()), bytes);
}

TEST(Registry, is_created_once_and_keeps_texts) {
  const test::TemporaryDirectory directory;
  auto created = RegistryFile::create(directory.path());
  ASSERT_TRUE(created) << created.error().message;
  EXPECT_FALSE(RegistryFile::create(directory.path()));
  const auto slot = created->put_text("aeron:ipc");
  ASSERT_TRUE(slot);
  auto opened = RegistryFile::open(directory.path());
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->text(*slot), "aeron:ipc");
  EXPECT_EQ((*opened)->publications[17].desired.endpoint, kNoSlot);
}

}  // namespace
}  // namespace thalweg::shm
