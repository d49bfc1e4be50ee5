#include "cresco/dictionaries/index.h"

#include "cresco/base/hash.h"
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/dictionaries/released.h"
#include "cresco/dictionaries/toy_stack.h"

#include <gtest/gtest.h>

#include <functional>

namespace cresco::dictionaries {
namespace {

void put(const Path& folder, const std::string& name, std::int64_t K, std::int64_t seed) {
  Dictionary d{.name = name, .model_name = "EleutherAI/pythia-160m", .seed = seed};
  for (std::int64_t k = 0; k < K; ++k) d.steps.push_back(1000 * k);
  d.parameters = {toy::normal({K, 4, 7}, 0, "W_E"), toy::normal({K, 7}, 0, "b_E"),
                  toy::normal({K, 7, 4}, 0, "W_D"), toy::normal({K, 4}, 0, "b_D"),
                  toy::normal({7}, 0, "threshold")};
  d.quality = {{"explained_variance", 0.75}, {"mean_l0", 2.5}};
  std::filesystem::create_directories(folder);
  write_dictionary(folder, d);
}

class Tree : public testing::Test {
 protected:
  void SetUp() override {
    put(folder / "pythia-160m/W_U/cross-snapshot-3/d7", "seed0", 3, 0);
    put(folder / "pythia-160m/W_U/cross-snapshot-3/d7", "seed1", 3, 1);
    put(folder / "pythia-160m/W_E/per-snapshot-saes/d7", "step0", 1, 0);
    write_json_file(folder / "pythia-160m/W_U/cross-snapshot-3/d7/seed1.metrics_recomputed.json",
                    {{"recomputed", {{"explained_variance", 0.5}}}});
    std::filesystem::create_directories(folder / "derived");
    write_file(folder / "derived/rates.npy", "abc");
    write_file(folder / ".hidden", "abc");
    write_file(folder / "alone.safetensors", "abc");
  }
  TemporaryFolder folder;
};

TEST_F(Tree, IsListedFromHeaders) {
  const DictionaryIndex index = scan_dictionaries(folder.path());
  ASSERT_EQ(index.dictionaries.size(), 3u);
  const IndexedDictionary& sae = index.dictionaries[0];
  EXPECT_EQ(sae.path, "pythia-160m/W_E/per-snapshot-saes/d7/step0");
  EXPECT_EQ(sae.kind, "per-snapshot");
  EXPECT_EQ(sae.matrix, "W_E");  // by its folder
  EXPECT_EQ(sae.n_snapshots, 1);
  const IndexedDictionary& second = index.dictionaries[2];
  EXPECT_EQ(second.path, "pythia-160m/W_U/cross-snapshot-3/d7/seed1");
  EXPECT_EQ(second.matrix, "W_U");
  EXPECT_EQ(second.model, "EleutherAI/pythia-160m");
  EXPECT_EQ(second.activation, "jumprelu");
  EXPECT_EQ(second.d_sae, 7);
  EXPECT_EQ(second.d_model, 4);
  EXPECT_EQ(second.seed, 1);
  EXPECT_EQ(second.steps, (std::vector<std::int64_t>{0, 1000, 2000}));
  EXPECT_EQ(second.metrics_recomputed["recomputed"]["explained_variance"], 0.5);
  ASSERT_EQ(second.files.size(), 4u);
  EXPECT_EQ(second.files[0].bytes, static_cast<std::int64_t>(std::filesystem::file_size(
                                       folder / (second.path + ".safetensors"))));
  ASSERT_EQ(index.other_files.size(), 2u);
  EXPECT_EQ(index.other_files[0].path, "alone.safetensors");
  EXPECT_EQ(index.other_files[1].path, "derived/rates.npy");
  EXPECT_TRUE(index.problems.empty());
}

TEST_F(Tree, ComesBackFromItsIndex) {
  DictionaryIndex index = scan_dictionaries(folder.path());
  hash_files(index, folder.path(), no_progress());
  write_json_file(folder / "index.json", index_json(index));
  EXPECT_TRUE(is_index(folder / "index.json"));
  EXPECT_FALSE(is_index(folder / "nowhere.json"));
  const DictionaryIndex read = read_index(folder / "index.json");
  EXPECT_EQ(index_json(read), index_json(index));
  EXPECT_EQ(read.other_files[1].sha256, sha256_hex(as_bytes("abc")));
  // The index is no part of what it lists.
  EXPECT_EQ(scan_dictionaries(folder.path()).other_files.size(), 2u);
}

TEST_F(Tree, NamesWhatCannotBeRead) {
  write_file(folder / "pythia-160m/W_U/cross-snapshot-3/d7/seed0.config.json", "{}");
  const DictionaryIndex index = scan_dictionaries(folder.path());
  EXPECT_EQ(index.dictionaries.size(), 2u);
  ASSERT_EQ(index.problems.size(), 1u);
  EXPECT_EQ(index.problems[0].path, "pythia-160m/W_U/cross-snapshot-3/d7/seed0.safetensors");
  EXPECT_NE(index.problems[0].error.find("model_name"), std::string::npos);
}

TEST_F(Tree, RefusesAnIndexThatIsNone) {
  const Json sound = index_json(scan_dictionaries(folder.path()));
  const auto expect = [&](const std::function<void(Json&)>& damage, const char* words) {
    Json index = sound;
    damage(index);
    write_json_file(folder / "index.json", index);
    try {
      read_index(folder / "index.json");
      ADD_FAILURE() << words;
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find(words), std::string::npos) << e.what();
    }
  };
  expect([](Json& j) { j["format"] = "other"; }, "no index of dictionaries");
  expect([](Json& j) { j = Json::array(); }, "no index of dictionaries");
  expect([](Json& j) { j["version"] = 2; }, "version 2");
  expect([](Json& j) { j.erase("dictionaries"); }, "'dictionaries' is missing");
  expect([](Json& j) { j["dictionaries"][0] = 5; }, "not an object");
  expect([](Json& j) { j["dictionaries"][0].erase("d_sae"); }, "d_sae");
  expect([](Json& j) { j["dictionaries"][0]["steps"] = {"a"}; }, "not an integer");
  for (const char* path : {"../x", "/etc/passwd", "a/../../x", ""})
    expect([&](Json& j) { j["other_files"][0]["path"] = path; }, "no path below");
  expect([](Json& j) { j["dictionaries"][1]["files"][0]["bytes"] = -1; }, "-1 bytes");
}

}  // namespace
}  // namespace cresco::dictionaries
