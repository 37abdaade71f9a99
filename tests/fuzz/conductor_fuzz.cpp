// The real conductor against clients that send anything and scribble over cnc.dat, a data plane that answers (the hand-made one of its unit
// tests), time that jumps, and restarts in the middle. It may refuse, time out and count; it must not crash.
#include "controlplane/conductor/conductor.hpp"
#include "tests/fuzz/input.hpp"
#include "tests/unit/controlplane/fixture.hpp"

namespace thalweg::fuzz {
namespace {
using namespace conductor;

constexpr const char* kChannels[] = {"aeron:ipc", "aeron:ipc?term-length=64k", "aeron:udp?endpoint=127.0.0.1:40123", "aeron:udp?endpoint=127.0.0.1:0",
                                     "aeron:udp?endpoint=224.0.1.1:40456|interface=127.0.0.1", "aeron:udp?control=127.0.0.1:40124|control-mode=dynamic",
                                     "aeron:udp?control-mode=manual", "aeron-spy:aeron:udp?endpoint=127.0.0.1:40123"};

class World final : public conductor::testing::ConductorTest {
 public:
  explicit World(Input& in) : in_{in} { start(); }
  void TestBody() override {}

  void step() {
    switch (in_.choice(14)) {
      case 0:
      case 1: return add();
      case 2: return remove();
      case 3: return raw_command();
      case 4: return destination();
      case 5: return counter();
      case 6: return end_client();
      case 7:
      case 8: return turn();
      case 9: return pass_time();
      case 10: return scribble_cnc();
      case 11:
      case 12: return lane_event();
      default:
        if (in_.choice(4) == 0) crash_and_restart();
        return;
    }
  }
  // Everybody takes turns, but not for ever: a hostile input may keep them busy.
  void turn() {
    for (int i = 0; i < 16; ++i) {
      conductor->poll(now);
      while (worker->run_one()) {
      }
      data_plane->step();
    }
  }

 private:
  [[nodiscard]] std::int64_t a_client() { return in_.choice(8) == 0 ? in_.take<std::int64_t>() : kClient + in_.choice(2); }
  [[nodiscard]] std::int64_t an_id() {
    if (ids_.empty() || in_.choice(6) == 0) return in_.take<std::int64_t>();
    return ids_[in_.choice(static_cast<unsigned>(ids_.size()))];
  }
  [[nodiscard]] std::int64_t a_new_id() {
    const std::int64_t id = in_.choice(8) == 0 ? an_id() : next_id();  // a replayed command has an old one
    if (ids_.size() < 200) ids_.push_back(id);
    return id;
  }
  [[nodiscard]] std::string a_channel() {
    std::string channel = kChannels[in_.choice(std::size(kChannels))];
    if (in_.choice(4) == 0) {
      const std::string_view more = text_of(in_.short_slice());
      // No names to look up: the network is no part of this.
      if (more.find("point") == more.npos && more.find("control") == more.npos && more.find("interface") == more.npos) channel += '|' + std::string{more};
    }
    return channel;
  }
  template <typename Message>
  void put(shm::Command type, const Message& message) {
    shm::Buffer buffer;
    shm::encode(buffer, message);
    static_cast<void>(ring().write(static_cast<std::int32_t>(type), buffer));  // full: the conductor has not been turned
  }

  void add() {
    const std::string channel = a_channel();
    const std::int64_t client = a_client();
    const std::int64_t id = a_new_id();
    const auto stream = static_cast<std::int32_t>(in_.choice(3));
    switch (in_.choice(3)) {
      case 0: return put(shm::Command::kAddPublication, shm::AddPublication{{client, id}, stream, channel});
      case 1: return put(shm::Command::kAddExclusivePublication, shm::AddPublication{{client, id}, stream, channel});
      default: return put(shm::Command::kAddSubscription, shm::AddSubscription{{client, id}, -1, stream, channel});
    }
  }
  void remove() {
    const std::int64_t client = a_client();
    const std::int64_t id = a_new_id();
    switch (in_.choice(3)) {
      case 0: return put(shm::Command::kRemovePublication, shm::RemovePublication{{client, id}, an_id(), in_.flag()});
      case 1: return put(shm::Command::kRemoveSubscription, shm::RemoveRegistration{{client, id}, an_id()});
      default: return put(shm::Command::kRemoveCounter, shm::RemoveRegistration{{client, id}, an_id()});
    }
  }
  void raw_command() {
    shm::Buffer body(16);
    const auto type = static_cast<std::int32_t>(in_.choice(0x16));
    store_le(body.data(), a_client());
    store_le(body.data() + 8, a_new_id());
    const Bytes rest = in_.short_slice();
    body.insert(body.end(), rest.begin(), rest.end());
    body.resize(body.size() - std::min<std::size_t>(body.size(), in_.choice(24)));
    static_cast<void>(ring().write(type == 0 ? in_.take<std::int32_t>() : type, body));
  }
  void destination() {
    constexpr shm::Command kCommands[] = {shm::Command::kAddDestination, shm::Command::kRemoveDestination, shm::Command::kAddReceiveDestination,
                                          shm::Command::kRemoveReceiveDestination};
    const shm::Command command = kCommands[in_.choice(4)];
    const std::string channel = a_channel();
    const std::int64_t client = a_client();
    const std::int64_t id = a_new_id();
    put(command, shm::DestinationCommand{{client, id}, an_id(), channel});
  }
  void counter() {
    const std::int64_t client = a_client();
    const std::int64_t id = a_new_id();
    const Bytes key = in_.short_slice();
    if (in_.flag()) return put(shm::Command::kAddCounter, shm::AddCounter{{client, id}, in_.take<std::int32_t>(), key, "fuzz"});
    put(shm::Command::kAddStaticCounter, shm::AddStaticCounter{{client, id}, an_id(), in_.take<std::int32_t>(), key, "fuzz"});
  }
  void end_client() {
    put(in_.flag() ? shm::Command::kClientClose : shm::Command::kClientKeepalive, shm::ClientCommand{{a_client(), 0}});
  }
  void pass_time() {
    const std::int64_t duration_ns = std::int64_t{in_.take<std::uint16_t>()} * 1'000'000;
    now.now_ns += duration_ns;
    now.now_ms += duration_ns / 1'000'000;
    if (in_.flag()) data_plane->become_active(now.now_ns);
    turn();
  }
  void scribble_cnc() {
    switch (in_.choice(4)) {
      case 0: return scribble(in_, files().cnc.to_driver(), 1);
      case 1: return scribble(in_, files().cnc.to_driver().last(shm::kRingTrailerLength), 1);
      case 2: return scribble(in_, files().cnc.counter_metadata().first(64 * shm::kCounterMetadataLength), 1);
      default: return scribble(in_, files().cnc.counter_values().first(64 * shm::kCounterValueLength), 1);
    }
  }
  // What lanes do on their own, to streams that there are.
  void lane_event() {
    const auto pick = [&](const auto& used) { return used.empty() ? shm::kNoSlot : used[in_.choice(static_cast<unsigned>(used.size()))]; };
    const std::uint32_t publication = pick(world().publications.used());
    const std::uint32_t image = pick(world().images.used());
    switch (in_.choice(6)) {
      case 0:
        if (publication != shm::kNoSlot) data_plane->end_publication(publication);
        return;
      case 1:
        if (publication != shm::kNoSlot && registry().publications[publication].desired.state.load() == shm::Desired::kClosing) data_plane->finish_publication(publication);
        return;
      case 2:
        if (const std::uint32_t endpoint = pick(world().endpoints.used()); endpoint != shm::kNoSlot) {
          data_plane->request_image(endpoint, static_cast<std::int32_t>(in_.choice(3)), in_.take<std::int8_t>());
        }
        return;
      case 3:
        if (image != shm::kNoSlot) data_plane->make_unavailable(image);
        return;
      case 4:
        if (image != shm::kNoSlot && registry().images[image].desired.state.load() == shm::Desired::kClosing) data_plane->finish_image(image);
        return;
      default: data_plane->ring_all(); return;
    }
  }

  Input& in_;
  std::vector<std::int64_t> ids_;
};
}  // namespace

void run(Bytes input) {
  Input in{input};
  World world{in};
  for (int steps = 0; steps < 300 && !in.is_empty(); ++steps) world.step();
  world.turn();
}

}  // namespace thalweg::fuzz
