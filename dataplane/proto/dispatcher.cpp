#include "dataplane/proto/dispatcher.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "dataplane/base/assert.hpp"
#include "dataplane/base/planted.hpp"

namespace thalweg::proto {
namespace {

// Open addressing with linear probing at half load at the most; removal shifts back, so there are no tombstones.
template <typename Value>
class FlatTable {
 public:
  struct Entry {
    std::uint64_t key{};
    bool is_used{};
    Value value{};
  };
  explicit FlatTable(std::uint32_t capacity) : slots_(std::size_t{capacity} * 2), mask_{slots_.size() - 1}, capacity_{capacity} {
    THALWEG_ASSERT(std::has_single_bit(capacity));
  }
  [[nodiscard]] Value* find(std::uint64_t key) noexcept {
    for (std::size_t i = home(key);; i = (i + 1) & mask_) {
      if (!slots_[i].is_used) return nullptr;
      if (slots_[i].key == key) return &slots_[i].value;
    }
  }
  // nullptr: full. Precondition: the key is not there.
  [[nodiscard]] Value* insert(std::uint64_t key) noexcept {
    if (size_ == capacity_) return nullptr;
    std::size_t i = home(key);
    while (slots_[i].is_used) i = (i + 1) & mask_;
    slots_[i] = Entry{.key = key, .is_used = true};
    ++size_;
    return &slots_[i].value;
  }
  void erase(std::uint64_t key) noexcept {
    std::size_t i = home(key);
    while (slots_[i].is_used && slots_[i].key != key) i = (i + 1) & mask_;
    if (!slots_[i].is_used) return;
    --size_;
    for (std::size_t j = (i + 1) & mask_; slots_[j].is_used; j = (j + 1) & mask_) {
      // An entry may move into the hole only if its home is not behind the hole.
      if (((j - home(slots_[j].key)) & mask_) >= ((j - i) & mask_)) {
        slots_[i] = slots_[j];
        i = j;
      }
    }
    slots_[i] = Entry{};
  }
  // Erases every entry for which doomed(key, value). An erased slot is looked at again, because removal moves entries into it.
  template <typename Doomed>
  void erase_if(Doomed&& doomed) noexcept {
    for (std::size_t i = 0; i < slots_.size();) {
      const bool is_doomed = slots_[i].is_used && doomed(slots_[i].key, slots_[i].value);
      if (is_doomed) {
        erase(slots_[i].key);
      } else {
        ++i;
      }
    }
  }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool is_full() const noexcept { return size_ == capacity_; }

 private:
  [[nodiscard]] std::size_t home(std::uint64_t key) const noexcept {
    key *= 0x9E3779B97F4A7C15U;
    return static_cast<std::size_t>(key ^ (key >> 32)) & mask_;
  }
  std::vector<Entry> slots_;
  std::size_t mask_;
  std::size_t capacity_;
  std::size_t size_{};
};

[[nodiscard]] std::uint64_t session_key(std::int32_t stream_id, std::int32_t session_id) noexcept {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(stream_id)) << 32 | static_cast<std::uint32_t>(session_id);
}
[[nodiscard]] std::int32_t stream_of(std::uint64_t key) noexcept { return static_cast<std::int32_t>(key >> 32); }
[[nodiscard]] std::int32_t session_of(std::uint64_t key) noexcept { return static_cast<std::int32_t>(key); }

struct Session {
  std::int64_t until_ns{};           // kPendingSetup, kEnded: then it is forgotten
  std::uint32_t image{};
  std::int32_t initial_term_id{};    // kEnded
  SessionState state{SessionState::kUnknown};
};

}  // namespace

struct Dispatcher::Tables {
  Tables(std::uint32_t capacity, std::uint32_t limit)
      : sessions{capacity}, all_sessions{capacity}, one_session{capacity}, images{capacity}, session_limit{limit} {}

  [[nodiscard]] bool is_wanted(std::int32_t stream_id, std::int32_t session_id) noexcept {
    return all_sessions.find(session_key(stream_id, 0)) != nullptr || one_session.find(session_key(stream_id, session_id)) != nullptr;
  }

  [[nodiscard]] static bool has_image(SessionState state) noexcept { return state == SessionState::kLive || state == SessionState::kInitInProgress; }
  [[nodiscard]] bool is_at_limit(std::int32_t stream_id) noexcept {
    const std::uint32_t* const count = images.find(session_key(stream_id, 0));
    return count != nullptr && *count >= session_limit;
  }
  // Each stream counted has a session, so there is room for it.
  void count_image(std::int32_t stream_id) noexcept {
    const std::uint64_t key = session_key(stream_id, 0);
    std::uint32_t* count = images.find(key);
    if (count == nullptr) count = images.insert(key);
    ++*count;
  }
  void discount_image(std::int32_t stream_id) noexcept {
    const std::uint64_t key = session_key(stream_id, 0);
    std::uint32_t* const count = images.find(key);
    if (--*count == 0) images.erase(key);
  }
  // Every change of a session's state goes through here, or through forget().
  void enter(std::uint64_t key, Session& session, SessionState state) noexcept {
    if (has_image(state) && !has_image(session.state)) count_image(stream_of(key));
    if (!has_image(state) && has_image(session.state)) discount_image(stream_of(key));
    session.state = state;
  }
  void forget(std::uint64_t key, const Session& session) noexcept {
    if (has_image(session.state)) discount_image(stream_of(key));
  }
  // nullptr: full. What has ended makes room; for a SETUP, or an image, so does what only DATA told of, which anybody may make up. With each sweep
  // all of these go, so that a flood pays for the next one with as many datagrams.
  [[nodiscard]] Session* add(std::uint64_t key, bool is_data = false) noexcept {
    if (sessions.is_full() && (has_ended || (has_pending && !is_data)) && !planted(Bug::kDataKeepsSetupsOut)) {
      sessions.erase_if([is_data](std::uint64_t, const Session& session) {
        return session.state == SessionState::kEnded || (session.state == SessionState::kPendingSetup && !is_data);
      });
      has_ended = false;
      has_pending = has_pending && is_data;
    }
    return sessions.insert(key);
  }
  void forget_at(Session& session, std::int64_t until_ns) noexcept {
    session.until_ns = until_ns;
    deadline_ns = std::min(deadline_ns, until_ns);
  }

  FlatTable<Session> sessions;
  FlatTable<std::uint32_t> all_sessions;  // by stream: reference count of "all sessions"
  FlatTable<std::uint32_t> one_session;   // by (stream, session): reference count
  FlatTable<std::uint32_t> images;        // by stream: sessions that have an image, or are about to
  std::uint32_t session_limit;
  std::int64_t deadline_ns{std::numeric_limits<std::int64_t>::max()};   // no session is to be forgotten before
  bool has_ended{};                       // there may be sessions of this state,
  bool has_pending{};                     // and of this one
};

Dispatcher::Dispatcher(std::uint32_t session_capacity, std::uint32_t session_limit)
    : tables_{std::make_unique<Tables>(session_capacity, session_limit)} {}
Dispatcher::~Dispatcher() = default;
Dispatcher::Dispatcher(Dispatcher&&) noexcept = default;
Dispatcher& Dispatcher::operator=(Dispatcher&&) noexcept = default;

bool Dispatcher::add_interest(std::int32_t stream_id, bool has_session, std::int32_t session_id) {
  auto& table = has_session ? tables_->one_session : tables_->all_sessions;
  const std::uint64_t key = session_key(stream_id, has_session ? session_id : 0);
  std::uint32_t* count = table.find(key);
  if (count == nullptr) count = table.insert(key);
  if (count == nullptr) return false;
  ++*count;
  return true;
}

void Dispatcher::remove_interest(std::int32_t stream_id, bool has_session, std::int32_t session_id) {
  auto& table = has_session ? tables_->one_session : tables_->all_sessions;
  const std::uint64_t key = session_key(stream_id, has_session ? session_id : 0);
  std::uint32_t* count = table.find(key);
  if (count == nullptr || --*count > 0) return;
  table.erase(key);
  tables_->sessions.erase_if([&](std::uint64_t session, const Session& known) {
    const bool is_doomed = stream_of(session) == stream_id && !tables_->is_wanted(stream_id, session_of(session));
    if (is_doomed) tables_->forget(session, known);
    return is_doomed;
  });
}

bool Dispatcher::has_interest() const noexcept { return tables_->all_sessions.size() + tables_->one_session.size() > 0; }

Dispatcher::Decision Dispatcher::on_data(std::int32_t stream_id, std::int32_t session_id, bool is_end_of_stream,
                                         std::int64_t now_ns) noexcept {
  const std::uint64_t key = session_key(stream_id, session_id);
  const Session* known = tables_->sessions.find(key);
  if (known != nullptr) {
    const Dispatch other = known->state == SessionState::kEnded ? Dispatch::kLateSide : Dispatch::kIgnore;
    return {known->state == SessionState::kLive ? Dispatch::kImage : other, known->image};
  }
  if (is_end_of_stream || !tables_->is_wanted(stream_id, session_id)) return {Dispatch::kIgnore, 0};
  Session* session = tables_->add(key, true);
  if (session == nullptr) return {Dispatch::kFull, 0};
  session->state = SessionState::kPendingSetup;
  tables_->has_pending = true;
  tables_->forget_at(*session, now_ns + kPendingSetupTimeout_ns);
  return {Dispatch::kElicitSetup, 0};
}

Dispatcher::Decision Dispatcher::on_setup(std::int32_t stream_id, std::int32_t session_id, std::int32_t initial_term_id, std::int64_t now_ns) noexcept {
  static_cast<void>(now_ns);
  const std::uint64_t key = session_key(stream_id, session_id);
  Session* session = tables_->sessions.find(key);
  if (session != nullptr && session->state == SessionState::kLive) return {Dispatch::kImage, session->image};
  const bool has_ended = session != nullptr && session->state == SessionState::kEnded;
  if (has_ended && session->initial_term_id == initial_term_id) return {Dispatch::kLateSide, 0};
  if (session != nullptr && session->state != SessionState::kPendingSetup && !has_ended) return {Dispatch::kIgnore, 0};
  if (session == nullptr && !tables_->is_wanted(stream_id, session_id)) return {Dispatch::kIgnore, 0};
  if (tables_->is_at_limit(stream_id)) return {Dispatch::kSessionLimit, 0};
  if (session == nullptr) session = tables_->add(key);
  if (session == nullptr) return {Dispatch::kFull, 0};
  tables_->enter(key, *session, SessionState::kInitInProgress);
  return {Dispatch::kCreateImage, 0};
}

Dispatcher::Decision Dispatcher::find(std::int32_t stream_id, std::int32_t session_id) const noexcept {
  const Session* known = tables_->sessions.find(session_key(stream_id, session_id));
  if (known == nullptr || known->state != SessionState::kLive) return {Dispatch::kIgnore, 0};
  return {Dispatch::kImage, known->image};
}

SessionState Dispatcher::session_state(std::int32_t stream_id, std::int32_t session_id) const noexcept {
  if (const Session* known = tables_->sessions.find(session_key(stream_id, session_id))) return known->state;
  return tables_->is_wanted(stream_id, session_id) ? SessionState::kUnknown : SessionState::kNoInterest;
}

bool Dispatcher::image_live(std::int32_t stream_id, std::int32_t session_id, std::uint32_t image) noexcept {
  const std::uint64_t key = session_key(stream_id, session_id);
  Session* session = tables_->sessions.find(key);
  if (session == nullptr) session = tables_->add(key);
  if (session == nullptr) return false;
  session->image = image;
  tables_->enter(key, *session, SessionState::kLive);
  return true;
}

void Dispatcher::image_refused(std::int32_t stream_id, std::int32_t session_id) noexcept {
  const std::uint64_t key = session_key(stream_id, session_id);
  const Session* session = tables_->sessions.find(key);
  if (session == nullptr || session->state != SessionState::kInitInProgress) return;
  tables_->forget(key, *session);
  tables_->sessions.erase(key);
}

void Dispatcher::image_removed(std::int32_t stream_id, std::int32_t session_id, std::uint32_t image, bool was_end_of_stream,
                               bool rejoin) noexcept {
  const std::uint64_t key = session_key(stream_id, session_id);
  Session* session = tables_->sessions.find(key);
  if (session == nullptr || session->state != SessionState::kLive || session->image != image) return;
  tables_->enter(key, *session, SessionState::kCoolDown);
  if (was_end_of_stream || rejoin) tables_->sessions.erase(key);
}

void Dispatcher::stream_ended(std::int32_t stream_id, std::int32_t session_id, std::uint32_t image, std::int32_t initial_term_id,
                              std::int64_t until_ns) noexcept {
  const std::uint64_t key = session_key(stream_id, session_id);
  Session* session = tables_->sessions.find(key);
  if (session == nullptr || session->state != SessionState::kLive || session->image != image) return;
  if (planted(Bug::kEndedStreamForgotten)) return image_removed(stream_id, session_id, image, true, true);
  tables_->enter(key, *session, SessionState::kEnded);
  session->initial_term_id = initial_term_id;
  tables_->forget_at(*session, until_ns);
  tables_->has_ended = true;
}

void Dispatcher::tick(std::int64_t now_ns) noexcept {
  if (now_ns <= tables_->deadline_ns) return;
  std::int64_t next = std::numeric_limits<std::int64_t>::max();
  tables_->sessions.erase_if([&](std::uint64_t, const Session& session) {
    if (session.state != SessionState::kPendingSetup && session.state != SessionState::kEnded) return false;
    if (now_ns > session.until_ns) return true;
    next = std::min(next, session.until_ns);
    return false;
  });
  tables_->deadline_ns = next;
}

}  // namespace thalweg::proto
