#include "cresco/verbs/spectra.h"

#include "cresco/artifacts/table.h"
#include "cresco/artifacts/table_text.h"
#include "cresco/base/output_folder.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/spectra/weight_spectra.h"
#include "cresco/tensor/bridge.h"
#include "cresco/trajectories/stack.h"
#include "cresco/trajectories/steps.h"
#include "cresco/trajectories/trajectory.h"
#include "cresco/verbs/lint_warning.h"
#include "cresco/verbs/readout_geometry.h"

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

Matrices open_matrices(const SpectraConfig& config, const std::string& input) {
  if (!std::filesystem::is_directory(input)) {
    const auto stack = std::make_shared<trajectories::Stack>(input);
    const auto steps = trajectories::choose_steps(config.steps, stack->steps(), input);
    return {stack->info().matrix, steps, [stack, indices = stack->indices(steps)](std::size_t k) {
              return stack->at(indices[k]);
            }};
  }
  const auto trajectory = std::make_shared<trajectories::Trajectory>(input);
  const auto steps = trajectories::choose_steps(config.steps, trajectory->steps(), input);
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

// Columns that name something, also when an arm is called 4.
const std::vector<std::string> kNames{"cond", "metric"};

// A table under its file's name.
using NamedTable = std::pair<const char*, Table>;

// The singular values by step.
KnownSpectra decompose(const SpectraConfig& config, const std::string& input, at::Device device,
                       VerbContext& context, Outcome& outcome, std::vector<NamedTable>& made) {
  const Matrices matrices = open_matrices(config, input);
  Tables tables;
  KnownSpectra known;
  Json list = Json::array();
  context.progress.begin("spectra", static_cast<std::int64_t>(matrices.steps.size()), "snapshot");
  for (std::size_t k = 0; k < matrices.steps.size(); ++k) {
    const auto spectrum = spectra::weight_spectrum(matrices.read(k).to(device));
    add(tables, list, matrices.steps[k], matrices.name, spectrum);
    known[matrices.steps[k]] = spectrum.singular_values;
    context.progress.update(static_cast<std::int64_t>(k + 1),
                            fmt::format("step {}", matrices.steps[k]));
  }
  context.progress.end();
  outcome.summary["weights"] = list;
  outcome.text = artifacts::to_aligned_text(tables.summary);
  made.emplace_back("singular_values.csv", tables.values);
  made.emplace_back("weight_spectra.csv", tables.summary);
  return known;
}

}  // namespace

Outcome run_spectra(const SpectraConfig& config, VerbContext& context) {
  require_usage(config.weights,
                "--weights is needed: the spectra of the weight matrices are what there is");
  require_usage(!config.inputs.empty(), "nothing to read is given");
  const bool several = config.inputs.size() > 1;
  const auto is_folder = [](const std::string& input) {
    return std::filesystem::is_directory(input);
  };
  for (const std::string& input : config.inputs)
    require_usage(!several || is_folder(input),
                  "{}: is no trajectory: of several inputs the "
                  "readouts are compared",
                  input);
  if (context.options.dry_run) {
    if (several) return {.text = fmt::format("would compare {} readouts\n", config.inputs.size())};
    const Matrices matrices = open_matrices(config, config.inputs[0]);
    return {.text = fmt::format("would decompose {} at steps {}\n", matrices.name,
                                list_steps(matrices.steps))};
  }
  for (const std::string& input : config.inputs)
    if (is_folder(input)) {
      const trajectories::Trajectory trajectory(input);
      warn_of_findings(
          trajectory, trajectories::choose_steps(config.steps, trajectory.steps(), input), context);
    }
  std::optional<OutputFolder> output;
  if (!context.options.out.empty())
    output.emplace(context.options.out, context.options.overwrite,
                   std::vector<Path>{config.inputs.begin(), config.inputs.end()});
  const at::Device device = tensor::parse_device(context.options.device);

  Outcome outcome;
  std::vector<NamedTable> made;
  KnownSpectra known;
  if (!several) known = decompose(config, config.inputs[0], device, context, outcome, made);
  if (config.matrix != "W_U") known.clear();  // of another matrix
  if (several || (is_folder(config.inputs[0]) && has_readout(config.inputs[0]))) {
    const Table geometries =
        readout_geometries(config.inputs, config.steps, known, device, context);
    made.emplace_back("readout_geometry.csv", geometries);
    outcome.summary["readout"] = rows_json(geometries, kNames);
    if (several) {
      const Table differences = arm_differences(geometries, context.progress);
      made.emplace_back("arm_differences.csv", differences);
      outcome.summary["differences"] = rows_json(differences, kNames);
      outcome.text = arm_differences_text(differences);
    }
  }
  if (!output) return outcome;
  const Path& folder = output->folder();
  for (const auto& [name, table] : made) {
    write_csv(folder / name, table);
    outcome.summary["tables"].push_back(name);
  }
  artifacts::Manifest manifest = manifest_of("spectra", config, context);
  if (!is_folder(config.inputs[0])) manifest.inputs = {config.inputs[0]};
  artifacts::write_manifest(folder, manifest);
  output->commit();
  return outcome;
}

}  // namespace cresco::verbs
