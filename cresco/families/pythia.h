// The Pythia suite as data: sizes, settings of the training, and what is known to be wrong with
// published revisions. Biderman et al., "Pythia: a suite for analyzing large language models across
// training and scaling" (ICML 2023); numbers as the suite's configuration files state them, which
// ran, where the paper's text differs. Dates are those of the reports.
#pragma once

#include "cresco/families/neox.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cresco::families {

// What all of them share.
inline constexpr std::int64_t kPythiaSteps = 143'000, kPythiaWarmupSteps = 1'430,
                              kPythiaBatch = 1024, kPythiaContext = 2048,
                              kPythiaTokensPerStep = kPythiaBatch * kPythiaContext,
                              kPythiaTokenizerIds = 50'277;
inline constexpr double kPythiaMinLrRatio = 0.1;

struct PythiaModel {
  const char* size;  // "160m"
  std::int64_t layers, width, heads, vocab;
  double peak_lr;
  bool has_deduped = true;         // was it trained on the deduplicated Pile too
  bool has_default_init = false;   // its configuration left the initialisation to NeoX's defaults
  const char* precision = "fp16";  // of the training on the standard Pile
  const char* deduped_precision = "fp16";

  std::string name() const { return std::string("pythia-") + size; }
  NeoxConfig config() const;

  // Standard deviations of the initial weights: small_init sqrt(2 / (5 d)) for embeddings, QKV and
  // h -> 4h; wang_init 2 / (L sqrt(d)) for what writes into the residual.
  double small_init() const;
  double wang_init() const;
  // The ones it began with: those two, or NeoX's defaults 0.02 and 0.02 / sqrt(2 L).
  double input_std() const;
  double output_std() const;
};

std::span<const PythiaModel> pythia_models();  // smallest first

// "pythia-160m", with or without "EleutherAI/" before and "-deduped" behind it; nothing for any
// other name.
struct PythiaName {
  const PythiaModel* model = nullptr;
  bool deduped = false;
};
std::optional<PythiaName> find_pythia(std::string_view name);
std::vector<std::string> pythia_names();  // for messages: "pythia-14m", ...

// The 154 steps with a published revision: 0, 1, 2, 4, ..., 512, 1000, 2000, ..., 143000. The
// revision's name is step<N>; it has seen N batches.
std::vector<std::int64_t> pythia_checkpoints();

// A fault of published weights.
struct KnownFault {
  std::string model;                // "pythia-12b"; "all" is every model
  std::vector<std::int64_t> steps;  // those concerned; empty when it is not about single steps
  std::string what;
  std::string source;     // the report: "EleutherAI/pythia #206"
  std::string reported;   // its date
  bool repaired = false;  // the weights were uploaded again: older downloads may still have it
};
std::vector<KnownFault> pythia_known_faults();

// What to know about a model's training beyond the numbers; `deduped` chooses between the two.
std::vector<std::string> pythia_notes(const PythiaModel& model, bool deduped);

}  // namespace cresco::families
