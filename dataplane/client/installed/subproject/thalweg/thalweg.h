#pragma once
/* <thalweg/thalweg.h> of those who have this project as a subproject. */
#include "dataplane/client/c/thalweg.h"
