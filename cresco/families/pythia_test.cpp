#include "cresco/families/pythia.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

namespace cresco::families {
namespace {

// The counts that the suite publishes: in all, and without the embeddings.
TEST(Pythia, HasThePublishedNumbersOfParameters) {
  struct Count {
    std::int64_t total, without_embeddings, rotary;
  };
  const std::map<std::string, Count> published{
      {"14m", {14'067'712, 1'189'888, 8}},          {"31m", {30'494'720, 4'739'072, 8}},
      {"70m", {70'426'624, 18'915'328, 16}},        {"160m", {162'322'944, 85'056'000, 16}},
      {"410m", {405'334'016, 302'311'424, 16}},     {"1b", {1'011'781'632, 805'736'448, 64}},
      {"1.4b", {1'414'647'808, 1'208'602'624, 32}}, {"2.8b", {2'775'208'960, 2'517'652'480, 20}},
      {"6.9b", {6'857'302'016, 6'444'163'072, 32}}, {"12b", {11'846'072'320, 11'327'027'200, 32}},
  };
  ASSERT_EQ(pythia_models().size(), published.size());
  for (const PythiaModel& model : pythia_models()) {
    const NeoxConfig config = model.config();
    check(config, model.size);
    const Count& expected = published.at(model.size);
    const std::int64_t total = num_parameters(neox_tensors(config));
    EXPECT_EQ(total, expected.total) << model.size;
    EXPECT_EQ(total - 2 * model.vocab * model.width, expected.without_embeddings) << model.size;
    EXPECT_EQ(config.rotary_size(), expected.rotary) << model.size;
    EXPECT_EQ(neox_tensors(config).size(), static_cast<std::size_t>(12 * model.layers + 4));
    EXPECT_GE(model.vocab, kPythiaTokenizerIds);
    EXPECT_LT(model.vocab - kPythiaTokenizerIds, 512);
  }
}

TEST(Pythia, BeginsWithTheMeasuredDeviations) {
  const auto near = [](double a, double b) { return std::abs(a - b) < 1e-6; };
  const PythiaModel& small = *find_pythia("pythia-160m")->model;
  EXPECT_TRUE(near(small.input_std(), 0.022822) && near(small.output_std(), 0.006014));
  const PythiaModel& seven = *find_pythia("pythia-6.9b")->model;
  EXPECT_TRUE(near(seven.small_init(), 0.009882) && near(seven.wang_init(), 0.000977));
  EXPECT_TRUE(near(seven.input_std(), 0.02) && near(seven.output_std(), 0.0025));
  EXPECT_TRUE(near(find_pythia("pythia-12b")->model->output_std(), 0.002357));
}

TEST(Pythia, IsFoundByItsNames) {
  for (const char* name : {"pythia-160m", "EleutherAI/pythia-160m", "pythia-160m-deduped",
                           "EleutherAI/pythia-160m-deduped"}) {
    const auto found = find_pythia(name);
    ASSERT_TRUE(found) << name;
    EXPECT_STREQ(found->model->size, "160m");
    EXPECT_EQ(found->deduped, std::string_view(name).ends_with("deduped"));
  }
  for (const char* name : {"160m", "pythia-", "pythia-161m", "pythia-14m-deduped", "pythia",
                           "Eleuther/pythia-160m", "pythia-160m-deduped-deduped", ""})
    EXPECT_FALSE(find_pythia(name)) << name;
  for (const std::string& name : pythia_names()) EXPECT_TRUE(find_pythia(name)) << name;
}

TEST(Pythia, Has154Checkpoints) {
  const auto steps = pythia_checkpoints();
  EXPECT_EQ(steps.size(), 154u);
  EXPECT_TRUE(std::is_sorted(steps.begin(), steps.end()));
  EXPECT_EQ(steps[10], 512);
  EXPECT_EQ(steps[11], 1000);
  EXPECT_EQ(steps.back(), kPythiaSteps);
  EXPECT_EQ(kPythiaSteps * kPythiaTokensPerStep, 299'892'736'000);
}

// 86 of 2.8b's revisions are of the end of training: 76 with main's file, 10 with another one.
TEST(Pythia, KnowsWhichRevisionsAreWrong) {
  const auto checkpoints = pythia_checkpoints();
  std::set<std::int64_t> late;
  for (const KnownFault& fault : pythia_known_faults()) {
    EXPECT_FALSE(fault.source.empty() || fault.what.empty());
    EXPECT_EQ(fault.reported.size(), 10u);
    for (const std::int64_t step : fault.steps) {
      EXPECT_TRUE(std::find(checkpoints.begin(), checkpoints.end(), step) != checkpoints.end());
      if (fault.model == "pythia-2.8b") {
        EXPECT_TRUE(late.insert(step).second) << step;
      }
    }
  }
  EXPECT_EQ(late.size(), 86u);
}

}  // namespace
}  // namespace cresco::families
