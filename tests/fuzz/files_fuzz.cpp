// Opening what others left on disk: cnc.dat, registry.dat and a log file, cut to any length and with any header.
#include <fcntl.h>

#include <fstream>
#include <string>

#include "dataplane/client/detail/mapped_log.hpp"
#include "dataplane/shm/cnc.hpp"
#include "dataplane/shm/registry.hpp"
#include "tests/fuzz/input.hpp"
#include "tests/support/temporary_directory.hpp"

namespace thalweg::fuzz {
namespace {
constexpr std::uint64_t kFileMax = 4 << 20;

// A sparse file of `length` bytes with `content` at `at`.
void write_file(const std::string& path, Bytes content, std::uint64_t at, std::uint64_t length) {
  ::unlink(path.c_str());
  const int fd = ::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  require(fd >= 0 && ::ftruncate(fd, static_cast<off_t>(length)) == 0, "the test can write files");
  const std::size_t fits = at >= length ? 0 : std::min<std::size_t>(content.size(), length - at);
  require(::pwrite(fd, content.data(), fits, static_cast<off_t>(at)) == static_cast<ssize_t>(fits), "the test can write files");
  ::close(fd);
}

void touch(std::span<std::byte> section) {
  if (section.empty()) return;
  section.front() = section.back();
}

void open_cnc(Input& in, const std::string& directory) {
  const auto length = in.take<std::uint32_t>() % kFileMax;
  write_file(directory + "/cnc.dat", in.rest(), 0, length);
  static_cast<void>(shm::check_driver_active(directory, 0, 1000));
  for (const bool must_be_ready : {true, false}) {
    auto cnc = shm::CncFile::open(directory, shm::MappedFile::Access::kReadWrite, must_be_ready);
    if (!cnc) continue;
    touch(cnc->to_driver());
    touch(cnc->to_clients());
    touch(cnc->counter_metadata());
    touch(cnc->counter_values());
    touch(cnc->error_log());
    static_cast<void>(cnc->pid() ^ cnc->start_ms() ^ cnc->version());
  }
}

void open_registry(Input& in, const std::string& directory) {
  const std::uint64_t length = in.flag() ? sizeof(shm::Registry) : in.take<std::uint32_t>() % kFileMax;
  write_file(directory + "/registry.dat", in.rest(), 0, length);
  auto registry = shm::RegistryFile::open(directory);
  if (registry) require((*registry)->header.magic == shm::kRegistryMagic, "an accepted registry is one");
}

void open_log(Input& in, const std::string& directory) {
  const std::uint64_t length = in.take<std::uint32_t>() % kFileMax;
  const Bytes metadata = in.rest();
  write_file(directory + "/a.logbuffer", metadata, length < shm::kLogMetadataLength ? 0 : length - shm::kLogMetadataLength, length);
  auto log = client::detail::MappedLog::open(directory + "/a.logbuffer", false);
  if (!log) return;
  const auto& l = **log;
  touch({l.log.term(0), static_cast<std::size_t>(l.term_length)});
  touch({l.log.term(2), static_cast<std::size_t>(l.term_length)});
  static_cast<void>(shm::producer_position(l.log, l.initial_term_id));
  require(l.max_payload_length > 0 && l.max_message_length > 0 && l.max_message_length <= l.term_length / 8, "lengths of a log are sensible");
}
}  // namespace

void run(Bytes input) {
  const test::TemporaryDirectory directory{"fuzz"};
  Input in{input};
  switch (in.choice(3)) {
    case 0: return open_cnc(in, directory.path());
    case 1: return open_registry(in, directory.path());
    default: return open_log(in, directory.path());
  }
}

}  // namespace thalweg::fuzz
