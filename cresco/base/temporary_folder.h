// A folder that lasts as long as this object. For tests, and for verbs that need scratch space.
#pragma once

#include "cresco/base/files.h"
#include "cresco/base/require.h"

#include <cstdlib>

namespace cresco {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "cresco.XXXXXX").string();
    require(mkdtemp(pattern.data()) != nullptr, "{}: no folder can be made there", pattern);
    path_ = pattern;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const Path& path() const { return path_; }
  Path operator/(const Path& name) const { return path_ / name; }

 private:
  Path path_;
};

}  // namespace cresco
