#include "controlplane/log/segment.hpp"

#include <algorithm>
#include <cstring>

namespace thalweg::log {
namespace {

constexpr std::string_view kTemporarySuffix = ".tmp";

Result<SegmentInfo> read_info(FileSystem& files, const std::string& path, std::uint64_t ordinal) {
  auto file = files.open(path, OpenMode::kRead);
  if (!file) return tl::unexpected{std::move(file.error())};
  std::vector<std::byte> pages(2 * kPageBytes);
  const auto read = (*file)->read_at(pages, 0);
  if (!read) return tl::unexpected{read.error()};
  auto header = decode_header(std::span{pages}.first(std::min<std::size_t>(*read, kPageBytes)), path);
  if (!header) return tl::unexpected{std::move(header.error())};
  if (header->ordinal != ordinal) return fail(ErrorCode::kIo, path + ": segment header: ordinal " + std::to_string(header->ordinal) + " at offset 24 is another segment's");
  const auto size = (*file)->size();
  if (!size) return tl::unexpected{size.error()};
  if (*size < file_bytes(*header))
    return fail(ErrorCode::kIo, path + ": only " + std::to_string(*size) + " of " + std::to_string(file_bytes(*header)) + " bytes are there");
  return SegmentInfo{path, *header, decode_seal(std::span{pages}.subspan(kSealOffset), ordinal)};
}

}  // namespace

Result<SegmentInfo> read_segment_info(FileSystem& files, const std::string& directory, std::uint64_t ordinal) {
  return read_info(files, directory + "/" + segment_name(ordinal), ordinal);
}

std::string temporary_path(const std::string& directory, std::uint64_t ordinal) { return directory + "/" + segment_name(ordinal) + std::string{kTemporarySuffix}; }

Result<SegmentListing> list_segments(FileSystem& files, const std::string& directory) {
  const auto names = files.list(directory);
  if (!names) return tl::unexpected{names.error()};
  SegmentListing listing;
  for (const std::string& name : *names) {
    const std::string path = directory + "/" + name;
    if (name.ends_with(kTemporarySuffix)) listing.temporaries.push_back(path);
    const auto ordinal = parse_segment_name(name);
    if (!ordinal) continue;
    auto info = read_info(files, path, *ordinal);
    if (info) listing.segments.push_back(std::move(*info));
    else if (info.error().code == ErrorCode::kVersion) return tl::unexpected{std::move(info.error())};
    else if (info.error().code != ErrorCode::kNotFound) listing.damaged.push_back({path, *ordinal, std::move(info.error())});  // not found: deleted just now
  }
  return listing;
}

Result<std::shared_ptr<Segment>> Segment::open(FileSystem& files, SegmentInfo info, OpenMode mode) {
  auto file = files.open(info.path, mode);
  if (!file) return tl::unexpected{std::move(file.error())};
  auto mapping = (*file)->map(file_bytes(info.header));
  if (!mapping) return tl::unexpected{std::move(mapping.error())};
  return std::shared_ptr<Segment>{new Segment{std::move(info), std::move(*file), std::move(*mapping)}};
}

Result<std::shared_ptr<Segment>> Segment::create(FileSystem& files, const std::string& directory, const SegmentHeader& header) {
  const std::string path = directory + "/" + segment_name(header.ordinal);
  const std::string temporary = temporary_path(directory, header.ordinal);
  auto file = files.open(temporary, OpenMode::kCreateNew);
  if (!file) return tl::unexpected{std::move(file.error())};
  const auto prepare = [&]() -> Result<std::unique_ptr<Mapping>> {
    if (auto allocated = (*file)->allocate(file_bytes(header)); !allocated) return tl::unexpected{std::move(allocated.error())};
    const Page page = encode(header);
    if (auto written = (*file)->write_at(page, 0); !written) return tl::unexpected{std::move(written.error())};
    if (auto synced = (*file)->sync(); !synced) return tl::unexpected{std::move(synced.error())};
    return (*file)->map(file_bytes(header));
  };
  auto mapping = prepare();
  if (!mapping) {
    static_cast<void>(files.remove(temporary));  // the first error tells more; what stays is removed at the next open
    return tl::unexpected{std::move(mapping.error())};
  }
  std::shared_ptr<Segment> segment{new Segment{SegmentInfo{path, header, std::nullopt}, std::move(*file), std::move(*mapping)}};
  segment->is_published_ = false;
  return segment;
}

Result<void> Segment::set_header(const SegmentHeader& header) {
  if (auto written = file_->write_at(encode(header), 0); !written) return written;
  info_.header = header;
  return file_->sync();
}

Result<void> Segment::publish(FileSystem& files) {
  const std::string temporary = info_.path + std::string{kTemporarySuffix};
  if (auto renamed = files.rename(temporary, info_.path); !renamed) {
    static_cast<void>(files.remove(temporary));  // as in create()
    return renamed;
  }
  auto synced = files.sync_directory(parent_directory(info_.path));
  if (!synced) static_cast<void>(files.remove(info_.path));  // nothing is in it yet
  is_published_ = synced.has_value();
  return synced;
}

Result<void> Segment::publish_unsynced(FileSystem& files, const SegmentHeader& header) {
  const std::string temporary = info_.path + std::string{kTemporarySuffix};
  auto done = file_->write_at(encode(header), 0);
  if (done) done = files.rename(temporary, info_.path);
  if (!done) {
    static_cast<void>(files.remove(temporary));  // as in create()
    return done;
  }
  info_.header = header;
  is_published_ = true;
  return {};
}

Result<std::shared_ptr<Segment>> Segment::open_temporary(FileSystem& files, const std::string& directory, const SegmentHeader& header) {
  const std::string temporary = temporary_path(directory, header.ordinal);
  auto file = files.open(temporary, OpenMode::kWrite);
  if (!file) return tl::unexpected{std::move(file.error())};
  Page page{};
  const auto read = (*file)->read_at(page, 0);
  if (!read) return tl::unexpected{read.error()};
  if (!is_made_ahead(page) && !decode_header(page, temporary)) return fail(ErrorCode::kIo, temporary + ": half made");
  SegmentHeader found;
  std::memcpy(&found, page.data(), sizeof found);
  if (found.ordinal != header.ordinal || found.segment_bytes != header.segment_bytes || found.kind != header.kind) return fail(ErrorCode::kIo, temporary + ": made for something else");
  auto mapping = (*file)->map(file_bytes(header));
  if (!mapping) return tl::unexpected{std::move(mapping.error())};
  std::shared_ptr<Segment> segment{new Segment{SegmentInfo{directory + "/" + segment_name(header.ordinal), found, std::nullopt}, std::move(*file), std::move(*mapping)}};
  segment->is_published_ = false;
  return segment;
}

Result<std::uint64_t> Segment::content_end(std::uint64_t from) {
  const std::uint64_t size = header().segment_bytes;
  constexpr std::uint64_t kStep = 1U << 20;
  std::uint64_t last = from;
  for (std::uint64_t at = from; at < size;) {
    const auto next = file_->next_data(kDataOffset + at);
    if (!next) return tl::unexpected{next.error()};
    if (!*next || **next - kDataOffset >= size) break;
    at = std::max(at, **next - kDataOffset);
    const std::uint64_t to = std::min(at + kStep, size);
    last = std::max(last, end_of_content(data(), at, to) > at ? end_of_content(data(), at, to) : last);
    at = to;
  }
  return last;
}

Result<void> Segment::seal(const SegmentSummary& summary, bool is_data_synced, std::int64_t closed_ns) {
  SegmentSeal seal;
  seal.ordinal = header().ordinal;
  seal.is_data_synced = is_data_synced ? 1 : 0;
  seal.closed_ns = closed_ns;
  seal.summary = summary;
  if (auto written = file_->write_at(encode(seal), kSealOffset); !written) return written;
  info_.seal = seal;
  return {};
}

Result<void> Segment::unseal() {
  if (auto written = file_->write_at(Page{}, kSealOffset); !written) return written;
  info_.seal.reset();
  return file_->sync();
}

}  // namespace thalweg::log
