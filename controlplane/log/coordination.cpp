#include "controlplane/log/coordination.hpp"

#include <algorithm>
#include <cstring>

#include "controlplane/log/wide_atomic.hpp"

namespace thalweg::log {
namespace {

template <typename T>
std::atomic_ref<T> ref(T& value) noexcept {
  return std::atomic_ref{value};
}

// The two words one after the other: a reader in between sees a mixture, which only the loops below may, as they compare.
WidePair snapshot(DurablePoint& point) noexcept {
  return {ref(point.entry).load(std::memory_order_acquire), ref(point.position).load(std::memory_order_acquire)};
}

Result<void> check_page(const CoordinationPage& page, const std::string& path, std::uint64_t size) {
  if (size < kPageBytes) return fail(ErrorCode::kIo, path + ": too short for a coordination page");
  if (page.magic != kCoordinationMagic) return fail(ErrorCode::kIo, path + ": bad magic at offset 0");
  if (page.version > kFormatVersion) return fail(ErrorCode::kVersion, path + ": format version " + std::to_string(page.version) + " is newer than this program");
  if (page.version == 0 || page.durable.entry > INT64_MAX || page.durable.position > INT64_MAX) return fail(ErrorCode::kIo, path + ": impossible values");
  return {};
}

}  // namespace

Result<Coordination> Coordination::open_for_reading(FileSystem& files, const std::string& directory) {
  const std::string path = directory + "/" + kCoordinationName;
  auto file = files.open(path, OpenMode::kRead);
  if (!file) return tl::unexpected{std::move(file.error())};
  const auto size = (*file)->size();
  if (!size) return tl::unexpected{size.error()};
  if (*size < kPageBytes) return fail(ErrorCode::kIo, path + ": too short for a coordination page");
  auto mapping = (*file)->map(kPageBytes);
  if (!mapping) return tl::unexpected{std::move(mapping.error())};
  Coordination opened{std::move(*file), std::move(*mapping)};
  if (auto checked = check_page(opened.page(), path, *size); !checked) return tl::unexpected{std::move(checked.error())};
  return opened;
}

Result<Coordination> Coordination::open_or_create(FileSystem& files, const std::string& directory, std::uint32_t shard, std::int64_t epoch_ns) {
  const std::string path = directory + "/" + kCoordinationName;
  bool was_moved_aside = false;
  if (auto existing = read_file(files, path, 1U << 20)) {
    existing->resize(kPageBytes);
    CoordinationPage page;
    std::memcpy(&page, existing->data(), kPageBytes);
    auto checked = check_page(page, path, existing->size());
    if (!checked && checked.error().code == ErrorCode::kVersion) return tl::unexpected{std::move(checked.error())};
    const bool is_blank = std::all_of(existing->begin(), existing->end(), [](std::byte b) { return b == std::byte{0}; });
    if (checked && page.shard != shard)
      return fail(ErrorCode::kInvalidArgument, path + ": this is shard " + std::to_string(page.shard) + ", not " + std::to_string(shard), "look at the shard number and the directory");
    if (!is_blank && !checked) {  // a blank one: the machine stopped before the first words of a new page were written
      if (auto renamed = files.rename(path, path + ".corrupt." + std::to_string(epoch_ns)); !renamed) return tl::unexpected{std::move(renamed.error())};
      was_moved_aside = true;
    }
  } else if (existing.error().code != ErrorCode::kNotFound) {
    return tl::unexpected{std::move(existing.error())};
  }
  auto file = files.open(path, OpenMode::kCreate);
  if (!file) return tl::unexpected{std::move(file.error())};
  if (auto allocated = (*file)->allocate(kPageBytes); !allocated) return tl::unexpected{std::move(allocated.error())};
  auto mapping = (*file)->map(kPageBytes);
  if (!mapping) return tl::unexpected{std::move(mapping.error())};
  Coordination opened{std::move(*file), std::move(*mapping)};
  opened.was_moved_aside_ = was_moved_aside;
  if (opened.page().magic != kCoordinationMagic) {
    opened.is_new_ = true;
    opened.page().version = kFormatVersion;
    opened.page().shard = shard;
    ref(opened.page().magic).store(kCoordinationMagic, std::memory_order_release);
  }
  return opened;
}

DurablePoint Coordination::durable() const noexcept {
  for (;;) {
    // The point only moves forward, so the same pair read twice was there as a pair. A mapping for reading cannot compare and swap.
    const WidePair first = snapshot(page().durable);
    if (first == snapshot(page().durable)) return {first.first, first.second};
  }
}

void Coordination::advance_durable(const DurablePoint& to, std::int64_t timestamp_ns, std::int64_t now_ns) noexcept {
  CoordinationPage& shared = page();
  // Never back: recovery takes it for the time of the last durable entry, and gives none below it.
  for (std::int64_t seen = ref(shared.durable_timestamp_ns).load(std::memory_order_relaxed);
       seen < timestamp_ns && !ref(shared.durable_timestamp_ns).compare_exchange_weak(seen, timestamp_ns, std::memory_order_relaxed);) {}
  auto* const at = reinterpret_cast<WidePair*>(&shared.durable);
  for (WidePair seen = snapshot(shared.durable); seen.first < to.entry || seen.second < to.position;) {
    const WidePair before = wide_compare_and_swap(at, seen, {to.entry, to.position});
    if (before == seen) break;
    seen = before;
  }
  ref(shared.last_sync_ns).store(now_ns, std::memory_order_relaxed);
}

void Coordination::reset_durable(const DurablePoint& to, std::int64_t timestamp_ns, std::int64_t now_ns) noexcept {
  page().durable = to;
  page().durable_timestamp_ns = timestamp_ns;
  page().last_sync_ns = now_ns;
  page().failed_syncs = 0;
}

bool Coordination::has_failed_sync() const noexcept { return ref(page().failed_syncs).load(std::memory_order_acquire) != 0; }

void Coordination::count_failed_sync() noexcept { ref(page().failed_syncs).fetch_add(1, std::memory_order_acq_rel); }

std::uint64_t Coordination::change_count() const noexcept { return ref(page().change_count).load(std::memory_order_acquire); }

std::uint64_t Coordination::active_ordinal() const noexcept { return ref(page().active_ordinal).load(std::memory_order_acquire); }

void Coordination::set_active_ordinal(std::uint64_t ordinal) noexcept { ref(page().active_ordinal).store(ordinal, std::memory_order_release); }

void Coordination::count_change() noexcept { ref(page().change_count).fetch_add(1, std::memory_order_acq_rel); }

}  // namespace thalweg::log
