#include "cresco/base/pattern.h"

#include "cresco/base/require.h"

#include <algorithm>

namespace cresco {

bool matches(std::string_view pattern, std::string_view name) {
  std::size_t p = 0, n = 0, star = std::string_view::npos, retry = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      retry = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++retry;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

bool is_pattern(const Path& path) {
  return path.filename().string().find('*') != std::string::npos;
}

std::vector<Path> files_matching(const Path& pattern) {
  const Path folder = pattern.has_parent_path() ? pattern.parent_path() : Path(".");
  const std::string name = pattern.filename().string();
  std::vector<Path> files;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(folder, none))
    if (entry.is_regular_file(none) && matches(name, entry.path().filename().string()))
      files.push_back(pattern.parent_path() / entry.path().filename());
  require(!files.empty(), "{}: no file of that pattern is there", pattern.string());
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace cresco
