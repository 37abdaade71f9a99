#include "dataplane/client/cnc.hpp"

#include "dataplane/base/time.hpp"
#include "dataplane/shm/commands.hpp"
#include "dataplane/shm/ring_buffer.hpp"

namespace thalweg::client {
namespace {
constexpr auto kDriverTimeout = std::chrono::seconds{10};  // 9.1

bool is_alive(const shm::CncFile& file, std::chrono::milliseconds timeout, std::int64_t now_ms) noexcept {
  const std::int64_t heartbeat_ms = shm::ManyToOneRing{file.to_driver()}.consumer_heartbeat();
  return heartbeat_ms > 0 && now_ms - heartbeat_ms <= timeout.count();
}
}  // namespace

Result<Cnc> Cnc::open(std::string directory) {
  if (directory.empty()) directory = shm::default_directory();
  auto file = shm::CncFile::open(directory, shm::MappedFile::Access::kReadOnly);
  if (!file) return tl::unexpected<Error>{std::move(file.error())};
  Cnc cnc;
  cnc.file_ = std::move(*file);
  // Some drivers have none, and a directory that is being removed has none any more.
  if (auto loss = shm::MappedFile::open(directory + "/loss-report.dat", shm::MappedFile::Access::kReadOnly)) cnc.loss_ = std::move(*loss);
  cnc.directory_ = std::move(directory);
  return cnc;
}

std::int64_t Cnc::heartbeat_ms() const noexcept { return shm::ManyToOneRing{file_.to_driver()}.consumer_heartbeat(); }

bool Cnc::is_driver_alive(std::chrono::milliseconds timeout, std::int64_t now_ms) const noexcept {
  return is_alive(file_, timeout, now_ms != 0 ? now_ms : epoch_ms());
}

std::int64_t Cnc::command_backlog() const noexcept {
  const shm::ManyToOneRing ring{file_.to_driver()};
  const std::int64_t head = ring.consumer_position();  // first: it never overtakes the tail
  return ring.producer_position() - head;
}

Result<bool> is_driver_active(const std::string& directory, std::chrono::milliseconds timeout) {
  const auto activity = shm::check_driver_active(directory, timeout.count(), epoch_ms());
  if (!activity) return tl::unexpected<Error>{activity.error()};
  return *activity == shm::DriverActivity::kActive;
}

Result<> request_driver_termination(const std::string& directory, std::span<const std::byte> token) {
  auto file = shm::CncFile::open(directory, shm::MappedFile::Access::kReadWrite);
  if (!file) return tl::unexpected<Error>{std::move(file.error())};
  if (!is_alive(*file, kDriverTimeout, epoch_ms())) return fail(ErrorCode::kUnreachable, "no media driver is alive in " + directory);
  shm::ManyToOneRing ring{file->to_driver()};
  shm::TerminateDriver command;
  command.client_id = ring.next_correlation_id();
  command.correlation_id = -1;  // 6.2
  command.token = token;
  shm::Buffer message;
  shm::encode(message, command);
  if (message.size() > ring.max_message_length()) return fail(ErrorCode::kInvalidArgument, "the token is longer than a command may be");
  if (!ring.write(static_cast<std::int32_t>(shm::Command::kTerminateDriver), message)) {
    return fail(ErrorCode::kUnreachable, "the media driver in " + directory + " reads no commands");
  }
  return {};
}

}  // namespace thalweg::client
