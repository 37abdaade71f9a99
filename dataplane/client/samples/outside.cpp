// A driver from outside, without being its client: outside [directory]
#include <cstdio>

#include "dataplane/client/thalweg.hpp"

int main(int argc, char** argv) {
  const auto cnc = thalweg::client::Cnc::open(argc > 1 ? argv[1] : "");
  if (!cnc) return std::fprintf(stderr, "%s\n", cnc.error().message.c_str()), 1;
  std::printf("driver %lld in %s is %s\n", static_cast<long long>(cnc->pid()), cnc->directory().c_str(), cnc->is_driver_alive() ? "alive" : "not alive");
  cnc->counters().for_each([](const thalweg::client::CountersReader::View& view) {
    std::printf("%5d: %20lld - %.*s\n", view.id, static_cast<long long>(view.value), static_cast<int>(view.label.size()), view.label.data());
  });
  cnc->for_each_error([](const thalweg::shm::ErrorLogEntry& error) {
    std::printf("%d x %.*s\n", error.observation_count, static_cast<int>(error.text.size()), error.text.data());
  });
  cnc->for_each_loss([](const thalweg::shm::LossReportEntry& loss) {
    std::printf("%lld bytes lost of session %d, stream %d\n", static_cast<long long>(loss.bytes_lost), loss.session_id, loss.stream_id);
  });
  return 0;
}
