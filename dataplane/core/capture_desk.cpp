#include "dataplane/core/capture_desk.hpp"

#include <cstring>

#include "dataplane/core/slot_answer.hpp"

namespace thalweg::core {

bool CaptureDesk::look(std::uint32_t index) {
  shm::CaptureSlot& slot = registry_.captures[index];
  switch (slot.desired.state.load(std::memory_order_acquire)) {
    case shm::Desired::kFree: return false;
    case shm::Desired::kClosing:
      if (is_answered(slot, shm::Observed::kDone)) return false;
      if (running_[index] != nullptr) {
        running_[index]->stop_capture();
        report(index);
        running_[index] = nullptr;
      }
      answer(slot, shm::Observed::kDone);
      return true;
    case shm::Desired::kActive: break;
  }
  if (running_[index] != nullptr || is_answered(slot, shm::Observed::kDone) || is_answered(slot, shm::Observed::kFailed)) return false;
  const auto started = start(index);
  if (started) {
    answer(slot, shm::Observed::kActive);
  } else {
    fail_slot(slot, shm::ClientError::kGeneric,
              started.error().message + (started.error().hint.empty() ? "" : " (" + started.error().hint + ")"));
  }
  return true;
}

Result<void> CaptureDesk::start(std::uint32_t index) {
  shm::CaptureSlot& slot = registry_.captures[index];
  if (is_answered(slot, shm::Observed::kActive))  // by our predecessor: its file is worth more than one that starts now
    return fail(ErrorCode::kGeneric, "the data plane was restarted meanwhile, the file ends there", "start the capture again, to another file");
  const std::uint32_t port = slot.desired.port;
  if (port >= ports_.size()) return fail(ErrorCode::kInvalidArgument, "no such port");
  char path[sizeof slot.desired.path];
  std::memcpy(path, slot.desired.path, sizeof path);
  path[sizeof path - 1] = '\0';
  slot.observed.frames.store(0, std::memory_order_relaxed);
  slot.observed.dropped.store(0, std::memory_order_relaxed);
  pmd::CaptureOptions options;
  options.path = path;
  options.snap_length = slot.desired.snap_length;
  options.frame_limit = slot.desired.frame_limit;
  options.byte_limit = slot.desired.byte_limit;
  if (auto started = ports_[port].port->start_capture(options); !started) return started;
  running_[index] = ports_[port].port.get();
  return {};
}

void CaptureDesk::report(std::uint32_t index) {
  const pmd::CaptureStatus status = running_[index]->capture_status();
  shm::CaptureSlot& slot = registry_.captures[index];
  slot.observed.frames.store(status.frames, std::memory_order_relaxed);
  slot.observed.dropped.store(status.dropped, std::memory_order_relaxed);
}

bool CaptureDesk::watch(std::uint32_t index) {
  if (running_[index] == nullptr) return false;
  const pmd::CaptureStatus status = running_[index]->capture_status();
  report(index);
  if (status.is_running) return false;
  running_[index]->stop_capture();
  running_[index] = nullptr;
  shm::CaptureSlot& slot = registry_.captures[index];
  if (status.error.empty()) {
    answer(slot, shm::Observed::kDone);
  } else {
    fail_slot(slot, shm::ClientError::kStorageSpace, status.error);
  }
  return true;
}

}  // namespace thalweg::core
