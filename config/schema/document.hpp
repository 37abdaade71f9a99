#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "config/schema/config.hpp"

// A YAML text as a tree that remembers where everything stood. Built from yaml-cpp's events and not from its Node, which keeps duplicate
// keys silently and expands aliases; bounded in size, depth and node count, so that a hostile file costs little.
namespace thalweg::config {

inline constexpr std::size_t kTextBytesMax = 1U << 20;
inline constexpr int kDepthMax = 16;        // the deepest key of the schema lies at depth 5
inline constexpr std::size_t kNodesMax = 50'000;

struct Place {
  std::shared_ptr<const std::string> source;  // file name, or where an override came from
  int line{};                                 // from 1; 0 in overrides given on the command line or in the environment
  int column{};
};

struct Node {
  enum class Kind : std::uint8_t { kNull, kScalar, kSequence, kMap };
  struct Entry;
  Kind kind{Kind::kNull};
  Place place;
  std::string text;            // scalar
  std::vector<Node> items;     // sequence
  std::vector<Entry> entries;  // map, duplicates included
  // First entry of that key; nullptr if absent or not a map.
  [[nodiscard]] const Node* find(std::string_view key) const noexcept;
  [[nodiscard]] Node* find(std::string_view key) noexcept;
};
struct Node::Entry {
  std::string key;
  Place place;
  Node value;
};

// Parses one document. Syntax errors, aliases, several documents and exceeded bounds end in one diagnostic in `errors` and a null node.
// Never throws. `is_override`: places get line 0, because the text is not a file.
[[nodiscard]] Node parse_document(const std::string& text, const std::string& source, std::vector<Diagnostic>& errors, bool is_override = false);

}  // namespace thalweg::config
