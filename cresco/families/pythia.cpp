#include "cresco/families/pythia.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace cresco::families {
namespace {

// The vocabulary is the tokenizer's 50,277 ids, rounded up to a multiple of 128 times the number of
// GPUs that one model was split over (1, 2 for 6.9b, 4 for 12b).
constexpr std::array kModels{
    PythiaModel{"14m", 6, 128, 4, 50304, 1e-3, /*has_deduped=*/false},
    PythiaModel{"31m", 6, 256, 8, 50304, 1e-3, /*has_deduped=*/false},
    PythiaModel{"70m", 6, 512, 8, 50304, 1e-3},
    PythiaModel{"160m", 12, 768, 12, 50304, 6e-4},
    PythiaModel{"410m", 24, 1024, 16, 50304, 3e-4},
    PythiaModel{"1b", 16, 2048, 8, 50304, 2.5e-4, true, false, /*precision=*/"bf16"},
    PythiaModel{"1.4b", 24, 2048, 16, 50304, 2e-4},
    PythiaModel{"2.8b", 32, 2560, 32, 50304, 1.6e-4},
    PythiaModel{"6.9b", 32, 4096, 32, 50432, 1.2e-4, true, /*has_default_init=*/true},
    PythiaModel{"12b", 36, 5120, 40, 50688, 1.2e-4, true, /*has_default_init=*/true},
};

std::vector<std::int64_t> thousands(std::int64_t first, std::int64_t last) {
  std::vector<std::int64_t> steps;
  for (std::int64_t step = first; step <= last; ++step) steps.push_back(1000 * step);
  return steps;
}

std::vector<std::int64_t> powers_and_zero() { return {0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512}; }

std::vector<std::int64_t> operator+(std::vector<std::int64_t> a,
                                    const std::vector<std::int64_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace

NeoxConfig PythiaModel::config() const {
  NeoxConfig c;
  c.num_hidden_layers = layers;
  c.hidden_size = width;
  c.num_attention_heads = heads;
  c.intermediate_size = 4 * width;
  c.vocab_size = vocab;
  c.max_position_embeddings = kPythiaContext;
  return c;
}

double PythiaModel::small_init() const { return std::sqrt(2.0 / (5.0 * double(width))); }
double PythiaModel::wang_init() const { return 2.0 / (double(layers) * std::sqrt(double(width))); }
double PythiaModel::input_std() const { return has_default_init ? 0.02 : small_init(); }
double PythiaModel::output_std() const {
  return has_default_init ? 0.02 / std::sqrt(2.0 * double(layers)) : wang_init();
}

std::span<const PythiaModel> pythia_models() { return kModels; }

std::optional<PythiaName> find_pythia(std::string_view name) {
  const auto cut = [&name](std::string_view prefix) {
    if (name.starts_with(prefix)) name.remove_prefix(prefix.size());
  };
  cut("EleutherAI/");
  if (!name.starts_with("pythia-")) return std::nullopt;
  cut("pythia-");
  PythiaName found;
  if (name.ends_with("-deduped")) {
    found.deduped = true;
    name.remove_suffix(std::string_view("-deduped").size());
  }
  for (const PythiaModel& model : kModels)
    if (model.size == name && (model.has_deduped || !found.deduped)) found.model = &model;
  return found.model ? std::optional(found) : std::nullopt;
}

std::vector<std::string> pythia_names() {
  std::vector<std::string> names;
  for (const PythiaModel& model : kModels) {
    names.push_back(model.name());
    if (model.has_deduped) names.push_back(model.name() + "-deduped");
  }
  return names;
}

std::vector<std::int64_t> pythia_checkpoints() { return powers_and_zero() + thousands(1, 143); }

std::vector<KnownFault> pythia_known_faults() {
  const std::string issue = "EleutherAI/pythia #";
  const std::vector<std::int64_t> scattered{55000,  60000,  65000,  70000,  80000,  90000,
                                            100000, 103000, 110000, 120000, 130000, 140000};
  return {
      {"all",
       {0, 1},
       "the weights are the same: the first update has learning rate 0",
       issue + "83",
       "2023-04-05"},
      {"pythia-2.8b", powers_and_zero() + thousands(1, 53) + scattered,
       "model.safetensors is the one of main (sha256 ab496f1c...): weights of the end of training",
       issue + "205", "2026-08-14"},
      {"pythia-2.8b",
       {54000, 56000, 57000, 58000, 59000, 61000, 62000, 63000, 64000, 143000},
       "all share one model.safetensors (sha256 462f2b96...), whose embeddings are those of main: "
       "weights of the end of training",
       issue + "205",
       "2026-08-14"},
      {"pythia-12b",
       {50000, 58000},
       "the first of three shards is the final model's (sha256 9d217154...): a mixture of two "
       "steps that loads without an error",
       issue + "206",
       "2026-08-14"},
      {"pythia-12b-deduped",
       {32000},
       "weights of a late step",
       issue + "108",
       "2023-06-06",
       /*repaired=*/true},
      {"pythia-12b",
       {4000, 32000},
       "files were missing",
       issue + "107",
       "2023-05-31",
       /*repaired=*/true},
      {"pythia-6.9b",
       {26000},
       "the revision was missing",
       issue + "94",
       "2023-04-24",
       /*repaired=*/true},
      {"pythia-160m-weight-seed1",
       {},
       "step1 and later don't continue step0: at step1 the weights are those of the data-seed runs",
       issue + "203",
       "2026-07-21"},
      {"pythia-160m-weight-seed2",
       {},
       "step1 and later don't continue step0: at step1 the weights are those of the data-seed runs",
       issue + "203",
       "2026-07-21"},
      {"pythia-410m-seed2", {111000}, "weights are missing", issue + "202", "2026-07-17"},
      {"pythia-410m-seed6", {88000}, "weights are missing", issue + "202", "2026-07-17"},
      {"pythia-410m-seed9", {40000}, "weights are missing", issue + "202", "2026-07-17"},
  };
}

std::vector<std::string> pythia_notes(const PythiaModel& model, bool deduped) {
  const std::string size = model.size;
  std::vector<std::string> notes;
  if (model.has_default_init)
    notes.push_back(fmt::format(
        "initial weights: the configuration names no initialisation, so NeoX's defaults applied: "
        "standard deviations 0.02 and {:.6f} instead of {:.6f} and {:.6f}",
        model.output_std(), model.small_init(), model.wang_init()));
  if (size == "1b")
    notes.push_back(
        "learning rate: 2.5e-4 in both configuration files, 3e-4 in the suite's README");
  if (size == "1b" && !deduped)
    notes.push_back("precision: trained in bf16, although its configuration file says fp16");
  if (size == "12b" && deduped)
    notes.push_back("its configuration file states 40 layers and 36 heads; it has 36 and 40");
  if (size == "12b" && !deduped)
    notes.push_back("its configuration file lacks a comma and does not parse");
  notes.push_back("published weights are fp16, whatever they were trained in");
  return notes;
}

}  // namespace cresco::families
