#pragma once
// <thalweg/thalweg.hpp>: needs -I<prefix>/include -I<prefix>/include/thalweg -std=c++20, and tl::expected.
#include "dataplane/client/thalweg.hpp"
