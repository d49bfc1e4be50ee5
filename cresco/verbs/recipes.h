// The files of recipes/ that verbs use by name, inside the program.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

namespace cresco::verbs::recipes {

std::string_view demo();        // recipes/demo.yaml
std::string_view demo_small();  // recipes/demo-small.yaml

// Those of recipes/crosscoder/: path without .yaml, and text.
std::vector<std::pair<std::string_view, std::string_view>> crosscoders();

}  // namespace cresco::verbs::recipes
