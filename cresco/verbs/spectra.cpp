#include "cresco/verbs/spectra.h"

#include "cresco/artifacts/table.h"
#include "cresco/base/output_folder.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/spectra/weight_spectra.h"
#include "cresco/tensor/bridge.h"
#include "cresco/trajectories/stack.h"
#include "cresco/trajectories/steps.h"
#include "cresco/trajectories/trajectory.h"
#include "cresco/verbs/lint_warning.h"

#include <ATen/ATen.h>

#include <functional>
#include <memory>
#include <optional>

namespace cresco::verbs {
namespace {

using artifacts::Table;

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

// One matrix at several steps, wherever it is read from.
struct Matrices {
  std::string name;
  std::vector<std::int64_t> steps;
  std::function<at::Tensor(std::size_t)> read;  // (rows, columns), float32
};

Matrices open_matrices(const SpectraConfig& config) {
  if (!std::filesystem::is_directory(config.input)) {
    const auto stack = std::make_shared<trajectories::Stack>(config.input);
    const auto steps = trajectories::choose_steps(config.steps, stack->steps(), config.input);
    return {stack->info().matrix, steps, [stack, indices = stack->indices(steps)](std::size_t k) {
              return stack->at(indices[k]);
            }};
  }
  const auto trajectory = std::make_shared<trajectories::Trajectory>(config.input);
  const auto steps = trajectories::choose_steps(config.steps, trajectory->steps(), config.input);
  return {config.matrix, steps, [trajectory, steps, matrix = config.matrix](std::size_t k) {
            const trajectories::Snapshot snapshot = trajectory->open(steps[k]);
            const at::Tensor weights = snapshot.read(snapshot.resolve(matrix)).to(at::kFloat);
            require(weights.dim() == 2 && weights.numel() > 0,
                    "{}: '{}' has {} dimensions, a spectrum needs a matrix", snapshot.where(),
                    matrix, weights.dim());
            require(weights.isfinite().all().item<bool>(),
                    "{}: '{}' holds a number that is not finite", snapshot.where(), matrix);
            return weights;
          }};
}

}  // namespace

Outcome run_spectra(const SpectraConfig& config, VerbContext& context) {
  require_usage(config.weights,
                "--weights is needed: the spectra of the weight matrices are what there is");
  const Matrices matrices = open_matrices(config);
  if (context.options.dry_run)
    return {.text = fmt::format("would decompose {} at steps {}\n", matrices.name,
                                list_steps(matrices.steps))};
  if (std::filesystem::is_directory(config.input))
    warn_of_findings(trajectories::Trajectory(config.input), matrices.steps, context);
  std::optional<OutputFolder> output;
  if (!context.options.out.empty())
    output.emplace(context.options.out, context.options.overwrite, std::vector<Path>{config.input});
  const at::Device device = tensor::parse_device(context.options.device);

  Tables tables;
  Json list = Json::array();
  context.progress.begin("spectra", static_cast<std::int64_t>(matrices.steps.size()), "snapshot");
  for (std::size_t k = 0; k < matrices.steps.size(); ++k) {
    add(tables, list, matrices.steps[k], matrices.name,
        spectra::weight_spectrum(matrices.read(k).to(device)));
    context.progress.update(static_cast<std::int64_t>(k + 1),
                            fmt::format("step {}", matrices.steps[k]));
  }
  context.progress.end();

  Outcome outcome{.summary = {{"weights", list}}, .text = to_csv(tables.summary)};
  if (!output) return outcome;
  const Path& folder = output->folder();
  write_csv(folder / "singular_values.csv", tables.values);
  write_csv(folder / "weight_spectra.csv", tables.summary);
  artifacts::Manifest manifest = manifest_of("spectra", config, context);
  if (!std::filesystem::is_directory(config.input)) manifest.inputs = {config.input};
  artifacts::write_manifest(folder, manifest);
  output->commit();
  outcome.summary["tables"] = {"singular_values.csv", "weight_spectra.csv"};
  return outcome;
}

}  // namespace cresco::verbs
