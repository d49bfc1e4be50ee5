// show RECIPE.yaml, show A --against B: settings, and where two differ.
#pragma once

#include "cresco/verbs/verb.h"

#include <optional>
#include <string>

namespace cresco::verbs {

// Every field of a recipe's file, FILE.yaml, or of one of its arms, FILE.yaml:ARM; null for other
// paths.
std::optional<Json> show_recipe(const std::string& path);

// What differs between the settings of two things, and nothing else: recipes and their arms, runs,
// trainings of dictionaries, dictionaries. `summary`: `a`, `b`, and `differences`, a list of
// {`field`, `a`, `b`}, values as text.
Outcome show_against(const std::string& a, const std::string& b);

}  // namespace cresco::verbs
