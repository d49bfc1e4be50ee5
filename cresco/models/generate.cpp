#include "cresco/models/generate.h"

#include "cresco/base/random.h"
#include "cresco/base/require.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>

namespace cresco::models {
namespace {

// An index drawn with the odds of softmax(logits / temperature), among the top_k largest.
std::int64_t sample(const at::Tensor& logits_V, const GenerateConfig& config, RandomStream stream) {
  at::Tensor scaled_V = logits_V.to(at::kDouble) / config.temperature;
  if (config.top_k > 0 && config.top_k < scaled_V.numel()) {
    const at::Tensor least = std::get<0>(scaled_V.topk(config.top_k)).min();
    scaled_V = scaled_V.masked_fill(scaled_V < least, -std::numeric_limits<double>::infinity());
  }
  const at::Tensor cumulative_V = scaled_V.softmax(0).cumsum(0);
  const at::Tensor coin =
      at::full({1}, stream.uniform() * cumulative_V[-1].item<double>(), at::kDouble);
  return std::min(at::searchsorted(cumulative_V, coin, false, /*right=*/true).item<std::int64_t>(),
                  scaled_V.numel() - 1);
}

}  // namespace

std::vector<std::int32_t> generate(const LanguageModel& model,
                                   const std::vector<std::int32_t>& prompt,
                                   const GenerateConfig& config, std::uint64_t seed,
                                   std::optional<std::int64_t> stop) {
  require_usage(!prompt.empty(), "the prompt holds no tokens");
  require_usage(config.temperature == 0 || (config.temperature >= 1e-6 && config.temperature < 1e9),
                "--temperature {}: expected 0 (the likeliest token) or 1e-6 to 1e9",
                config.temperature);
  require_usage(config.temperature >= 0 && config.top_k >= 0 && config.max_new_tokens >= 0,
                "temperature, top_k and max_new_tokens cannot be negative");
  const torch::autograd::AutoGradMode no_grad(false);
  const auto context = static_cast<std::size_t>(model.max_context());
  const at::Device device = model.device();
  std::vector<std::int64_t> ids(prompt.begin(), prompt.end());
  std::vector<std::int32_t> made;
  while (static_cast<std::int64_t>(made.size()) < config.max_new_tokens) {
    const std::size_t first = ids.size() > context ? ids.size() - context : 0;
    const at::Tensor input_NT =
        at::tensor(at::ArrayRef<std::int64_t>(ids).slice(first), at::kLong).unsqueeze(0).to(device);
    const at::Tensor logits_V =
        model.readout(model.hidden(input_NT).slice(1, -1)).flatten().to(at::kCPU);
    require(logits_V.isfinite().all().item<bool>(),
            "after {} tokens the model's logits are not finite numbers: damaged weights?",
            ids.size());
    const std::int64_t next =
        config.temperature == 0
            ? logits_V.argmax().item<std::int64_t>()
            : sample(logits_V, config, RandomStream(seed, "generate", made.size()));
    if (stop && next == *stop) break;
    ids.push_back(next);
    made.push_back(static_cast<std::int32_t>(next));
  }
  return made;
}

}  // namespace cresco::models
