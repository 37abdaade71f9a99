// Asks the driver of a directory to stop, as a stock client does: terminator DIRECTORY [TOKEN] (client-protocol 6.4).
#include <cstdio>
#include <string_view>

#include "dataplane/shm/cnc.hpp"
#include "dataplane/shm/commands.hpp"
#include "dataplane/shm/ring_buffer.hpp"

int main(int argc, char** argv) {
  using namespace thalweg;
  if (argc < 2 || argc > 3) return 2;
  auto cnc = shm::CncFile::open(argv[1], shm::MappedFile::Access::kReadWrite);
  if (!cnc) return std::fprintf(stderr, "%s\n", cnc.error().message.c_str()), 1;
  shm::ManyToOneRing ring{cnc->to_driver()};
  const std::string_view token = argc == 3 ? argv[2] : "";
  shm::TerminateDriver command;
  command.client_id = ring.next_correlation_id();
  command.correlation_id = ring.next_correlation_id();
  command.token = {reinterpret_cast<const std::byte*>(token.data()), token.size()};
  shm::Buffer message;
  shm::encode(message, command);
  return ring.write(static_cast<std::int32_t>(shm::Command::kTerminateDriver), message) ? 0 : 1;
}
