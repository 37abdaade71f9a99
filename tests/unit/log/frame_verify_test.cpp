// Verification finds and names every planted fault, with the file and the offset. Issue "one durable log": bad input.
#include "controlplane/log/frame_verify.hpp"

#include <cctype>
#include <functional>

#include "tests/unit/log/frame_fixture.hpp"

namespace thalweg::log {
namespace {

constexpr std::uint64_t kTerm = kStream.term_bytes;

// Three closed segments and one that ends in its middle.
class FrameVerifyTest : public testing::Test {
 public:
  void SetUp() override {
    auto log = FrameLog::open(files, clock, kDirectory, frame_options());
    ASSERT_TRUE(log) << log.error().message;
    FrameSource source;
    while (source.position() < 3 * kTerm + 20'000) ASSERT_TRUE((*log)->append(source.next(100)));
    stop = source.position();
    ASSERT_TRUE((*log)->sync());
    ASSERT_TRUE((*log)->close());
    ASSERT_EQ(findings(), "");
  }
  // "file@offset: what" of each, in lines; or the error.
  std::string findings() {
    const auto verified = verify_frame_log(files, kDirectory, {.log_id = 5, .stream = kStream, .segment_bytes = kSegmentBytesMin, .start_position = 0, .stop_position = stop});
    if (!verified) return "error " + verified.error().message;
    std::string text;
    for (const auto& finding : verified->findings) text += finding.path.substr(finding.path.rfind('/') + 1) + "@" + std::to_string(finding.offset) + ": " + finding.what + "\n";
    return text;
  }
  static std::string path_of(std::uint64_t ordinal) { return std::string{kDirectory} + "/" + segment_name(ordinal); }
  void change(std::uint64_t ordinal, const std::function<void(std::vector<std::byte>&)>& how) {
    auto bytes = files.content(path_of(ordinal));
    how(bytes);
    files.set_content(path_of(ordinal), bytes);
  }
  void flip(std::uint64_t ordinal, std::uint64_t offset) {
    change(ordinal, [offset](auto& bytes) { bytes[offset] ^= std::byte{0x40}; });
  }

  test::CrashFileSystem files{256U << 10};
  ManualClock clock;
  std::uint64_t stop{};
};

struct Fault {
  std::string name;
  std::function<void(FrameVerifyTest&)> plant;
  std::string found;  // part of the text
};
class Planted : public FrameVerifyTest, public testing::WithParamInterface<Fault> {};

TEST_P(Planted, fault_is_named) {
  GetParam().plant(*this);
  const std::string found = findings();
  EXPECT_NE(found.find(GetParam().found), std::string::npos) << found;
}

std::vector<Fault> faults() {
  return {
        Fault{"a payload", [](auto& t) { t.flip(1, kDataOffset + 9000); }, "segment-0000000001.tlg@16384: wrong checksum at position 73728"},
        Fault{"the length of a frame", [](auto& t) { t.flip(2, kDataOffset + 160); }, "segment-0000000002.tlg@8192: wrong checksum at position 131072"},
        Fault{"a mark's checksum", [](auto& t) { t.flip(1, kDataOffset + kTerm + 1); }, "segment-0000000001.tlg@"},
        Fault{"a frame of another stream, with its checksum made anew", [](auto& t) {
                auto opened = Segment::open(t.files, read_segment_info(t.files, kDirectory, 1).value(), OpenMode::kWrite).value();
                const FrameData frames = frame_data(*opened);
                store_le<std::int32_t>(frames.data.data() + 16, 9);
                store_mark(frames.marks[0], pack_mark(kMarkedBytes, frames.page_crc(0, kMarkedBytes)));
              }, "segment-0000000001.tlg@8192: frame of another session or stream at position 65536"},
        Fault{"the magic of a header", [](auto& t) { t.flip(1, 0); }, "segment-0000000001.tlg: segment header: bad magic at offset 0"},
        Fault{"another byte of a header", [](auto& t) { t.flip(1, 3000); }, "segment-0000000001.tlg: segment header: wrong checksum"},
        Fault{"a seal", [](auto& t) { t.flip(1, kSealOffset + 40); }, "segment-0000000001.tlg@4096: the seal is damaged"},
        Fault{"a seal of other numbers", [](auto& t) {
                t.change(1, [](auto& bytes) {
                  auto seal = decode_seal(std::span{bytes}.subspan(kSealOffset, kPageBytes), 1).value();
                  ++seal.summary.record_count;
                  const Page page = encode(seal);
                  std::copy(page.begin(), page.end(), bytes.begin() + kSealOffset);
                });
              }, "segment-0000000001.tlg@4136: the seal counts"},
        Fault{"a file that was cut off", [](auto& t) { t.change(1, [](auto& bytes) { bytes.resize(50'000); }); }, "segment-0000000001.tlg: only 50000 of "},
        Fault{"a file of nothing", [](auto& t) { t.files.set_content(FrameVerifyTest::path_of(1), {}); }, "segment-0000000001.tlg: segment header: file too short"},
        Fault{"a foreign file", [](auto& t) { t.change(1, [](auto& bytes) { std::fill(bytes.begin(), bytes.end(), std::byte{'?'}); }); }, "segment-0000000001.tlg: segment header: bad magic"},
        Fault{"a file of a newer version", [](auto& t) { t.change(1, [](auto& bytes) { bytes[8] = std::byte{2}; }); }, "error log/shard-0000/segment-0000000001.tlg: segment header: format version 2"},
        Fault{"the first file missing", [](auto& t) { static_cast<void>(t.files.remove(FrameVerifyTest::path_of(0))); }, "the recording's start position is 65536, the catalog says 0"},
        Fault{"a file missing in the middle", [](auto& t) { static_cast<void>(t.files.remove(FrameVerifyTest::path_of(1))); }, "segment-0000000002.tlg@40: begins with position 131072; 65536 and what is behind it is missing"},
        Fault{"the last file missing", [](auto& t) { static_cast<void>(t.files.remove(FrameVerifyTest::path_of(3))); }, "the recording's stop position is 196608, the catalog says "},
        Fault{"all files missing", [](auto& t) {
                for (std::uint64_t i = 0; i < 4; ++i) static_cast<void>(t.files.remove(FrameVerifyTest::path_of(i)));
              }, "there is no segment"},
        Fault{"a file twice", [](auto& t) { t.files.set_content(FrameVerifyTest::path_of(4), t.files.content(FrameVerifyTest::path_of(1))); },
              "segment-0000000004.tlg: segment header: ordinal 1 at offset 24 is another segment's"},
        Fault{"another recording's file", [](auto& t) {
                t.change(1, [](auto& bytes) {
                  auto header = decode_header(std::span{bytes}.first(kPageBytes), "").value();
                  header.log_id = 6;
                  const Page page = encode(header);
                  std::copy(page.begin(), page.end(), bytes.begin());
                });
              }, "segment-0000000001.tlg@72: segment header: is that of recording 6"},
        Fault{"records among frames", [](auto& t) {
                t.change(1, [](auto& bytes) {
                  auto header = decode_header(std::span{bytes}.first(kPageBytes), "").value();
                  header.kind = SegmentKind::kRecords;
                  const Page page = encode(header);
                  std::copy(page.begin(), page.end(), bytes.begin());
                });
              }, "segment-0000000001.tlg@12: segment header: holds records, not frames"},
        Fault{"bytes behind the last frame", [](auto& t) { t.flip(3, kDataOffset + 60'000); }, "segment-0000000003.tlg@"}};
}

std::string name_of(const testing::TestParamInfo<Fault>& fault) {
  std::string name = fault.param.name;
  for (char& c : name)
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  return name;
}

INSTANTIATE_TEST_SUITE_P(All, Planted, testing::ValuesIn(faults()), name_of);

TEST_F(FrameVerifyTest, several_faults_are_all_named) {
  flip(0, kDataOffset + 5000);
  flip(0, kDataOffset + 40'000);
  flip(2, kSealOffset + 100);
  flip(3, kDataOffset + 4100);
  const std::string found = findings();
  EXPECT_NE(found.find("segment-0000000000.tlg@12288"), std::string::npos) << found;
  EXPECT_NE(found.find("segment-0000000000.tlg@45056"), std::string::npos) << found;
  EXPECT_NE(found.find("segment-0000000002.tlg@4096"), std::string::npos) << found;
  EXPECT_NE(found.find("segment-0000000003.tlg@12288"), std::string::npos) << found;
}

// A clock that stepped is no fault, nor are files that are no part of the recording.
TEST_F(FrameVerifyTest, what_is_no_fault_is_not_named) {
  files.set_content(std::string{kDirectory} + "/" + std::string(200, 'n'), std::vector<std::byte>(10));
  files.set_content(temporary_path(kDirectory, 4), std::vector<std::byte>(10));
  EXPECT_EQ(findings(), "");
  clock.epoch -= 86'400 * kSecond_ns;
  auto log = FrameLog::open(files, clock, kDirectory, frame_options());
  ASSERT_TRUE(log);
  FrameSource source{(*log)->position()};
  for (int i = 0; i < 10; ++i) ASSERT_TRUE((*log)->append(source.next(100)));
  ASSERT_TRUE((*log)->sync());
  stop = source.position();
  EXPECT_EQ(findings(), "");
}

}  // namespace
}  // namespace thalweg::log
