#include "dataplane/client/archive_connection.hpp"

#include "dataplane/base/time.hpp"
#include "dataplane/client/channel_uri.hpp"

namespace thalweg::client {

using archive_protocol::Kind;
using archive_protocol::Message;

namespace {
constexpr int kFragments = 64;
}  // namespace

ArchiveConnection::ArchiveConnection(Client& client, ArchiveClient::Options options)
    : client_{&client}, options_{std::move(options)}, deadline_ns_{monotonic_ns() + options_.timeout.count()} {}

Result<bool> ArchiveConnection::work() {
  static_cast<void>(client_->do_work());
  if (step_ == Step::kReady) {
    poll();
    if (is_closed()) return fail(ErrorCode::kClosed, "the archive is gone");
    return true;
  }
  Step before = step_;
  do {
    before = step_;
    if (auto done = step(); !done) return tl::unexpected{std::move(done.error())};
  } while (step_ != before && step_ != Step::kReady);
  if (step_ != Step::kReady && monotonic_ns() > deadline_ns_) return too_late();
  return step_ == Step::kReady;
}

tl::unexpected<Error> ArchiveConnection::too_late() const {
  if (step_ == Step::kPort) return fail(ErrorCode::kTimeout, options_.response_channel + ": its port is not known");
  if (step_ == Step::kGreeted) return fail(ErrorCode::kTimeout, "the archive does not answer");
  if (step_ != Step::kConnected) return fail(ErrorCode::kTimeout, "the media driver does not answer");
  return fail(ErrorCode::kUnreachable, "no archive listens on " + options_.control_channel + " stream " + std::to_string(options_.control_stream),
              "the appliance needs archive.directory, and archive.remote-control-channel for clients of another driver");
}

Result<void> ArchiveConnection::step() {
  switch (step_) {
    case Step::kSession: return ask_session();
    case Step::kAnswers: return listen();
    case Step::kPort:
      if (auto resolved = answers_.try_resolve_channel_endpoint_port()) {
        resolved_ = std::move(*resolved);
        step_ = Step::kRequests;
      }
      return {};
    case Step::kRequests: return open_requests();
    case Step::kConnected:
      if (requests_.is_closed()) return fail(ErrorCode::kClosed, "the media driver closed the way to the archive");
      return requests_.is_connected() ? greet() : Result<void>{};
    case Step::kGreeted: {
      const auto answer = look_for(hello_);
      if (!answer) return tl::unexpected{answer.error()};
      if (!*answer) return {};
      forget(hello_);
      step_ = Step::kReady;
      return {};
    }
    case Step::kReady: return {};
  }
  return {};
}

Result<void> ArchiveConnection::ask_session() {
  if (!wanted_) {
    auto wanted = client_->async_next_available_session_id(options_.response_stream);
    if (!wanted) return tl::unexpected{std::move(wanted.error())};
    wanted_ = *wanted;
  }
  const auto found = client_->find_next_available_session_id(*wanted_);
  if (!found) return tl::unexpected{found.error()};
  if (!*found) return {};
  wanted_.reset();
  session_id_ = **found;
  step_ = Step::kAnswers;
  return {};
}

Result<void> ArchiveConnection::listen() {
  if (!wanted_) {
    const auto channel = with_session_id(options_.response_channel, session_id_);
    if (!channel) return tl::unexpected{channel.error()};
    auto wanted = client_->async_add_subscription(*channel, options_.response_stream);
    if (!wanted) return tl::unexpected{std::move(wanted.error())};
    wanted_ = *wanted;
  }
  auto found = client_->find_subscription(*wanted_);
  if (!found) return tl::unexpected{std::move(found.error())};
  if (!*found) return {};
  wanted_.reset();
  answers_ = std::move(**found);
  step_ = Step::kPort;
  return {};
}

Result<void> ArchiveConnection::open_requests() {
  if (!wanted_) {
    auto wanted = client_->async_add_exclusive_publication(options_.control_channel, options_.control_stream);
    if (!wanted) return tl::unexpected{std::move(wanted.error())};
    wanted_ = *wanted;
  }
  auto found = client_->find_exclusive_publication(*wanted_);
  if (!found) return tl::unexpected{std::move(found.error())};
  if (!*found) return {};
  wanted_.reset();
  requests_ = std::move(**found);
  step_ = Step::kConnected;
  return {};
}

Result<void> ArchiveConnection::greet() {
  const auto sent = try_send({.kind = Kind::kConnect, .correlation_id = 0, .numbers = {options_.response_stream}, .texts = {resolved_}});
  if (!sent) return tl::unexpected{sent.error()};
  if (!*sent) return {};
  hello_ = **sent;
  step_ = Step::kGreeted;
  return {};
}

Result<std::optional<std::int64_t>> ArchiveConnection::try_send(Message request) {
  request.correlation_id = next_id_;
  const auto bytes = archive_protocol::encode(request);
  if (bytes.size() > archive_protocol::kMessageBytesMax) return fail(ErrorCode::kInvalidArgument, "a request of " + std::to_string(bytes.size()) + " bytes is too long");
  const OfferResult result = requests_.offer(bytes);
  if (!result && result.is_retryable() && result.status() != OfferStatus::kNotConnected) return std::nullopt;
  if (!result) return fail(ErrorCode::kClosed, std::string{"the archive takes no requests: "} + to_string(result.status()));
  ++next_id_;
  arrived_[request.correlation_id];
  return request.correlation_id;
}

int ArchiveConnection::poll() {
  int messages = 0;
  answers_.poll(
      [this, &messages](std::span<const std::byte> payload, const Header& header) {
        const auto whole = builder_.add(payload, header);
        if (!whole) return;
        auto message = archive_protocol::decode(*whole);
        if (!message) return;  // nothing that we could answer
        ++messages;
        if (message->kind == Kind::kEvent) {
          if (on_event_) on_event_(*message);
          return;
        }
        const auto waiting = arrived_.find(message->correlation_id);
        if (waiting != arrived_.end()) waiting->second.push_back(std::move(*message));
      },
      kFragments);
  return messages;
}

Result<std::optional<Message>> ArchiveConnection::look_for(std::int64_t correlation_id) {
  static_cast<void>(client_->do_work());
  poll();
  const auto found = arrived_.find(correlation_id);
  if (found == arrived_.end()) return fail(ErrorCode::kNotFound, "no such request");
  if (!found->second.empty() && (found->second.back().kind == Kind::kOk || found->second.back().kind == Kind::kError)) {
    Message answer = std::move(found->second.back());
    if (answer.kind == Kind::kOk) return std::optional<Message>{std::move(answer)};
    arrived_.erase(found);
    return fail(static_cast<ErrorCode>(answer.number(0, static_cast<std::int64_t>(ErrorCode::kGeneric))), answer.text(0), answer.text(1));
  }
  if (is_closed()) {
    arrived_.erase(found);
    return fail(ErrorCode::kClosed, "the archive is gone");
  }
  return std::nullopt;
}

}  // namespace thalweg::client
