#pragma once
#include <nmmintrin.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "controlplane/log/batch.hpp"
#include "controlplane/log/crc32c.hpp"
#include "controlplane/log/record.hpp"

// Writing records fast: what append() spends its time on. Internal to controlplane/log.
namespace thalweg::log {

// Stored bytes up to which copying and summing up are one pass. Beyond, memcpy() and the three lanes of crc32c() are faster than a word at a time.
inline constexpr std::size_t kOnePassMax = 512;

[[nodiscard]] constexpr RecordWord record_word(std::int32_t length, std::uint32_t crc) noexcept {
  return static_cast<std::uint32_t>(length) | static_cast<RecordWord>(crc) << 32U;
}

// The CRC over `covered` bytes behind the first word of a record whose CRC came out as 0: with kSalt set. A CRC of a change of one bit is never 0.
[[nodiscard]] inline std::uint32_t salted_crc(std::byte* at, std::size_t covered) noexcept {
  at[offsetof(RecordHeader, flags)] |= std::byte{record_flag::kSalt};
  return crc32c({at + sizeof(RecordWord), covered});
}

// Copies into zeroed memory, up to 7 zeros more than `bytes`, and goes on with `crc` (not yet inverted) over what it copies.
[[nodiscard]] inline std::uint64_t copy_with_crc(std::byte* to, const std::byte* from, std::size_t bytes, std::uint64_t crc) noexcept {
  const std::size_t words = bytes / 8;
  const auto copy_word = [&](std::size_t i) {
    const auto word = load_le<std::uint64_t>(from + 8 * i);
    store_le(to + 8 * i, word);
    crc = _mm_crc32_u64(crc, word);
  };
  std::size_t done = 0;
  for (; done + 4 <= words; done += 4) {
    copy_word(done);
    copy_word(done + 1);
    copy_word(done + 2);
    copy_word(done + 3);
  }
  for (; done < words; ++done) copy_word(done);
  const std::size_t left = bytes % 8;
  if (left == 0) return crc;
  std::uint64_t rest = 0;
  if (words > 0) rest = load_le<std::uint64_t>(from + bytes - 8) >> (64 - 8 * left);  // the last 8 bytes, less those that were copied
  else std::memcpy(&rest, from, left);
  store_le(to + 8 * words, rest);
  auto narrow = static_cast<std::uint32_t>(crc);
  if ((left & 4U) != 0) {
    narrow = _mm_crc32_u32(narrow, static_cast<std::uint32_t>(rest));
    rest >>= 32U;
  }
  if ((left & 2U) != 0) {
    narrow = _mm_crc32_u16(narrow, static_cast<std::uint16_t>(rest));
    rest >>= 16U;
  }
  if ((left & 1U) != 0) narrow = _mm_crc32_u8(narrow, static_cast<std::uint8_t>(rest));
  return narrow;
}

// put_record(), to be part of a loop. The header goes in words, not in fields: what was stored in pieces cannot be loaded as a whole without waiting.
[[nodiscard]] inline RecordWord put_record_inline(std::byte* at, const RecordHeader& header, std::span<const std::byte> key, std::span<const std::byte> payload) noexcept {
  const std::size_t stored = key.size() + payload.size();
  const std::uint64_t words[]{header.entry, static_cast<std::uint64_t>(header.timestamp_ns), header.stream | static_cast<std::uint64_t>(static_cast<std::uint32_t>(header.type)) << 32U,
                              header.original_length | static_cast<std::uint64_t>(header.codec) << 32U | static_cast<std::uint64_t>(header.flags) << 40U |
                                  static_cast<std::uint64_t>(header.key_length) << 48U};
  std::uint64_t crc = 0xFFFFFFFFU;
  for (std::size_t i = 0; i < 4; ++i) {
    store_le(at + sizeof(RecordWord) + 8 * i, words[i]);
    crc = _mm_crc32_u64(crc, words[i]);
  }
  std::byte* const body = at + kRecordHeaderBytes;
  if (key.empty() && stored <= kOnePassMax) {
    crc = copy_with_crc(body, payload.data(), stored, crc);
  } else {
    if (!key.empty()) std::memcpy(body, key.data(), key.size());
    if (!payload.empty()) std::memcpy(body + key.size(), payload.data(), payload.size());
    crc = ~crc32c({body, stored}, ~static_cast<std::uint32_t>(crc));
  }
  std::uint32_t sum = ~static_cast<std::uint32_t>(crc);
  if (sum == 0) [[unlikely]] sum = salted_crc(at, kRecordHeaderBytes - sizeof(RecordWord) + stored);
  return record_word(static_cast<std::int32_t>(stored), sum);
}

// Where a run of records begins.
struct RunStart {
  std::uint64_t entry{};         // number of its first record
  std::int64_t timestamp_ns{};   // no record is older
  bool begins_batch{true};
  bool ends_batch{true};
};

// What writing it gave.
struct Run {
  RecordWord first_word{};       // of its first record; publishing it shows all of them
  std::uint64_t bytes{};
  std::uint64_t stored_bytes{};
  std::uint64_t original_bytes{};
  std::int64_t first_timestamp_ns{};
  std::int64_t last_timestamp_ns{};
  std::uint32_t codecs{};        // bit n: there is a record of codec n
};

// What put_run() does with a record that is not compressed, has no key and is small: nearly every one. `flags`: of a batch's begin and end.
[[nodiscard]] inline RecordWord put_small_record(std::byte* at, const Entry& entry, std::uint64_t number, std::int64_t timestamp_ns, std::uint64_t flags) noexcept {
  const std::size_t stored = entry.payload.size();
  const std::uint64_t words[]{number, static_cast<std::uint64_t>(timestamp_ns), entry.stream | static_cast<std::uint64_t>(static_cast<std::uint32_t>(entry.type)) << 32U, stored | flags << 40U};
  std::uint64_t crc = 0xFFFFFFFFU;
  for (std::size_t i = 0; i < 4; ++i) {
    store_le(at + sizeof(RecordWord) + 8 * i, words[i]);
    crc = _mm_crc32_u64(crc, words[i]);
  }
  std::uint32_t sum = ~static_cast<std::uint32_t>(copy_with_crc(at + kRecordHeaderBytes, entry.payload.data(), stored, crc));
  if (sum == 0) [[unlikely]] sum = salted_crc(at, kRecordHeaderBytes - sizeof(RecordWord) + stored);
  return record_word(static_cast<std::int32_t>(stored), sum);
}

// Writes all records of `batch` one behind the other, and publishes all but the first. `now` says the time of entries that have none: asked at most once.
// `each(i, entry, number, timestamp_ns, offset)` is called for each, in their order. Preconditions: not empty; zeroed memory with room for all.
template <typename Now, typename Each>
[[nodiscard]] inline Run put_run(std::byte* const first, const StoredBatch& batch, const RunStart& start, Now now, Each each) noexcept {
  constexpr std::size_t kAhead = 512;  // bytes: the CPU's own prefetcher stops at each page
  Run run{.first_word = 0, .bytes = 0, .stored_bytes = 0, .original_bytes = 0, .first_timestamp_ns = 0, .last_timestamp_ns = 0, .codecs = 0};
  std::int64_t now_ns = 0;
  bool is_now_known = false;
  std::int64_t timestamp_ns = start.timestamp_ns;
  std::uint64_t stored_bytes = 0;
  std::byte* at = first;
  const std::size_t count = batch.size();
  const bool is_compressed = batch.is_compressed();
  for (std::size_t i = 0; i < count; ++i) {
    const Entry& entry = batch.entry(i);
    if (!entry.timestamp_ns && !is_now_known) {
      now_ns = now();
      is_now_known = true;
    }
    timestamp_ns = std::max(timestamp_ns, entry.timestamp_ns ? *entry.timestamp_ns : now_ns);
    const bool begins = start.begins_batch && i == 0;
    const bool ends = start.ends_batch && i + 1 == count;
    __builtin_prefetch(at + kAhead, 1);
    RecordWord word = 0;
    if (!is_compressed && entry.key.empty() && entry.payload.size() <= kOnePassMax) [[likely]] {
      word = put_small_record(at, entry, start.entry + i, timestamp_ns, static_cast<std::uint64_t>(begins) * record_flag::kBeginBatch + static_cast<std::uint64_t>(ends) * record_flag::kEndBatch);
      stored_bytes += entry.payload.size();
    } else {
      const RecordHeader header = batch.header(i, start.entry + i, timestamp_ns, begins, ends);
      word = put_record(at, header, entry.key, batch.payload(i).bytes);
      stored_bytes += static_cast<std::uint32_t>(header.length);
      run.original_bytes += header.original_length - static_cast<std::uint32_t>(header.length);  // what compression saved
      run.codecs |= 1U << header.codec;
    }
    if (i == 0) {
      run.first_word = word;
      run.first_timestamp_ns = timestamp_ns;
    } else {
      publish_record(at, word);
    }
    each(i, entry, start.entry + i, timestamp_ns, static_cast<std::uint64_t>(at - first));
    at += record_span(static_cast<std::uint32_t>(word));
  }
  if (!is_compressed) run.codecs = 1U << static_cast<unsigned>(Codec::kNone);
  run.bytes = static_cast<std::uint64_t>(at - first);
  run.stored_bytes = stored_bytes;
  run.original_bytes += stored_bytes;
  run.last_timestamp_ns = timestamp_ns;
  return run;
}

}  // namespace thalweg::log
