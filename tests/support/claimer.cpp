// Claims room in a publication and stands still in the middle of it, until somebody kills it: claimer DIRECTORY CHANNEL STREAM.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <thread>

#include "dataplane/client/thalweg.hpp"

int main(int argc, char** argv) {
  using namespace thalweg::client;
  if (argc != 4) return 2;
  Context context;
  context.directory = argv[1];
  auto client = Client::connect(context);
  if (!client) return std::fprintf(stderr, "%s\n", client.error().message.c_str()), 1;
  const auto publication = client->add_publication(argv[2], std::atoi(argv[3]));
  if (!publication) return std::fprintf(stderr, "%s\n", publication.error().message.c_str()), 1;
  BufferClaim claim;
  while (!publication->try_claim(1'000, claim)) std::this_thread::yield();   // connected soon
  std::puts("claimed");
  std::fflush(stdout);
  for (;;) ::pause();
}
