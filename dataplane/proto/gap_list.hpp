#pragma once
#include "dataplane/shm/log_buffer.hpp"
#include "dataplane/shm/stream_state.hpp"

// The gaps of an image, kept exact while datagrams arrive, so that neither rebuild tracking nor loss detection has to read the log
// (wire-protocol 3.6, 3.8). Works on ImageState in place: gaps[0..gap_count) are in order of position and never cross a term;
// everything in [rebuild_position, tracked_until) that no gap covers is there. Only when more than kGapsMax gaps are open does
// tracked_until stay behind high_water; what lies between is then learned from the log. Thread: owning lane.
namespace thalweg::proto {

class GapList {
 public:
  GapList(shm::ImageState& state, const shm::LogBuffer& log) noexcept : s_{state}, log_{log} {}

  // Is the first slot of a datagram at `position` still empty? Precondition: position >= rebuild_position.
  [[nodiscard]] bool is_empty_at(std::int64_t position) const noexcept;
  // [begin, end) was written. Precondition: is_empty_at(begin). Moves high_water, tracked_until and rebuild_position.
  void filled(std::int64_t begin, std::int64_t end) noexcept;
  // Data up to `position` was sent (3.5, heartbeats): what is missing below is a gap.
  void extend(std::int64_t position) noexcept;
  // Forgets all gaps and learns them from the log: after a restart.
  void rebuild() noexcept;
  // True while part of the log below high_water is still to be read and there is room for what it will show. Bounded steps: advance().
  [[nodiscard]] bool has_more_to_learn() const noexcept { return s_.tracked_until < s_.high_water && s_.gap_count < shm::kGapsMax / 2; }
  void advance() noexcept;

 private:
  void append(std::int64_t begin, std::int64_t end) noexcept;
  void remove(std::size_t index) noexcept;
  void subtract(std::size_t index, std::int64_t begin, std::int64_t end) noexcept;
  void learn() noexcept;
  [[nodiscard]] bool is_full() const noexcept { return s_.gap_count == shm::kGapsMax; }

  shm::ImageState& s_;
  const shm::LogBuffer& log_;
};

}  // namespace thalweg::proto
