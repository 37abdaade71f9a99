// The YAML configuration: hostile text ends in diagnostics, never in an exception or a crash.
#include "config/schema/config.hpp"
#include "tests/fuzz/input.hpp"

namespace thalweg::fuzz {

void run(Bytes input) {
  const std::string text{text_of(input)};
  const config::Loaded loaded = config::load_text(text, "fuzz.yaml");
  for (const config::Diagnostic& error : loaded.errors) {
    require(!error.text.empty() && error.line >= 0 && error.column >= 0, "every diagnostic says what and where");
  }
  // The same bytes as flags and as environment.
  const std::size_t middle = text.size() / 2;
  const config::Overrides overrides = config::make_overrides({"THALWEG_" + text.substr(0, middle)}, {text, text.substr(middle)});
  static_cast<void>(config::load_text("", "fuzz.yaml", overrides));
}

}  // namespace thalweg::fuzz
