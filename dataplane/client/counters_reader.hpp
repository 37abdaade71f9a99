#pragma once
#include <optional>
#include <string>

#include "dataplane/shm/counters.hpp"

namespace thalweg::client {

// Every counter of a driver and its clients, for reading (client-protocol 5.1 to 5.8). A view: valid as long as the Client or Cnc that it
// came from. Any thread. A View's key and label lie in shared memory and change when the counter is given to somebody else; text() copies.
class CountersReader : public shm::CountersReader {
 public:
  CountersReader() noexcept = default;
  explicit CountersReader(const shm::CountersReader& reader) noexcept : shm::CountersReader{reader} {}

  using shm::CountersReader::find;
  // The first allocated counter of a type that belongs to a registration; nullopt: there is none.
  [[nodiscard]] std::optional<View> find(std::int32_t type_id, std::int64_t registration_id) const noexcept;
  // Calls visit(View) for each allocated counter of a type.
  template <typename Visit>
  void for_each_of_type(std::int32_t type_id, Visit&& visit) const {
    for_each([&](const View& view) {
      if (view.type_id == type_id) visit(view);
    });
  }
  // Whether a counter is still the one that `view` was taken of: ids are used again some time after they are freed.
  [[nodiscard]] bool is_same(const View& view) const noexcept;

  // Of any record that was used at least once, freed or not; -1, 0 or empty for an id that is none.
  [[nodiscard]] std::int32_t type_id(std::int32_t id) const noexcept;
  [[nodiscard]] std::int64_t value(std::int32_t id) const noexcept;
  [[nodiscard]] std::int64_t registration_id(std::int32_t id) const noexcept;
  [[nodiscard]] std::int64_t owner_id(std::int32_t id) const noexcept;      // client id; -1: nobody's
  [[nodiscard]] std::int64_t reference_id(std::int32_t id) const noexcept;
  [[nodiscard]] std::string label(std::int32_t id) const;
  // When a freed id may be used again, epoch ms; INT64_MAX while it is allocated.
  [[nodiscard]] std::int64_t reuse_deadline_ms(std::int32_t id) const noexcept;
  // State of an id; kUnused for one that is none.
  [[nodiscard]] shm::CounterState state(std::int32_t id) const noexcept;

 private:
  [[nodiscard]] bool is_id(std::int32_t id) const noexcept { return id >= 0 && id < capacity(); }
  [[nodiscard]] std::byte* record(std::int32_t id) const noexcept { return metadata_.data() + static_cast<std::size_t>(id) * shm::kCounterMetadataLength; }
  [[nodiscard]] std::int64_t word(std::int32_t id, std::size_t offset) const noexcept;
};

}  // namespace thalweg::client
