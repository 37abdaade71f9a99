// Error log and loss report: readers over anything, writers that continue behind what a predecessor, or a mad client, left.
#include "dataplane/shm/error_log.hpp"
#include "dataplane/shm/loss_report.hpp"
#include "tests/fuzz/input.hpp"

namespace thalweg::fuzz {
namespace {
bool lies_in(std::string_view text, std::span<const std::byte> section) {
  const auto* const p = reinterpret_cast<const std::byte*>(text.data());
  return text.empty() || (p >= section.data() && p + text.size() <= section.data() + section.size());
}

void read_errors(std::span<const std::byte> section) {
  std::size_t entries = 0;
  shm::read_error_log(section, [&](const shm::ErrorLogEntry& entry) {
    ++entries;
    require(lies_in(entry.text, section), "an error's text lies in the log");
  });
  require(entries <= section.size() / 24, "no more entries than fit");
}

void read_losses(std::span<const std::byte> section) {
  shm::read_loss_report(section, [](void* context, const shm::LossReportEntry& entry) {
    const auto& all = *static_cast<const std::span<const std::byte>*>(context);
    require(lies_in(entry.channel, all) && lies_in(entry.source, all), "texts lie in the report");
  }, &section);
}

void write_errors(Input& in, std::span<std::byte> section) {
  shm::DistinctErrorLog log{section};
  while (!in.is_empty()) {
    if (in.flag()) {
      const auto code = in.take<std::int8_t>();
      log.record(code, text_of(in.long_slice()), in.take<std::int32_t>());
    } else {
      scribble(in, section);
    }
    read_errors(section);
  }
}

void write_losses(Input& in, std::span<std::byte> section) {
  shm::LossReport report{section};
  std::int64_t entry = -1;
  while (!in.is_empty()) {
    switch (in.choice(4)) {
      case 0: {
        const Bytes channel = in.long_slice();
        entry = report.create_entry(in.take<std::int32_t>(), in.take<std::int32_t>(), 1, 2, text_of(channel), text_of(in.short_slice()));
        break;
      }
      case 1:
        if (entry >= 0) report.record(entry, in.take<std::int32_t>(), in.take<std::int32_t>());
        break;
      case 2: scribble(in, section); break;
      default:
        report = shm::LossReport{section};
        report.recover();
        break;
    }
    read_losses(section);
  }
}
}  // namespace

void run(Bytes input) {
  Input in{input};
  const unsigned kind = in.choice(4);
  if (kind >= 2) {
    // The input is the section: whole words, as mappings are.
    const Bytes raw = in.rest();
    const GuardedMemory section{align_up(raw.size(), kCacheLine)};
    std::copy(raw.begin(), raw.end(), section.data());
    if (kind == 2) read_errors(section.bytes());
    if (kind == 3) read_losses(section.bytes());
    return;
  }
  const GuardedMemory section{2048};
  if (kind == 0) {
    write_errors(in, section.bytes());
  } else {
    write_losses(in, section.bytes());
  }
}

}  // namespace thalweg::fuzz
