#include <fmt/format.h>

#include "controlplane/conductor/command_handlers.hpp"
#include "controlplane/conductor/resolution.hpp"

namespace thalweg::conductor {
namespace {

using shm::ClientError;

// The rules for addresses of publications (client-protocol 6.6); whatever needs a later release is said so.
Outcome<void> check_addresses(const UdpChannel& channel) {
  const bool has_destinations = channel.control_mode == ControlMode::kDynamic || channel.control_mode == ControlMode::kManual;
  if (has_destinations) return {};   // they come by themselves or by command; an endpoint has no say (5.5)
  if (is_response(channel)) return {};  // whoever is answered says where to (5.9)
  if (channel.endpoint && channel.endpoint->port == 0) return refuse_channel("endpoint port 0 is not allowed on a publication: channel=" + channel.uri);
  if (channel.control && !channel.endpoint) return refuse_channel("control without endpoint needs a control-mode: channel=" + channel.uri);
  return {};
}

// ADD_PUBLICATION and ADD_EXCLUSIVE_PUBLICATION, from the URI to READY.
class AddPublicationOperation final : public Operation {
 public:
  AddPublicationOperation(Services& services, const shm::AddPublication& command, bool is_exclusive) : services_{&services} {
    request_.client_id = command.client_id;
    request_.registration_id = command.correlation_id;
    request_.stream_id = command.stream_id;
    request_.is_exclusive = is_exclusive;
    request_.uri = std::string{command.channel};
  }

  bool step() override {
    auto outcome = advance();
    if (outcome) return *outcome;
    if (holds_endpoint_) services_->endpoints.release(request_.endpoint);
    answer_error(services_->world, request_.registration_id, outcome.error());
    return true;
  }

 private:
  enum class Phase : std::uint8_t { kParse, kResolve, kEndpoint, kStream, kLane };

  // True: answered with READY. Each phase falls through to the next as far as it can go.
  Outcome<bool> advance() {
    World& world = services_->world;
    if (phase_ == Phase::kParse) {
      if (auto parsed = parse(); !parsed) return tl::unexpected{parsed.error()};
      phase_ = request_.is_ipc ? Phase::kStream : Phase::kResolve;
    }
    if (phase_ == Phase::kResolve) {
      const auto resolved = resolution_.poll(world, request_.channel);
      if (!resolved || !*resolved) return resolved;
      if (auto taken = take_endpoint(); !taken) return tl::unexpected{taken.error()};
      phase_ = Phase::kEndpoint;
    }
    if (phase_ == Phase::kEndpoint) {
      if (services_->endpoints.status(request_.endpoint) == Status::kFailed) return tl::unexpected{services_->endpoints.error(request_.endpoint)};
      if (services_->endpoints.status(request_.endpoint) != Status::kActive) return false;
      phase_ = Phase::kStream;
    }
    if (phase_ == Phase::kStream) {
      if (!world.is_data_plane_active()) return false;
      if (auto added = add_stream(); !added) return tl::unexpected{added.error()};
      phase_ = Phase::kLane;
    }
    return await_lane();
  }

  Outcome<void> parse() {
    auto uri = shm::ChannelUri::parse(request_.uri);
    if (!uri) return tl::unexpected{to_command_error(uri.error())};
    uri_ = std::move(*uri);
    if (uri_.is_spy()) return refuse_channel("a spy cannot publish: channel=" + request_.uri);
    request_.is_ipc = uri_.media() == shm::ChannelUri::Media::kIpc;
    if (request_.is_ipc) {
      request_.channel = parse_ipc_channel(uri_);
      return parse_params();
    }
    auto channel = parse_udp_channel(uri_);
    if (!channel) return tl::unexpected{channel.error()};
    request_.channel = std::move(*channel);
    if (auto check = check_addresses(request_.channel); !check) return check;
    return parse_params();
  }

  Outcome<void> parse_params() {
    auto params = parse_publication_params(uri_, services_->world.settings.streams, has_group_semantics(request_.channel));
    if (!params) return tl::unexpected{params.error()};
    request_.params = std::move(*params);
    return {};
  }

  Outcome<void> take_endpoint() {
    // Whether it is a group is known only now, and flow control depends on it.
    if (auto params = parse_params(); !params) return params;
    auto endpoint = services_->endpoints.acquire({.kind = shm::EndpointKind::kSend,
                                                  .channel = &request_.channel,
                                                  .registration_id = request_.registration_id,
                                                  .socket_sndbuf = request_.params.socket_sndbuf,
                                                  .socket_rcvbuf = request_.params.socket_rcvbuf});
    if (!endpoint) return tl::unexpected{endpoint.error()};
    request_.endpoint = *endpoint;
    holds_endpoint_ = true;
    return {};
  }

  Outcome<void> add_stream() {
    if (auto settled = services_->publications.settle_session_tag(request_); !settled) return settled;
    if (request_.params.session_tag) {
      if (auto sizes = check_sizes(request_.params, uri_, services_->world.settings.streams); !sizes) return sizes;
    }
    if (auto responds = services_->responses.check(request_); !responds) return responds;
    bool used_endpoint = false;
    const auto publication = services_->publications.add(request_, used_endpoint);
    if (!publication) return tl::unexpected{publication.error()};
    publication_ = *publication;
    if (holds_endpoint_ && !used_endpoint) services_->endpoints.release(request_.endpoint);
    holds_endpoint_ = false;
    return {};
  }

  Outcome<bool> await_lane() {
    PublicationTable& publications = services_->publications;
    if (publications.find(request_.client_id, request_.registration_id) != publication_) {
      return refuse(ClientError::kGeneric, fmt::format("client_id={} ended while its publication was made", request_.client_id));
    }
    if (publications.status(publication_) == Status::kStarting) return false;
    Outcome<void> outcome;
    if (publications.status(publication_) == Status::kFailed) {
      outcome = tl::unexpected{publications.error(publication_)};
    } else if (auto client = services_->clients.ensure(request_.client_id); !client) {
      outcome = tl::unexpected{client.error()};
    }
    if (!outcome) {
      static_cast<void>(publications.remove(request_.client_id, request_.registration_id, false));  // it was found above
      return tl::unexpected{outcome.error()};
    }
    services_->responses.publication_ready(publication_);
    publications.announce_ready(publication_, request_.registration_id, request_.is_exclusive);
    publications.link_subscriptions(publication_);
    return true;
  }

  Services* services_;
  PublicationTable::Request request_;
  shm::ChannelUri uri_;
  Resolution resolution_;
  Phase phase_{Phase::kParse};
  bool holds_endpoint_{false};
  std::uint32_t publication_{shm::kNoSlot};
};

}  // namespace

OperationPtr add_publication(Services& services, const shm::AddPublication& command, bool is_exclusive) {
  auto operation = std::make_unique<AddPublicationOperation>(services, command, is_exclusive);
  if (operation->step()) return nullptr;
  return operation;
}

void remove_publication(Services& services, const shm::RemovePublication& command) {
  const auto removed = services.publications.remove(command.client_id, command.registration_id, command.revoke);
  if (!removed && !services.is_replayed) return answer_error(services.world, command.correlation_id, removed.error());
  services.world.clients_out.success(command.correlation_id);
}

void reject_image(Services& services, const shm::RejectImage& command) {
  constexpr std::size_t kReasonMax = 1023;
  const auto refuse_it = [&](std::string text) { answer_error(services.world, command.correlation_id, {ClientError::kGeneric, std::move(text)}); };
  if (command.reason.size() > kReasonMax) return refuse_it(fmt::format("reject reason of {} bytes is longer than {}", command.reason.size(), kReasonMax));
  const std::uint32_t image = services.images.find(command.image_correlation_id);
  const std::uint32_t publication = image == shm::kNoSlot ? services.publications.find(std::nullopt, command.image_correlation_id) : shm::kNoSlot;
  const bool is_ipc_image = publication != shm::kNoSlot && services.world.publications.record(publication).is_ipc;
  if (image == shm::kNoSlot && !is_ipc_image) return refuse_it(fmt::format("unknown image correlation_id={}", command.image_correlation_id));
  services.world.system(shm::SystemCounter::kImagesRejected).add(1);
  if (is_ipc_image) {
    services.publications.reject(publication, command.reason);
  } else if (const auto rejected = services.images.reject(image, command.reason); !rejected) {
    return answer_error(services.world, command.correlation_id, rejected.error());
  }
  services.world.clients_out.success(command.correlation_id);
}

}  // namespace thalweg::conductor
