// The part of cresco convert that is about dictionaries: files of other libraries, and the index of
// a folder of dictionaries.
#pragma once

#include "cresco/verbs/convert.h"

#include <string>

namespace cresco::verbs {

// "dictionary", or one of dictionaries::export_layouts().
bool is_dictionary_layout(const std::string& layout);

// Summary: `from`, `to`, `out`, `files`, `origin`, and of exports `codes_relative_difference`,
// `reconstructions_relative_difference`.
Outcome convert_dictionary(const ConvertVerbConfig& config, VerbContext& context);

// Summary: the index itself.
Outcome convert_to_index(const ConvertVerbConfig& config, VerbContext& context);

}  // namespace cresco::verbs
