#include "cresco/verbs/codes.h"

#include "cresco/base/require.h"
#include "cresco/dictionaries/preprocess.h"
#include "cresco/dictionaries/released.h"
#include "cresco/formats/npy.h"
#include "cresco/tensor/bridge.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>

namespace cresco::verbs {
namespace {

using dictionaries::Dictionary;

at::Tensor read_rows(const Path& path, const Dictionary& dictionary) {
  const at::Tensor rows = tensor::to_tensor(formats::open_npy(path));
  const std::int64_t K = dictionary.parameters.num_heads(), D = dictionary.parameters.width();
  const bool fits = (rows.dim() == 3 && rows.size(1) == K && rows.size(2) == D) ||
                    (rows.dim() == 2 && K == 1 && rows.size(1) == D);
  require(fits && rows.is_floating_point(),
          "{}: holds {} of shape {}, expected floats (rows, {}, {})", path.string(),
          c10::toString(rows.scalar_type()), formats::shape_text(rows.sizes().vec()), K, D);
  require(rows.isfinite().all().item<bool>(), "{}: holds a number that is not finite",
          path.string());
  return rows.to(at::kFloat).contiguous();
}

void write(formats::NpyWriter& writer, const at::Tensor& numbers) {
  const at::Tensor contiguous = numbers.contiguous();
  writer.write(tensor::view_of("", contiguous).bytes);
}

}  // namespace

Outcome run_codes(const CodesConfig& config, VerbContext& context) {
  require_usage(config.rows.empty() != config.stack.empty(),
                "--rows or --stack is needed: what the dictionary is to read, one of them");
  require_usage(config.block_rows >= 1, "block_rows is {}, expected 1 or more", config.block_rows);
  require_cpu(context, "codes");
  const Path dictionary_path = dictionaries::dictionary_file(config.dict);
  const Dictionary dictionary = dictionaries::read_dictionary(dictionary_path);
  for (const std::string& note : dictionary.notes) context.progress.note(note);
  const auto crosscoder = dictionary.crosscoder();
  const std::int64_t K = dictionary.parameters.num_heads(), D = dictionary.parameters.width();
  at::Tensor rows;
  if (config.stack.empty()) {
    rows = read_rows(config.rows, dictionary);
  } else {
    const trajectories::Stack stack(config.stack);
    rows = dictionaries::preprocess_stack(stack, heads_in(stack, dictionary),
                                          dictionary.training.input_preprocess, at::kCPU)
               .x_VKD;
  }
  const at::Tensor x_VKD = rows.view({rows.size(0), K, D});
  const std::int64_t V = x_VKD.size(0);
  std::vector<std::int64_t> shape{V, K, dictionary.parameters.num_features()};
  if (crosscoder.shares_codes() || K == 1) shape.erase(shape.begin() + 1);
  Outcome outcome{.summary = {{"num_rows", V}, {"shape", shape}}};
  if (context.options.dry_run) {
    outcome.text = fmt::format("codes of shape {}\n", formats::shape_text(shape));
    return outcome;
  }
  const Path out = context.options.out;
  const std::vector<Path> inputs{dictionary_path, config.rows.empty() ? config.stack : config.rows};
  make_output_file(out, context.options.overwrite, inputs);
  formats::NpyWriter codes(out, formats::DType::F32, shape);
  std::optional<formats::NpyWriter> reconstructions;
  if (!config.reconstructions.empty()) {
    require_usage(Path(config.reconstructions) != out, "--out and --reconstructions are one file");
    make_output_file(config.reconstructions, context.options.overwrite, inputs);
    reconstructions.emplace(config.reconstructions, formats::DType::F32, rows.sizes().vec());
  }
  std::int64_t open = 0;
  const std::int64_t block = crosscoder.whole_slices(config.block_rows);
  context.progress.begin("codes", V, "row");
  for (std::int64_t v = 0; v < V; v += block) {
    const at::Tensor x_BKD = x_VKD.narrow(0, v, std::min(block, V - v));
    const at::Tensor p_BF = crosscoder.pre_activation(x_BKD);
    std::vector<at::Tensor> a, r;
    for (std::int64_t k = 0; k < K; ++k) {
      a.push_back(k > 0 && crosscoder.shares_codes() ? a[0] : crosscoder.codes(p_BF, k));
      open += a.back().gt(0).sum().item<std::int64_t>();
      if (reconstructions) r.push_back(crosscoder.decode(a.back(), k));
    }
    write(codes, shape.size() == 2 ? a[0] : at::stack(a, 1));
    if (reconstructions) write(*reconstructions, at::stack(r, 1));
    context.progress.update(v + x_BKD.size(0), "");
  }
  context.progress.end();
  codes.commit();
  if (reconstructions) reconstructions->commit();
  const double l0 =
      static_cast<double>(open) / static_cast<double>(std::max<std::int64_t>(1, V * K));
  outcome.summary["l0"] = l0;
  outcome.text = fmt::format("codes of shape {}, l0 {:.3f}\n", formats::shape_text(shape), l0);
  artifacts::Manifest manifest = manifest_of("codes", config, context);
  manifest.inputs = inputs;
  artifacts::write_manifest(out, manifest);
  return outcome;
}

}  // namespace cresco::verbs
