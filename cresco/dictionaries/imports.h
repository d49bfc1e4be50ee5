// Dictionaries from the files of other libraries: those of exports.h, as the libraries themselves
// write them.
#pragma once

#include "cresco/dictionaries/released.h"

#include <string>
#include <vector>

namespace cresco::dictionaries {

// "dictionary" (a .safetensors file with its config, or a .pt of a training), or one of
// export_layouts(), by the files there are; "" when there are none of them. UsageError that names
// them when several fit.
std::string recognised_layout(const Path& path);

// `layout` is one that recognised_layout gives; `labels` say what the files don't. Error for
// tensors that are missing, misshapen or not finite, for kinds of dictionary that this program does
// not compute, and when it stays unknown which model and steps a dictionary is of.
Dictionary import_dictionary(const Path& path, const std::string& layout,
                             const DictionaryLabels& labels);

// What import_dictionary reads.
std::vector<Path> files_of_layout(const Path& path, const std::string& layout);

}  // namespace cresco::dictionaries
