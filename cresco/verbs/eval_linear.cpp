#include "cresco/verbs/eval_linear.h"

#include "cresco/base/strings.h"
#include "cresco/dictionaries/baselines.h"
#include "cresco/verbs/interruptible.h"

#include <algorithm>
#include <cmath>

namespace cresco::verbs {
namespace {

using artifacts::Table;
using dictionaries::StackRows;

constexpr std::int64_t kTrajectoryRanks[] = {16, 32, 64, 128, 256};
constexpr std::int64_t kSnapshotRanks[] = {16, 32, 64, 128, 256, 512, 1024};

std::vector<std::string> spread_cells(const dictionaries::Spread& s) {
  return {Table::cell(s.mean), Table::cell(s.p10), Table::cell(s.p50), Table::cell(s.p90)};
}

}  // namespace

Table ExactPca::table() const {
  Table table({"rank", "explained_variance", "explained_variance_raw"});
  std::vector<std::int64_t> ranks(std::begin(kTrajectoryRanks), std::end(kTrajectoryRanks));
  ranks.push_back(rank_of_l0);
  std::sort(ranks.begin(), ranks.end());
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  for (const std::int64_t rank : ranks)
    if (rank <= own.max_rank())
      table.add(rank, own.explained_variance(rank), raw.explained_variance(rank));
  return table;
}

std::optional<ExactPca> exact_pca(const StackRows& rows, bool scaled, double l0,
                                  Progress& progress) {
  const dictionaries::Rows centred = rows.with_mode("center").rows();
  if (!dictionaries::pca_is_exact_possible(centred)) {
    progress.note(fmt::format(
        "no exact PCA: rows and columns are both more than {}; --baselines has a randomised one",
        dictionaries::kMaxExactSize));
    return std::nullopt;
  }
  const dictionaries::TrajectorySpectrum raw(centred, rows.block_bytes());
  ExactPca pca{
      .own = scaled ? dictionaries::TrajectorySpectrum(rows.rows(), rows.block_bytes()) : raw,
      .raw = raw,
      .at_l0 = {}};
  pca.rank_of_l0 = std::clamp<std::int64_t>(std::llround(l0), 1, pca.own.max_rank());
  pca.at_l0 = pca.own.at_rank(pca.rank_of_l0);
  return pca;
}

Table baselines_table(const StackRows& rows, const std::optional<ExactPca>& pca, bool scaled,
                      std::uint64_t seed, Progress& progress,
                      const std::vector<std::string>& kinds) {
  const auto wanted = [&kinds](const char* kind) {
    return kinds.empty() || std::find(kinds.begin(), kinds.end(), kind) != kinds.end();
  };
  Table table({"baseline", "rank", "step", "explained_variance", "row_explained_variance_mean",
               "row_explained_variance_p10", "row_explained_variance_p50",
               "row_explained_variance_p90", "alpha_mean", "alpha_std", "alpha_p10", "alpha_p50",
               "alpha_p90"});
  const auto add = [&](const char* baseline, std::int64_t rank, const std::string& step,
                       double explained, std::vector<std::string> more = {}) {
    std::vector<std::string> cells{baseline, Table::cell(rank), step, Table::cell(explained)};
    cells.insert(cells.end(), more.begin(), more.end());
    cells.resize(table.columns().size());
    table.add_row(std::move(cells));
  };
  if (wanted("mean")) add("mean", 0, "pooled", 0);
  progress.begin("baselines", rows.num_heads() + 2, "PCA");
  for (std::int64_t k = 0; wanted("pca") && k < rows.num_heads(); ++k) {
    const dictionaries::Spectrum spectrum = dictionaries::snapshot_spectrum(rows, k);
    for (const std::int64_t rank : kSnapshotRanks)
      if (rank <= rows.width())
        add("static_pca", rank, Table::cell(rows.step(k)), spectrum.explained_variance(rank));
    progress.update(k + 1, "");
    stop_when_interrupted(progress);
  }
  const auto add_ranks = [&](const char* baseline, std::int64_t most, const auto& spectrum) {
    for (const std::int64_t rank : kTrajectoryRanks)
      if (rank <= most) add(baseline, rank, "pooled", spectrum.explained_variance(rank));
  };
  if (pca) {
    add_ranks("concatenated_pca", pca->raw.max_rank(), pca->raw);
    if (scaled) add_ranks("concatenated_pca_scaled", pca->own.max_rank(), pca->own);
  }
  if (wanted("concatenated_pca")) {
    const dictionaries::Spectrum randomized = dictionaries::randomized_spectrum(rows, seed);
    add_ranks("concatenated_pca_randomized", randomized.squared_N.size(0), randomized);
  }
  progress.update(rows.num_heads() + 1, "");
  stop_when_interrupted(progress);
  const auto lines = wanted("endpoint_line") ? dictionaries::endpoint_lines(rows)
                                             : std::vector<dictionaries::EndpointLine>{};
  for (std::int64_t k = 0; k < std::ssize(lines); ++k) {
    const dictionaries::EndpointLine& line = lines[static_cast<std::size_t>(k)];
    std::vector<std::string> more = spread_cells(line.row), alpha = spread_cells(line.alpha);
    alpha.insert(alpha.begin() + 1, Table::cell(line.alpha.deviation));
    more.insert(more.end(), alpha.begin(), alpha.end());
    add("endpoint_line", 1, Table::cell(rows.step(k)), line.explained_variance, more);
  }
  progress.end();
  return table;
}

Json baselines_json(const Table& table) {
  Json list = Json::array();
  for (std::size_t i = 0; i < table.num_rows(); ++i) {
    Json row = Json::object();
    for (const std::string& column : table.columns()) {
      const std::string& cell = table.text(i, column);
      if (column == "baseline" || cell == "pooled")
        row[column] = cell;
      else if (column == "step" || column == "rank")
        row[column] = parse_int(cell, column);
      else if (!cell.empty())
        row[column] = table.number(i, column);
    }
    list.push_back(std::move(row));
  }
  return list;
}

Table what_they_explain(const Table& baselines) {
  Table table({"baseline", "rank", "step", "explained_variance"});
  for (std::size_t i = 0; i < baselines.num_rows(); ++i) {
    std::vector<std::string> row;
    for (const std::string& column : table.columns()) row.push_back(baselines.text(i, column));
    table.add_row(std::move(row));
  }
  return table;
}

double baselines_flops(std::int64_t num_rows, std::int64_t num_heads, std::int64_t width) {
  const auto numbers = static_cast<double>(num_rows * num_heads * width);
  const auto columns = static_cast<double>(width);
  // A Gram matrix and its eigenvalues at each snapshot; four products with the sketch.
  return 2 * numbers * columns + 9 * columns * columns * columns * static_cast<double>(num_heads) +
         8 * numbers * static_cast<double>(dictionaries::kSketch);
}

// The sketch in float32, and as doubles while it is made orthonormal.
double baselines_bytes(std::int64_t num_rows) {
  return (2 * 4 + 2 * 8) * static_cast<double>(num_rows * dictionaries::kSketch);
}

}  // namespace cresco::verbs
