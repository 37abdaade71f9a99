#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

// Frames of a port in words, for `thalweg trace`. Pure.
namespace thalweg::cli {

struct FrameText {
  std::string_view type;                    // "DATA", "SETUP", "SM", ..., "ARP", "IGMP", "ICMP", "OTHER"
  std::optional<std::int32_t> session_id{};
  std::optional<std::int32_t> stream_id{};
  std::string text;                         // everything else
};

struct DatagramText {
  std::string source;                       // address:port, an address, or a MAC
  std::string destination;
  std::vector<FrameText> frames;            // never empty; several of a datagram that carries several
};

// `frame`: from its Ethernet header on, as much as was captured. Whatever cannot be read is told so. Spec: wire-protocol 1.
[[nodiscard]] DatagramText text_of_frame(std::span<const std::byte> frame);

}  // namespace thalweg::cli
