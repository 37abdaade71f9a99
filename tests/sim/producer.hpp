#pragma once
#include <vector>

#include "dataplane/base/random.hpp"
#include "dataplane/shm/counters.hpp"
#include "tests/sim/ledger.hpp"
#include "tests/sim/log_memory.hpp"
#include "tests/sim/scenario.hpp"
#include "tests/sim/verdict.hpp"

// The client's side of a publication, written from client-protocol 7.5: several producers of one concurrent publication, or the one of an
// exclusive one. Some hold a claim open for a while, give it up (abort), or die inside it at each step where a process may die.
namespace thalweg::sim {

class Producer {
 public:
  Producer(const StreamPlan& plan, const LogMemory& log, shm::Counter publisher_limit, Ledger& ledger, std::uint64_t seed, std::int64_t start_ns,
           Verdict& verdict);

  // Offers what is due. Returns true if anything happened.
  bool poll(std::int64_t now_ns);
  [[nodiscard]] std::int64_t next_due_ns() const noexcept;
  // Everything was offered and no claim is open: the client may close the publication.
  [[nodiscard]] bool is_finished() const noexcept { return (sent_ >= plan_.messages || is_at_max_position_ || is_stopped_) && held_.empty(); }
  // Offers no more: its client gave up (nobody listens) or was told the publication is over. Open claims are still committed.
  void stop() noexcept { is_stopped_ = true; }
  [[nodiscard]] bool is_exclusive_dead() const noexcept { return is_exclusive_dead_; }
  [[nodiscard]] bool is_connected() const noexcept;
  [[nodiscard]] std::int64_t sent() const noexcept { return sent_; }
  [[nodiscard]] std::int64_t position() const noexcept { return position_; }  // as this client last saw it

 private:
  enum class Offer : std::uint8_t { kDone, kRetry, kBlocked, kMaxPosition };
  enum class Step : std::uint8_t { kNothing, kLengthOnly, kSomeFragments };  // how far a dying producer came
  struct Claim {
    int partition{};
    std::int32_t term_id{};
    std::int32_t offset{};
    std::int32_t required{};
    std::int64_t position{};
  };
  struct Held {
    Claim claim;
    std::size_t record{};
    std::int64_t commit_ns{};
    bool is_abort{};
  };

  Offer offer(std::int64_t now_ns);
  // Of two producers of one stream, the first writes it down and the other says the same.
  std::size_t write_down(const Record& record);
  Offer claim(std::int32_t required, Claim& out);
  Offer trip(int partition, std::int32_t term_id, std::int32_t term_count, std::int32_t offset);
  [[nodiscard]] std::int32_t draw_length();
  void check_clean(const Claim& claim);
  void write(const Claim& claim, const Record& record, std::int32_t frames_max);
  void write_header(std::byte* frame, const Claim& claim, std::int32_t offset, std::int32_t length, bool is_pad) const;
  void commit_or_abort(const Held& held);
  void die(const Claim& claim, std::size_t record);

  const StreamPlan& plan_;
  const LogMemory& memory_;
  shm::LogBuffer log_;
  shm::Counter publisher_limit_;
  Ledger& ledger_;
  Random random_;
  Verdict& verdict_;
  std::vector<Held> held_;
  std::int32_t next_length_{-1};
  std::int64_t sent_{};
  std::size_t recorded_{};
  std::int64_t next_ns_{};
  std::int64_t position_{};
  std::int32_t exclusive_term_id_{}, exclusive_offset_{};
  bool is_at_max_position_{}, is_stopped_{}, is_exclusive_dead_{}, has_paused_{};
};

}  // namespace thalweg::sim
