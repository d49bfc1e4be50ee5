#include "cresco/base/temporary_folder.h"
#include "cresco/report/render.h"
#include "cresco/report/sections.h"
#include "cresco/report/testing/demo_folder.h"

#include <gtest/gtest.h>

#include <cmath>

namespace cresco::report {
namespace {

std::size_t count(const std::string& text, std::string_view part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos;
       at = text.find(part, at + part.size()))
    ++found;
  return found;
}

std::string demo_page() {
  const TemporaryFolder folder;
  testing::write_demo_folder(folder / "demo");
  return render_html(make_report("Demo", open_sources({folder / "demo"})));
}

TEST(RenderHtml, RunsOneScriptOnly) {
  const std::string page = demo_page();
  EXPECT_EQ(count(page, "<script>"), 1u);
  EXPECT_EQ(count(page, "<script"), 1u + count(page, "<script type=\"application/json\">") +
                                        count(page, "<script type=\"text/plain\" class=\"pack\""));
  EXPECT_EQ(count(page, "<script"), count(page, "</script>"));
  EXPECT_EQ(count(page, "script-src 'sha256-"), 1u);
}

TEST(RenderHtml, AsksTheNetworkForNothing) {
  const std::string page = demo_page();
  EXPECT_EQ(count(page, "src="), count(page, "src=x onerror"));  // as text, in a token
  EXPECT_EQ(count(page, "url("), 0u);
  EXPECT_EQ(count(page, "@import"), 0u);
  for (const char* scheme : {"http://", "https://"})
    EXPECT_EQ(count(page, scheme), count(page, "http://www.w3.org/2000/svg") * (scheme[4] == ':'))
        << scheme;
}

TEST(RenderHtml, KeepsHostileTextAsText) {
  Section section{.id = "x", .title = "<script>alert(1)</script>", .text = "</section><img src=x>"};
  Passages passages{.id = "p\"onclick=\"x", .title = "t", .source = "s"};
  artifacts::Table table({"</th><b>", "value"});
  for (const std::string& token : testing::hostile_tokens()) {
    passages.passages.push_back({1, token, token});
    table.add(token, 1);
  }
  section.blocks.emplace_back(passages);
  section.blocks.emplace_back(
      DataTable{.id = "d", .title = "</h3>", .source = "s", .caption = "", .table = table});
  const std::string page =
      render_html({.title = "</title><script>x</script>", .sections = {section}});
  EXPECT_EQ(count(page, "<script"), 1u);
  EXPECT_EQ(count(page, "<img"), 0u);
  EXPECT_EQ(count(page, "onclick=\""), 0u);
  EXPECT_EQ(count(page, "\u202e"), 0u);
  EXPECT_EQ(count(page, "{{title}}"), 0u);
  EXPECT_EQ(count(page, "{{script}}"), 3u);  // a token: prompt, continuation, table
}

// What arms are called comes from files.
TEST(RenderHtml, KeepsHostileArmsAsText) {
  Sources sources;
  artifacts::Table geometry({"cond", "step", "rn_mean"}), differences({"cond", "metric", "mean"});
  for (const std::string& name : testing::hostile_tokens()) {
    Source run{.name = name, .path = "x", .manifest = {{"settings", {{"arm", name}}}}};
    artifacts::Table metrics({"step", "train/loss", "optim/grad_norm/" + name});
    metrics.add(1, 5.0, 1.0);
    run.tables["metrics.jsonl"] = metrics;
    sources.push_back(run);
    geometry.add(name, 1, 0.5);
    differences.add(name, "rn_mean", 0.5);
  }
  sources[0].tables["readout_geometry.csv"] = geometry;
  sources[0].tables["arm_differences.csv"] = differences;
  const std::string page = render_html(make_report("", sources));
  EXPECT_EQ(count(page, "<script>"), 1u);
  EXPECT_EQ(count(page, "<script"), 1u + count(page, "<script type=\"application/json\">"));
  EXPECT_EQ(count(page, "<script"), count(page, "</script>"));
  EXPECT_EQ(count(page, "<img"), 0u);
  EXPECT_EQ(count(page, "\u202e"), 0u);
  EXPECT_GE(count(page, "&lt;script&gt;alert(1)&lt;/script&gt;"), 4u);
}

// Another seed of an arm is a line of the drawing, and no entry of the legend.
TEST(RenderHtml, DrawsSeedsThinInTheirArmsColour) {
  Chart chart{.id = "c", .title = "t", .source = "s", .x = {"x"}, .y = {"y"}};
  chart.series.push_back(
      {.name = "arm seed 0", .source = "s", .x = {1, 2}, .y = {1, 2}, .color = 7});
  chart.series.push_back({.name = "arm seed 1",
                          .source = "s",
                          .x = {1, 2},
                          .y = {2, 3},
                          .repeated = true,
                          .color = 7});
  const std::string page =
      render_html({.title = "t", .sections = {{.id = "x", .title = "x", .blocks = {chart}}}});
  EXPECT_EQ(count(page, "class=\"series c1 d1 repeated\""), 2u);  // wide and narrow
  EXPECT_EQ(count(page, "class=\"series c1 d1\""), 2u);
  EXPECT_EQ(count(page, "<bdi>arm seed 0</bdi>"), 1u);
  EXPECT_EQ(count(page, "<bdi>arm seed 1</bdi>"), 0u);

  chart.series.erase(chart.series.begin());  // the first has nothing to draw here
  const std::string alone =
      render_html({.title = "t", .sections = {{.id = "x", .title = "x", .blocks = {chart}}}});
  EXPECT_EQ(count(alone, "<bdi>arm seed 1</bdi>"), 1u);
}

TEST(RenderHtml, DrawsOneMarkPerPoint) {
  Chart chart{.id = "c", .title = "t", .source = "s", .x = {"x"}, .y = {"y", Scale::Log}};
  chart.series.push_back({.name = "a", .source = "s", .x = {1, 2, 3, 4}, .y = {1, NAN, 2, -1}});
  const std::string page =
      render_html({.title = "", .sections = {{.id = "x", .title = "x", .blocks = {chart}}}});
  EXPECT_EQ(count(page, "class=\"mark\""), 2u);
  EXPECT_EQ(count(page, "data-points=\"2\""), 2u);  // the wide drawing and the narrow one
}

TEST(RenderHtml, DrawsBinsAsOutlinesWithZeroApart) {
  Chart chart{.id = "c", .title = "t", .source = "s", .x = {"x", Scale::Log}, .y = {"y"}};
  chart.series.push_back(
      {.name = "a", .source = "s", .x = {0, 0.01, 0.1, 1}, .y = {9, 1, 2, 3}, .bins = true});
  const std::string page =
      render_html({.title = "", .sections = {{.id = "x", .title = "x", .blocks = {chart}}}});
  EXPECT_EQ(count(page, "class=\"mark\""), 4u);
  EXPECT_EQ(count(page, "class=\"line bins\""),
            5u);  // two outlines, wide and narrow, and the legend's
}

TEST(RenderHtml, NamesMarksWhereThereIsRoom) {
  Chart chart{.id = "c", .title = "t", .source = "s", .x = {"x"}, .y = {"y"}};
  chart.series.push_back({.name = "a",
                          .source = "s",
                          .x = {1, 5, 5},
                          .y = {1, 5, 5},
                          .labels = {"one<b>", "two", "on the same spot"},
                          .line = false});
  chart.series.push_back({.name = "b", .source = "s", .x = {5, 5}, .y = {1, 5}, .marks = false});
  const std::string page =
      render_html({.title = "", .sections = {{.id = "x", .title = "x", .blocks = {chart}}}});
  EXPECT_EQ(count(page, ">one&lt;b&gt;</text>"), 2u);  // wide and narrow
  EXPECT_EQ(count(page, ">two</text>"), 2u);
  EXPECT_EQ(count(page, "class=\"mark\""), 3u);
  EXPECT_EQ(count(page, "\"labels\":"), 1u);  // said by hovering, all three
}

TEST(RenderHtml, WritesLevelsWhereFewerPointsAre) {
  Chart chart{.id = "c", .title = "t", .source = "s", .x = {"x"}, .y = {"y"}};
  chart.levels = {{9.5, "level"}};
  const auto page_with = [&](std::vector<double> y) {
    chart.series = {{.name = "a", .source = "s", .x = {0, 1, 2, 3, 4}, .y = std::move(y)}};
    return render_html({.title = "", .sections = {{.id = "x", .title = "x", .blocks = {chart}}}});
  };
  const auto ends_at = [](const std::string& page, const char* anchor) {
    return count(page, std::string("text-anchor=\"") + anchor + "\">level</text>");
  };
  EXPECT_EQ(ends_at(page_with({0, 2, 4, 6, 9.7}), "start"), 2u);  // wide and narrow
  EXPECT_EQ(ends_at(page_with({9.7, 6, 4, 2, 0}), "end"), 2u);
}

TEST(RenderHtml, NamesRepeatedMarksOnce) {
  Chart chart{.id = "c", .title = "t", .source = "s", .x = {"x"}, .y = {"y"}};
  chart.series.push_back({.name = "a",
                          .source = "s",
                          .x = {1, 5, 9},
                          .y = {1, 5, 9},
                          .labels = {"seed 0", "seed 1", "other"},
                          .names = {"same", "same", ""},
                          .line = false});
  const std::string page =
      render_html({.title = "", .sections = {{.id = "x", .title = "x", .blocks = {chart}}}});
  EXPECT_EQ(count(page, ">same</text>"), 2u);  // wide and narrow
  EXPECT_EQ(count(page, ">other</text>"), 0u);
  EXPECT_EQ(count(page, "\"seed 1\""), 1u);  // said by hovering
}

TEST(RenderHtml, LaysLongTablesOfPairsInTwo) {
  artifacts::Table table({"metric", "value"});
  for (int i = 0; i < 7; ++i) table.add("explained_variance", i);
  const auto page_of = [&](bool half) {
    const DataTable block{.id = "d", .title = "t", .source = "s", .table = table, .half = half};
    return render_html({.title = "", .sections = {{.id = "x", .title = "x", .blocks = {block}}}});
  };
  EXPECT_EQ(count(page_of(false), "<table>"), 2u);
  EXPECT_EQ(count(page_of(false), "<td class=\"number\">"), 7u);
  EXPECT_EQ(count(page_of(true), "<table>"), 1u);
  EXPECT_EQ(count(page_of(true), "explained_<wbr/>variance"), 7u);
}

TEST(RenderHtml, TakesEmptyFigures) {
  Section section{.id = "x", .title = "x"};
  section.blocks.emplace_back(Chart{.id = "c"});
  section.blocks.emplace_back(FeatureAtlas{.id = "f"});
  section.blocks.emplace_back(Passages{});
  section.blocks.emplace_back(DataTable{});
  section.blocks.emplace_back(Facts{});
  section.blocks.emplace_back(Provenance{});
  EXPECT_FALSE(render_html({.title = "", .sections = {section}}).empty());
  EXPECT_FALSE(render_text({.title = "", .sections = {section}}).empty());
}

// Tens of thousands of features cost bytes, not elements.
TEST(RenderHtml, StaysLightWithManyFeatures) {
  constexpr std::size_t kFeatures = 24576, kSteps = 16;
  FeatureAtlas atlas{
      .id = "f", .source = "features.csv", .features = artifacts::Table({"feature", "final_norm"})};
  HeatMap map{.id = "h", .row_label = "feature"};
  for (std::size_t f = 0; f < kFeatures; ++f) {
    atlas.features.add(f, 0.5);
    map.rows.push_back(static_cast<std::int64_t>(f));
  }
  for (std::size_t k = 0; k < kSteps; ++k) {
    atlas.steps.push_back(1 << k);
    map.steps.push_back(1 << k);
  }
  atlas.norms.assign(kFeatures * kSteps, 0.5f);
  map.values.assign(kFeatures * kSteps, 0.5f);
  map.row_scale.assign(kFeatures, 1.f);
  const std::string page =
      render_html({.title = "", .sections = {{.id = "x", .title = "x", .blocks = {map, atlas}}}});
  EXPECT_LT(page.size(), 3u << 20);
  EXPECT_LT(count(page, "<"), 2000u);
}

}  // namespace
}  // namespace cresco::report
