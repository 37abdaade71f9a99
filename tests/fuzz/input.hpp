#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <span>
#include <string_view>

#include "dataplane/base/bytes.hpp"

// What every fuzz target uses. A target defines run(); entry.cpp makes a libFuzzer function of it, corpus_main.cpp an ordinary test.
namespace thalweg::fuzz {

using Bytes = std::span<const std::byte>;

// One input through the parser under test. Must not keep state from one call to the next. A finding is a crash: a sanitizer's report, a
// touch of a guard page, or a failed require().
void run(Bytes input);

// A property that must hold whatever the input was.
inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "fuzz: violated: %s\n", what);
  std::abort();
}

// Takes an input apart. An exhausted one gives zeros, so that every input is a complete program.
class Input {
 public:
  explicit Input(Bytes bytes) noexcept : rest_{bytes} {}
  [[nodiscard]] bool is_empty() const noexcept { return rest_.empty(); }
  template <typename T>
  [[nodiscard]] T take() noexcept {
    std::byte raw[sizeof(T)]{};
    const Bytes part = slice(sizeof(T));
    std::copy(part.begin(), part.end(), raw);
    return load_le<T>(raw);
  }
  [[nodiscard]] std::uint8_t byte() noexcept { return take<std::uint8_t>(); }
  [[nodiscard]] bool flag() noexcept { return (byte() & 1U) != 0; }
  // 0 .. bound - 1.
  [[nodiscard]] unsigned choice(unsigned bound) noexcept { return byte() % bound; }
  // At most `n` bytes.
  [[nodiscard]] Bytes slice(std::size_t n) noexcept {
    const Bytes part = rest_.first(std::min(n, rest_.size()));
    rest_ = rest_.subspan(part.size());
    return part;
  }
  // Length byte or word first.
  [[nodiscard]] Bytes short_slice() noexcept { return slice(byte()); }
  [[nodiscard]] Bytes long_slice() noexcept { return slice(take<std::uint16_t>()); }
  [[nodiscard]] Bytes rest() noexcept { return slice(rest_.size()); }

 private:
  Bytes rest_;
};

// Zeroed memory that ends at an unreadable page and begins behind one: a byte too far is a crash in every build, sanitizers or not.
class GuardedMemory {
 public:
  explicit GuardedMemory(std::size_t length) : length_{length} {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t used = align_up(std::max<std::size_t>(length, 1), page);
    mapped_ = used + 2 * page;
    void* const address = ::mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED) throw std::bad_alloc{};
    base_ = static_cast<std::byte*>(address);
    if (::mprotect(base_ + page, used, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc{};
    data_ = base_ + page + used - length;
  }
  explicit GuardedMemory(Bytes content) : GuardedMemory{content.size()} { std::copy(content.begin(), content.end(), data_); }
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;
  ~GuardedMemory() { ::munmap(base_, mapped_); }
  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return {data_, length_}; }
  [[nodiscard]] std::byte* data() const noexcept { return data_; }

 private:
  std::size_t length_;
  std::size_t mapped_{};
  std::byte* base_{};
  std::byte* data_{};
};

// Scribbles over shared memory as a client that went mad could: offset and content come from the input. `alignment` a power of two.
inline void scribble(Input& in, std::span<std::byte> memory, std::size_t alignment = 4) {
  const std::size_t at = in.take<std::uint32_t>() % memory.size() & ~(alignment - 1);
  const Bytes content = in.slice(1 + in.byte() % 64);
  std::copy_n(content.begin(), std::min(content.size(), memory.size() - at), memory.begin() + static_cast<std::ptrdiff_t>(at));
}

[[nodiscard]] inline std::string_view text_of(Bytes bytes) noexcept { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

}  // namespace thalweg::fuzz
