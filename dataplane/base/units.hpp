#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace thalweg {

// Channel-URI quantities (wire-protocol 5.1). nullopt: not a number, negative, unknown suffix, overflow of a size.
[[nodiscard]] std::optional<std::int64_t> parse_uri_size(std::string_view text) noexcept;         // k, m, g either case
[[nodiscard]] std::optional<std::int64_t> parse_uri_duration_ns(std::string_view text) noexcept;  // s ms us ns; saturates

// Operator quantities of the YAML file and the command line: 64KiB 1MiB 2GiB 100 (bytes); 100ms 1.5s 20us 5ns 2m 1h.
[[nodiscard]] std::optional<std::int64_t> parse_size(std::string_view text) noexcept;
[[nodiscard]] std::optional<std::int64_t> parse_duration_ns(std::string_view text) noexcept;

// The shortest exact form: 65536 -> "64KiB", 1500 -> "1500B", 1'500'000 -> "1500us".
[[nodiscard]] std::string format_size(std::int64_t bytes);
[[nodiscard]] std::string format_duration_ns(std::int64_t duration_ns);

// IPv4 in host order. "10.0.0.1", "10.0.0.1:40123"; nullopt: not dotted quad / port out of range.
[[nodiscard]] std::optional<std::uint32_t> parse_ipv4(std::string_view text) noexcept;
[[nodiscard]] std::string format_ipv4(std::uint32_t address_host_order);
[[nodiscard]] std::string format_endpoint(std::uint32_t address_host_order, std::uint16_t port);

}  // namespace thalweg
