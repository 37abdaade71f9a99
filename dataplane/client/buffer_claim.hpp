#pragma once
#include <span>
#include <utility>

#include "dataplane/client/detail/frame_writer.hpp"

namespace thalweg::client {

// Space for one unfragmented message inside the log, to be written in place and then committed. A claim that is destroyed without
// either is aborted: a forgotten one would hold the whole stream until the driver unblocks it. One thread; must not outlive its publication.
class BufferClaim {
 public:
  BufferClaim() noexcept = default;
  BufferClaim(std::byte* frame, std::int32_t frame_length) noexcept : frame_{frame}, frame_length_{frame_length} {}
  BufferClaim(BufferClaim&& other) noexcept : frame_{std::exchange(other.frame_, nullptr)}, frame_length_{other.frame_length_} {}
  BufferClaim& operator=(BufferClaim&& other) noexcept {
    if (this != &other) {
      abort();
      frame_ = std::exchange(other.frame_, nullptr);
      frame_length_ = other.frame_length_;
    }
    return *this;
  }
  ~BufferClaim() { abort(); }

  [[nodiscard]] bool is_open() const noexcept { return frame_ != nullptr; }
  // The payload, as long as was claimed. Precondition: is_open().
  [[nodiscard]] std::span<std::byte> data() const noexcept {
    return {frame_ + frame::kHeaderLength, static_cast<std::size_t>(frame_length_ - frame::kHeaderLength)};
  }
  // Precondition: is_open().
  void set_reserved_value(std::int64_t value) noexcept { store_le(frame_ + frame::kReservedValueOffset, value); }

  // Makes the message visible to subscribers. Nothing happens on a claim that is not open.
  void commit() noexcept { finish(); }
  // Gives the frame away uncommitted; whoever has it now makes a claim of it again, to commit or abort. Null: it was not open.
  [[nodiscard]] std::byte* release() noexcept { return std::exchange(frame_, nullptr); }
  // Turns the space into padding that subscribers skip. Nothing happens on a claim that is not open.
  void abort() noexcept {
    if (frame_ != nullptr) store_le<std::uint16_t>(frame_ + frame::kTypeOffset, frame::kTypePad);
    finish();
  }

 private:
  void finish() noexcept {
    if (std::byte* at = std::exchange(frame_, nullptr)) shm::frame_length_release(at, frame_length_);  // pairs with Image::poll
  }
  std::byte* frame_{};
  std::int32_t frame_length_{};  // bytes, header included
};

}  // namespace thalweg::client
