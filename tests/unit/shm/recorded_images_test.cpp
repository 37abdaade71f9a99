// cnc.dat and three log buffers recorded of the reference driver: our readers understand them, and our writers, given the same
// parameters, make the same bytes.
#include <gtest/gtest.h>

#include "dataplane/shm/broadcast.hpp"
#include "dataplane/shm/cnc.hpp"
#include "dataplane/shm/commands.hpp"
#include "dataplane/shm/counters.hpp"
#include "dataplane/shm/error_log.hpp"
#include "dataplane/shm/log_buffer.hpp"
#include "dataplane/shm/ring_buffer.hpp"
#include "dataplane/wire/frames.hpp"
#include "tests/support/recorded.hpp"
#include "tests/support/shared_memory.hpp"
#include "tests/support/temporary_directory.hpp"

namespace thalweg::shm {
namespace {

using test::to_hex;

class RecordedCnc : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    directory_ = std::make_unique<test::TemporaryDirectory>("recorded");
    const auto bytes = test::read_gzip(test::data_path("cnc-with-pub-sub-counters.dat.gz"));
    auto file = MappedFile::create(directory_->file("cnc.dat"), {.length = bytes.size()});
    ASSERT_TRUE(file) << file.error().message;
    std::copy(bytes.begin(), bytes.end(), file->data());
    auto cnc = CncFile::open(directory_->path(), MappedFile::Access::kReadWrite);
    ASSERT_TRUE(cnc) << cnc.error().message;
    cnc_ = std::make_unique<CncFile>(std::move(*cnc));
  }
  static void TearDownTestSuite() {
    cnc_.reset();
    directory_.reset();
  }
  inline static std::unique_ptr<test::TemporaryDirectory> directory_;
  inline static std::unique_ptr<CncFile> cnc_;
};

TEST_F(RecordedCnc, header_is_what_we_write_for_the_same_layout) {
  EXPECT_EQ(cnc_->version(), kCncVersion);
  EXPECT_EQ(cnc_->pid(), 19287);
  EXPECT_EQ(cnc_->start_ms(), 1795254513724);
  const test::TemporaryDirectory directory;
  auto ours = CncFile::create(directory.path(), cnc_->layout(), cnc_->pid(), cnc_->start_ms());
  ASSERT_TRUE(ours);
  ours->mark_ready();
  EXPECT_EQ(ours->length(), cnc_->length());
  const auto header = [](const CncFile& cnc) { return to_hex({cnc.to_driver().data() - kCncHeaderLength, kCncHeaderLength}); };
  EXPECT_EQ(header(*ours), header(*cnc_));
}

TEST_F(RecordedCnc, command_ring_is_empty_and_zeroed_where_we_expect_it) {
  ManyToOneRing ring{cnc_->to_driver()};
  EXPECT_EQ(ring.producer_position(), 280);
  EXPECT_EQ(ring.consumer_position(), 280);
  EXPECT_EQ(ring.consumer_heartbeat(), 1795254516724);
  EXPECT_EQ(ring.read([](std::int32_t, Bytes) { return true; }, 10), 0);
  EXPECT_TRUE(std::all_of(cnc_->to_driver().data(), cnc_->to_driver().data() + ring.capacity(), [](std::byte b) { return b == std::byte{}; }));
}

// Decodes a recorded response with our decoder and encodes it again.
template <typename T>
Buffer recoded(Bytes body) {
  const auto message = decode<T>(body);
  Buffer bytes;
  if (message) encode(bytes, *message);
  return bytes;
}
Buffer recoded(std::int32_t type, Bytes body) {
  switch (static_cast<Response>(type)) {
    case Response::kCounterReady: return recoded<OnCounter>(body);
    case Response::kSubscriptionReady: return recoded<OnSubscriptionReady>(body);
    case Response::kAvailableImage: return recoded<OnAvailableImage>(body);
    case Response::kPublicationReady:
    case Response::kExclusivePublicationReady: return recoded<OnPublicationReady>(body);
    default: return {};
  }
}

TEST_F(RecordedCnc, broadcast_section_is_reproduced_byte_for_byte) {
  const auto recorded = cnc_->to_clients();
  test::SharedMemory memory{recorded.size()};
  BroadcastTransmitter transmitter{memory.bytes()};
  std::vector<std::int32_t> types;
  const auto tail = load_le<std::int64_t>(recorded.data() + recorded.size() - kBroadcastTrailerLength + 8);
  for (std::int64_t at = 0; at < tail;) {
    const auto length = load_le<std::int32_t>(recorded.data() + at);
    types.push_back(load_le<std::int32_t>(recorded.data() + at + 4));
    const Bytes body = recorded.subspan(static_cast<std::size_t>(at) + 8, static_cast<std::size_t>(length) - 8);
    const Buffer again = recoded(types.back(), body);
    ASSERT_EQ(to_hex(again), to_hex(body));
    ASSERT_TRUE(transmitter.transmit(types.back(), again));
    at += align_up(length, 8);
  }
  EXPECT_EQ(types, (std::vector<std::int32_t>{0xF08, 0xF07, 0xF08, 0xF07, 0xF02, 0xF08, 0xF03, 0xF08, 0xF06, 0xF02}));
  EXPECT_TRUE(std::equal(recorded.begin(), recorded.end(), memory.data())) << "data and trailer";
}

TEST_F(RecordedCnc, new_client_first_sees_the_latest_broadcast) {
  BroadcastReceiver receiver{cnc_->to_clients()};
  std::int32_t type = 0;
  Bytes body;
  ASSERT_TRUE(receiver.receive(type, body));
  EXPECT_EQ(type, static_cast<std::int32_t>(Response::kAvailableImage));
  const auto image = decode<OnAvailableImage>(body);
  ASSERT_TRUE(image);
  EXPECT_EQ(image->correlation_id, 9);
  EXPECT_EQ(image->source_identity, "aeron:ipc");
  EXPECT_FALSE(receiver.receive(type, body));
}

TEST_F(RecordedCnc, counters_are_read_and_reproduced_record_for_record) {
  const CountersReader recorded{cnc_->counter_metadata(), cnc_->counter_values()};
  test::SharedMemory metadata{67 * kCounterMetadataLength};
  test::SharedMemory values{67 * kCounterValueLength};
  CountersManager ours{metadata.bytes(), values.bytes().first(67 * kCounterValueLength), 1000};
  std::int32_t count = 0;
  recorded.for_each([&](const CountersReader::View& c) {
    ASSERT_EQ(c.id, count++);
    auto key = c.key;
    if (c.id == 55) key = key.first(8 + 15);  // the reference driver left the rest of its stack behind this one
    ASSERT_EQ(ours.allocate({c.type_id, key, c.label, c.registration_id, c.owner_id, c.reference_id, c.value}, 0).value(), c.id);
    const auto at = static_cast<std::size_t>(c.id);
    EXPECT_TRUE(std::equal(values.data() + at * 128, values.data() + at * 128 + 128, cnc_->counter_values().data() + at * 128)) << c.label;
    if (c.id == 55) return;
    EXPECT_EQ(to_hex({metadata.data() + at * 512, 512}), to_hex(cnc_->counter_metadata().subspan(at * 512, 512))) << c.label;
  });
  EXPECT_EQ(count, 67);
  EXPECT_EQ(recorded.state(67), CounterState::kUnused);
}

TEST_F(RecordedCnc, system_counters_are_those_we_allocate) {
  const CountersReader recorded{cnc_->counter_metadata(), cnc_->counter_values()};
  test::SharedMemory memory{64 * (kCounterMetadataLength + kCounterValueLength)};
  CountersManager ours{memory.bytes().first(64 * kCounterMetadataLength), memory.bytes().subspan(64 * kCounterMetadataLength), 1000};
  ASSERT_TRUE(allocate_system_counters(ours, "SHARED", "", 0));
  for (std::int32_t id = 0; id < kSystemCounterCount; ++id) {
    const auto theirs = recorded.find(id);
    const auto mine = ours.find(id);
    ASSERT_TRUE(theirs && mine);
    EXPECT_EQ(mine->type_id, theirs->type_id);
    EXPECT_EQ(to_hex(mine->key), to_hex(theirs->key));
    EXPECT_EQ(mine->registration_id, theirs->registration_id);
    EXPECT_EQ(mine->owner_id, theirs->owner_id);
    EXPECT_EQ(mine->reference_id, theirs->reference_id);
    const std::size_t version = theirs->label.find("version=");  // whose build it is differs, and must
    EXPECT_EQ(mine->label.substr(0, version), theirs->label.substr(0, version));
  }
  for (const SystemCounter id : {SystemCounter::kVersion, SystemCounter::kControlProtocolVersion}) {
    EXPECT_EQ(ours.find(static_cast<std::int32_t>(id))->value, recorded.find(static_cast<std::int32_t>(id))->value);
  }
}

TEST_F(RecordedCnc, stream_keys_and_labels_are_what_our_helpers_make) {
  const CountersReader recorded{cnc_->counter_metadata(), cnc_->counter_values()};
  const auto expect = [&](std::int32_t id, const CounterKey& key, const std::string& label) {
    const auto counter = recorded.find(id);
    ASSERT_TRUE(counter);
    EXPECT_EQ(to_hex(counter->key), to_hex(key.span())) << id;
    EXPECT_EQ(counter->label, label);
  };
  const std::string in = "aeron:udp?endpoint=10.77.0.1:24222";
  const std::string out = "aeron:udp?endpoint=10.77.0.2:24221|term-length=64k";
  expect(47, channel_key(in), "rcv-channel: " + in + " 10.77.0.1:24222");
  expect(48, sockaddr_key(47, "10.77.0.1:24222"), "rcv-local-sockaddr: 47 10.77.0.1:24222");
  expect(50, stream_key(5, -1986899863, 2002, in), stream_label("rcv-hwm", 5, -1986899863, 2002, in));
  expect(53, stream_key(4, -1986899863, 2002, in), stream_label("sub-pos", 4, -1986899863, 2002, in) + " @0");
  expect(54, channel_key(out), "snd-channel: " + out + " 10.77.0.1:34517");
  expect(56, stream_key(7, -381166591, 2001, out), stream_label("pub-pos (concurrent)", 7, -381166591, 2001, out));
  expect(64, stream_key(9, -381166590, 2003, "aeron:ipc?alias=ipc-pub"), stream_label("pub-lmt", 9, -381166590, 2003, "aeron:ipc?alias=ipc-pub"));
  EXPECT_EQ(to_hex(recorded.find(46)->key), to_hex(heartbeat_key(1).span()));
  EXPECT_TRUE(recorded.find(46)->label.starts_with("client-heartbeat: id=1 name="));
}

TEST_F(RecordedCnc, error_log_is_empty) {
  read_error_log(cnc_->error_log(), [](const ErrorLogEntry& e) { ADD_FAILURE() << e.text; });
}

// ---- log buffers ----
struct RecordedLog {
  const char* name;
  LogMetadata metadata;
  std::vector<std::int64_t> tails;
  std::int32_t active_term_count;
  std::int32_t is_connected;
  std::int32_t transports;
  std::int64_t position;      // where its frames begin
  std::int64_t end;           // and where they end
  int frames;
};
void PrintTo(const RecordedLog& log, std::ostream* out) { *out << log.name; }

class LogImage : public testing::TestWithParam<RecordedLog> {
 protected:
  LogImage() : file_{test::read_gzip(test::data_path(std::string{"logbuffer-"} + GetParam().name + "-64k.gz"))} {}
  test::ByteVector file_;
  LogBuffer log_{file_.data(), file_.size(), GetParam().metadata.term_length};
};

TEST_P(LogImage, metadata_is_what_we_write_for_the_same_stream) {
  ASSERT_EQ(file_.size(), log_file_length(65536, 4096));
  test::SharedMemory memory{file_.size()};
  const LogBuffer ours{memory.data(), file_.size(), 65536};
  init_log_metadata(ours, GetParam().metadata);
  for (std::size_t i = 0; i < GetParam().tails.size(); ++i) ours.store(meta::kTails + 8 * i, GetParam().tails[i]);
  ours.store(meta::kActiveTermCount, GetParam().active_term_count);
  ours.store(meta::kIsConnected, GetParam().is_connected);
  ours.store(meta::kActiveTransportCount, GetParam().transports);
  constexpr std::size_t kUsed = 512;
  EXPECT_EQ(to_hex({ours.metadata(), kUsed}), to_hex({log_.metadata(), kUsed}));
  EXPECT_TRUE(std::equal(ours.metadata() + kUsed, ours.metadata() + kLogMetadataLength, log_.metadata() + kUsed)) << "zeros";
}

TEST_P(LogImage, frames_follow_one_another_and_are_rebuilt_by_our_builder) {
  const LogMetadata& m = GetParam().metadata;
  int frames = 0;
  std::int64_t position = GetParam().position;
  while (position < GetParam().end) {
    std::byte* const p = log_.at(position);
    const std::int32_t length = frame_length_acquire(p);
    ASSERT_GE(length, wire::kDataHeaderLength);
    const wire::DataView frame{p};
    std::byte header[wire::kDataHeaderLength];
    wire::build(header, wire::DataHeader{length, frame.flags(), wire::FrameType::kData, wire::term_offset_of(position, 16), m.session_id, m.stream_id,
                                         wire::term_id_of(position, m.initial_term_id, 16), 0});
    ASSERT_EQ(to_hex(header), to_hex({p, sizeof header})) << position;
    position += wire::align_frame(length);
    ++frames;
  }
  EXPECT_EQ(position, GetParam().end);
  EXPECT_EQ(frames, GetParam().frames);
  EXPECT_EQ(frame_length_acquire(log_.at(position)), 0);
  if (m.type == LogType::kImage) return;
  EXPECT_EQ(producer_position(log_, m.initial_term_id), GetParam().end);
}

constexpr LogMetadata common() {
  return {.mtu = 1408, .term_length = 65536, .page_size = 4096, .publication_window = 32768, .receiver_window = 131072, .os_default_sndbuf = 212992,
          .os_default_rcvbuf = 212992, .linger_ns = 1'000'000'000, .untethered_window_limit_timeout_ns = 5'000'000'000,
          .untethered_linger_timeout_ns = 5'000'000'000, .untethered_resting_timeout_ns = 10'000'000'000, .rejoin = true, .reliable = true,
          .sparse = true, .signal_eos = true, .tether = true};
}
LogMetadata metadata_of(LogType type, std::int64_t id, std::int32_t initial, std::int32_t session, std::int32_t stream) {
  LogMetadata m = common();
  m.type = type;
  m.correlation_id = id;
  m.initial_term_id = m.start_term_id = initial;
  m.session_id = session;
  m.stream_id = stream;
  return m;
}
INSTANTIATE_TEST_SUITE_P(
    Reference, LogImage,
    testing::Values(
        RecordedLog{"udp-publication", metadata_of(LogType::kConcurrentPublication, 7, -289607143, -381166591, 2001),
                    {pack_tail(-289607143, 65600), pack_tail(-289607142, 30560), pack_tail(-289607144, 0)}, 1, 1, 0, 65536, 96096, 191},
        RecordedLog{"udp-image", metadata_of(LogType::kImage, 5, -343803042, -1986899863, 2002), {0, 0, 0}, 0, 0, 1, 0, 8000, 50},
        RecordedLog{"ipc-publication", metadata_of(LogType::kExclusivePublication, 4, 1487500255, -350059291, 3003),
                    {pack_tail(1487500255, 27936), pack_tail(1487500253, 0), pack_tail(1487500254, 0)}, 0, 1, 0, 0, 27936, 27}),
    [](const auto& test_case) {
      std::string name = test_case.param.name;
      std::replace(name.begin(), name.end(), '-', '_');
      return name;
    });

TEST(RecordedPublication, first_term_is_cleaned_exactly_one_term_behind) {
  auto file = test::read_gzip(test::data_path("logbuffer-udp-publication-64k.gz"));
  const auto zeros = std::find_if(file.begin(), file.end(), [](std::byte b) { return b != std::byte{}; }) - file.begin();
  EXPECT_EQ(zeros, 96096 - 65536);
  const LogBuffer log{file.data(), file.size(), 65536};
  clean_log(log, 30560, 65536);
  EXPECT_TRUE(std::all_of(file.begin(), file.begin() + 65536, [](std::byte b) { return b == std::byte{}; }));
}

}  // namespace
}  // namespace thalweg::shm
