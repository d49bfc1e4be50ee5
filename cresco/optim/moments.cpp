#include "cresco/optim/moments.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/optim/adam.h"
#include "cresco/optim/sparse_adam.h"

#include <ATen/ATen.h>

namespace cresco::optim {

MomentOptimizer::MomentOptimizer(MomentDecay decay, std::vector<tensor::NamedTensor> parameters)
    : decay_(decay) {
  for (auto& [name, p] : parameters) {
    TORCH_INTERNAL_ASSERT(p.is_contiguous());
    slots_.push_back({name, p, at::zeros_like(p), at::zeros_like(p)});
  }
}

void MomentOptimizer::step(const std::vector<at::Tensor>& gradients,
                           const std::vector<double>& lrs) {
  TORCH_INTERNAL_ASSERT(gradients.size() == slots_.size() && lrs.size() == slots_.size());
  for (std::size_t i = 0; i < slots_.size(); ++i) update(slots_[i], gradients[i], lrs[i]);
}

std::vector<tensor::NamedTensor> MomentOptimizer::state() const {
  std::vector<tensor::NamedTensor> all;
  for (const Slot& slot : slots_) {
    all.emplace_back(slot.name + ".exp_avg", slot.exp_avg);
    all.emplace_back(slot.name + ".exp_avg_sq", slot.exp_avg_sq);
    all.emplace_back(slot.name + ".num_updates", at::full({1}, slot.num_updates, at::kLong));
  }
  return all;
}

void MomentOptimizer::load(const formats::SafetensorsFile& file) {
  const auto read = [&](const std::string& name, at::IntArrayRef shape) {
    const at::Tensor stored = tensor::to_tensor(file.tensor(name));
    require(stored.sizes() == shape, "{}: '{}' has shape {}, expected {}", file.path().string(),
            name, formats::shape_text(stored.sizes().vec()), formats::shape_text(shape.vec()));
    return stored;
  };
  for (Slot& slot : slots_) {
    slot.exp_avg.copy_(read(slot.name + ".exp_avg", slot.exp_avg.sizes()));
    slot.exp_avg_sq.copy_(read(slot.name + ".exp_avg_sq", slot.exp_avg_sq.sizes()));
    slot.num_updates = read(slot.name + ".num_updates", {1}).item<std::int64_t>();
  }
}

std::unique_ptr<MomentOptimizer> make_moment_optimizer(
    const std::string& name, MomentDecay decay, std::vector<tensor::NamedTensor> parameters) {
  if (name == "adam") return std::make_unique<Adam>(decay, std::move(parameters));
  if (name == "sparse_adam") return std::make_unique<SparseAdam>(decay, std::move(parameters));
  fail_usage("optimizer '{}' is not one of adam, sparse_adam{}", name,
             did_you_mean(name, {"adam", "sparse_adam"}));
}

}  // namespace cresco::optim
