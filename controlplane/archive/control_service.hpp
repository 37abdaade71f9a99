#pragma once
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "controlplane/api/records.hpp"
#include "controlplane/archive/settings.hpp"
#include "dataplane/client/archive_protocol.hpp"
#include "dataplane/client/client.hpp"
#include "dataplane/client/fragment_assembler.hpp"

namespace thalweg::archive {

// What clients of the archive say on its control channels, and its answers on theirs. It ends what it knows of a client when that client's stream ends. The
// archive's thread. Spec: archive-log 16.4; docs/reference/archive-control.md.
class ControlService {
 public:
  using Message = client::archive_protocol::Message;
  using Answer = std::function<void(Result<api::Json>)>;
  struct Hands {
    std::function<void(const std::string& verb, const api::Json& args, Answer)> run;  // the verbs of the control socket; may answer later, on another thread
    std::function<std::vector<Message>(const Message& request)> list;                 // kRecording messages: what a list, find or position request asks for
  };
  ControlService(const Settings& settings, EventSink events) : settings_{settings}, events_{std::move(events)} {}

  void attach(client::Client& client);
  void detach();
  // One turn; returns the work done.
  int work(const Hands& hands);
  [[nodiscard]] std::size_t client_count() const noexcept { return sessions_.size(); }

 private:
  struct Listener {
    std::optional<client::RegistrationId> wanted;
    client::Subscription subscription;
    client::MessageBuilder builder;
  };
  // A client that said kConnect.
  struct Session {
    std::int64_t image{};       // correlation id of its stream
    std::optional<client::RegistrationId> wanted;
    client::ExclusivePublication publication;
    std::int64_t deadline_ns{};                   // it listens until then, or is given up
    std::deque<std::vector<std::byte>> answers;
  };
  // Answers that come later than their turn, from any thread.
  struct Outbox {
    std::mutex mutex;
    std::vector<std::pair<std::int64_t, Message>> messages;
  };
  void listen(const std::string& channel);
  void take(const Hands& hands, std::span<const std::byte> bytes, const client::Header& header);
  void connect(const Message& request, std::int64_t image);
  void handle(const Hands& hands, const Message& request, std::int64_t image);
  void answer(std::int64_t image, const Message& message);
  [[nodiscard]] int send();
  [[nodiscard]] bool serve(Session& session);

  const Settings& settings_;
  EventSink events_;
  client::Client* client_{};
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::vector<std::unique_ptr<Session>> sessions_;
  std::shared_ptr<Outbox> outbox_{std::make_shared<Outbox>()};
};

// The verb of the control socket that a request stands for, and its arguments; "": none.
[[nodiscard]] std::string verb_of(const ControlService::Message& request, api::Json& args);

}  // namespace thalweg::archive
