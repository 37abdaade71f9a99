#pragma once
#include <deque>
#include <memory>
#include <string>

#include "tests/sim/node.hpp"
#include "tests/sim/strangers.hpp"

// One run: builds what the scenario says, moves virtual time until every stream is over, and judges.
namespace thalweg::sim {

struct Outcome {
  std::string failure;             // empty: passed
  FaultCounts faults;
  std::int64_t virtual_ns{};
  std::uint64_t steps{};
  std::uint64_t messages_sent{};
  std::uint64_t messages_read{};
  std::uint64_t naks{};
  std::uint64_t retransmits{};
  std::uint64_t trace{};           // of everything that went onto the wire
};

class World {
 public:
  explicit World(const Scenario& scenario);
  [[nodiscard]] Outcome run();

 private:
  void apply_faults();
  void apply_staged_faults();
  void excuse(const FaultPlan& fault);
  void heal();
  void make_up_naks();
  bool step();
  [[nodiscard]] std::int64_t next_step_ns(bool has_worked) const;
  [[nodiscard]] bool is_over() const;
  void judge();

  const Scenario& scenario_;
  Verdict verdict_;
  Network network_;
  Random storm_;
  Strangers strangers_;
  std::vector<FaultPlan> staged_;              // those that have not come yet
  std::vector<std::size_t> publication_of_;    // by stream: its index at its node
  std::vector<std::int64_t> next_storm_ns_;    // by stream
  std::deque<Stream> streams_;
  std::deque<Node> nodes_;
  Datagram datagram_;
  std::size_t next_fault_{};
  std::int64_t now_ns_{};
  bool is_healed_{};
};

}  // namespace thalweg::sim
