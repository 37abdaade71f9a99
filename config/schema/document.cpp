#include "config/schema/document.hpp"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <exception>
#include <optional>
#include <sstream>

namespace thalweg::config {
namespace {

// Leaves the parser from inside an event; caught in parse_document().
struct Refused {
  YAML::Mark mark;
  std::string text;
};

class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder(std::shared_ptr<const std::string> source, bool is_override) : source_{std::move(source)}, is_override_{is_override} {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (documents_++ != 0) throw Refused{mark, "a second document in the file"};
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { add(make(mark, anchor, Node::Kind::kNull)); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { throw Refused{mark, "aliases are not supported"}; }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, const std::string& value) override {
    refuse_tag(mark, tag);
    Node node = make(mark, anchor, Node::Kind::kScalar);
    node.text = value;
    add(std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YAML::EmitterStyle::value) override {
    refuse_tag(mark, tag);
    open(mark, make(mark, anchor, Node::Kind::kSequence));
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YAML::EmitterStyle::value) override {
    refuse_tag(mark, tag);
    open(mark, make(mark, anchor, Node::Kind::kMap));
  }
  void OnMapEnd() override { close(); }

  [[nodiscard]] Node take() { return std::move(root_); }

 private:
  struct Open {
    Node node;
    std::optional<Node> key;  // of the map entry whose value comes next
  };

  [[nodiscard]] Place place(const YAML::Mark& mark) const {
    return is_override_ ? Place{source_, 0, 0} : Place{source_, mark.line + 1, mark.column + 1};
  }
  Node make(const YAML::Mark& mark, YAML::anchor_t anchor, Node::Kind kind) {
    if (anchor != 0) throw Refused{mark, "anchors are not supported"};
    if (++nodes_ > kNodesMax) throw Refused{mark, "more than " + std::to_string(kNodesMax) + " values in the file"};
    Node node;
    node.kind = kind;
    node.place = place(mark);
    return node;
  }
  static void refuse_tag(const YAML::Mark& mark, const std::string& tag) {
    if (!tag.empty() && tag != "?" && tag != "!") throw Refused{mark, "tags ('" + tag + "') are not supported"};
  }
  void open(const YAML::Mark& mark, Node node) {
    if (open_.size() >= static_cast<std::size_t>(kDepthMax)) throw Refused{mark, "nested more than " + std::to_string(kDepthMax) + " deep"};
    open_.push_back({std::move(node), std::nullopt});
  }
  void close() {
    Node node = std::move(open_.back().node);
    open_.pop_back();
    add(std::move(node));
  }
  void add(Node node) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = open_.back();
    if (parent.node.kind == Node::Kind::kSequence) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.key) {
      if (node.kind != Node::Kind::kScalar) throw Refused{{}, "a key must be a plain word"};
      parent.key = std::move(node);
    } else {
      parent.node.entries.push_back({std::move(parent.key->text), parent.key->place, std::move(node)});
      parent.key.reset();
    }
  }

  std::shared_ptr<const std::string> source_;
  bool is_override_;
  Node root_;
  std::vector<Open> open_;
  std::size_t nodes_{};
  int documents_{};
};

}  // namespace

const Node* Node::find(std::string_view key) const noexcept {
  const auto found = std::find_if(entries.begin(), entries.end(), [&](const Entry& e) { return e.key == key; });
  return found == entries.end() ? nullptr : &found->value;
}
Node* Node::find(std::string_view key) noexcept { return const_cast<Node*>(std::as_const(*this).find(key)); }

Node parse_document(const std::string& text, const std::string& source, std::vector<Diagnostic>& errors, bool is_override) {
  const auto report = [&](const YAML::Mark& mark, std::string what) {
    const bool has_place = !is_override && !mark.is_null();
    errors.push_back({source, has_place ? mark.line + 1 : is_override ? 0 : 1, has_place ? mark.column + 1 : is_override ? 0 : 1, std::move(what)});
    Node nothing;
    nothing.place = {std::make_shared<const std::string>(source), is_override ? 0 : 1, is_override ? 0 : 1};
    return nothing;
  };
  if (text.size() > kTextBytesMax) return report(YAML::Mark::null_mark(), "larger than 1MiB: not a configuration");
  TreeBuilder builder{std::make_shared<const std::string>(source), is_override};
  try {
    std::istringstream stream{text};
    YAML::Parser parser{stream};
    while (parser.HandleNextDocument(builder)) {
    }
    return builder.take();
  } catch (const Refused& refused) {
    return report(refused.mark, refused.text);
  } catch (const YAML::Exception& e) {
    return report(e.mark, "not YAML: " + e.msg);
  } catch (const std::exception& e) {  // bad_alloc and whatever else the library may throw
    return report(YAML::Mark::null_mark(), std::string{"cannot be read: "} + e.what());
  }
}

}  // namespace thalweg::config
