#include "tests/support/recorded.hpp"

#include <zlib.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>

namespace thalweg::test {
namespace {

constexpr std::size_t kFileHeaderLength = 24;
constexpr std::size_t kRecordHeaderLength = 16;
constexpr std::uint32_t kMicroseconds = 0xA1B2C3D4;
constexpr std::uint32_t kNanoseconds = 0xA1B23C4D;
constexpr std::uint32_t kLinkTypeEthernet = 1;

std::uint32_t word_at(const std::string& bytes, std::size_t offset) {
  if (offset + 4 > bytes.size()) throw std::runtime_error{"pcap file ends early"};
  std::uint32_t word = 0;
  std::memcpy(&word, bytes.data() + offset, sizeof word);
  return word;
}

}  // namespace

std::string data_path(const std::string& name) {
  const char* const folder = std::getenv("THALWEG_TEST_DATA");
  return std::string{folder != nullptr ? folder : THALWEG_TEST_DATA_DEFAULT} + "/" + name;
}

std::vector<RecordedFrame> read_pcap(const std::string& path) {
  std::ifstream file{path, std::ios::binary};
  const std::string bytes{std::istreambuf_iterator<char>{file}, {}};
  const std::uint32_t magic = word_at(bytes, 0);
  if (magic != kMicroseconds && magic != kNanoseconds) throw std::runtime_error{path + " is not a little-endian pcap file"};
  if (word_at(bytes, 20) != kLinkTypeEthernet) throw std::runtime_error{path + " is not of link type Ethernet"};
  const std::int64_t fraction_ns = magic == kNanoseconds ? 1 : 1000;
  std::vector<RecordedFrame> frames;
  for (std::size_t at = kFileHeaderLength; at < bytes.size();) {
    const std::uint32_t length = word_at(bytes, at + 8);
    if (length != word_at(bytes, at + 12)) throw std::runtime_error{path + " holds packets that were cut"};
    const std::size_t begin = at + kRecordHeaderLength;
    if (begin + length > bytes.size()) throw std::runtime_error{path + " ends early"};
    const auto* const p = reinterpret_cast<const std::byte*>(bytes.data() + begin);
    frames.push_back({word_at(bytes, at) * std::int64_t{1'000'000'000} + word_at(bytes, at + 4) * fraction_ns, {p, p + length}});
    at = begin + length;
  }
  return frames;
}

std::vector<std::string> recorded_pcaps() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator{data_path("")}) {
    if (entry.path().extension() == ".pcap") names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

ByteVector read_gzip(const std::string& path) {
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file{gzopen(path.c_str(), "rb"), gzclose};
  if (!file) throw std::runtime_error{"cannot open " + path};
  ByteVector bytes;
  constexpr unsigned kChunk = 1U << 20;
  for (;;) {
    const std::size_t at = bytes.size();
    bytes.resize(at + kChunk);
    const int n = gzread(file.get(), bytes.data() + at, kChunk);
    if (n < 0) throw std::runtime_error{"cannot unpack " + path};
    bytes.resize(at + static_cast<std::size_t>(n));
    if (n == 0) return bytes;
  }
}

}  // namespace thalweg::test
