// cresco show pythia;  cresco show pythia-160m --step 0,512,143000
#pragma once

#include "cresco/verbs/verb.h"

#include <optional>

namespace cresco::verbs {

// What the suite, or one of its models, is known to be; `steps` is a list, a range or a preset.
// Nothing when `name` is neither.
std::optional<Outcome> show_pythia(const std::string& name, const std::string& steps);

}  // namespace cresco::verbs
