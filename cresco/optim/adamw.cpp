#include "cresco/optim/adamw.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>
#include <cmath>

namespace cresco::optim {

void check(const OptimizerConfig& c) {
  require_usage(c.name == "adamw", "optimizer.name '{}' is not known; it is adamw", c.name);
  require_usage(c.lr >= 0 && std::isfinite(c.lr), "optimizer.lr is {}, expected 0 or more", c.lr);
  require_usage(
      c.betas.size() == 2 && c.betas[0] >= 0 && c.betas[0] < 1 && c.betas[1] >= 0 && c.betas[1] < 1,
      "optimizer.betas must be two numbers from 0 up to 1");
  require_usage(c.eps > 0, "optimizer.eps is {}, expected more than 0", c.eps);
  require_usage(c.weight_decay >= 0 && c.grad_clip >= 0,
                "optimizer: weight_decay and grad_clip cannot be negative");
}

bool matches(std::string_view pattern, std::string_view name) {
  std::size_t p = 0, n = 0, star = std::string_view::npos, retry = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      retry = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++retry;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
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
}

AdamW::AdamW(const OptimizerConfig& config, std::vector<tensor::NamedTensor> parameters)
    : config_(config), parameters_(std::move(parameters)) {
  check(config_);
  check_rules(config_, parameters_);
  for (const auto& [name, p] : parameters_) {
    ParameterRule settings{name, 1.0, p.dim() >= 2 ? config_.weight_decay : 0.0, false};
    for (const ParameterRule& rule : config_.rules) {
      if (!matches(rule.match, name)) continue;
      if (rule.lr_multiplier >= 0) settings.lr_multiplier = rule.lr_multiplier;
      if (rule.weight_decay >= 0) settings.weight_decay = rule.weight_decay;
      settings.frozen = settings.frozen || rule.frozen;
    }
    if (settings.frozen) continue;
    auto group = std::find_if(groups_.begin(), groups_.end(), [&](const Group& g) {
      return g.lr_multiplier == settings.lr_multiplier && g.weight_decay == settings.weight_decay;
    });
    if (group == groups_.end())
      group = groups_.insert(groups_.end(),
                             {settings.lr_multiplier, settings.weight_decay, {}, {}, {}, {}});
    group->parameters.push_back(p);
    group->exp_avg.push_back(at::zeros_like(p.detach()));
    group->exp_avg_sq.push_back(at::zeros_like(p.detach()));
    group->steps.push_back(at::zeros({}, p.options().dtype(at::kFloat).requires_grad(false)));
    exp_avg_.emplace_back(name + ".exp_avg", group->exp_avg.back());
    exp_avg_sq_.emplace_back(name + ".exp_avg_sq", group->exp_avg_sq.back());
  }
}

double AdamW::step(double lr_factor) {
  const torch::autograd::AutoGradMode no_grad(false);
  std::vector<at::Tensor> gradients;
  for (const Group& group : groups_)  // what is frozen has no say in the norm
    for (const at::Tensor& p : group.parameters) gradients.push_back(p.grad());
  const double norm = at::stack(at::_foreach_norm(gradients)).norm().item<double>();
  if (!std::isfinite(norm)) return norm;
  // The factor of PyTorch's clip_grad_norm_.
  const double scale =
      config_.grad_clip > 0 ? std::min(1.0, config_.grad_clip / (norm + 1e-6)) : 1.0;
  if (scale < 1) at::_foreach_mul_(gradients, scale);

  ++num_steps_;
  for (Group& group : groups_) {
    std::vector<at::Tensor> group_gradients;
    for (const at::Tensor& p : group.parameters) group_gradients.push_back(p.grad());
    at::_foreach_add_(group.steps, 1);
    at::_fused_adamw_(group.parameters, group_gradients, group.exp_avg, group.exp_avg_sq, {},
                      group.steps, config_.lr * lr_factor * group.lr_multiplier, config_.betas[0],
                      config_.betas[1], group.weight_decay, config_.eps, /*amsgrad=*/false,
                      /*maximize=*/false);
  }
  return norm;
}

std::vector<tensor::NamedTensor> AdamW::state() const {
  std::vector<tensor::NamedTensor> all = exp_avg_;
  all.insert(all.end(), exp_avg_sq_.begin(), exp_avg_sq_.end());
  return all;
}

void AdamW::load(const formats::SafetensorsFile& file, std::int64_t num_steps) {
  const torch::autograd::AutoGradMode no_grad(false);
  for (auto& [name, moment] : state()) {
    const at::Tensor stored = tensor::to_tensor(file.tensor(name));
    require(stored.sizes() == moment.sizes(), "{}: '{}' has shape {}, expected {}",
            file.path().string(), name, formats::shape_text(stored.sizes().vec()),
            formats::shape_text(moment.sizes().vec()));
    moment.copy_(stored);
  }
  num_steps_ = num_steps;
  for (Group& group : groups_)
    for (at::Tensor& step : group.steps) step.fill_(static_cast<double>(num_steps));
}

}  // namespace cresco::optim
