#pragma once
// Umbrella header of libthalweg, the C++20 client of Thalweg and of stock Aeron media drivers. Installed as <thalweg/thalweg.hpp>.
#include "dataplane/client/buffer_claim.hpp"
#include "dataplane/client/client.hpp"
#include "dataplane/client/context.hpp"
#include "dataplane/client/counter.hpp"
#include "dataplane/client/fragment_assembler.hpp"
#include "dataplane/client/header.hpp"
#include "dataplane/client/image.hpp"
#include "dataplane/client/offer_result.hpp"
#include "dataplane/client/publication.hpp"
#include "dataplane/client/subscription.hpp"
#include "dataplane/client/typed.hpp"
