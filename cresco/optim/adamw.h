// AdamW: Adam with decoupled weight decay (Loshchilov and Hutter, "Decoupled weight decay
// regularization", 2019), as PyTorch computes it:
//   p <- p (1 - lr wd);  m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
//   p <- p - lr/(1 - b1^t) * m / (sqrt(v)/sqrt(1 - b2^t) + eps)
#pragma once

#include "cresco/base/fields.h"
#include "cresco/tensor/bridge.h"

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace cresco::optim {

// Settings for the tensors whose names match. Of two rules that match, what the later one sets
// wins.
struct ParameterRule {
  std::string match;
  double lr_multiplier = -1;  // below 0: not set
  double weight_decay = -1;   // below 0: the optimizer's
  bool frozen = false;

  void fields(FieldVisitor& v) {
    v.field("match", match, "names of tensors; * stands for anything");
    v.field("lr_multiplier", lr_multiplier, "factor on the learning rate; below 0 is not set");
    v.field("weight_decay", weight_decay, "instead of the optimizer's; below 0 keeps that");
    v.field("frozen", frozen, "never updated");
  }
};

struct OptimizerConfig {
  std::string name = "adamw";
  double lr = 1e-3;
  std::vector<double> betas{0.9, 0.95};
  double eps = 1e-8, weight_decay = 0.1, grad_clip = 1.0;
  std::vector<ParameterRule> rules;

  void fields(FieldVisitor& v) {
    v.field("name", name, "adamw");
    v.field("lr", lr, "peak learning rate");
    v.field("betas", betas, "decay of the two moments");
    v.field("eps", eps, "added to the root of the second moment");
    v.field("weight_decay", weight_decay, "decoupled; matrices only, not biases and norms");
    v.field("grad_clip", grad_clip, "largest global L2 norm of the gradient; 0 is no clipping");
    v.list("rules", field_list(rules), "exceptions by tensor name");
  }
};

void check(const OptimizerConfig& config);

// '*' matches any run of characters; everything else matches itself.
bool matches(std::string_view pattern, std::string_view name);

// UsageError for a rule that matches no name.
void check_rules(const OptimizerConfig& config, const std::vector<tensor::NamedTensor>& parameters);

class AdamW {
 public:
  // `parameters` are updated in place. UsageError for a rule that matches no name.
  AdamW(const OptimizerConfig& config, std::vector<tensor::NamedTensor> parameters);

  // One update with the gradients that the parameters hold, at `lr_factor` times the peak rate.
  // Returns the global gradient norm before clipping; when it is not finite nothing is changed.
  double step(double lr_factor);

  // "<parameter>.exp_avg", "<parameter>.exp_avg_sq", for the resume state; load() copies them back.
  std::vector<tensor::NamedTensor> state() const;
  void load(const formats::SafetensorsFile& file, std::int64_t num_steps);
  std::int64_t num_steps() const { return num_steps_; }

 private:
  struct Group {  // parameters that share rate and decay
    double lr_multiplier, weight_decay;
    std::vector<at::Tensor> parameters, exp_avg, exp_avg_sq, steps;
  };

  OptimizerConfig config_;
  std::vector<tensor::NamedTensor> parameters_, exp_avg_, exp_avg_sq_;
  std::vector<Group> groups_;
  std::int64_t num_steps_ = 0;
};

}  // namespace cresco::optim
