#include "cresco/dictionaries/match.h"

#include "cresco/base/random.h"
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/dictionaries/toy_stack.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace cresco::dictionaries {
namespace {

using Steps = std::vector<std::int64_t>;

class MatchTest : public testing::Test {
 protected:
  // A dictionary that is its decoder; steps are 0, 10, 20, ... where none are given.
  StoredDecoder stored(const std::string& name, const at::Tensor& decoder_KFD, Steps steps = {},
                       const std::string& preprocess = "center") {
    const std::int64_t K = decoder_KFD.size(0), F = decoder_KFD.size(1), D = decoder_KFD.size(2);
    Dictionary dictionary{.name = name, .model_name = "toy/model", .matrix = "W_U"};
    dictionary.steps = std::move(steps);
    while (static_cast<std::int64_t>(dictionary.steps.size()) < K)
      dictionary.steps.push_back(10 * static_cast<std::int64_t>(dictionary.steps.size()));
    dictionary.training.input_preprocess = preprocess;
    dictionary.parameters = {at::zeros({K, D, F}), at::zeros({K, F}), decoder_KFD,
                             at::zeros({K, D}), at::zeros({F})};
    write_dictionary(folder.path(), dictionary);
    return StoredDecoder(folder / (name + ".safetensors"));
  }

  TemporaryFolder folder;
};

Match match_quietly(const StoredDecoder& a, const StoredDecoder& b, const MatchConfig& config = {},
                    std::uint64_t seed = 0) {
  return match(a, b, config, seed, no_progress());
}

// The definition, in double: of a head, or of all of them together.
double cosine(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.flatten().to(at::kDouble), y = b.flatten().to(at::kDouble);
  const double norms = x.norm().item<double>() * y.norm().item<double>();
  return norms == 0 ? 0 : x.dot(y).item<double>() / norms;
}
double similarity(const at::Tensor& a_KD, const at::Tensor& b_KD, bool concatenated) {
  if (concatenated) return cosine(a_KD, b_KD);
  double sum = 0;
  for (std::int64_t k = 0; k < a_KD.size(0); ++k) sum += cosine(a_KD[k], b_KD[k]);
  return sum / static_cast<double>(a_KD.size(0));
}
std::vector<std::vector<double>> similarities(const at::Tensor& a_KFD, const at::Tensor& b_KFD,
                                              bool concatenated) {
  std::vector<std::vector<double>> s(static_cast<std::size_t>(a_KFD.size(1)));
  for (std::int64_t i = 0; i < a_KFD.size(1); ++i)
    for (std::int64_t j = 0; j < b_KFD.size(1); ++j)
      s[static_cast<std::size_t>(i)].push_back(
          similarity(a_KFD.select(1, i), b_KFD.select(1, j), concatenated));
  return s;
}

TEST_F(MatchTest, IsWhatItsDefinitionSays) {
  constexpr std::size_t kA = 21, kB = 17;
  const at::Tensor a = toy::normal({3, kA, 6}, 1, "a"), b = toy::normal({3, kB, 6}, 2, "b");
  a.select(1, 4).zero_();  // a feature of zeros,
  a[1][5].zero_();         // one with a head of zeros,
  b.select(1, 9).zero_();
  a[0].mul_(30);  // and a head that outweighs the others
  const StoredDecoder first = stored("a", a), second = stored("b", b);
  for (const bool concatenated : {true, false}) {
    SCOPED_TRACE(concatenated);
    const auto s = similarities(a, b, concatenated);
    MatchConfig config{.similarity = concatenated ? "concatenated" : "mean", .shuffles = 0};
    config.threshold = {0.3};
    const Match found = match_quietly(first, second, config);
    std::vector<std::size_t> best_of_b(kB, 0);
    for (std::size_t j = 0; j < kB; ++j)
      for (std::size_t i = 0; i < kA; ++i)
        if (s[i][j] > s[best_of_b[j]][j]) best_of_b[j] = i;
    double sum = 0, reverse = 0, mutual = 0, at_least = 0, all = 0, squares = 0;
    for (std::size_t i = 0; i < kA; ++i) {
      SCOPED_TRACE(i);
      const FeatureMatch& feature = found.features[i];
      for (const double value : s[i]) {
        all += value;
        squares += value * value;
      }
      if (i == 4) {
        EXPECT_EQ(feature.best, -1);
        EXPECT_EQ(feature.cosine, 0);
        EXPECT_EQ(feature.assigned, -1);
        continue;
      }
      std::vector<std::size_t> order(kB);
      for (std::size_t j = 0; j < kB; ++j) order[j] = j;
      std::sort(order.begin(), order.end(),
                [&](std::size_t x, std::size_t y) { return s[i][x] > s[i][y]; });
      EXPECT_EQ(feature.best, order[0]);
      EXPECT_EQ(feature.second_best, order[1]);
      EXPECT_NEAR(feature.cosine, s[i][order[0]], 1e-6);
      EXPECT_NEAR(feature.second_cosine, s[i][order[1]], 1e-6);
      EXPECT_EQ(feature.mutual, best_of_b[order[0]] == i);
      if (feature.assigned >= 0) {
        EXPECT_NEAR(feature.assigned_cosine, s[i][static_cast<std::size_t>(feature.assigned)],
                    1e-6);
      }
      sum += s[i][order[0]];
      mutual += best_of_b[order[0]] == i;
      at_least += s[i][order[0]] >= 0.3;
    }
    for (std::size_t j = 0; j < kB; ++j) reverse += j == 9 ? 0 : s[best_of_b[j]][j];
    EXPECT_NEAR(found.metric("mmcs"), sum / kA, 1e-6);
    EXPECT_NEAR(found.metric("mmcs_reverse"), reverse / kB, 1e-6);
    EXPECT_NEAR(found.metric("mmcs_symmetric"), (sum / kA + reverse / kB) / 2, 1e-6);
    EXPECT_EQ(found.metric("mutual"), mutual);
    EXPECT_NEAR(found.metric("mutual_share"), mutual / kB, 1e-12);
    EXPECT_NEAR(found.metric("share_0.3"), at_least / kA, 1e-12);
    EXPECT_NEAR(found.metric("pair_cosine_mean"), all / (kA * kB), 1e-6);
    EXPECT_NEAR(found.metric("pair_cosine_rms"), std::sqrt(squares / (kA * kB)), 1e-6);
    EXPECT_EQ(found.metric("zero_a"), 1);
    EXPECT_EQ(found.metric("dead_b"), 1);
    EXPECT_EQ(found.metric("counted_a"), kA);
    EXPECT_LT(found.metric("assigned_gap"), 1e-12);
  }
}

TEST_F(MatchTest, WithItselfIsOneEverywhere) {
  const StoredDecoder a = stored("a", toy::normal({4, 300, 16}, 1, "a"));
  for (const char* way : {"concatenated", "mean"}) {
    const Match found = match_quietly(a, a, {.similarity = way, .shuffles = 3});
    for (std::size_t i = 0; i < 300; ++i) {
      const FeatureMatch& feature = found.features[i];
      EXPECT_EQ(feature.best, i);
      EXPECT_EQ(feature.assigned, i);
      EXPECT_NEAR(feature.cosine, 1, 1e-6);
      EXPECT_TRUE(feature.mutual);
      EXPECT_EQ(feature.p_value, 1.0 / 4);
    }
    EXPECT_NEAR(found.metric("mmcs"), 1, 1e-6);
    EXPECT_NEAR(found.metric("assigned_mean"), 1, 1e-6);
    EXPECT_EQ(found.metric("mutual_share"), 1);
    EXPECT_EQ(found.metric("share_0.9"), 1);
  }
}

TEST_F(MatchTest, FindsAPlantedPermutation) {
  constexpr std::int64_t kA = 300, kB = 400;
  const at::Tensor a = toy::normal({2, kA, 24}, 1, "a"), b = toy::normal({2, kB, 24}, 2, "b");
  // The first 200 of A stand somewhere in B, larger and with noise.
  const auto place = permutation(kB, RandomStream(0, "places"));
  for (std::int64_t i = 0; i < 200; ++i)
    b.select(1, place[static_cast<std::size_t>(i)])
        .copy_(3 * (a.select(1, i) + 0.3 * b.select(1, place[static_cast<std::size_t>(i)])));
  const Match found =
      match_quietly(stored("a", a), stored("b", b), {.shuffles = 40, .null_features = 0});
  double by_chance = 0;
  for (std::size_t i = 0; i < kA; ++i) {
    const FeatureMatch& feature = found.features[i];
    if (i < 200) {
      EXPECT_EQ(feature.best, place[i]);
      EXPECT_EQ(feature.assigned, place[i]);
      EXPECT_TRUE(feature.mutual);
      EXPECT_NEAR(feature.cosine, 1 / std::sqrt(1.09), 0.09);
      EXPECT_EQ(feature.p_value, 1.0 / 41);
      EXPECT_LT(feature.p_value_pooled, 0.001);
    } else {
      EXPECT_LT(feature.cosine, 0.8);
      by_chance += feature.p_value <= 0.1;
    }
  }
  // Of 100 features that have no counterpart some ten are at p <= 0.1: within four deviations of
  // a binomial of 4/41.
  EXPECT_NEAR(by_chance, 100 * 4.0 / 41, 12);
  EXPECT_GT(found.metric("share_0.9"), 0.6);
  EXPECT_LT(found.metric("null_p99"), 0.8);
}

// The null over again: every shuffle, every row, from the stream's definition.
TEST_F(MatchTest, NullIsWhatItsDefinitionSays) {
  constexpr std::int64_t kA = 12, kB = 270, kHeads = 2, kWidth = 8, kShuffles = 4;
  const at::Tensor a = toy::normal({kHeads, kA, kWidth}, 1, "a"),
                   b = toy::normal({kHeads, kB, kWidth}, 2, "b");
  const StoredDecoder first = stored("a", a), second = stored("b", b);
  const Match found = match_quietly(first, second, {.shuffles = kShuffles, .null_features = 7}, 3);
  std::vector<double> best[kShuffles];
  for (std::int64_t s = 0; s < kShuffles; ++s) {
    at::Tensor shuffled = b.clone();
    for (std::int64_t j = 0; j < kB; ++j) {
      const auto order = permutation(
          kWidth, RandomStream(3, "match/null", static_cast<std::uint64_t>(s * kB + j)));
      const std::vector<std::int64_t> places(order.begin(), order.end());
      shuffled.select(1, j).copy_(b.select(1, j).index_select(1, at::tensor(places, at::kLong)));
    }
    for (const auto& row : similarities(a, shuffled, true))
      best[s].push_back(*std::max_element(row.begin(), row.end()));
  }
  std::vector<double> pooled;
  std::size_t sampled = 0;
  for (std::size_t i = 0; i < kA; ++i) {
    const FeatureMatch& feature = found.features[i];
    if (std::isnan(feature.p_value)) continue;
    ++sampled;
    int larger = 0;
    for (const auto& one : best) {
      larger += one[i] >= feature.cosine;
      pooled.push_back(one[i]);
    }
    EXPECT_EQ(feature.p_value, (larger + 1.0) / (kShuffles + 1));
  }
  EXPECT_EQ(sampled, 7u);
  ASSERT_EQ(found.null_best.size(), pooled.size());
  std::sort(pooled.begin(), pooled.end());
  double sum = 0;
  for (std::size_t n = 0; n < pooled.size(); ++n) {
    EXPECT_NEAR(found.null_best[n], pooled[n], 1e-6);
    sum += pooled[n];
  }
  EXPECT_NEAR(found.metric("null_mean"), sum / static_cast<double>(pooled.size()), 1e-6);
  EXPECT_EQ(found.metric("null_features"), 7);
  // The same from another process, other numbers from another seed.
  EXPECT_EQ(match_quietly(first, second, {.shuffles = kShuffles, .null_features = 7}, 3).null_best,
            found.null_best);
  EXPECT_NE(match_quietly(first, second, {.shuffles = kShuffles, .null_features = 7}, 4).null_best,
            found.null_best);
}

TEST_F(MatchTest, DoesNotDependOnTheBlocksByABit) {
  const at::Tensor a = toy::normal({3, 600, 10}, 1, "a"), b = toy::normal({3, 530, 10}, 2, "b");
  const StoredDecoder first = stored("a", a), second = stored("b", b);
  MatchConfig config{.shuffles = 2, .null_features = 20};
  const Match large = match_quietly(first, second, config);
  ASSERT_EQ(plan_match(first, second, config).tiles_in_block, 3);
  config.block_bytes = 1;
  ASSERT_EQ(plan_match(first, second, config).tiles_in_block, 1);
  const Match small = match_quietly(first, second, config);
  EXPECT_EQ(small.metrics, large.metrics);
  EXPECT_EQ(small.null_best, large.null_best);
  for (std::size_t i = 0; i < 600; ++i) {
    EXPECT_EQ(small.features[i].best, large.features[i].best);
    EXPECT_EQ(small.features[i].cosine, large.features[i].cosine);
    EXPECT_EQ(small.features[i].second_cosine, large.features[i].second_cosine);
    EXPECT_EQ(small.features[i].assigned, large.features[i].assigned);
  }
}

TEST_F(MatchTest, StatesWhatAnAssignmentOfFewCandidatesMayMiss) {
  const at::Tensor a = toy::normal({1, 200, 4}, 1, "a"), b = toy::normal({1, 200, 4}, 2, "b");
  const StoredDecoder first = stored("a", a), second = stored("b", b);
  const Match exact = match_quietly(first, second, {.shuffles = 0});
  MatchConfig config{.shuffles = 0};
  config.assignment_bytes = 200 * 8 * 3;
  ASSERT_EQ(plan_match(first, second, config).candidates, 3);
  const Match sparse = match_quietly(first, second, config);
  EXPECT_LT(exact.metric("assigned_gap"), 1e-12);
  EXPECT_GT(sparse.metric("assigned_gap"), 0);
  EXPECT_LT(sparse.metric("assigned_mean"), exact.metric("assigned_mean"));
  EXPECT_GE(sparse.metric("assigned_mean") + sparse.metric("assigned_gap"),
            exact.metric("assigned_mean") - 1e-12);
}

TEST_F(MatchTest, LeavesOutTheDeadWhenAsked) {
  const at::Tensor a = toy::normal({2, 12, 6}, 1, "a"), b = toy::normal({2, 10, 6}, 2, "b");
  a.select(1, 3).mul_(1e-4);
  b.select(1, 0).copy_(a.select(1, 5) * 1e-3);  // what A's feature 5 would find
  b.select(1, 7).zero_();
  const StoredDecoder first = stored("a", a), second = stored("b", b);
  const Match counted = match_quietly(first, second, {.shuffles = 2});
  EXPECT_EQ(counted.features[5].best, 0);
  EXPECT_GE(counted.features[3].best, 0);
  EXPECT_EQ(counted.metric("counted_b"), 10);

  const Match excluded = match_quietly(first, second, {.dead = "excluded", .shuffles = 2});
  EXPECT_EQ(excluded.metric("dead_a"), 1);
  EXPECT_EQ(excluded.metric("dead_b"), 2);
  EXPECT_EQ(excluded.metric("zero_b"), 1);
  EXPECT_EQ(excluded.metric("counted_a"), 11);
  EXPECT_EQ(excluded.metric("counted_b"), 8);
  EXPECT_EQ(excluded.metric("null_features"), 11);
  EXPECT_FALSE(excluded.features[3].counted);
  EXPECT_EQ(excluded.features[3].best, -1);
  EXPECT_TRUE(std::isnan(excluded.features[3].cosine));
  EXPECT_TRUE(std::isnan(excluded.features[3].p_value_pooled));
  // As if they were not there.
  const auto kept = [](const at::Tensor& rows, std::set<std::int64_t> dead) {
    std::vector<at::Tensor> alive;
    for (std::int64_t i = 0; i < rows.size(1); ++i)
      if (!dead.contains(i)) alive.push_back(rows.select(1, i));
    return at::stack(alive, 1);
  };
  const Match without =
      match_quietly(stored("c", kept(a, {3})), stored("d", kept(b, {0, 7})), {.shuffles = 0});
  for (const char* id : {"mmcs", "mmcs_reverse", "mutual", "assigned_mean", "pair_cosine_rms"})
    EXPECT_NEAR(excluded.metric(id), without.metric(id), 1e-6) << id;
  const StoredDecoder zeros = stored("z", at::zeros({2, 4, 6}));
  EXPECT_THROW(plan_match(zeros, second, {.dead = "excluded"}), Error);
  EXPECT_EQ(match_quietly(zeros, second, {.shuffles = 1}).metric("mmcs"), 0);
}

std::string message_of(const StoredDecoder& a, const StoredDecoder& b, const MatchConfig& config) {
  try {
    plan_match(a, b, config);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST_F(MatchTest, ComparesTheHeadsAskedFor) {
  const at::Tensor a = toy::normal({4, 5, 6}, 1, "a"), b = toy::normal({3, 7, 6}, 2, "b");
  const StoredDecoder first = stored("a", a, {0, 1, 8, 100}),
                      second = stored("b", b, {1, 100, 1000});
  const auto heads = [&](const char* which) {
    const MatchPlan plan = plan_match(first, second, {.heads = which});
    return std::pair{plan.heads_a, plan.heads_b};
  };
  EXPECT_EQ(heads("shared"), std::pair(Steps({1, 3}), Steps({0, 1})));
  EXPECT_EQ(heads("final"), std::pair(Steps({3}), Steps({2})));
  EXPECT_EQ(heads("100"), std::pair(Steps({3}), Steps({1})));
  EXPECT_EQ(heads("100,1"), std::pair(Steps({1, 3}), Steps({0, 1})));
  const StoredDecoder third = stored("c", b, {5, 6, 7}), fourth = stored("d", b);
  const MatchPlan in_order = plan_match(third, second, {.heads = "all"});
  EXPECT_EQ(in_order.heads_a, Steps({0, 1, 2}));
  EXPECT_EQ(in_order.heads_b, Steps({0, 1, 2}));

  EXPECT_NE(message_of(first, second, {.heads = "8"}).find("no step 8; it has 1, 100"),
            std::string::npos);
  EXPECT_NE(message_of(first, second, {.heads = "all"}).find("4 heads"), std::string::npos);
  EXPECT_NE(message_of(third, second, {}).find("no step in common"), std::string::npos);
  const Match last = match_quietly(first, second, {.heads = "final", .shuffles = 0});
  const auto s = similarities(a.narrow(0, 3, 1), b.narrow(0, 2, 1), true);
  for (std::size_t i = 0; i < 5; ++i)
    EXPECT_NEAR(last.features[i].cosine, *std::max_element(s[i].begin(), s[i].end()), 1e-6);
}

TEST_F(MatchTest, RefusesWhatCannotBeCompared) {
  const StoredDecoder a = stored("a", toy::normal({2, 5, 6}, 1, "a")),
                      wide = stored("wide", toy::normal({2, 5, 8}, 1, "a"));
  EXPECT_NE(message_of(a, wide, {}).find("6 wide"), std::string::npos);
  EXPECT_NE(message_of(a, wide, {}).find("is 8"), std::string::npos);
  for (const MatchConfig& config : std::vector<MatchConfig>{{.heads = "first"},
                                                            {.similarity = "dot"},
                                                            {.dead = "gone"},
                                                            {.dead_share = 1},
                                                            {.threshold = {2}},
                                                            {.shuffles = -1},
                                                            {.null_features = -1},
                                                            {.block_bytes = 0},
                                                            {.assignment_bytes = -5}})
    EXPECT_NE(message_of(a, a, config), "");
}

TEST_F(MatchTest, NotesThatSpacesMayDiffer) {
  const at::Tensor rows = toy::normal({2, 5, 6}, 1, "a");
  const StoredDecoder a = stored("a", rows), b = stored("b", rows, {}, "center_scale");
  EXPECT_TRUE(plan_match(a, a, {}).notes.empty());
  const auto notes = plan_match(a, b, {}).notes;
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_NE(notes[0].find("input_preprocess center,"), std::string::npos) << notes[0];
}

TEST(Quantile, IsLinearBetweenValues) {
  EXPECT_EQ(quantile({1, 2, 4}, 0), 1);
  EXPECT_EQ(quantile({1, 2, 4}, 0.5), 2);
  EXPECT_EQ(quantile({1, 2, 4}, 0.75), 3);
  EXPECT_EQ(quantile({1, 2, 4}, 1), 4);
  EXPECT_EQ(quantile({7}, 0.3), 7);
}

}  // namespace
}  // namespace cresco::dictionaries
