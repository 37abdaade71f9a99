// libthalweg against a driver that lies: raw and crooked answers, hostile log files and counters, while the application adds, offers,
// polls and closes. The driver is the test's own (tests/support/ipc_driver); after the first scribble it only transmits.
#include <map>
#include <string>

#include "dataplane/client/thalweg.hpp"
#include "tests/fuzz/input.hpp"
#include "tests/support/ipc_driver.hpp"
#include "tests/support/temporary_directory.hpp"

namespace thalweg::fuzz {
namespace {
using namespace client;

class World {
 public:
  explicit World(Input& in) : in_{in}, driver_{options()} {
    driver_.beat();
    auto connected = Client::connect(context());
    require(connected.has_value(), "the client connects");
    client_.emplace(std::move(*connected));
  }

  void step() {
    switch (in_.choice(14)) {
      case 0: return raw_answer();
      case 1: return publication_ready();
      case 2: return image_available();
      case 3:
      case 4: return add();
      case 5: return turn_driver();
      case 6: client_->do_work(); return;
      case 7: return find();
      case 8: return offer();
      case 9: return poll();
      case 10: return scribble_log();
      case 11: return scribble_cnc();
      case 12: return pass_time();
      default: return close_something();
    }
  }

 private:
  [[nodiscard]] test::IpcDriver::Options options() {
    test::IpcDriver::Options o;
    o.directory = directory_.path();
    o.epoch_ms = [this] { return epoch_ms_; };
    return o;
  }
  [[nodiscard]] Context context() {
    Context c;
    c.directory = directory_.path();
    c.mode = ConductorMode::kInvoker;
    c.clock = {[this] { return now_ns_; }, [this] { return epoch_ms_; }};
    c.on_error = [](const Error& error) { require(!error.message.empty(), "an error says what happened"); };
    return c;
  }

  // An id that the client knows, or any.
  [[nodiscard]] std::int64_t an_id() {
    if (ids_.empty() || in_.choice(4) == 0) return in_.take<std::int64_t>();
    return static_cast<std::int64_t>(ids_[in_.choice(static_cast<unsigned>(ids_.size()))]);
  }
  [[nodiscard]] std::string a_path() {
    switch (in_.choice(4)) {
      case 0: return directory_.path() + "/cnc.dat";
      case 1: return directory_.path() + "/missing";
      default: return driver_.stream_count() == 0 ? std::string{} : driver_.stream(in_.choice(static_cast<unsigned>(driver_.stream_count()))).file.path();
    }
  }
  [[nodiscard]] std::int32_t a_counter() { return in_.flag() ? static_cast<std::int32_t>(in_.choice(64)) : in_.take<std::int32_t>(); }

  void raw_answer() {
    const std::int32_t type = in_.flag() ? 0x0F01 + static_cast<std::int32_t>(in_.choice(14)) : in_.take<std::int32_t>();
    driver_.transmit_raw(type, in_.short_slice());
  }
  void publication_ready() {
    const auto type = in_.flag() ? shm::Response::kPublicationReady : shm::Response::kExclusivePublicationReady;
    const std::string path = a_path();
    const std::int64_t id = an_id();
    driver_.transmit(type, shm::OnPublicationReady{id, an_id(), in_.take<std::int32_t>(), kStream, a_counter(), a_counter(), path});
  }
  void image_available() {
    const std::string path = a_path();
    const std::int64_t id = an_id();
    driver_.transmit(shm::Response::kAvailableImage,
                     shm::OnAvailableImage{id, in_.take<std::int32_t>(), kStream, an_id(), a_counter(), path, text_of(in_.short_slice())});
  }
  void add() {
    if (ids_.size() > 16) return;
    Result<RegistrationId> id = fail(ErrorCode::kGeneric, "none");
    switch (in_.choice(5)) {
      case 0: id = client_->async_add_publication("aeron:ipc", kStream); break;
      case 1: id = client_->async_add_exclusive_publication("aeron:ipc", kStream); break;
      case 2: id = client_->async_add_counter(1001, in_.short_slice(), "fuzz"); break;
      default: id = client_->async_add_subscription("aeron:ipc", kStream); break;
    }
    if (id) ids_.push_back(*id);
  }
  void find() {
    for (const RegistrationId id : ids_) {
      if (auto found = client_->find_publication(id); found && *found) publications_.push_back(std::move(**found));
      if (auto found = client_->find_exclusive_publication(id); found && *found) exclusives_.push_back(std::move(**found));
      if (auto found = client_->find_subscription(id); found && *found) subscriptions_.push_back(std::move(**found));
      static_cast<void>(client_->find_counter(id));
    }
  }
  void turn_driver() {
    if (!is_scribbled_) driver_.do_work();
    driver_.beat();
  }

  template <typename Handle>
  void offer_on(Handle& publication) {
    static std::vector<std::byte> message(1 << 16, std::byte{0x5A});
    const std::size_t length = in_.take<std::uint16_t>();
    if (in_.flag()) {
      static_cast<void>(publication.offer(Bytes{message}.first(length), in_.byte()));
      return;
    }
    BufferClaim claim;
    if (!publication.try_claim(length % 2048, claim)) return;
    std::ranges::fill(claim.data(), std::byte{1});
    if (in_.flag()) {
      claim.commit();
    } else {
      claim.abort();
    }
  }
  void offer() {
    for (Publication& p : publications_) offer_on(p);
    for (ExclusivePublication& p : exclusives_) offer_on(p);
  }

  void poll() {
    unsigned sum = 0;
    const auto touch = [&](Bytes payload, const Header& header) {
      if (!payload.empty()) sum += static_cast<unsigned>(payload.front()) + static_cast<unsigned>(payload.back());
      sum += static_cast<unsigned>(header.term_offset());
    };
    FragmentAssembler assembler{touch};
    const int limit = 1 + in_.byte() % 16;
    const unsigned how = in_.choice(4);
    for (Subscription& s : subscriptions_) {
      switch (how) {
        case 0: s.poll(touch, limit); break;
        case 1: s.poll(assembler, limit); break;
        case 2:
          s.controlled_poll([&](Bytes payload, const Header& header) {
            touch(payload, header);
            return static_cast<PollAction>(in_.choice(4));
          }, limit);
          break;
        default:
          s.block_poll([&](Bytes frames, std::int32_t, std::int32_t) { require(!frames.empty(), "a block is not empty"); }, in_.take<std::int32_t>());
          break;
      }
      for (const auto& image : s.images()) static_cast<void>(image->is_end_of_stream());
    }
  }

  void scribble_log() {
    if (driver_.stream_count() == 0) return;
    is_scribbled_ = true;
    auto& file = driver_.stream(in_.choice(static_cast<unsigned>(driver_.stream_count()))).file;
    const std::span<std::byte> all{file.data(), file.length()};
    if (in_.flag()) {
      scribble(in_, all);
    } else {
      scribble(in_, all.last(shm::kLogMetadataLength));
    }
  }
  void scribble_cnc() {
    is_scribbled_ = true;
    switch (in_.choice(4)) {
      case 0: return scribble(in_, driver_.cnc().counter_metadata(), 1);
      case 1: return scribble(in_, driver_.cnc().counter_values(), 1);
      case 2: return scribble(in_, driver_.cnc().to_clients(), 1);
      default: return scribble(in_, driver_.cnc().error_log(), 1);
    }
  }
  void pass_time() {
    const std::int64_t ms = in_.take<std::uint16_t>();
    now_ns_ += ms * kMillisecond_ns;
    epoch_ms_ += ms;
    if (in_.flag()) driver_.beat();
    client_->read_errors([](const shm::ErrorLogEntry&) {});
  }
  void close_something() {
    switch (in_.choice(4)) {
      case 0: if (!publications_.empty()) publications_.pop_back(); break;
      case 1: if (!exclusives_.empty()) exclusives_.pop_back(); break;
      case 2: if (!subscriptions_.empty()) subscriptions_.pop_back(); break;
      default: if (in_.choice(8) == 0) client_->close(); break;
    }
  }

  static constexpr std::int32_t kStream = 1001;
  Input& in_;
  std::int64_t now_ns_{kSecond_ns};
  std::int64_t epoch_ms_{1'700'000'000'000};
  test::TemporaryDirectory directory_{"fuzz"};
  test::IpcDriver driver_;
  bool is_scribbled_{};
  std::optional<Client> client_;
  std::vector<RegistrationId> ids_;
  std::vector<Publication> publications_;
  std::vector<ExclusivePublication> exclusives_;
  std::vector<Subscription> subscriptions_;
};
}  // namespace

void run(Bytes input) {
  Input in{input};
  World world{in};
  for (int steps = 0; steps < 400 && !in.is_empty(); ++steps) world.step();
}

}  // namespace thalweg::fuzz
