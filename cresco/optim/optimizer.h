// The optimizers of pretraining, with their state shared by ranks (ZeRO stage 1).
//
//   adamw  p <- p (1 - lr wd);  m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
//          p <- p - lr/(1 - b1^t) * m / (sqrt(v)/sqrt(1 - b2^t) + eps)
//   adam   the same with g + wd p for g, and without the first line
//   sgd    b <- mu b + g + wd p;  p <- p - lr b, or with nesterov p - lr (g + wd p + mu b)
//   muon   b <- mu b + (1 - mu) g;  u = b, or with nesterov (1 - mu) g + mu b
//          p <- p (1 - lr wd) - lr s(r, c) newton_schulz(u);  adamw for what is not Muon's
//
// as torch.optim's AdamW, Adam, SGD (dampening 0) and Muon compute them; t is the number of
// updates. Muon differs from PyTorch 2.11's in three ways: the norm is divided by as |u| + eps, not
// max(|u|, eps) (the published implementations'); products are float on a CPU, where PyTorch's are
// bf16 everywhere (newton_schulz.h); the momentum may be warmed up. b is a running mean, as in
// PyTorch and in the later published runs; the first of those kept a sum, b <- mu b + g, which has
// the same direction at constant mu, and so the same update.
//
// Each rank keeps the state of its own numbers (shards.h), updates those, and gets the others'
// new values from their owners: updates and norms do not depend on the number of ranks, bit for
// bit. Moments are of the parameters' type.
#pragma once

#include "cresco/dist/ranks.h"
#include "cresco/optim/optimizer_config.h"
#include "cresco/optim/shards.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace cresco::optim {

struct StepResult {
  double grad_norm = 0;  // L2, of the true gradients of everything that is not frozen, unclipped
  std::vector<std::pair<std::string, double>> group_norms;  // by TensorSettings::group
  std::string not_finite;  // the first tensor whose gradient is not; "" when all are
  bool is_finite() const { return not_finite.empty(); }
};

class Algorithm;

class Optimizer {
 public:
  // `parameters` (contiguous; they keep their memory) are updated in place, frozen ones are not
  // touched. UsageError for a rule that matches no name. `ranks` has to live as long.
  Optimizer(const OptimizerConfig& config, std::vector<tensor::NamedTensor> parameters,
            dist::Ranks& ranks);
  ~Optimizer();
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  // One update at `lr_factor` times the peak rates. The parameters' .grad hold `gradient_scale`
  // times the gradient (a loss scale); dividing by it and clipping are one factor, applied where
  // the gradient is read. They are of the parameters' type, on every rank the same, and of no use
  // afterwards. When a number is not finite nothing is changed, and the norms say so.
  //
  // Every rank has to call it. Without several ranks it copies nothing.
  StepResult step(double lr_factor, double gradient_scale = 1);

  // Updates made so far: steps that were not finite don't count.
  std::int64_t num_steps() const { return num_steps_; }

  // For the resume state, the same for any number of ranks: whole tensors "<parameter>.exp_avg",
  // ".exp_avg_sq" (adamw, adam), ".momentum_buffer" (sgd with momentum, muon), on rank 0; none
  // elsewhere. Every rank has to call it. With one rank they share the optimizer's memory: copy
  // what is to be kept beyond the next step.
  std::vector<tensor::NamedTensor> state() const;
  // Counters beside them.
  Json numbers() const;

  // Takes both back; each rank reads what it owns. Error with `where` for a shape or counter that
  // does not fit, and, unless `may_begin`, for a tensor without state (it was frozen or another
  // optimizer's when the state was written). With `may_begin` such tensors begin afresh; returns
  // their names.
  std::vector<std::string> load(const formats::SafetensorsFile& file, const Json& numbers,
                                const std::string& where, bool may_begin = false);

  // Bytes of state that this rank keeps.
  std::int64_t state_bytes() const;

 private:
  struct Trained {  // a parameter that is not frozen
    std::string name;
    at::Tensor numbers;    // its memory
    at::Tensor parameter;  // whose .grad is read
    TensorSettings settings;
    std::size_t group = 0;      // in group_names_
    std::int64_t began_at = 0;  // num_steps at which its state began
  };

  at::Tensor gradient(std::size_t i) const;
  std::vector<double> squared_norms(const std::vector<at::Tensor>& gradients) const;

  OptimizerConfig config_;
  dist::Ranks& ranks_;
  std::vector<Trained> trained_;
  std::vector<std::string> group_names_;
  std::vector<Slice> slices_;              // of all ranks
  std::vector<dist::OwnedTensor> shared_;  // what ranks give each other, by slice
  std::vector<std::unique_ptr<Algorithm>> algorithms_;
  std::int64_t num_steps_ = 0;
};

std::unique_ptr<Optimizer> make_optimizer(const OptimizerConfig& config,
                                          std::vector<tensor::NamedTensor> parameters,
                                          dist::Ranks& ranks = dist::one_rank());

}  // namespace cresco::optim
