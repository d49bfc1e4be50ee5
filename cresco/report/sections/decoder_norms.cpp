#include "cresco/report/sections/build.h"

#include "cresco/base/require.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace cresco::report {
namespace {

// A feature whose largest norm is below this share of all features' largest is shown after the
// others.
constexpr float kFaint = 0.01f;

struct Peak {
  std::size_t column = 0;
  float norm = 0;
};

std::vector<Peak> peaks_of(const Matrix& norms) {
  std::vector<Peak> peaks(norms.columns);
  for (std::size_t k = 0; k < norms.rows; ++k)
    for (std::size_t f = 0; f < norms.columns; ++f)
      if (norms.at(k, f) > peaks[f].norm) peaks[f] = {k, norms.at(k, f)};
  return peaks;
}

// By peak step, then by norm; the faint ones last.
std::vector<std::size_t> order_of(const std::vector<Peak>& peaks) {
  float largest = 0;
  for (const Peak& peak : peaks) largest = std::max(largest, peak.norm);
  std::vector<std::size_t> order(peaks.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    const bool faint_a = peaks[a].norm < kFaint * largest,
               faint_b = peaks[b].norm < kFaint * largest;
    if (faint_a != faint_b) return faint_b;
    if (peaks[a].column != peaks[b].column) return peaks[a].column < peaks[b].column;
    return peaks[a].norm > peaks[b].norm;
  });
  return order;
}

}  // namespace

std::optional<Section> build_decoder_norms(const Sources& sources) {
  Section section{
      .id = "decoder-norms",
      .title = "Decoder norms",
      .text =
          "Each row is a feature, each column a snapshot. Rows are sorted by the step of "
          "their largest norm, then by that norm."};
  const auto found = sources_with(sources, "decoder_norms.npy");
  for (std::size_t i = 0; i < found.size(); ++i) {
    const Source& source = *found[i];
    const Matrix& norms = source.arrays.at("decoder_norms.npy");
    if (!source.tables.contains("steps.csv") || norms.columns == 0 || norms.rows == 0) continue;
    const std::vector<double> steps = source.tables.at("steps.csv").numbers("step");
    require(steps.size() == norms.rows, "{}: decoder_norms.npy has {} snapshots, steps.csv {}",
            source.path, norms.rows, steps.size());

    HeatMap map{.id = figure_id("decoder_norms", i),
                .title = title_of("Decoder norm over training", source, found.size()),
                .source = "decoder_norms.npy",
                .row_label = "feature",
                .value_label = "norm, as a share of the feature's largest",
                .scale_label = "largest norm"};
    for (const double step : steps) map.steps.push_back(std::llround(step));
    const std::vector<Peak> peaks = peaks_of(norms);
    for (const std::size_t f : order_of(peaks)) {
      map.rows.push_back(static_cast<std::int64_t>(f));
      map.row_scale.push_back(peaks[f].norm);
      for (std::size_t k = 0; k < norms.rows; ++k) {
        const float share = peaks[f].norm > 0 ? norms.at(k, f) / peaks[f].norm : 0;
        map.values.push_back(std::isfinite(share) ? std::clamp(share, 0.0f, 1.0f) : 0);
      }
    }
    section.blocks.emplace_back(std::move(map));
  }
  if (section.blocks.empty()) return std::nullopt;
  return section;
}

}  // namespace cresco::report
