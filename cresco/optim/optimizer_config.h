// Which optimizer, and for which tensors: the `optimizer` of a recipe.
#pragma once

#include "cresco/base/fields.h"
#include "cresco/tensor/bridge.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cresco::optim {

// Settings for the tensors whose names match. Of two rules that match, what the later one sets
// wins.
struct ParameterRule {
  std::string match;
  std::optional<double> lr_multiplier, weight_decay;
  std::optional<bool> frozen;
  std::string optimizer, group;

  void fields(FieldVisitor& v) {
    v.field("match", match, "names of tensors; * stands for anything");
    v.field("lr_multiplier", lr_multiplier, "factor on the learning rate");
    v.field("weight_decay", weight_decay, "instead of the optimizer's");
    v.field("frozen", frozen, "never updated");
    v.field("optimizer", optimizer, "with muon: whose the tensors are, muon | adamw");
    v.field("group", group, "a name under which their gradient's norm is logged");
  }
};

// Muon (Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024) for the
// matrices of the body.
struct MuonConfig {
  double lr = 0.02, weight_decay = -1;
  double momentum = 0.95;
  bool nesterov = true;
  std::int64_t momentum_warmup_steps = 0;
  double momentum_warmup_from = 0.85;
  std::int64_t ns_steps = 5;
  std::vector<double> ns_coefficients{3.4445, -4.7750, 2.0315};
  double eps = 1e-7;
  std::string adjust_lr_fn = "original";

  void fields(FieldVisitor& v) {
    v.field("lr", lr, "peak learning rate of its matrices; the others have optimizer.lr");
    v.field("weight_decay", weight_decay, "decoupled; below 0 is optimizer.weight_decay");
    v.field("momentum", momentum, "of the gradient's running mean");
    v.field("nesterov", nesterov, "look one step ahead along it");
    v.field("momentum_warmup_steps", momentum_warmup_steps, "the momentum rises linearly", "steps");
    v.field("momentum_warmup_from", momentum_warmup_from, "from here");
    v.field("ns_steps", ns_steps, "of Newton and Schulz's iteration");
    v.field("ns_coefficients", ns_coefficients, "of its polynomial: x, x^3, x^5");
    v.field("eps", eps, "added to the norm that the update is divided by");
    v.field("adjust_lr_fn", adjust_lr_fn,
            "factor on lr for r outputs and c inputs: original: sqrt(max(1, r/c)) | "
            "match_rms_adamw: 0.2 sqrt(max(r, c)) | sqrt_max: sqrt(max(r, c)) | none: 1");
  }
};

struct OptimizerConfig {
  std::string name = "adamw";
  double lr = 1e-3;
  std::vector<double> betas{0.9, 0.95};
  double eps = 1e-8, weight_decay = 0.1, grad_clip = 1.0;
  double momentum = 0;
  bool nesterov = false;
  std::vector<ParameterRule> rules;
  MuonConfig muon;
  bool inputs_first = false;  // no field: the body's matrices are (in, out), as GPT-2's Conv1D

  void fields(FieldVisitor& v) {
    v.field("name", name, "adamw | muon (matrices of the body; adamw for the rest) | adam | sgd");
    v.field("lr", lr, "peak learning rate");
    v.field("betas", betas, "adamw, adam: decay of the two moments");
    v.field("eps", eps, "adamw, adam: added to the root of the second moment");
    v.field("weight_decay", weight_decay,
            "of matrices, not of biases and norms; adamw, muon: decoupled, adam, sgd: added to the "
            "gradient");
    v.field("grad_clip", grad_clip, "largest global L2 norm of the gradient; 0 is no clipping");
    v.field("momentum", momentum, "sgd");
    v.field("nesterov", nesterov, "sgd");
    v.list("rules", field_list(rules), "exceptions by tensor name");
    v.config("muon", muon, "settings of muon");
  }
};

// UsageError that names the field.
void check(const OptimizerConfig& config);

// What holds for one tensor.
struct TensorSettings {
  std::string algorithm;    // adamw | adam | sgd | muon
  double lr = 0;            // the peak, with its multiplier
  double weight_decay = 0;  // 0 for tensors of one dimension, unless a rule says otherwise
  bool frozen = false;
  std::string group;  // embed_in | embed_out | matrices | vectors, or a rule's
  bool inputs_first = false;
};
// Muon's are tensors of two dimensions in `matrices`: neither embeddings nor the readout, which are
// known by their names (embed_in, wte, wpe, embed_tokens; embed_out, lm_head). A tied table is
// embed_in.
TensorSettings settings_of(const OptimizerConfig& config, const std::string& name,
                           const at::Tensor& parameter);

// UsageError for a rule that matches no name, or gives Muon a tensor that is no matrix, and when
// nothing is left that is not frozen.
void check_rules(const OptimizerConfig& config, const std::vector<tensor::NamedTensor>& parameters);

}  // namespace cresco::optim
