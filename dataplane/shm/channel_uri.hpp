#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dataplane/base/result.hpp"

// Channel URIs (wire-protocol 5.1): `aeron:udp?k=v|k=v`, `aeron:ipc[?...]`, `aeron-spy:aeron:udp?...`.
namespace thalweg::shm {

inline constexpr std::size_t kChannelUriLengthMax = 4095;

class ChannelUri {
 public:
  enum class Media : std::uint8_t { kUdp, kIpc };
  // Errors: kInvalidChannel with a sentence that names the parameter and the channel.
  [[nodiscard]] static Result<ChannelUri> parse(std::string_view text);

  [[nodiscard]] Media media() const noexcept { return media_; }
  [[nodiscard]] bool is_spy() const noexcept { return is_spy_; }
  // Last value of the key; nullopt if absent. Keys are case sensitive.
  [[nodiscard]] std::optional<std::string_view> get(std::string_view key) const noexcept;
  [[nodiscard]] bool has(std::string_view key) const noexcept { return get(key).has_value(); }
  // Typed getters: nullopt inside the Result when absent, error kInvalidChannel naming the key when present and wrong.
  [[nodiscard]] Result<std::optional<std::int64_t>> get_size(std::string_view key) const;         // k, m, g
  [[nodiscard]] Result<std::optional<std::int64_t>> get_duration_ns(std::string_view key) const;  // s, ms, us, ns
  [[nodiscard]] Result<std::optional<std::int64_t>> get_int64(std::string_view key) const;        // decimal, 0x hex, leading-0 octal
  [[nodiscard]] Result<std::optional<std::int32_t>> get_int32(std::string_view key) const;
  [[nodiscard]] Result<std::optional<bool>> get_bool(std::string_view key) const;                 // starts with true / false

  void set(std::string_view key, std::string_view value);  // replaces or appends
  void remove(std::string_view key);
  [[nodiscard]] std::string to_string() const;             // parameters in the order they were given
  [[nodiscard]] const std::vector<std::pair<std::string, std::string>>& parameters() const noexcept { return parameters_; }

 private:
  Media media_{Media::kUdp};
  bool is_spy_{};
  std::vector<std::pair<std::string, std::string>> parameters_;
};

// `host:port` or `[v6]:port` split; port 0..65535 mandatory (5.1 address syntax). nullopt: malformed.
struct HostPort {
  std::string host;
  std::uint16_t port{};
  bool is_ipv6{};
};
[[nodiscard]] std::optional<HostPort> parse_host_port(std::string_view text);

}  // namespace thalweg::shm
