#include "controlplane/log/batch.hpp"

#include "dataplane/base/time.hpp"

namespace thalweg::log {
namespace {

tl::unexpected<Error> too_large(std::span<const Entry> entries, std::uint32_t entry_bytes_max) {
  for (const Entry& entry : entries) {
    const std::size_t bytes = entry.key.size() + entry.payload.size();
    if (entry.key.size() > kKeyMax) return fail(ErrorCode::kInvalidArgument, "key of " + std::to_string(entry.key.size()) + " bytes: at most " + std::to_string(kKeyMax) + " are possible");
    if (bytes > entry_bytes_max)
      return fail(ErrorCode::kInvalidArgument, "entry of " + std::to_string(bytes) + " bytes: at most " + std::to_string(entry_bytes_max) + " fit (payload_max_bytes, segment_bytes)");
  }
  return fail(ErrorCode::kInvalidArgument, "entry too large");
}

}  // namespace

Result<std::uint64_t> measure(std::span<const Entry> entries, std::uint32_t entry_bytes_max) {
  const std::uint64_t sum = measure_or_too_large(entries, entry_bytes_max);
  if (sum == kTooLarge) [[unlikely]] return too_large(entries, entry_bytes_max);
  return sum;
}

std::uint64_t measure(const StoredBatch& batch) noexcept {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < batch.size(); ++i) sum += record_span(batch.stored_bytes(i));
  return sum;
}

StoredBatch compress_batch(std::span<const Entry> entries, const CompressionOptions& options, Statistics& statistics) {
  thread_local std::vector<StoredPayload> payloads;
  thread_local std::vector<std::byte> memory;
  std::size_t bytes = 0;
  const auto is_worth_it = [&](const Entry& entry) { return !entry.payload.empty() && entry.payload.size() >= options.min_bytes; };
  for (const Entry& entry : entries)
    if (is_worth_it(entry)) bytes += entry.payload.size();
  if (bytes == 0) return StoredBatch{entries};
  if (memory.size() < bytes) memory.resize(bytes);
  payloads.clear();
  std::span<std::byte> free{memory};
  const std::int64_t begin_ns = monotonic_ns();
  for (const Entry& entry : entries) {
    payloads.push_back({entry.payload, Codec::kNone});
    if (!is_worth_it(entry)) continue;
    const std::size_t length = compress(options.codec, options.level, entry.payload, free);
    if (length == 0) {
      statistics.add(Statistic::kCompressionSkipped);
      continue;
    }
    payloads.back() = {free.first(length), options.codec};
    free = free.subspan(length);
    statistics.add(Statistic::kCompressedEntries);
    statistics.add(Statistic::kCompressedFromBytes, entry.payload.size());
    statistics.add(Statistic::kCompressedToBytes, length);
  }
  statistics.add(Statistic::kCompressionNs, static_cast<std::uint64_t>(monotonic_ns() - begin_ns));
  return StoredBatch{entries, payloads};
}

}  // namespace thalweg::log
