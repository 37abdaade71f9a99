#pragma once
#include <string>
#include <vector>

#include "dataplane/client/publication.hpp"
#include "dataplane/shm/counters.hpp"

namespace thalweg::client::detail {

// Value of a channel-status counter, anything unknown read as an error. A null counter means the channel has none.
[[nodiscard]] ChannelStatus channel_status(shm::Counter counter) noexcept;

// Addresses in the local-socket-address counters that belong to a channel-status counter (client-protocol 5.7, type 14).
[[nodiscard]] std::vector<std::string> local_addresses(const shm::CountersReader& counters, std::int32_t status_counter_id);

}  // namespace thalweg::client::detail
