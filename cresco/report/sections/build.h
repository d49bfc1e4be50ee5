// The builders of sections: from tables to a section, or nothing when the tables are not there.
#pragma once

#include "cresco/report/report.h"
#include "cresco/report/sources.h"

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace cresco::report {

std::optional<Section> build_summary(const Sources& sources);
std::optional<Section> build_loss(const Sources& sources);
std::optional<Section> build_continuations(const Sources& sources);
std::optional<Section> build_dictionary_training(const Sources& sources);
std::optional<Section> build_sweep(const Sources& sources);
std::optional<Section> build_quality(const Sources& sources);
std::optional<Section> build_fidelity(const Sources& sources);
std::optional<Section> build_firing_density(const Sources& sources);
std::optional<Section> build_population(const Sources& sources);
std::optional<Section> build_decoder_norms(const Sources& sources);
std::optional<Section> build_spectra(const Sources& sources);
std::optional<Section> build_planted(const Sources& sources);
std::optional<Section> build_matches(const Sources& sources);
std::optional<Section> build_atlas(const Sources& sources);

// Those that hold `file`, in order.
std::vector<const Source*> sources_with(const Sources& sources, const std::string& file);

// "metrics.jsonl of run", "... of a and b", "... of 12 folders".
std::string from_files(const std::string& file, const std::vector<const Source*>& sources);

// "loss" for the first figure of a kind, "loss-2" for the next.
std::string figure_id(std::string_view kind, std::size_t index);
// The title, with the folder's name when there are several.
std::string title_of(std::string_view title, const Source& source, std::size_t num_sources);

// The column's numbers; NaN in every row when there is no such column.
std::vector<double> numbers_or_nan(const artifacts::Table& table, std::string_view column);
// The rows whose `column` holds a number.
artifacts::Table rows_with(const artifacts::Table& table, std::string_view column);

// The value of a table of metrics (columns metric, value); NaN when it has no such row.
double metric_of(const artifacts::Table& table, std::string_view metric);

// The first step, the last, and three between, nearest to even distances on log(1 + step).
std::set<double> five_of(const std::set<double>& steps);

inline Axis step_axis() { return {.label = "training step", .scale = Scale::LogOnePlus}; }

}  // namespace cresco::report
