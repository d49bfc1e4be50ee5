#include "cresco/report/sources.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/report/testing/demo_folder.h"

#include <gtest/gtest.h>

namespace cresco::report {
namespace {

std::vector<std::string> names(const Sources& sources) {
  std::vector<std::string> out;
  for (const Source& source : sources) out.push_back(source.name);
  return out;
}

TEST(Sources, AreFoundOneLevelDownInTheOrderTheyWereMade) {
  const TemporaryFolder folder;
  testing::write_demo_folder(folder / "demo");
  const Sources sources = open_sources({folder / "demo"});
  EXPECT_EQ(names(sources),
            (std::vector<std::string>{"run", "dictionary", "sweep", "quality", "lifecycle",
                                      "generate", "spectra", "match", "demo"}));
  EXPECT_EQ(sources[0].snapshot_steps.size(), 16u);
  EXPECT_TRUE(sources[0].tables.at("metrics.jsonl").has("train/loss"));
  EXPECT_EQ(sources[4].arrays.at("decoder_norms.npy").columns, 200u);
  EXPECT_TRUE(sources[8].has("baselines.csv"));
}

TEST(Sources, CountEachFolderOnce) {
  const TemporaryFolder folder;
  testing::write_demo_folder(folder / "demo");
  EXPECT_EQ(
      names(open_sources({folder / "demo/run", folder / "demo/run/", folder / "demo/quality"})),
      (std::vector<std::string>{"run", "quality"}));
}

TEST(Sources, OfOneNameAreToldApart) {
  const TemporaryFolder folder;
  for (const char* arm : {"control", "wu_lr_4x"}) {
    std::filesystem::create_directories(folder / arm / "run");
    write_file(folder / arm / "run/metrics.jsonl", "{\"step\": 1, \"train/loss\": 3.5}\n");
  }
  EXPECT_EQ(names(open_sources({folder / "control", folder / "wu_lr_4x"})),
            (std::vector<std::string>{"control/run", "wu_lr_4x/run"}));
}

TEST(Sources, IncludeManifestsThatStandBesideFiles) {
  const TemporaryFolder folder;
  write_file(folder / "corpus.bin.manifest.json", "{\"verb\": \"tokenize\"}\n");
  const Sources sources = open_sources({folder.path()});
  ASSERT_EQ(names(sources), (std::vector<std::string>{"corpus.bin"}));
  EXPECT_EQ(sources[0].manifest["verb"], "tokenize");
}

TEST(Sources, RefuseFoldersWithoutTables) {
  const TemporaryFolder folder;
  EXPECT_THROW(open_sources({folder.path()}), Error);
  EXPECT_THROW(open_sources({folder / "nowhere"}), Error);
  write_file(folder / "steps.csv", "step\n\"1\n");
  EXPECT_THROW(open_sources({folder.path()}), Error);
}

}  // namespace
}  // namespace cresco::report
