#include "cresco/optim/optimizer_config.h"

#include "cresco/base/pattern.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <algorithm>
#include <cmath>

namespace cresco::optim {
namespace {

void check_name(const std::string& field, const std::string& value,
                const std::vector<std::string>& known) {
  require_usage(std::find(known.begin(), known.end(), value) != known.end(),
                "{} '{}' is not one of {}{}", field, value, join(known, ", "),
                did_you_mean(value, known));
}

void check_range(const char* field, double value, double least, double below) {
  require_usage(value >= least && value < below, "optimizer.{} is {}, expected {} up to {}", field,
                value, least, below);
}

void check_not_negative(const std::string& field, double value) {
  require_usage(value >= 0 && std::isfinite(value), "optimizer.{} is {}, expected 0 or more", field,
                value);
}

void check_muon(const MuonConfig& m) {
  check_not_negative("muon.lr", m.lr);
  require_usage((m.weight_decay >= 0 && std::isfinite(m.weight_decay)) || m.weight_decay == -1,
                "optimizer.muon.weight_decay is {}, expected 0 or more, or -1 for the optimizer's",
                m.weight_decay);
  check_range("muon.momentum", m.momentum, 0, 1);
  check_range("muon.momentum_warmup_from", m.momentum_warmup_from, 0, 1);
  require_usage(m.momentum_warmup_steps >= 0,
                "optimizer.muon.momentum_warmup_steps is {}, expected 0 or more",
                m.momentum_warmup_steps);
  require_usage(m.ns_steps >= 1 && m.ns_steps < 100,
                "optimizer.muon.ns_steps is {}, expected 1 to 99", m.ns_steps);
  require_usage(m.ns_coefficients.size() == 3,
                "optimizer.muon.ns_coefficients has {} numbers, expected 3",
                m.ns_coefficients.size());
  require_usage(m.eps > 0, "optimizer.muon.eps is {}, expected more than 0", m.eps);
  check_name("optimizer.muon.adjust_lr_fn", m.adjust_lr_fn,
             {"original", "match_rms_adamw", "sqrt_max", "none"});
}

std::string group_by_name(const std::string& name, std::int64_t dimensions) {
  const auto has = [&](const auto&... parts) {
    return ((name.find(parts) != std::string::npos) || ...);
  };
  if (dimensions < 2) return "vectors";
  if (has("embed_in", "wte", "wpe", "embed_tokens")) return "embed_in";
  if (has("embed_out", "lm_head")) return "embed_out";
  return "matrices";
}

}  // namespace

void check(const OptimizerConfig& c) {
  check_name("optimizer.name", c.name, {"adamw", "muon", "adam", "sgd"});
  check_not_negative("lr", c.lr);
  require_usage(
      c.betas.size() == 2 && c.betas[0] >= 0 && c.betas[0] < 1 && c.betas[1] >= 0 && c.betas[1] < 1,
      "optimizer.betas must be two numbers from 0 up to 1");
  require_usage(c.eps > 0, "optimizer.eps is {}, expected more than 0", c.eps);
  check_not_negative("weight_decay", c.weight_decay);
  check_not_negative("grad_clip", c.grad_clip);
  check_range("momentum", c.momentum, 0, 1);
  require_usage(c.name == "sgd" || (c.momentum == 0 && !c.nesterov),
                "optimizer.{} is sgd's, and optimizer.name is {}{}",
                c.momentum != 0 ? "momentum" : "nesterov", c.name,
                c.name == "muon" ? "; muon's is optimizer.muon.momentum" : "");
  require_usage(!c.nesterov || c.momentum > 0,
                "optimizer.nesterov needs optimizer.momentum above 0");
  check_muon(c.muon);
  for (std::size_t i = 0; i < c.rules.size(); ++i) {
    const ParameterRule& rule = c.rules[i];
    const std::string where = fmt::format("optimizer.rules[{}]", i);
    require_usage(!rule.match.empty(), "{}.match is empty: it says which tensors", where);
    for (const auto& [field, value] : {std::pair("lr_multiplier", rule.lr_multiplier),
                                       std::pair("weight_decay", rule.weight_decay)})
      require_usage(!value || (*value >= 0 && std::isfinite(*value)),
                    "{} ('{}').{} is {}, expected 0 or more", where, rule.match, field,
                    value.value_or(0));
    if (rule.optimizer.empty()) continue;
    check_name(where + ".optimizer", rule.optimizer, {"adamw", "muon"});
    require_usage(c.name == "muon",
                  "{}.optimizer is {}, and optimizer.name is {}: only muon shares tensors with "
                  "another",
                  where, rule.optimizer, c.name);
  }
}

TensorSettings settings_of(const OptimizerConfig& c, const std::string& name,
                           const at::Tensor& parameter) {
  const std::int64_t dimensions = parameter.dim();
  const std::string group = group_by_name(name, dimensions);
  const bool is_of_body = group == "matrices";
  ParameterRule set{.match = name, .group = group};
  set.optimizer = c.name != "muon" ? c.name : dimensions == 2 && is_of_body ? "muon" : "adamw";
  for (const ParameterRule& rule : c.rules) {
    if (!matches(rule.match, name)) continue;
    if (rule.lr_multiplier) set.lr_multiplier = rule.lr_multiplier;
    if (rule.weight_decay) set.weight_decay = rule.weight_decay;
    if (rule.frozen) set.frozen = rule.frozen;
    if (!rule.optimizer.empty()) set.optimizer = rule.optimizer;
    if (!rule.group.empty()) set.group = rule.group;
  }
  const bool is_muons = set.optimizer == "muon";
  if (!set.weight_decay)
    set.weight_decay = dimensions < 2                         ? 0
                       : is_muons && c.muon.weight_decay >= 0 ? c.muon.weight_decay
                                                              : c.weight_decay;
  return {.algorithm = set.optimizer,
          .lr = (is_muons ? c.muon.lr : c.lr) * set.lr_multiplier.value_or(1),
          .weight_decay = *set.weight_decay,
          .frozen = set.frozen.value_or(false),
          .group = set.group,
          .inputs_first = c.inputs_first && is_of_body};
}

void check_rules(const OptimizerConfig& config,
                 const std::vector<tensor::NamedTensor>& parameters) {
  std::vector<std::string> names;
  for (const auto& [name, p] : parameters) names.push_back(name);
  for (const ParameterRule& rule : config.rules)
    require_usage(std::any_of(names.begin(), names.end(),
                              [&](const auto& n) { return matches(rule.match, n); }),
                  "optimizer.rules: '{}' matches no tensor{}", rule.match,
                  did_you_mean(rule.match, names));
  for (const auto& [name, p] : parameters)
    require_usage(settings_of(config, name, p).algorithm != "muon" || p.dim() == 2,
                  "optimizer.rules: muon is of matrices, '{}' has shape {}", name,
                  formats::shape_text(p.sizes().vec()));
  require_usage(
      parameters.empty() || std::any_of(parameters.begin(), parameters.end(),
                                        [&](const auto& p) {
                                          return !settings_of(config, p.first, p.second).frozen;
                                        }),
      "optimizer.rules: all tensors are frozen, nothing is left to train");
}

}  // namespace cresco::optim
