#include "controlplane/host/log_store.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <unordered_set>

namespace thalweg::host {
namespace {

// Logs of one size that are made for the pool at a time: a pool that does not fit is found out at its first log, not at its last.
constexpr std::uint32_t kPoolMakingMax = 2;

}  // namespace

LogStore::LogStore(Options options, shm::RegistryFile& registry, Bells& bells, Worker& worker)
    : options_{std::move(options)}, bells_{&bells}, worker_{&worker}, table_{registry->logs} {
  for (const PoolSize& size : options_.pool) pools_.push_back({size, 0, 0});
}

std::optional<std::uint32_t> LogStore::acquire(const LogRequest& request) {
  if (auto pooled = take_from_pool(request)) return pooled;
  const auto slot = table_.allocate();
  if (!slot) return std::nullopt;
  if (request.use == shm::LogUse::kImage) charge_image(*slot, request.metadata.term_length);
  create(*slot, {.directory = options_.directory,
                 .use = request.use,
                 .id = request.id,
                 .term_length = request.metadata.term_length,
                 .hugetlbfs = options_.hugetlbfs,
                 .first_position = request.first_position,
                 .metadata = request.metadata});
  return slot;
}

bool LogStore::has_room_for_image(std::int32_t term_length) const noexcept {
  const std::uint64_t length = shm::log_file_length(term_length, shm::kDefaultPageSize);
  return image_bytes_ <= options_.image_limit_bytes && length <= options_.image_limit_bytes - image_bytes_;
}

void LogStore::charge_image(std::uint32_t slot, std::int32_t term_length) {
  const std::uint64_t length = shm::log_file_length(term_length, shm::kDefaultPageSize);
  table_.record(slot).image_bytes = length;
  image_bytes_ += length;
}

void LogStore::free_slot(std::uint32_t slot) {
  image_bytes_ -= table_.record(slot).image_bytes;
  table_.release(slot);
}

std::optional<std::uint32_t> LogStore::take_from_pool(const LogRequest& request) {
  const auto fits = [&](std::uint32_t index) { return table_.record(index).file.term_length == request.metadata.term_length; };
  const auto found = std::find_if(ready_.begin(), ready_.end(), fits);
  if (found == ready_.end()) return std::nullopt;
  const std::uint32_t index = *found;
  Record& record = table_.record(index);
  auto& desired = table_.slot(index).desired;
  const std::string from = shm::log_path(options_.directory, shm::LogUse::kPool, desired.id);
  const std::string to = shm::log_path(options_.directory, request.use, request.id);
  if (std::rename(from.c_str(), to.c_str()) != 0) return std::nullopt;
  ready_.erase(found);
  count_pooled(record.file.term_length, -1);
  if (request.use == shm::LogUse::kImage) charge_image(index, record.file.term_length);
  init_metadata(record.file, request.metadata);
  desired.use = request.use;
  desired.id = request.id;
  if (!record.file.is_on_hugepages) record.file.path = to;
  return index;
}

LogStore::Pool* LogStore::pool_of(std::int32_t term_length) noexcept {
  const auto found = std::find_if(pools_.begin(), pools_.end(), [&](const Pool& pool) { return pool.size.term_length == term_length; });
  return found == pools_.end() ? nullptr : &*found;
}

void LogStore::count_pooled(std::int32_t term_length, int change) noexcept {
  if (Pool* pool = pool_of(term_length)) pool->have += static_cast<std::uint32_t>(change);
}

// One pool log less: none is tried again before a log is released, so that a full disk does not keep the worker busy.
void LogStore::fail_pooled(std::uint32_t slot, const Error& error) {
  is_pool_failing_ = true;
  if (!has_told_of_pool_) warning_ = fmt::format("log pool: {}; streams get their logs one by one", error.message);
  has_told_of_pool_ = true;
  count_pooled(table_.slot(slot).desired.term_length, -1);
}

// A log on its way through the worker, shared with it.
struct LogStore::Making {
  std::uint32_t slot;
  LogFileSpec spec;
  std::optional<Result<LogFile>> result;
};

void LogStore::create(std::uint32_t slot, LogFileSpec spec) {
  const auto making = std::make_shared<Making>(Making{slot, std::move(spec), std::nullopt});
  worker_->submit([making] { making->result = create_log_file(making->spec); }, [this, making] { go_on_making(making); });
}

// A large log is made in steps that line up behind the others' work each time.
void LogStore::go_on_making(const std::shared_ptr<Making>& making) {
  Result<LogFile>& result = *making->result;
  const bool is_complete = !result || result->allocated_until == result->allocate_end || table_.record(making->slot).is_abandoned;
  if (is_complete) return on_created(making->slot, making->spec.use, making->spec.id, std::move(result));
  worker_->submit(
      [making] {
        auto allocated = allocate_more(making->spec, **making->result);
        if (!allocated) making->result = tl::unexpected{std::move(allocated).error()};
      },
      [this, making] { go_on_making(making); });
}

void LogStore::on_created(std::uint32_t slot, shm::LogUse use, std::int64_t id, Result<LogFile> created) {
  Record& record = table_.record(slot);
  if (use == shm::LogUse::kPool) {
    if (Pool* pool = pool_of(table_.slot(slot).desired.term_length)) --pool->making;
  }
  if (!created) {
    record.status = LogStatus::kFailed;
    record.error = std::move(created).error();
    if (use == shm::LogUse::kPool) fail_pooled(slot, record.error);
    if (record.is_abandoned || use == shm::LogUse::kPool) free_slot(slot);
    return;
  }
  record.file = std::move(*created);
  record.status = LogStatus::kReady;
  bytes_mapped_ += record.file.length;
  auto& desired = table_.slot(slot).desired;
  desired.use = use;
  desired.id = id;
  desired.term_length = record.file.term_length;
  desired.file_length = record.file.length;
  desired.page_size = record.file.page_size;
  desired.on_hugepages = record.file.is_on_hugepages ? 1 : 0;
  desired.is_sparse = record.file.is_sparse ? 1 : 0;
  if (record.is_abandoned) {
    destroy(slot);
    return;
  }
  table_.publish(slot);
  bells_->ring(shm::SlotKind::kLog, slot);
  check_storage();
  if (use == shm::LogUse::kPool) {
    has_told_of_pool_ = false;
    refill();
  }
}

void LogStore::release(std::uint32_t slot) {
  Record& record = table_.record(slot);
  if (record.shares > 0) {
    --record.shares;
    return;
  }
  is_pool_failing_ = false;
  switch (record.status) {
    case LogStatus::kCreating:
      record.is_abandoned = true;
      return;
    case LogStatus::kFailed:
      if (table_.desired(slot) == shm::Desired::kFree) {
        free_slot(slot);
        return;
      }
      [[fallthrough]];
    case LogStatus::kReady:
      record.status = LogStatus::kClosing;
      table_.close(slot);
      bells_->ring(shm::SlotKind::kLog, slot);
      return;
    case LogStatus::kClosing:
      return;
  }
}

void LogStore::service(std::uint32_t slot) {
  if (!table_.is_used(slot)) return;
  Record& record = table_.record(slot);
  const shm::Observed observed = observed_state(table_.slot(slot));
  if (record.status == LogStatus::kClosing) {
    if (observed == shm::Observed::kDone || observed == shm::Observed::kFailed) destroy(slot);
    return;
  }
  const bool is_pooled = table_.slot(slot).desired.use == shm::LogUse::kPool;
  if (observed == shm::Observed::kActive && is_pooled && std::find(ready_.begin(), ready_.end(), slot) == ready_.end()) ready_.push_back(slot);
  const shm::SlotError& trouble = table_.slot(slot).observed.error;
  const bool is_short = observed == shm::Observed::kActive && trouble.code != 0;
  if (is_short && !record.is_short_of_memory) warning_ = std::string{trouble.text, ::strnlen(trouble.text, sizeof trouble.text)};
  record.is_short_of_memory = is_short;
  if (observed == shm::Observed::kFailed && record.status == LogStatus::kReady) {
    const shm::SlotError& error = table_.slot(slot).observed.error;
    record.error = Error{ErrorCode::kIo, std::string{error.text, ::strnlen(error.text, sizeof error.text)}, {}};
    record.status = LogStatus::kFailed;
    if (is_pooled) {
      fail_pooled(slot, record.error);
      record.status = LogStatus::kClosing;
      table_.close(slot);
      bells_->ring(shm::SlotKind::kLog, slot);
    }
  }
}

void LogStore::destroy(std::uint32_t slot) {
  Record& record = table_.record(slot);
  const auto& desired = table_.slot(slot).desired;
  const std::string path = shm::log_path(options_.directory, desired.use, desired.id);
  bytes_mapped_ -= record.file.length;
  auto file = std::make_shared<LogFile>(std::move(record.file));
  auto is_deleted = std::make_shared<bool>(false);
  worker_->submit(
      [file, path, is_deleted, is_gone = record.is_file_gone] {
        *is_deleted = is_gone || delete_log_file(path).has_value();
        file->mapping.reset();
      },
      [this, is_deleted] { failed_deletions_ += *is_deleted ? 0 : 1; });
  free_slot(slot);
}

void LogStore::refill() {
  if (is_pool_failing_) return;
  for (Pool& pool : pools_) {
    while (pool.have < pool.size.count && pool.making < kPoolMakingMax) {
      const auto slot = table_.allocate();
      if (!slot) return;
      ++pool.have;
      ++pool.making;
      table_.slot(*slot).desired.use = shm::LogUse::kPool;
      table_.slot(*slot).desired.term_length = pool.size.term_length;
      create(*slot, {.directory = options_.directory,
                     .use = shm::LogUse::kPool,
                     .id = next_pool_id_++,
                     .term_length = pool.size.term_length,
                     .hugetlbfs = options_.hugetlbfs,
                     .first_position = 0,
                     .metadata = std::nullopt});
    }
  }
}

void LogStore::recover(const std::vector<std::uint32_t>& wanted) {
  table_.recover();
  const std::vector<std::uint32_t> slots = table_.used();
  for (const std::uint32_t index : slots) {
    auto& desired = table_.slot(index).desired;
    Record& record = table_.record(index);
    const bool is_pooled = desired.use == shm::LogUse::kPool;
    if (is_pooled) next_pool_id_ = std::max(next_pool_id_, desired.id + 1);
    auto file = open_log_file(options_.directory, desired.use, desired.id, desired.term_length);
    if (file) {
      // A log on huge pages keeps its first name when it leaves the pool.
      if (file->is_on_hugepages) next_pool_id_ = std::max(next_pool_id_, pool_id_of(file->path) + 1);
      record.file = std::move(*file);
      bytes_mapped_ += record.file.length;
      record.status = LogStatus::kReady;
      if (desired.use == shm::LogUse::kImage) charge_image(index, desired.term_length);
    } else {
      record.error = std::move(file).error();
      record.status = LogStatus::kFailed;
    }
    const auto users = std::count(wanted.begin(), wanted.end(), index);
    if (users > 1) record.shares = static_cast<std::uint32_t>(users - 1);
    const bool is_wanted = is_pooled || users > 0;
    if (is_pooled && table_.desired(index) == shm::Desired::kActive && record.status == LogStatus::kReady) count_pooled(desired.term_length, 1);
    if (table_.desired(index) == shm::Desired::kClosing) {
      if (!is_wanted) give_name_back(index);
      record.status = LogStatus::kClosing;
    } else if (!is_wanted || record.status == LogStatus::kFailed) {
      if (!is_wanted) give_name_back(index);
      release(index);
    }
    service(index);
  }
  delete_strays();
}

// A predecessor died between a log and the stream it was for. The command is run again and makes another one of the same name, which must not
// be there any more when it does, and must not be deleted when this one has ended at last.
void LogStore::give_name_back(std::uint32_t slot) {
  const auto& desired = table_.slot(slot).desired;
  table_.record(slot).is_file_gone = true;
  const auto has_same_name = [&](std::uint32_t other) {
    const auto& theirs = table_.slot(other).desired;
    return other != slot && theirs.use == desired.use && theirs.id == desired.id;
  };
  if (std::any_of(table_.used().begin(), table_.used().end(), has_same_name)) return;  // that other one is there already
  failed_deletions_ += delete_log_file(shm::log_path(options_.directory, desired.use, desired.id)) ? 0 : 1;
}

// Files that a predecessor made and died before it entered them into the registry.
void LogStore::delete_strays() {
  std::unordered_set<std::string> known;
  for (const std::uint32_t index : table_.used()) {
    const auto& desired = table_.slot(index).desired;
    known.insert(shm::log_path(options_.directory, desired.use, desired.id));
  }
  for (const char* name : {"/pool", "/publications", "/images"}) {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator{options_.directory + name, error}) {
      if (!known.contains(entry.path().string()) && !delete_log_file(entry.path().string())) ++failed_deletions_;
    }
  }
}

void LogStore::check_storage() {
  const auto usable = usable_bytes(options_.directory);
  if (usable && *usable <= options_.low_storage_warning_bytes) {
    warning_ = fmt::format("space is running low: threshold={} usable={} in {}", options_.low_storage_warning_bytes, *usable, options_.directory);
  }
}

std::optional<std::string> LogStore::take_warning() {
  std::optional<std::string> taken;
  taken.swap(warning_);
  return taken;
}

}  // namespace thalweg::host
