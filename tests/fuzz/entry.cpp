#include "tests/fuzz/input.hpp"

// libFuzzer's door. It gives exact heap blocks, so AddressSanitizer sees every byte too far.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  thalweg::fuzz::run({reinterpret_cast<const std::byte*>(data), size});
  return 0;
}
