#pragma once
#include "controlplane/conductor/client_table.hpp"
#include "controlplane/conductor/destination_table.hpp"
#include "controlplane/conductor/endpoint_table.hpp"
#include "controlplane/conductor/feed_service.hpp"
#include "controlplane/conductor/image_service.hpp"
#include "controlplane/conductor/link_table.hpp"
#include "controlplane/conductor/publication_table.hpp"
#include "controlplane/conductor/relay_service.hpp"
#include "controlplane/conductor/response_service.hpp"
#include "controlplane/conductor/subscription_table.hpp"
#include "controlplane/conductor/world.hpp"

namespace thalweg::conductor {

// The conductor's parts, put together once. Thread: the conductor.
struct Services {
  explicit Services(World& world_in)
      : world{world_in},
        clients{world_in},
        destinations{world_in},
        endpoints{world_in, destinations},
        links{world_in},
        publications{world_in, endpoints, links},
        subscriptions{world_in, endpoints, links},
        images{world_in, endpoints, subscriptions, links},
        responses{world_in, subscriptions, images},
        relays{world_in, endpoints, publications, subscriptions},
        feeds{world_in, endpoints} {}

  World& world;
  ClientTable clients;
  DestinationTable destinations;
  EndpointTable endpoints;
  LinkTable links;
  PublicationTable publications;
  SubscriptionTable subscriptions;
  ImageService images;
  ResponseService responses;
  RelayService relays;
  FeedService feeds;
  bool is_replayed{false};               // a predecessor died at the command that is run: what it names may be gone, as was asked
};

}  // namespace thalweg::conductor
