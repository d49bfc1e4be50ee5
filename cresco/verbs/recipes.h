// The recipes that `cresco demo` uses: the files of recipes/, inside the program.
#pragma once

#include <string_view>

namespace cresco::verbs::recipes {

std::string_view demo();                   // recipes/demo.yaml
std::string_view demo_small();             // recipes/demo-small.yaml
std::string_view demo_crosscoder();        // recipes/crosscoder/demo.yaml
std::string_view demo_crosscoder_small();  // recipes/crosscoder/demo-small.yaml

}  // namespace cresco::verbs::recipes
