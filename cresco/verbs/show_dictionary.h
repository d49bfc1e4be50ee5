// The part of cresco show that is about dictionaries.
#pragma once

#include "cresco/verbs/verb.h"

#include <optional>
#include <string>

namespace cresco::verbs {

// What a file or folder is when it is a dictionary of ours, of a training or of another library, a
// folder of several dictionaries, or the index of one; from headers alone. Nothing otherwise.
std::optional<Json> show_dictionaries(const Path& path);

// The dictionaries in folders below, when there are any.
std::optional<Json> show_tree_below(const Path& folder);

// A table of a folder of dictionaries.
std::string tree_as_text(const Json& tree);

}  // namespace cresco::verbs
