#pragma once

namespace thalweg::pmd {

// DPDK's memif driver unmaps the rings on the EAL's interrupt thread, at the moment the peer goes, and asks no lane that may be copying out
// of them just then. But it writes a log line before it acts on anything its control socket says, the end of the peer included, and the
// log stream is ours: so that line is where the lanes are put out of the device. They are let in again by an alarm, which the same thread
// runs after the driver has finished, if the link is still up.
class MemifWatched {
 public:
  virtual ~MemifWatched() = default;
  MemifWatched(const MemifWatched&) = delete;
  MemifWatched& operator=(const MemifWatched&) = delete;
  // Both on the interrupt thread. The first returns when no lane is inside.
  virtual void put_lanes_out() noexcept = 0;
  virtual void let_lanes_in_if_up() noexcept = 0;

 protected:
  MemifWatched() = default;
};

// Steward. The device must be watched before it is started, and no longer when it is closed.
void watch_memif(MemifWatched& device);
void unwatch_memif(MemifWatched& device);

}  // namespace thalweg::pmd
