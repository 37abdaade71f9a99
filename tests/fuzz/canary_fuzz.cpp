// The canary: a parser with a planted mistake, the one everybody makes. It trusts a length from the wire. If this target ever passes, the
// other ones prove nothing.
#include "tests/fuzz/input.hpp"

namespace thalweg::fuzz {

void run(Bytes input) {
  if (input.size() < 2) return;
  const auto length = static_cast<std::size_t>(input[0]);  // of the text behind; never compared with what is there
  unsigned sum = 0;
  for (std::size_t i = 0; i < length; ++i) sum += static_cast<unsigned>(input.data()[1 + i]);
  require(sum != 0xFFFFFFFF, "keeps the loop");
}

}  // namespace thalweg::fuzz
