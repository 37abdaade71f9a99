#include "pmd/interrupt_thread.hpp"

#include <rte_alarm.h>
#include <rte_interrupts.h>

#include <condition_variable>
#include <mutex>

namespace thalweg::pmd {
namespace {

thread_local bool is_in_job = false;

struct Job {
  void (*run)(void*);
  void* argument;
  std::mutex mutex;
  std::condition_variable done;
  bool is_done{};
};

void run_job(void* argument) {
  Job& job = *static_cast<Job*>(argument);
  is_in_job = true;
  job.run(job.argument);
  is_in_job = false;
  const std::lock_guard lock{job.mutex};
  job.is_done = true;
  job.done.notify_one();  // under the lock: the waiter's frame holds the job, and ends when it sees is_done
}

}  // namespace

void run_on_interrupt_thread(void (*job)(void*), void* argument) {
  Job wanted{.run = job, .argument = argument, .mutex = {}, .done = {}, .is_done = false};
  if (rte_thread_is_intr() != 0 || rte_eal_alarm_set(1, run_job, &wanted) != 0) return job(argument);
  std::unique_lock lock{wanted.mutex};
  wanted.done.wait(lock, [&wanted] { return wanted.is_done; });
}

bool is_interrupt_thread_job() noexcept { return is_in_job; }

}  // namespace thalweg::pmd
