#include "cresco/report/sections.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/report/describe.h"
#include "cresco/report/testing/demo_folder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

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
  EXPECT_EQ(marks("explained_variance"), 16u + 4u);
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
  const auto& chart = find<Chart>(report, "match_histogram");
  EXPECT_EQ(chart.caption, "one in other");
  ASSERT_EQ(chart.series.size(), 1u);
  EXPECT_NEAR(chart.series[0].x[0], 0.51, 1e-12);
  EXPECT_TRUE(chart.stops.empty());
}

TEST(Features, KeepFiveTokenSteps) {
  artifacts::Table tokens({"feature", "step", "rank", "token_id", "token", "score", "floor"});
  for (int step = 0; step < 9; ++step) tokens.add(0, step, 1, 7, "x", 1.0, 0.5);
  artifacts::Table features({"feature", "alive"});
  features.add(0, 1);
  Sources sources = source_with("features.csv", features);
  sources[0].tables["promoted_tokens.csv"] = tokens;
  const Report report = make_report("", sources);
  std::vector<std::int64_t> steps;
  for (const PromotedToken& token : find<FeatureCards>(report, "features").promoted)
    steps.push_back(token.step);
  EXPECT_EQ(steps, (std::vector<std::int64_t>{0, 2, 4, 6, 8}));
}

}  // namespace
}  // namespace cresco::report
