#include "cresco/artifacts/shared_table.h"

#include <gtest/gtest.h>
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"

#include <thread>

namespace cresco::artifacts {
namespace {

TEST(SharedTable, AddsAndMergesRows) {
  const TemporaryFolder folder;
  const Path path = folder.path() / "runs.csv";
  upsert_row(path, {"name", "lr", "path"}, "path", {{"path", "/a"}, {"lr", "0.1"}});
  upsert_row(path, {"name", "lr", "path"}, "path", {{"path", "/b"}, {"name", "x,y"}});
  upsert_row(path, {}, "path", {{"path", "/a"}, {"p", "0.01"}, {"name", "first"}});
  EXPECT_EQ(read_file(path), "name,lr,path,p\nfirst,0.1,/a,0.01\n\"x,y\",,/b,\n");
}

TEST(SharedTable, KeepsColumnsThatItDoesNotKnow) {
  const TemporaryFolder folder;
  const Path path = folder.path() / "runs.csv";
  write_file(path, "mine,path\n7,/a\n");
  upsert_row(path, {"name", "path"}, "path", {{"path", "/a"}, {"name", "n"}});
  EXPECT_EQ(read_file(path), "mine,path,name\n7,/a,n\n");
}

TEST(SharedTable, LosesNoRowOfWritersAtTheSameTime) {
  const TemporaryFolder folder;
  const Path path = folder.path() / "runs.csv";
  std::vector<std::thread> writers;
  for (int w = 0; w < 4; ++w)
    writers.emplace_back([&, w] {
      for (int i = 0; i < 5; ++i)
        upsert_row(path, {"path"}, "path", {{"path", std::to_string(10 * w + i)}});
    });
  for (std::thread& writer : writers) writer.join();
  EXPECT_EQ(read_csv(path).num_rows(), 20u);
}

TEST(SharedTable, RefusesAFolderThatIsNotThereAndWhatIsNoTable) {
  const TemporaryFolder folder;
  EXPECT_THROW(upsert_row(folder.path() / "no" / "runs.csv", {"path"}, "path", {{"path", "/a"}}),
               Error);
  const Path path = folder.path() / "runs.csv";
  write_file(path, "a,b\n1\n");
  EXPECT_THROW(upsert_row(path, {"path"}, "path", {{"path", "/a"}}), Error);
  EXPECT_EQ(read_file(path), "a,b\n1\n");
}

}  // namespace
}  // namespace cresco::artifacts
