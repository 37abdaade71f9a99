// Counters over metadata and values that clients scribble on: reader, allocator, and the recovery of a restarted control plane.
#include "dataplane/shm/counters.hpp"

#include "tests/fuzz/input.hpp"

namespace thalweg::fuzz {
namespace {
using namespace shm;
constexpr std::size_t kCount = 8;

void read_all(const CountersReader& reader, std::span<std::byte> metadata) {
  int visited = 0;
  reader.for_each([&](const CountersReader::View& view) {
    ++visited;
    require(view.id >= 0 && view.id < reader.capacity(), "ids are in range");
    require(view.label.size() <= kCounterLabelMax && view.key.size() == kCounterKeyMax, "label and key fit");
    const auto* const end = reinterpret_cast<const std::byte*>(view.label.data()) + view.label.size();
    require(end <= metadata.data() + metadata.size(), "the label lies in the metadata");
  });
  require(visited <= reader.capacity(), "each counter once");
  for (std::int32_t id : {-1, 0, 7, 8, 1 << 30}) static_cast<void>(reader.find(id));
}
}  // namespace

void run(Bytes input) {
  Input in{input};
  const GuardedMemory metadata{kCount * kCounterMetadataLength};
  const GuardedMemory values{kCount * kCounterValueLength};
  CountersManager manager{metadata.bytes(), values.bytes(), 1000};
  std::int64_t now_ms = 1;
  while (!in.is_empty()) {
    switch (in.choice(7)) {
      case 0: {
        CountersManager::Spec spec;
        spec.type_id = in.take<std::int16_t>();
        spec.registration_id = in.take<std::int64_t>();
        spec.key = in.short_slice();
        spec.label = text_of(in.long_slice());
        const auto id = manager.allocate(spec, now_ms);
        if (id) require(*id >= 0 && *id < manager.capacity(), "an allocated id is in range");
        break;
      }
      case 1: manager.free(in.take<std::int8_t>(), now_ms); break;
      case 2: manager.update_label(static_cast<std::int32_t>(in.choice(kCount)), text_of(in.long_slice())); break;
      case 3: scribble(in, metadata.bytes()); break;
      case 4: scribble(in, values.bytes()); break;
      case 5: now_ms += in.take<std::uint16_t>(); break;
      default:
        manager = CountersManager{metadata.bytes(), values.bytes(), 1000};
        manager.recover(now_ms);
        break;
    }
    read_all(manager, metadata.bytes());
  }
}

}  // namespace thalweg::fuzz
