#pragma once
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/client/archive_client.hpp"
#include "dataplane/client/archive_protocol.hpp"
#include "dataplane/client/fragment_assembler.hpp"

namespace thalweg::client {

// A way to an archive and back that never waits: what ArchiveClient and the archive's replications stand on. One thread. Must not outlive its Client. Internal to
// libthalweg and the archive. docs/reference/archive-control.md.
class ArchiveConnection {
 public:
  using Message = archive_protocol::Message;
  ArchiveConnection(Client& client, ArchiveClient::Options options);

  // Takes what came and does the next step of connecting. True: the archive has answered, requests may be sent. Errors end it: kUnreachable (no archive listens there
  // within Options::timeout), kTimeout, kClosed, those of the driver.
  [[nodiscard]] Result<bool> work();
  // Sends a request; answers its correlation id, nullopt: there is no room now. Precondition: work() has answered true. Errors: kInvalidArgument (too long), kClosed.
  [[nodiscard]] Result<std::optional<std::int64_t>> try_send(Message request);
  // Takes what came, and looks for the answer that ends a request. Errors: those of the archive, kClosed, kNotFound (no such request).
  [[nodiscard]] Result<std::optional<Message>> look_for(std::int64_t correlation_id);
  // What came before that answer and belongs to it.
  [[nodiscard]] const std::vector<Message>& arrived(std::int64_t correlation_id) { return arrived_[correlation_id]; }
  void forget(std::int64_t correlation_id) { arrived_.erase(correlation_id); }
  // Takes the messages of a request that go on coming behind its answer.
  void set_event_handler(std::function<void(const Message&)> handler) { on_event_ = std::move(handler); }
  // Takes what came; how many messages.
  int poll();

  // The archive is gone, or its driver, or ours.
  [[nodiscard]] bool is_closed() const noexcept { return requests_.is_closed() || !requests_.is_connected(); }
  [[nodiscard]] Client& client() const noexcept { return *client_; }
  [[nodiscard]] const ArchiveClient::Options& options() const noexcept { return options_; }

 private:
  enum class Step : std::uint8_t { kSession, kAnswers, kPort, kRequests, kConnected, kGreeted, kReady };
  [[nodiscard]] Result<void> step();
  [[nodiscard]] Result<void> ask_session();
  [[nodiscard]] Result<void> listen();
  [[nodiscard]] Result<void> open_requests();
  [[nodiscard]] Result<void> greet();
  [[nodiscard]] tl::unexpected<Error> too_late() const;

  Client* client_;
  ArchiveClient::Options options_;
  Step step_{Step::kSession};
  std::int64_t deadline_ns_;
  std::optional<RegistrationId> wanted_;
  std::int32_t session_id_{};
  std::string resolved_;                                  // where we listen
  std::int64_t hello_{};
  ExclusivePublication requests_;
  Subscription answers_;
  MessageBuilder builder_;
  std::function<void(const Message&)> on_event_;
  std::int64_t next_id_{1};
  std::map<std::int64_t, std::vector<Message>> arrived_;  // by request
};

}  // namespace thalweg::client
