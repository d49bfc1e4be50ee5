#include "cresco/base/output_folder.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace cresco {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> names_in(const Path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

void write_old(const Path& folder) {
  fs::create_directories(folder / "below");
  write_file(folder / "below" / "a.csv", "old");
  write_file(folder / "manifest.json", "{}");
}

TEST(OutputFolder, LeavesWhatWasThereUntilItIsThrough) {
  const TemporaryFolder folder;
  write_old(folder / "out");
  {
    const OutputFolder output(folder / "out", /*overwrite=*/true);
    write_file(output.folder() / "b.csv", "new");
    EXPECT_EQ(read_file(folder / "out" / "below" / "a.csv"), "old");
  }
  EXPECT_EQ(names_in(folder / "out"), (std::vector<std::string>{"below", "manifest.json"}));
  write_file(folder / "out" / ".lock", "");
  OutputFolder output(folder / "out", /*overwrite=*/true);
  write_file(output.folder() / "b.csv", "new");
  write_file(output.folder() / "manifest.json", "{}");
  output.commit();
  EXPECT_EQ(read_file(folder / "out" / "b.csv"), "new");
  EXPECT_FALSE(fs::exists(folder / "out" / "below"));
  EXPECT_TRUE(fs::exists(folder / "out" / ".lock"));
}

TEST(OutputFolder, LeavesNoTraceOfAFailure) {
  const TemporaryFolder folder;
  { const OutputFolder output(folder / "out", false); }
  EXPECT_FALSE(fs::exists(folder / "out"));
  fs::create_directory(folder / "out");
  { const OutputFolder output(folder / "out", false); }
  EXPECT_TRUE(fs::is_empty(folder / "out"));
}

TEST(OutputFolder, FollowsALinkAndASlash) {
  const TemporaryFolder folder;
  fs::create_directory(folder / "real");
  fs::create_directory_symlink(folder / "real", folder / "link");
  OutputFolder output((folder / "link").string() + "/", false);
  write_file(output.folder() / "a", "x");
  output.commit();
  EXPECT_EQ(read_file(folder / "real" / "a"), "x");
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
}

TEST(OutputFolder, RefusesWhatIsNotOurs) {
  const TemporaryFolder folder;
  write_old(folder / "ours");
  fs::create_directory(folder / "other");
  write_file(folder / "other" / "a", "x");
  EXPECT_THROW(OutputFolder(folder / "ours", false), Error);
  EXPECT_THROW(OutputFolder(folder / "ours", true, {folder / "ours" / "below"}), Error);
  EXPECT_THROW(OutputFolder(folder / "other", true), Error);
  EXPECT_THROW(OutputFolder("", true), UsageError);
  // A process that was killed while it put its files in place left these two.
  fs::create_directory(folder / "other" / ".tmp-replaced.999999999.0");
  OutputFolder output(folder / "other", true);
  output.commit();
  EXPECT_TRUE(fs::is_empty(folder / "other"));
}

}  // namespace
}  // namespace cresco
