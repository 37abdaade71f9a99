#pragma once
#include "dataplane/core/streams.hpp"

// Who is to blame when the data plane crashes (design, section 1: a slot that crashes a process three times is quarantined). A signal that
// means a crash is caught on the thread that crashes, which looks up the stream it was at work on and counts the crash in that stream's slot
// of the registry; then the signal takes its course. A process that is killed from outside blames nobody.
namespace thalweg::core {

// Catches SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT from now on, for the life of the process. An address in a mapped log names the log's
// stream, else what the thread said with work_of_this_thread(). Both arguments outlive the process's threads. Main thread, once; before
// lanes are started.
void catch_crashes(shm::Registry& registry, const StreamTables& tables);

// Names the word in the registry in which the calling thread says what it works on; nullptr: none.
void work_of_this_thread(const std::atomic<std::uint32_t>* in_work) noexcept;

// What the signal handler does, without the signal: counts a crash at `address` (nullptr: unknown) of a thread that works on `in_work`.
// Async-signal-safe.
void count_crash(shm::Registry& registry, const StreamTables& tables, const void* address, std::uint32_t in_work) noexcept;

}  // namespace thalweg::core
