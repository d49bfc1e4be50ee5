#include "cresco/report/sections.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/report/describe.h"
#include "cresco/report/testing/demo_folder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <tuple>

namespace cresco::report {
namespace {

Sources source_with(const std::string& file, artifacts::Table table) {
  Source source{.name = "test", .path = "test"};
  source.tables[file] = std::move(table);
  return {source};
}

template <class Kind>
const Kind& find(const Report& report, const std::string& id) {
  for (const Section& section : report.sections)
    for (const Block& block : section.blocks)
      if (const Kind* kind = std::get_if<Kind>(&block); kind != nullptr && kind->id == id)
        return *kind;
  fail("no block '{}'", id);
}

TEST(Sections, WithoutTablesAreNamedAsAbsent) {
  artifacts::Table table({"step", "prompt", "continuation"});
  table.add(0, "a", "b");
  const Report report = make_report("title", source_with("continuations.csv", table));
  ASSERT_EQ(report.sections.size(), 1u);
  EXPECT_EQ(report.sections[0].title, "What the model says");
  EXPECT_EQ(report.absent.size(), section_kinds().size() - 1);
  EXPECT_NE(std::find(report.absent.begin(), report.absent.end(), "Planted features (planted.csv)"),
            report.absent.end());
}

TEST(Sections, HaveOneMarkPerRow) {
  const TemporaryFolder folder;
  testing::write_demo_folder(folder.path());
  const Report report = make_report("demo", open_sources({folder.path()}));
  EXPECT_TRUE(report.absent.empty());
  const auto marks = [&](const char* id) {
    const auto& chart = find<Chart>(report, id);
    std::size_t count = 0;
    for (const Series& series : chart.series) count += num_marks(chart, series);
    return count;
  };
  EXPECT_EQ(marks("explained_variance"), 16u + 4u + 2 * 16u);
  EXPECT_EQ(marks("dead_rate"), 16u);
  EXPECT_EQ(marks("firing_density"), 6 * 21u);
  EXPECT_EQ(marks("fidelity_nll"), 2 * 16u);
  EXPECT_EQ(marks("fidelity_kl"), 16u);
  EXPECT_EQ(marks("fidelity_top1"), 16u);
  EXPECT_EQ(marks("fidelity_kl_by_frequency"), 5 * 10u);
  EXPECT_EQ(find<Chart>(report, "fidelity_kl_by_frequency").data.num_rows(), 16 * 10u);
  EXPECT_EQ(marks("population"), 3u * 16u);
  EXPECT_EQ(marks("singular_values"), 16u * 64u);
  EXPECT_EQ(marks("planted"), 24u);
  const auto& bins = find<Chart>(report, "match_histogram").data;
  EXPECT_EQ(marks("match_histogram"), 2 * bins.num_rows());
  const auto& map = find<HeatMap>(report, "decoder_norms");
  EXPECT_EQ(map.values.size(), 16u * 200u);
  EXPECT_EQ(find<Chart>(report, "loss").stops.size(), 16u);
  EXPECT_EQ(find<Chart>(report, "loss").levels.size(), 3u);
}

TEST(DecoderNorms, AreSortedByPeakAndShownAsShares) {
  Source source{.name = "test", .path = "test"};
  artifacts::Table steps({"step"});
  for (const int step : {0, 1, 8}) steps.add(step);
  source.tables["steps.csv"] = steps;
  // Features: 0 peaks last, 1 peaks first but is small, 2 peaks first, 3 is never there.
  source.arrays["decoder_norms.npy"] = {3,
                                        4,
                                        {0.f, 1.f, 4.f, 0.f,  //
                                         1.f, 0.f, 2.f, 0.f,  //
                                         2.f, 0.f, 0.f, 0.f}};
  const Report report = make_report("", {source});
  const auto& map = find<HeatMap>(report, "decoder_norms");
  EXPECT_EQ(map.rows, (std::vector<std::int64_t>{2, 1, 0, 3}));
  EXPECT_EQ(map.values, (std::vector<float>{1, 0.5, 0, 1, 0, 0, 0, 0.5, 1, 0, 0, 0}));
  EXPECT_EQ(map.row_scale, (std::vector<float>{4, 1, 2, 0}));
}

TEST(DecoderNorms, MustFitTheirSteps) {
  Source source{.name = "test", .path = "test"};
  source.tables["steps.csv"] = artifacts::Table({"step"});
  source.arrays["decoder_norms.npy"] = {1, 1, {1.f}};
  EXPECT_THROW(make_report("", {source}), Error);
}

TEST(Loss, PlacesSnapshotsByTheirTokens) {
  artifacts::Table metrics({"step", "tokens", "train/loss"});
  metrics.add(10, 1000, 5.0);
  metrics.add(20, 2000, 4.0);
  Sources sources = source_with("metrics.jsonl", metrics);
  sources[0].snapshot_steps = {0, 10, 15, 30};
  EXPECT_EQ(find<Chart>(make_report("", sources), "loss").stops,
            (std::vector<double>{0, 1000, 1500, 3000}));
}

TEST(Loss, ComparesSeveralRuns) {
  artifacts::Table metrics({"step", "tokens", "train/loss"});
  metrics.add(10, 1000, 5.0);
  Sources sources = source_with("metrics.jsonl", metrics);
  sources.push_back(sources[0]);
  sources[1].name = "other";
  const Report report = make_report("", sources);
  const auto& series = find<Chart>(report, "loss").series;
  ASSERT_EQ(series.size(), 2u);
  EXPECT_EQ(series[1].name, "train/loss · other");
}

TEST(Matches, ShowTheExtremesFirst) {
  artifacts::Table matches(
      {"feature", "best", "cosine", "second_cosine", "mutual", "p_value_pooled"});
  for (int f = 0; f < 30; ++f)
    matches.add(f, 100 + f, f == 20 ? 0.0 : 0.5 + f / 100.0, 0.1, 1, 0.01);
  matches.add_row({"30", "", "", "", "", ""});  // takes no part
  Sources sources = source_with("matches.csv", matches);
  artifacts::Table histogram({"cosine_from", "cosine_to", "features", "null"});
  histogram.add_row({"0.5", "0.52", "1", ""});  // no null was made
  sources[0].tables["match_histogram.csv"] = histogram;
  sources[0].manifest["facts"] = {{"a", "one"}, {"b", "other"}};
  const Report report = make_report("", sources);
  const auto& best = find<DataTable>(report, "matches_best").table;
  ASSERT_EQ(best.num_rows(), 12u);
  EXPECT_EQ(best.text(0, "feature"), "29");
  EXPECT_EQ(best.text(11, "feature"), "17");  // 20 is not among them
  const auto& worst = find<DataTable>(report, "matches_worst").table;
  ASSERT_EQ(worst.num_rows(), 12u);
  EXPECT_EQ(worst.text(0, "feature"), "20");
  EXPECT_EQ(worst.text(1, "feature"), "0");
  EXPECT_EQ(find<DataTable>(report, "matches_worst").title, "The smallest cosines");
  const auto& chart = find<Chart>(report, "match_histogram");
  EXPECT_EQ(chart.caption, "one in other");
  ASSERT_EQ(chart.series.size(), 1u);
  EXPECT_NEAR(chart.series[0].x[0], 0.51, 1e-12);
  EXPECT_TRUE(chart.stops.empty());
}

artifacts::Table training_metrics(int num_steps) {
  artifacts::Table metrics({"step", "loss", "l_rec", "l_s", "l0", "l1_coefficient"});
  for (int step = 0; step < num_steps; ++step) metrics.add(step, 3.0, 2.0, 4.0, 10.0, 0.25);
  return metrics;
}

TEST(Training, ShowsTheTermsOfOneRunAsTheyEnterTheLoss) {
  const Report report = make_report("", source_with("metrics.jsonl", training_metrics(3)));
  const auto& chart = find<Chart>(report, "dictionary_loss");
  ASSERT_EQ(chart.series.size(), 3u);
  EXPECT_EQ(chart.series[2].name, "l1_coefficient · l_s");
  EXPECT_EQ(chart.series[2].y, (std::vector<double>{1, 1, 1}));
  EXPECT_EQ(find<Chart>(report, "dictionary_l1_coefficient").x.scale, Scale::Linear);
  EXPECT_THROW(find<Chart>(report, "dictionary_dead"), Error);  // it was not logged
}

TEST(Training, LaysSeveralRunsOverEachOther) {
  Sources sources = source_with("metrics.jsonl", training_metrics(3));
  for (const char* name : {"second", "third"}) {
    sources.push_back(sources[0]);
    sources.back().name = name;
  }
  const Report report = make_report("", sources);
  const auto& chart = find<Chart>(report, "dictionary_l_s");
  ASSERT_EQ(chart.series.size(), 3u);
  EXPECT_EQ(chart.series[1].name, "second");
  EXPECT_EQ(chart.data.num_rows(), 9u);
  EXPECT_EQ(chart.caption, "l_s, from metrics.jsonl of test, second and third.");
}

// A log of every step is drawn as finely as can be seen on its axis, with both ends.
TEST(Training, ThinsOutWhatNoDrawingCanShow) {
  const Report report = make_report("", source_with("metrics.jsonl", training_metrics(20000)));
  const auto& curve = find<Chart>(report, "dictionary_l0").series[0];
  EXPECT_LT(curve.x.size(), 850u);
  EXPECT_EQ(curve.x[0], 0);
  EXPECT_EQ(curve.x[1], 1);  // the axis is that of log(1 + step)
  EXPECT_EQ(curve.x.back(), 19999);
  EXPECT_EQ(curve.y.size(), curve.x.size());
  const auto& chart = find<Chart>(report, "dictionary_l1_coefficient");
  EXPECT_NE(chart.caption.find("Of 20,000 logged values"), std::string::npos) << chart.caption;
}

TEST(Training, LeavesOutWhatWouldPressTheRestFlat) {
  artifacts::Table metrics({"step", "loss", "explained_variance"});
  metrics.add(0, 1, -4.75);
  metrics.add(1, 1, 0.25);
  metrics.add(2, 1, 0.5);
  const Report report = make_report("", source_with("metrics.jsonl", metrics));
  const auto& chart = find<Chart>(report, "dictionary_explained_variance");
  EXPECT_EQ(chart.series[0].y, (std::vector<double>{0.25, 0.5}));
  EXPECT_NE(chart.caption.find("1 value below 0, the lowest -4.75, is not drawn."),
            std::string::npos)
      << chart.caption;
}

artifacts::Table sweep_table() {
  artifacts::Table sweep({"member", "l1", "d", "explained_variance_pooled", "l0", "folder"});
  sweep.add("a", 1, 8, 0.5, 10, "a");
  sweep.add("b", 2, 8, 0.6, 20, "b");
  sweep.add("c", 3, 8, 0.55, 20, "c");  // b is better at the same l0
  sweep.add("d", 1, 16, 0.9, 40, "d");
  sweep.add("e", 2, 16, 0.4, 5, "e");
  sweep.add("f", 3, 16, 0.45, 30, "f");  // a explains more with fewer
  sweep.add("g", 4, 16, NAN, NAN, "g");
  return sweep;
}

TEST(Sweep, DrawsTheFrontAsStairs) {
  const Report report = make_report("", source_with("sweep.csv", sweep_table()));
  const auto& chart = find<Chart>(report, "sweep");
  ASSERT_EQ(chart.series.size(), 3u);  // colours by d, which has fewer values than l1
  EXPECT_EQ(chart.series[0].name, "d 8");
  EXPECT_EQ(chart.series[0].labels, (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(chart.series[1].labels, (std::vector<std::string>{"d", "e", "f"}));
  const Series& front = chart.series[2];
  EXPECT_EQ(front.x, (std::vector<double>{5, 10, 10, 20, 20, 40, 40}));
  EXPECT_EQ(front.y, (std::vector<double>{0.4, 0.4, 0.5, 0.5, 0.6, 0.6, 0.9}));
  EXPECT_NE(chart.caption.find("1 of 7 members have no numbers"), std::string::npos);
  const auto& table = find<DataTable>(report, "sweep_members").table;
  EXPECT_EQ(table.texts("member"), (std::vector<std::string>{"d", "b", "c", "a", "f", "e", "g"}));
  EXPECT_EQ(table.texts("front"),
            (std::vector<std::string>{"yes", "yes", "", "yes", "", "yes", ""}));
  EXPECT_FALSE(table.has("folder"));
}

TEST(Sweep, OfOneKeyIsOfOneColour) {
  artifacts::Table sweep({"member", "l1", "explained_variance_pooled", "l0"});
  sweep.add("a", 1, 0.5, 10);
  sweep.add("b", 2, 0.6, 20);
  const Report report = make_report("", source_with("sweep.csv", sweep));
  EXPECT_EQ(find<Chart>(report, "sweep").series.size(), 2u);
}

TEST(Quality, LaysDictionariesOverEachOtherAndBesideBaselines) {
  artifacts::Table quality({"step", "explained_variance", "l0", "dead_rate_1e-4"});
  quality.add(0, 0.5, 10, 0.1);
  quality.add(8, 0.7, 9, 0.2);
  artifacts::Table pooled({"metric", "value"}),
      baselines({"baseline", "rank", "step", "explained_variance"});
  pooled.add("l0", 9.5);
  for (const int rank : {32, 8})
    for (const int step : {0, 8}) baselines.add("PCA", rank, step, 0.01 * rank);
  baselines.add("mean", 0, "pooled", 0.1);
  Sources sources = source_with("quality_per_snapshot.csv", quality);
  sources[0].tables["quality_pooled.csv"] = pooled;
  sources.push_back(sources[0]);
  sources[1].name = "other";
  pooled.add("dead_rate_1e-6", 0.25);
  sources[1].tables["quality_pooled.csv"] = pooled;
  sources[1].tables["linear_baselines.csv"] = baselines;
  const Report report = make_report("", sources);
  const auto& chart = find<Chart>(report, "explained_variance");
  std::vector<std::string> names;
  for (const Series& series : chart.series) names.push_back(series.name);
  EXPECT_EQ(names, (std::vector<std::string>{"test", "other", "PCA of rank 8", "PCA of rank 32"}));
  EXPECT_TRUE(chart.series[2].dashed);
  EXPECT_EQ(chart.series[2].y, (std::vector<double>{0.08, 0.08}));
  ASSERT_EQ(chart.levels.size(), 1u);
  EXPECT_EQ(chart.levels[0].label, "mean of rank 0 0.1");
  EXPECT_EQ(find<Chart>(report, "dead_rate").series.size(), 2u);
  const auto& table = find<DataTable>(report, "quality_pooled").table;
  EXPECT_EQ(table.columns(), (std::vector<std::string>{"metric", "test", "other"}));
  EXPECT_EQ(table.row(1), (std::vector<std::string>{"dead_rate_1e-6", "", "0.25"}));
  for (const Section& section : report.sections) EXPECT_NE(section.id, "loss-section");
}

TEST(FiringDensity, PutsTheSilentAtZeroAndChoosesFive) {
  artifacts::Table density({"step", "log10_rate_from", "log10_rate_to", "features"});
  for (const char* step : {"0", "1", "2", "8", "64", "512", "1000", ""}) {
    density.add(step, "", "", 50);
    density.add(step, -0.5, -0.25, 3);
    density.add(step, -0.25, 0, 4);
  }
  const Report report = make_report("", source_with("firing_density.csv", density));
  const auto& chart = find<Chart>(report, "firing_density");
  std::vector<std::string> names;
  for (const Series& series : chart.series) names.push_back(series.name);
  EXPECT_EQ(names, (std::vector<std::string>{"all snapshots together", "step 0", "step 8",
                                             "step 64", "step 512", "step 1,000"}));
  const Series& first = chart.series[0];
  EXPECT_EQ(first.y, (std::vector<double>{50, 3, 4}));
  EXPECT_EQ(first.x[0], 0);
  EXPECT_NEAR(first.x[2], std::pow(10, -0.125), 1e-12);
  EXPECT_EQ(chart.y.scale, Scale::Log);  // 50 would press 3 and 4 flat
}

artifacts::Table tokens_table() {
  return artifacts::Table({"feature", "step", "rank", "token_id", "token", "score", "floor"});
}

Sources atlas_source(artifacts::Table promoted) {
  artifacts::Table features({"feature", "alive"});
  for (const int id : {3, 7, 9}) features.add(id, 1);
  Sources sources = source_with("features.csv", features);
  sources[0].tables["promoted_tokens.csv"] = std::move(promoted);
  return sources;
}

TEST(Atlas, KeepsFiveTokenStepsOfEachFeature) {
  artifacts::Table tokens = tokens_table();
  for (int step = 0; step < 9; ++step) tokens.add(3, step, 1, 7, "x", 1.0, 0.5);
  for (int step = 20; step < 23; ++step) tokens.add(9, step, 1, 7, "x", 1.0, 0.5);
  const Report report = make_report("", atlas_source(tokens));
  std::vector<std::pair<std::uint32_t, std::int64_t>> steps;
  for (const TokenList& list : find<FeatureAtlas>(report, "features").promoted)
    steps.emplace_back(list.row, list.step);
  EXPECT_EQ(steps, (std::vector<std::pair<std::uint32_t, std::int64_t>>{
                       {0, 0}, {0, 2}, {0, 4}, {0, 6}, {0, 8}, {2, 20}, {2, 21}, {2, 22}}));
}

TEST(Atlas, TakesTokensByRankAndLeavesOutFeaturesThatAreNotThere) {
  artifacts::Table tokens = tokens_table();
  tokens.add(7, 5, 2, 1, "second", 1.0, 0.5);
  tokens.add(8, 5, 1, 1, "nobody's", 9.0, 0.5);
  tokens.add(7, 5, 1, 2, "first", 2.0, 0.5);
  tokens.add(7, 1, 1, 1, "second", 3.0, 0.25);
  const Report report = make_report("", atlas_source(tokens));
  const auto& atlas = find<FeatureAtlas>(report, "features");
  ASSERT_EQ(atlas.promoted.size(), 2u);
  EXPECT_EQ(atlas.promoted[0].step, 1);
  EXPECT_EQ(atlas.promoted[0].floor, 0.25f);
  const TokenList& list = atlas.promoted[1];
  EXPECT_EQ(list.row, 1u);
  ASSERT_EQ(list.tokens.size(), 2u);
  EXPECT_EQ(atlas.vocabulary[list.tokens[0].token], "first");
  EXPECT_EQ(list.tokens[0].score, 2);
  EXPECT_EQ(atlas.vocabulary[list.tokens[1].token], "second");
  EXPECT_EQ(atlas.promoted[0].tokens[0].token, list.tokens[1].token);
}

TEST(Atlas, NeedsToKnowWhichFeatureIsWhich) {
  artifacts::Table features({"alive"});
  features.add(1);
  EXPECT_THROW(make_report("", source_with("features.csv", features)), Error);
}

TEST(Atlas, SaysWhenListsAreCut) {
  artifacts::Table tokens = tokens_table();
  for (int rank = 1; rank <= 25; ++rank) tokens.add(3, 0, rank, rank, "x", 1.0 / rank, 0.5);
  const Report report = make_report("", atlas_source(tokens));
  const auto& atlas = find<FeatureAtlas>(report, "features");
  EXPECT_EQ(atlas.promoted[0].tokens.size(), 20u);
  EXPECT_NE(atlas.caption.find("the first 20 are here"), std::string::npos) << atlas.caption;
}

TEST(Atlas, KnowsNeighboursByRow) {
  Sources sources = atlas_source(tokens_table());
  artifacts::Table neighbours({"feature", "rank", "neighbour", "cosine"});
  neighbours.add(9, 2, 3, 0.25);
  neighbours.add(9, 1, 7, 0.5);
  neighbours.add(9, 3, 4, 0.125);  // there is no feature 4
  neighbours.add(3, 1, 9, -0.5);
  sources[0].tables["neighbours.csv"] = neighbours;
  const Report report = make_report("", sources);
  std::vector<std::tuple<std::uint32_t, std::uint32_t, float>> found;
  for (const Neighbour& one : find<FeatureAtlas>(report, "features").neighbours)
    found.emplace_back(one.row, one.neighbour, one.cosine);
  EXPECT_EQ(found, (std::vector<std::tuple<std::uint32_t, std::uint32_t, float>>{
                       {0, 2, -0.5f}, {2, 1, 0.5f}, {2, 0, 0.25f}}));
}

}  // namespace
}  // namespace cresco::report
