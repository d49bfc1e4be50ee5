#include "cresco/verbs/logits.h"

#include "cresco/base/require.h"
#include "cresco/formats/npy.h"
#include "cresco/models/model.h"
#include "cresco/trajectories/trajectory.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/grad_mode.h>

namespace cresco::verbs {

Outcome run_logits(const LogitsVerbConfig& config, VerbContext& context) {
  require_usage(!config.ids.empty(), "--ids is needed: a .npy file of token ids");
  require_usage(config.batch > 0, "--batch is {}, expected at least 1", config.batch);
  const formats::NpyFile array = formats::read_npy(config.ids);
  require(array.shape.size() == 2 && array.shape[0] > 0 && array.shape[1] > 0,
          "{}: has shape {}, expected (N, T)", config.ids, formats::shape_text(array.shape));
  std::vector<std::int64_t> values = formats::npy_integers(array, config.ids);
  const at::Device device = tensor::parse_device(context.options.device);
  const trajectories::Snapshot snapshot = trajectories::open_snapshot(config.snapshot);
  const auto model = models::load_model(snapshot, at::kFloat, device);
  const std::int64_t N = array.shape[0], T = array.shape[1], V = model->vocab_size();
  for (std::size_t i = 0; i < values.size(); ++i)
    require(values[i] >= 0 && values[i] < V,
            "{}: id {} at row {}, column {}, the model's vocab_size is {}", config.ids, values[i],
            i / static_cast<std::size_t>(T), i % static_cast<std::size_t>(T), V);
  require(T <= model->max_context(), "{}: {} positions, the model's context has {}", config.ids, T,
          model->max_context());
  const std::vector<std::int64_t> shape{N, T, V};
  if (context.options.dry_run)
    return {.text = fmt::format("would write logits of shape {}\n", formats::shape_text(shape))};

  const Path out = context.options.out;
  std::vector<Path> inputs = snapshot.files();
  inputs.emplace_back(config.ids);
  make_output_file(out, context.options.overwrite, inputs);
  const torch::autograd::AutoGradMode no_grad(false);
  const at::Tensor ids_NT = at::from_blob(values.data(), {N, T}, at::kLong);
  formats::NpyWriter writer(out, formats::DType::F32, shape);
  context.progress.begin("logits", N, "sequence");
  for (std::int64_t first = 0; first < N; first += config.batch) {
    const at::Tensor batch_NT = ids_NT.slice(0, first, first + config.batch).to(device);
    const at::Tensor logits_NTV = model->logits(batch_NT).to(at::kCPU).contiguous();
    writer.write(tensor::view_of("", logits_NTV).bytes);
    context.progress.update(std::min(N, first + config.batch), "");
  }
  context.progress.end();
  writer.commit();
  artifacts::Manifest manifest = manifest_of("logits", config, context);
  manifest.inputs = inputs;
  artifacts::write_manifest(out, manifest);
  return {
      .summary = {{"shape", shape}, {"out", out.string()}},
      .text = fmt::format("{}: logits of shape {}\n", out.string(), formats::shape_text(shape))};
}

}  // namespace cresco::verbs
