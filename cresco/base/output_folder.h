// What stood at a verb's output before: it is gone on with, or stays until the verb is through.
#pragma once

#include "cresco/base/files.h"

#include <optional>
#include <string>
#include <vector>

namespace cresco {

// Error unless `path` may become a verb's output: it is free, or with `overwrite` holds what this
// program made (a manifest or its like says so) and none of the verb's `inputs`.
void check_output_folder(const Path& path, bool overwrite, const std::vector<Path>& inputs = {});

// Of verbs that go on where they were stopped: auto (when there is a state), never, must.
// UsageError for another word, and for `must` of what is to be overwritten.
void check_resume(const std::string& resume, bool overwrite);

// For verbs that do not. Files are written to folder(), which stands inside `path`, so that `path`
// may be a mount point or a link; commit() puts them in place of what was there. Without commit()
// `path` is left as it was.
class OutputFolder {
 public:
  OutputFolder(const Path& path, bool overwrite, const std::vector<Path>& inputs = {});
  ~OutputFolder();
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  const Path& folder() const { return made_->folder(); }
  void commit();

 private:
  Path path_;
  bool is_new_ = false;  // nothing stood at `path`
  std::optional<AtomicFolder> made_;
};

}  // namespace cresco
