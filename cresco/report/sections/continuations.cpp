#include "cresco/report/sections/build.h"

#include <cmath>

namespace cresco::report {

std::optional<Section> build_continuations(const Sources& sources) {
  Section section{.id = "continuations-section",
                  .title = "What the model says",
                  .text = "Each snapshot continues the same prompts."};
  const auto found = sources_with(sources, "continuations.csv");
  for (std::size_t i = 0; i < found.size(); ++i) {
    const artifacts::Table& table = found[i]->tables.at("continuations.csv");
    Passages passages{.id = figure_id("continuations", i),
                      .title = title_of("Continuations", *found[i], found.size()),
                      .source = "continuations.csv"};
    const std::vector<double> steps = table.numbers("step");
    for (std::size_t row = 0; row < table.num_rows(); ++row)
      passages.passages.push_back({std::isfinite(steps[row]) ? std::llround(steps[row]) : -1,
                                   table.text(row, "prompt"), table.text(row, "continuation")});
    section.blocks.emplace_back(std::move(passages));
  }
  if (section.blocks.empty()) return std::nullopt;
  return section;
}

}  // namespace cresco::report
