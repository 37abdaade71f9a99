#pragma once
// <thalweg/thalweg.hpp> of those who have this project as a subproject; an installed tree has one of its own (../../thalweg.hpp).
#include "dataplane/client/thalweg.hpp"
