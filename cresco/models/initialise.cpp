#include "cresco/models/initialise.h"

#include "cresco/base/random.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <ATen/ATen.h>

#include <cmath>

namespace cresco::models {
namespace {

struct Deviations {
  double matrices, residual;
};
Deviations deviations(const std::string& name, double width, double layers) {
  if (name == "small_wang") return {std::sqrt(2 / (5 * width)), 2 / (layers * std::sqrt(width))};
  if (name == "gpt2") return {0.02, 0.02 / std::sqrt(2 * layers)};
  fail_usage("init.name '{}' is not one of small_wang, gpt2{}", name,
             did_you_mean(name, {"small_wang", "gpt2"}));
}

bool writes_residual(const std::string& name) {
  for (const char* end : {"attention.dense.weight", "mlp.dense_4h_to_h.weight",
                          "attn.c_proj.weight", "mlp.c_proj.weight"})
    if (name.ends_with(end)) return true;
  return false;
}

std::vector<tensor::NamedTensor> drawn(const std::vector<families::TensorSpec>& specs,
                                       const Deviations& deviation, std::uint64_t seed) {
  std::vector<tensor::NamedTensor> weights;
  for (const families::TensorSpec& spec : specs) {
    at::Tensor tensor = at::zeros(spec.shape);
    if (spec.shape.size() >= 2)
      RandomStream(seed, "init/" + spec.name)
          .fill_normal({tensor.mutable_data_ptr<float>(), static_cast<std::size_t>(tensor.numel())},
                       0,
                       static_cast<float>(writes_residual(spec.name) ? deviation.residual
                                                                     : deviation.matrices));
    else if (spec.name.ends_with(".weight"))  // of a norm
      tensor.fill_(1);
    weights.emplace_back(spec.name, tensor);
  }
  return weights;
}

}  // namespace

void check_initialisation(const std::string& name) { deviations(name, 1, 1); }

std::vector<tensor::NamedTensor> initialise(const families::NeoxConfig& c, const std::string& name,
                                            std::uint64_t seed) {
  return drawn(families::neox_tensors(c),
               deviations(name, static_cast<double>(c.hidden_size),
                          static_cast<double>(c.num_hidden_layers)),
               seed);
}

std::vector<tensor::NamedTensor> initialise(const families::Gpt2Config& c, const std::string& name,
                                            std::uint64_t seed) {
  return drawn(families::gpt2_tensors(c),
               deviations(name, static_cast<double>(c.n_embd), static_cast<double>(c.n_layer)),
               seed);
}

}  // namespace cresco::models
