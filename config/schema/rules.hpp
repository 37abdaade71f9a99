#pragma once
#include <cstddef>
#include <string>
#include <string_view>

#include "config/schema/config.hpp"
#include "config/schema/decoder.hpp"

// What the files of rules between keys share. Private to this folder.
namespace thalweg::config {

inline constexpr std::size_t kRoutesMax = 32;  // of one port, of both families: registry tables

// "ports[2].address".
[[nodiscard]] inline std::string path_of(std::string_view list, std::size_t index, std::string_view key = {}) {
  return std::string{list} + "[" + std::to_string(index) + "]" + (key.empty() ? "" : "." + std::string{key});
}

// Two ports of one instance that are the two ends of one link, and so share a subnet on purpose. One naming the other is enough here:
// that peers must be mutual is a rule of its own.
[[nodiscard]] bool are_ends_of_one_link(const Port& a, const Port& b);

// The IPv6 keys of ports (rules_ipv6.cpp).
void check_ipv6(const Config& config, Findings& findings);

}  // namespace thalweg::config
