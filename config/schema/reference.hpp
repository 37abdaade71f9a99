#pragma once
#include <string>

// The reference, generated from the keys themselves (sections.cpp), so that it cannot say anything else than the decoder does.
namespace thalweg::config {

[[nodiscard]] std::string default_yaml();    // config/default.yaml: the manual, valid unedited
[[nodiscard]] std::string reference_page();  // docs/reference/configuration.md
[[nodiscard]] std::string json_schema();     // config/schema/thalweg.schema.json, for editors

}  // namespace thalweg::config
