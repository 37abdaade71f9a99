// What clients leave that die in the middle of a command, in the to-driver ring of a directory (client-protocol 3.3):
//   wrecker DIRECTORY tail|length|body|lap   claims room for a command, writes so much of it, says "claimed" and stands still until somebody kills it
//   wrecker DIRECTORY fill                   writes commands until there is no room, says how many, and ends
// `lap` first writes commands up to the last bytes before the buffer's end: the claim is of that end, too, and nothing of it is written.
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <thread>

#include "dataplane/base/bytes.hpp"
#include "dataplane/shm/cnc.hpp"
#include "dataplane/shm/commands.hpp"
#include "dataplane/shm/ring_buffer.hpp"

namespace {

using namespace thalweg;

constexpr std::size_t kTailOffset = 128;   // of the trailer (client-protocol 3.1)
constexpr std::int64_t kRecord = 64;       // bytes of the claim

// A keepalive of a client that nobody knows changes nothing.
bool write_command(shm::ManyToOneRing& ring) {
  shm::Buffer message;
  shm::encode(message, shm::ClientCommand{{-4711, 0}});
  return ring.write(static_cast<std::int32_t>(shm::Command::kClientKeepalive), message);
}

class Ring {
 public:
  explicit Ring(std::span<std::byte> section) : section_{section}, ring_{section}, capacity_{section.size() - shm::kRingTrailerLength} {}

  int fill() {
    int count = 0;
    while (write_command(ring_)) ++count;
    return count;
  }
  void go_to_last_bytes() {
    while (capacity_ - index_of(ring_.producer_position()) >= static_cast<std::size_t>(kRecord)) {
      while (!write_command(ring_)) std::this_thread::yield();
    }
  }
  void claim(std::string_view how) {
    std::atomic_ref<std::int64_t> tail{*reinterpret_cast<std::int64_t*>(section_.data() + capacity_ + kTailOffset)};
    std::int64_t at = tail.load();
    std::int64_t bytes = kRecord;
    do {
      const auto to_end = static_cast<std::int64_t>(capacity_ - index_of(at));
      bytes = kRecord + (to_end < kRecord ? to_end : 0);
    } while (!tail.compare_exchange_strong(at, at + bytes));
    if (how == "tail" || how == "lap" || bytes != kRecord) return;
    std::byte* const record = section_.data() + index_of(at);
    std::atomic_ref<std::int32_t>{*reinterpret_cast<std::int32_t*>(record)}.store(-static_cast<std::int32_t>(kRecord - 4), std::memory_order_release);
    if (how == "body") std::memset(record + 4, 0x5A, static_cast<std::size_t>(kRecord) / 2);
  }

 private:
  [[nodiscard]] std::size_t index_of(std::int64_t position) const { return static_cast<std::size_t>(position) & (capacity_ - 1); }
  std::span<std::byte> section_;
  shm::ManyToOneRing ring_;
  std::size_t capacity_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  auto cnc = shm::CncFile::open(argv[1], shm::MappedFile::Access::kReadWrite);
  if (!cnc) return std::fprintf(stderr, "%s\n", cnc.error().message.c_str()), 1;
  Ring ring{cnc->to_driver()};
  const std::string_view how = argv[2];
  if (how == "fill") return std::printf("%d\n", ring.fill()), 0;
  if (how == "lap") ring.go_to_last_bytes();
  ring.claim(how);
  std::puts("claimed");
  std::fflush(stdout);
  for (;;) ::pause();
}
