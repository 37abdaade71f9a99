#include "tests/sim/log_memory.hpp"

#include <sys/mman.h>
#include <csignal>

#include "dataplane/base/assert.hpp"
#include "dataplane/wire/frames.hpp"

namespace thalweg::sim {
namespace {

constexpr std::uintptr_t kPage = 4096;
sigjmp_buf g_resume_point;
volatile std::sig_atomic_t g_is_armed = 0;
void (*g_on_real_fault)() = nullptr;

void on_fault(int signal_number) {
  if (g_is_armed != 0) {
    g_is_armed = 0;
    siglongjmp(g_resume_point, 1);
  }
  g_on_real_fault();
  ::signal(signal_number, SIG_DFL);  // let it kill us at the same instruction
}

}  // namespace

LogMemory::LogMemory(std::int32_t term_length)
    : length_{shm::log_file_length(term_length, shm::kDefaultPageSize)}, term_length_{term_length} {
  void* memory = ::mmap(nullptr, length_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  THALWEG_ASSERT(memory != MAP_FAILED);
  base_ = static_cast<std::byte*>(memory);
}

LogMemory::~LogMemory() {
  if (base_ != nullptr) ::munmap(base_, length_);
}

std::int64_t LogMemory::first_dirty(std::int64_t from, std::int64_t to) const noexcept {
  const shm::LogBuffer log = view();
  for (std::int64_t position = from; position < to; position += wire::kFrameAlignment) {
    if (load_le<std::int32_t>(log.at(position)) != 0) return position;
  }
  return -1;
}

void LogMemory::protect(std::int64_t position, bool is_protected) const {
  const auto page = reinterpret_cast<std::uintptr_t>(view().at(position)) & ~(kPage - 1);
  const int result = ::mprotect(reinterpret_cast<void*>(page), kPage, is_protected ? PROT_READ : PROT_READ | PROT_WRITE);
  THALWEG_ASSERT(result == 0);
}

void CrashGuard::install(void (*on_real_fault)()) {
  g_on_real_fault = on_real_fault;
  struct sigaction action {};
  action.sa_handler = on_fault;
  action.sa_flags = SA_NODEFER;
  ::sigaction(SIGSEGV, &action, nullptr);
  ::sigaction(SIGBUS, &action, nullptr);
}

sigjmp_buf& CrashGuard::resume_point() noexcept { return g_resume_point; }
void CrashGuard::arm(bool is_armed) noexcept { g_is_armed = is_armed ? 1 : 0; }

}  // namespace thalweg::sim
