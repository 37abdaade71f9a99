// The one source of the installed library itself; the rest of it comes from the libraries of the folders.
#include "dataplane/client/c/thalweg.h"

extern "C" const char* thalweg_version(void) noexcept { return THALWEG_VERSION; }
