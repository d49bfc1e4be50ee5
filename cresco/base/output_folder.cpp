#include "cresco/base/output_folder.h"

#include "cresco/base/require.h"

#include <algorithm>
#include <string>

namespace cresco {
namespace {

namespace fs = std::filesystem;

// The folder into which a commit moves what it replaces. One that is left says that a process of
// ours was killed right there.
constexpr const char* kReplaced = "replaced";

bool is_of_this_program(const Path& entry) {
  const std::string name = entry.filename().string();
  return name == "manifest.json" || name == "recipe.yaml" || name == "settings.json" ||
         name == "sweep.json" || name.ends_with(".manifest.json") ||
         name.starts_with(fmt::format("{}{}.", kTemporaryPrefix, kReplaced));
}

std::vector<Path> entries_in(const Path& folder) {
  std::error_code error;
  std::vector<Path> entries;
  for (const auto& entry : fs::directory_iterator(folder, error)) entries.push_back(entry.path());
  require(!error, "{}: cannot be listed: {}", folder.string(), error.message());
  return entries;
}

// Without the lock of the process that is at work in it, and without temporaries.
std::vector<Path> outputs_in(const Path& folder) {
  std::vector<Path> entries = entries_in(folder);
  std::erase_if(entries, [](const Path& entry) {
    const std::string name = entry.filename().string();
    return name == ".lock" || name.starts_with(kTemporaryPrefix);
  });
  return entries;
}

void move_into(const Path& folder, const std::vector<Path>& entries) {
  for (const Path& entry : entries) {
    std::error_code error;
    fs::rename(entry, folder / entry.filename(), error);
    require(!error, "{}: cannot be moved to {}: {}", entry.string(), folder.string(),
            error.message());
  }
}

}  // namespace

void check_output_folder(const Path& path, bool overwrite, const std::vector<Path>& inputs) {
  require_usage(!path.empty(), "--out is needed: the folder to write");
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return;
  require(fs::is_directory(path), "{}: exists and is not a folder", path.string());
  if (outputs_in(path).empty()) return;
  require(overwrite, "{}: exists already; --overwrite replaces it", path.string());
  const auto entries = entries_in(path);
  require(std::any_of(entries.begin(), entries.end(), is_of_this_program),
          "{}: holds no manifest: it is not an output of this program and is left as it is",
          path.string());
  for (const Path& input : inputs)
    require(!is_within(input, path), "{}: holds {}, which is to be read: it cannot be replaced",
            path.string(), input.string());
}

void check_resume(const std::string& resume, bool overwrite) {
  require_usage(resume == "auto" || resume == "never" || resume == "must",
                "--resume '{}' is not one of auto, never, must", resume);
  require_usage(resume != "must" || !overwrite,
                "--resume must goes on from a state, --overwrite removes it: give one of them");
}

OutputFolder::OutputFolder(const Path& path, bool overwrite, const std::vector<Path>& inputs)
    : path_(path) {
  check_output_folder(path, overwrite, inputs);
  std::error_code ignored;
  is_new_ = !fs::exists(path, ignored);
  made_.emplace(path / "output");
}

OutputFolder::~OutputFolder() {
  made_.reset();
  std::error_code ignored;
  if (is_new_) fs::remove(path_, ignored);  // when nothing was put there
}

void OutputFolder::commit() {
  const AtomicFolder replaced(path_ / kReplaced);
  move_into(replaced.folder(), outputs_in(path_));
  move_into(path_, entries_in(made_->folder()));
  made_.reset();
}

}  // namespace cresco
