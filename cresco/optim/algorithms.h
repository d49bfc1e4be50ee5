// The arithmetic of the optimizers, on pieces of tensors. For optimizer.cpp.
#pragma once

#include "cresco/optim/optimizer_config.h"

#include <memory>
#include <string>
#include <vector>

namespace cresco::optim {

// Some numbers of a parameter that this rank updates; Muon's are the whole matrix.
struct Piece {
  std::size_t slice = 0;
  at::Tensor numbers;             // a view of the parameter
  std::vector<at::Tensor> state;  // of the same shape, in the order of state_names()
};

// ".exp_avg" and so on: what the algorithm keeps for each number.
std::vector<std::string> state_names(const OptimizerConfig& config, const std::string& algorithm);

// Pieces that are updated in the same way, at the same rate and with the same decay.
class Algorithm {
 public:
  Algorithm(const OptimizerConfig& config, const TensorSettings& settings)
      : config_(config), lr_(settings.lr), weight_decay_(settings.weight_decay) {}
  virtual ~Algorithm() = default;

  virtual void add(Piece piece) { pieces_.push_back(std::move(piece)); }
  const std::vector<Piece>& pieces() const { return pieces_; }
  // After loading: how often piece p has been updated.
  virtual void set_num_updates(std::size_t /*p*/, std::int64_t /*count*/) {}

  // Gradients in the order of the pieces, to be multiplied by `factor`; `num_steps` updates of the
  // whole optimizer have been made before this one.
  virtual void step(const std::vector<at::Tensor>& gradients, double factor, double lr_factor,
                    std::int64_t num_steps) = 0;

 protected:
  const OptimizerConfig& config_;
  double lr_, weight_decay_;
  std::vector<Piece> pieces_;
};

// `config` has to live as long.
std::unique_ptr<Algorithm> make_algorithm(const OptimizerConfig& config,
                                          const TensorSettings& settings);

}  // namespace cresco::optim
