#include "cresco/optim/algorithms.h"

#include "cresco/optim/newton_schulz.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace cresco::optim {
namespace {

// The fused kernels divide gradients by a number in float, and write them back divided.
std::optional<at::Tensor> divisor(double factor, const at::Tensor& like) {
  if (factor == 1) return {};
  return at::full({}, 1 / factor, like.options().dtype(at::kFloat));
}

class FusedAdam final : public Algorithm {
 public:
  FusedAdam(const OptimizerConfig& config, const TensorSettings& settings)
      : Algorithm(config, settings), is_decoupled_(settings.algorithm == "adamw") {}

  void add(Piece piece) override {
    numbers_.push_back(piece.numbers);
    exp_avg_.push_back(piece.state[0]);
    exp_avg_sq_.push_back(piece.state[1]);
    num_updates_.push_back(at::zeros({}, piece.numbers.options().dtype(at::kFloat)));
    Algorithm::add(std::move(piece));
  }
  void set_num_updates(std::size_t p, std::int64_t count) override {
    num_updates_[p].fill_(static_cast<double>(count));
  }
  void step(const std::vector<at::Tensor>& gradients, double factor, double lr_factor,
            std::int64_t /*num_steps*/) override {
    at::_foreach_add_(num_updates_, 1);
    const auto update = [&](const auto& kernel) {
      kernel(numbers_, gradients, exp_avg_, exp_avg_sq_, at::TensorList(), num_updates_,
             lr_ * lr_factor, config_.betas[0], config_.betas[1], weight_decay_, config_.eps,
             /*amsgrad=*/false, /*maximize=*/false, divisor(factor, numbers_.front()),
             /*found_inf=*/std::optional<at::Tensor>());
    };
    if (is_decoupled_)
      update([](const auto&... arguments) { at::_fused_adamw_(arguments...); });
    else
      update([](const auto&... arguments) { at::_fused_adam_(arguments...); });
  }

 private:
  bool is_decoupled_;
  std::vector<at::Tensor> numbers_, exp_avg_, exp_avg_sq_, num_updates_;
};

class Sgd final : public Algorithm {
 public:
  using Algorithm::Algorithm;

  void add(Piece piece) override {
    numbers_.push_back(piece.numbers);
    if (config_.momentum > 0) momentum_.push_back(piece.state[0]);
    Algorithm::add(std::move(piece));
  }
  void step(const std::vector<at::Tensor>& gradients, double factor, double lr_factor,
            std::int64_t /*num_steps*/) override {
    // From a buffer of zeros the first step needs no rule of its own.
    at::_fused_sgd_(numbers_, gradients, momentum_, weight_decay_, config_.momentum,
                    lr_ * lr_factor, /*dampening=*/0, config_.nesterov, /*maximize=*/false,
                    /*is_first_step=*/false, divisor(factor, numbers_.front()));
  }

 private:
  std::vector<at::Tensor> numbers_, momentum_;
};

class Muon final : public Algorithm {
 public:
  Muon(const OptimizerConfig& config, const TensorSettings& settings)
      : Algorithm(config, settings),
        inputs_first_(settings.inputs_first),
        settings_{{config.muon.ns_coefficients[0], config.muon.ns_coefficients[1],
                   config.muon.ns_coefficients[2]},
                  config.muon.ns_steps,
                  config.muon.eps} {}

  void step(const std::vector<at::Tensor>& gradients, double factor, double lr_factor,
            std::int64_t num_steps) override {
    const double mu = momentum(num_steps), lr = lr_ * lr_factor;
    for (const std::vector<std::size_t>& batch : batches()) {
      const at::Tensor& first = pieces_[batch.front()].numbers;
      const auto count = static_cast<std::int64_t>(batch.size());
      at::Tensor u_BRC = at::empty({count, first.size(0), first.size(1)}, first.options());
      for (std::int64_t i = 0; i < count; ++i) {
        const std::size_t p = batch[static_cast<std::size_t>(i)];
        const at::Tensor& mean = pieces_[p].state[0];
        mean.mul_(mu).add_(gradients[p], (1 - mu) * factor);
        at::Tensor u = u_BRC[i];
        u.copy_(mean);
        if (config_.muon.nesterov) u.mul_(mu).add_(gradients[p], (1 - mu) * factor);
      }
      const at::Tensor direction_BRC = newton_schulz(u_BRC, settings_);
      const double rate = inputs_first_ ? lr * adjustment(first.size(1), first.size(0))
                                        : lr * adjustment(first.size(0), first.size(1));
      for (std::int64_t i = 0; i < count; ++i) {
        const at::Tensor& numbers = pieces_[batch[static_cast<std::size_t>(i)]].numbers;
        numbers.mul_(1 - lr * weight_decay_).add_(direction_BRC[i], -rate);
      }
    }
  }

 private:
  double momentum(std::int64_t num_steps) const {
    const MuonConfig& m = config_.muon;
    if (num_steps >= m.momentum_warmup_steps) return m.momentum;
    const double done =
        static_cast<double>(num_steps) / static_cast<double>(m.momentum_warmup_steps);
    return m.momentum_warmup_from + (m.momentum - m.momentum_warmup_from) * done;
  }

  double adjustment(std::int64_t outputs, std::int64_t inputs) const {
    const auto r = static_cast<double>(outputs), c = static_cast<double>(inputs);
    const std::string& how = config_.muon.adjust_lr_fn;
    if (how == "original") return std::sqrt(std::max(1.0, r / c));
    if (how == "match_rms_adamw") return 0.2 * std::sqrt(std::max(r, c));
    if (how == "sqrt_max") return std::sqrt(std::max(r, c));
    return 1;
  }

  // Matrices of one shape whose products are made together: on a CPU each alone, on a GPU as many
  // as take 64 MiB.
  std::vector<std::vector<std::size_t>> batches() const {
    std::vector<std::vector<std::size_t>> out;
    for (std::size_t p = 0; p < pieces_.size(); ++p) {
      const at::Tensor& numbers = pieces_[p].numbers;
      const auto found = std::find_if(out.begin(), out.end(), [&](const auto& batch) {
        return !numbers.device().is_cpu() &&
               pieces_[batch.front()].numbers.sizes() == numbers.sizes() &&
               (batch.size() + 1) * numbers.nbytes() <= std::size_t{64} << 20;
      });
      if (found == out.end())
        out.push_back({p});
      else
        found->push_back(p);
    }
    return out;
  }

  bool inputs_first_;
  NewtonSchulz settings_;
};

}  // namespace

std::vector<std::string> state_names(const OptimizerConfig& config, const std::string& algorithm) {
  if (algorithm == "muon") return {".momentum_buffer"};
  if (algorithm == "sgd")
    return config.momentum > 0 ? std::vector<std::string>{".momentum_buffer"}
                               : std::vector<std::string>{};
  return {".exp_avg", ".exp_avg_sq"};
}

std::unique_ptr<Algorithm> make_algorithm(const OptimizerConfig& config,
                                          const TensorSettings& settings) {
  if (settings.algorithm == "muon") return std::make_unique<Muon>(config, settings);
  if (settings.algorithm == "sgd") return std::make_unique<Sgd>(config, settings);
  return std::make_unique<FusedAdam>(config, settings);
}

}  // namespace cresco::optim
