// The loss of one batch and its gradients for crosscoders whose heads share one code, by autograd.
// With p, W_D and b_D as in crosscoder.h, n[k,f] = |W_D[k,f]| and N[f] = sum over k of n[k,f]:
//
//   r[b,k] = a[b] . W_D[k] + b_D[k];   l_rec = mean over (b,k) of |r[b,k] - x[b,k]|^2
//
//   activation         code a                                     loss
//   SharedJumpRelu     p [p > theta]                              l_rec + lambda l_s,
//                      l_s = sum over f of m (1 + m/alpha), m[f] the mean over b of tanh(c a N)
//   Gated              [p + b_gate > 0] ReLU(exp(r_mag) p + b_mag)
//                      l_rec + lambda l_s + gated_aux l_aux,
//                      l_s = mean over b of sum over f of ReLU(p + b_gate) N,
//                      l_aux = l_rec of the codes ReLU(p + b_gate)
//
// Steps are differentiated as straight_through.h says, that of SharedJumpRelu with the width
// `bandwidth`. Gradients go through N, and l_aux trains W_D and b_D.
#pragma once

#include "cresco/dictionaries/crosscoder.h"
#include "cresco/dictionaries/crosscoder_step.h"  // LossTerms
#include "cresco/dictionaries/random_source.h"

namespace cresco::dictionaries {

struct StackedSettings {
  double coefficient = 0.3;  // lambda: the kind's own, with its warm-up
  double frequency_scale = 0.01, tanh_stretch_coefficient = 1.0;
  double bandwidth = 4.0;
  double gated_aux_coefficient = 1.0;
};

// Every head drawn by itself: W_D uniform in +-1/sqrt(F), W_E[k] the transpose of W_D[k], biases
// and the tensors of Gated 0, thresholds as given.
CrosscoderParameters stacked_initial_parameters(const Activation& activation, RandomKind kind,
                                                std::uint64_t seed, std::int64_t num_heads,
                                                std::int64_t width, std::int64_t num_features,
                                                double init_threshold = 0.1);

// x_BKD is contiguous; `gradients` is overwritten. l_s and l_aux in the result are without their
// weights. Error for an activation without such a loss.
LossTerms stacked_loss_and_gradients(const Activation& activation, const StackedSettings& settings,
                                     const CrosscoderParameters& parameters,
                                     const at::Tensor& x_BKD, CrosscoderParameters& gradients);

}  // namespace cresco::dictionaries
