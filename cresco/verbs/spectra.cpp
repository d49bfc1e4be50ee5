#include "cresco/verbs/spectra.h"

#include "cresco/artifacts/table.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/spectra/weight_spectra.h"
#include "cresco/tensor/bridge.h"
#include "cresco/trajectories/stack.h"

#include <ATen/core/Tensor.h>

namespace cresco::verbs {
namespace {

using artifacts::Table;
using trajectories::Stack;

struct Tables {
  Table values{{"step", "matrix", "rank", "singular_value"}};
  Table summary{
      {"step", "matrix", "frobenius_norm", "spectral_norm", "stable_rank", "effective_rank"}};
};

void add(Tables& tables, Json& list, std::int64_t step, const std::string& matrix,
         const spectra::WeightSpectrum& spectrum) {
  const double* const values = spectrum.singular_values.const_data_ptr<double>();
  for (std::int64_t i = 0; i < spectrum.singular_values.size(0); ++i)
    tables.values.add(step, matrix, i + 1, values[i]);
  tables.summary.add(step, matrix, spectrum.frobenius_norm, spectrum.spectral_norm,
                     spectrum.stable_rank, spectrum.effective_rank);
  list.push_back({{"step", step},
                  {"matrix", matrix},
                  {"frobenius_norm", spectrum.frobenius_norm},
                  {"spectral_norm", spectrum.spectral_norm},
                  {"stable_rank", spectrum.stable_rank},
                  {"effective_rank", spectrum.effective_rank}});
}

Outcome plan_outcome(const Stack& stack) {
  const double V = static_cast<double>(stack.num_rows()), D = static_cast<double>(stack.width());
  const double flops = static_cast<double>(stack.num_snapshots()) * (2 * V * D * D + 4 * D * D * D);
  return {.summary = {{"flops", flops}},
          .text = fmt::format("{} matrices of {} x {}: {:.3g} FLOPs in double\n",
                              stack.num_snapshots(), stack.num_rows(), stack.width(), flops)};
}

}  // namespace

Outcome run_spectra(const SpectraConfig& config, VerbContext& context) {
  require_usage(config.weights, "say --weights: what a stack has are the spectra of its matrices");
  const Stack stack(config.input);
  if (context.options.dry_run) return plan_outcome(stack);
  const bool writes = !context.options.out.empty();
  if (writes) make_output_folder(context.options.out, context.options.overwrite);
  const at::Device device = tensor::parse_device(context.options.device);

  Tables tables;
  Json list = Json::array();
  context.progress.begin("spectra", stack.num_snapshots(), "snapshot");
  for (std::int64_t k = 0; k < stack.num_snapshots(); ++k) {
    const std::int64_t step = stack.steps()[static_cast<std::size_t>(k)];
    add(tables, list, step, stack.info().matrix, spectra::weight_spectrum(stack.at(k).to(device)));
    context.progress.update(k + 1, fmt::format("step {}", step));
  }
  context.progress.end();

  Outcome outcome{.summary = {{"weights", list}}, .text = to_csv(tables.summary)};
  if (!writes) return outcome;
  const Path folder = context.options.out;
  write_csv(folder / "singular_values.csv", tables.values);
  write_csv(folder / "weight_spectra.csv", tables.summary);
  artifacts::Manifest manifest = manifest_of("spectra", config, context);
  manifest.inputs = {stack.path()};
  artifacts::write_manifest(folder, manifest);
  outcome.summary["tables"] = {"singular_values.csv", "weight_spectra.csv"};
  return outcome;
}

}  // namespace cresco::verbs
