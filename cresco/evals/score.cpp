#include "cresco/evals/score.h"

#include "cresco/base/require.h"
#include "cresco/corpora/open_tokens.h"
#include "cresco/formats/npy.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>
#include <cmath>

namespace cresco::evals {
namespace {

// Numbers that stand in memory as logits: this many over the vocabulary's size is positions.
constexpr std::int64_t kLogits = std::int64_t{1} << 25;

at::Tensor read_windows(const ScoreWindows& windows, std::int64_t first, std::int64_t count,
                        std::int64_t vocab_size) {
  at::Tensor ids_NT = at::empty({count, windows.ids_each}, at::kLong);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(windows.ids_each));
  for (std::int64_t n = 0; n < count; ++n) {
    windows.read(first + n, ids);
    for (std::size_t t = 0; t < ids.size(); ++t)
      require(ids[t] >= 0 && ids[t] < vocab_size,
              "{}: window {}, position {} holds id {}, the model's vocabulary has {}",
              windows.where, first + n, t, ids[t], vocab_size);
    std::copy(ids.begin(), ids.end(), ids_NT[n].mutable_data_ptr<std::int64_t>());
  }
  return ids_NT;
}

// Sum of -log p(target) over all positions.
double sum_of_losses(const models::LanguageModel& model, const at::Tensor& hidden_ND,
                     const at::Tensor& targets_N) {
  const std::int64_t piece = std::max<std::int64_t>(1, kLogits / model.vocab_size());
  double sum = 0;
  for (std::int64_t first = 0; first < hidden_ND.size(0); first += piece) {
    const at::Tensor x_1ND = hidden_ND.slice(0, first, first + piece).unsqueeze(0);
    const at::Tensor logits_NV = model.readout(x_1ND).squeeze(0).to(at::kFloat);
    const at::Tensor targets = targets_N.slice(0, first, first + piece).unsqueeze(1);
    const at::Tensor losses = logits_NV.logsumexp(1, true) - logits_NV.gather(1, targets);
    sum += losses.sum(at::kDouble).item<double>();
  }
  return sum;
}

}  // namespace

double Score::perplexity() const { return std::exp(loss); }

ScoreWindows windows_of_corpus(const Path& prefix, std::int64_t context) {
  const auto file = corpora::open_tokens(prefix);
  const auto windows = std::make_shared<const corpora::Windows>(
      corpora::TokenStream(file, [](std::int64_t) { return true; }), context);
  require(windows->size() > 0, "{}: holds {} tokens, a window of {} needs one more",
          prefix.string(), file->num_tokens(), context);
  return {windows->size(), context + 1,
          [windows](std::int64_t i, std::span<std::int32_t> out) { windows->read(i, out); },
          prefix.string()};
}

ScoreWindows windows_of_ids(const Path& npy) {
  const formats::NpyFile array = formats::read_npy(npy);
  require(array.shape.size() == 2 && array.shape[0] > 0 && array.shape[1] > 1,
          "{}: has shape {}, expected (N, T + 1) with T at least 1", npy.string(),
          formats::shape_text(array.shape));
  auto ids =
      std::make_shared<const std::vector<std::int64_t>>(formats::npy_integers(array, npy.string()));
  for (const std::int64_t id : *ids)
    require(id >= 0 && id <= INT32_MAX, "{}: holds id {}", npy.string(), id);
  return {array.shape[0], array.shape[1],
          [ids, width = array.shape[1]](std::int64_t i, std::span<std::int32_t> out) {
            std::transform(ids->begin() + i * width, ids->begin() + (i + 1) * width, out.begin(),
                           [](std::int64_t id) { return static_cast<std::int32_t>(id); });
          },
          npy.string()};
}

Score score(const models::LanguageModel& model, const ScoreWindows& windows, std::int64_t batch,
            const std::function<void(std::int64_t)>& done) {
  const torch::autograd::AutoGradMode no_grad(false);
  require(windows.ids_each - 1 <= model.max_context(),
          "{}: windows of {} positions, the model's context has {}", windows.where,
          windows.ids_each - 1, model.max_context());
  double sum = 0;
  for (std::int64_t first = 0; first < windows.count; first += batch) {
    const std::int64_t count = std::min(batch, windows.count - first);
    const at::Tensor ids_NT =
        read_windows(windows, first, count, model.vocab_size()).to(model.device());
    const at::Tensor hidden_NTD = model.hidden(ids_NT.slice(1, 0, -1));
    const double losses =
        sum_of_losses(model, hidden_NTD.flatten(0, 1), ids_NT.slice(1, 1).flatten());
    require(std::isfinite(losses), "{}: windows {} to {} have a loss of {}", windows.where, first,
            first + count, losses);
    sum += losses;
    done(first + count);
  }
  const std::int64_t num_tokens = windows.count * (windows.ids_each - 1);
  return {sum / static_cast<double>(num_tokens), num_tokens};
}

}  // namespace cresco::evals
