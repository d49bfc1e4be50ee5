// Patterns of names, as shells have them: '*' stands for any run of characters, everything else for
// itself.
#pragma once

#include "cresco/base/files.h"

#include <string_view>
#include <vector>

namespace cresco {

bool matches(std::string_view pattern, std::string_view name);

// Whether the last part of `path` is a pattern.
bool is_pattern(const Path& path);
// The files that match it, in order of their names. Error when there are none.
std::vector<Path> files_matching(const Path& pattern);

}  // namespace cresco
