#pragma once
#include <memory>
#include <string>

#include "dataplane/shm/log_buffer.hpp"
#include "dataplane/shm/mapped_file.hpp"

namespace thalweg::client::detail {

// A mapped log file whose metadata was read and checked once (client-protocol 7.1, 7.2). Later code uses these copies only: the file
// stays writable for every other client of the driver.
struct MappedLog {
  shm::MappedFile file;
  shm::LogBuffer log;
  std::int32_t initial_term_id{};
  std::int32_t term_length{};         // bytes
  std::int32_t max_payload_length{};  // bytes: MTU - 32
  std::int32_t max_message_length{};  // bytes

  // Errors: those of MappedFile::open; kIo with what is wrong when the metadata is impossible.
  [[nodiscard]] static Result<std::shared_ptr<const MappedLog>> open(std::string_view path, bool pre_touch);
};

}  // namespace thalweg::client::detail
