// One update of a dictionary: the loss of a batch, its gradients, Adam. Everything is computed from
// the entries that a code has, without an array of the size (rows, snapshots, features); how stands
// in kernels/crosscoder.h.
//
//   l_rec = mean over (b,k) of |r[b,k] - x[b,k]|^2
//   s     = tanh(c a n);  m[f] = mean of s over b and k;  l_s = sum_f m (1 + m/alpha)
//   loss  = l_rec + lambda l_s + kappa l_aux
//
// With M = B K, e = (2/M)(r - x), G[f] = (lambda/M)(1 + 2 m/alpha), w the width of the threshold's
// window:
//   g[b,k,f]         = e[b,k] . W_D[k,f] + G c n (1 - s^2)            gradient on the code
//   dp[b,f]          = sum of g over the open heads
//   dW_E[k]          = x[:,k]^T dp;   db_E[k] = sum_b dp              the same for every head
//   dW_D[k,f]        = sum_b a e[b,k] + (sum_b G c a (1 - s^2)) W_D[k,f]/n
//   db_D[k]          = sum_b e[b,k]
//   dlog_threshold   = -(theta^2/w) sum over (b,k) with 0 < p n and |p n - theta| < w/2 of g/n
// The gate passes no gradient to n, and W_D/n and g/n count as 0 where n is 0. TopK and BatchTopK
// have l_rec alone.
//
// l_aux revives dead features. A feature is dead when no gate of it was open for more than
// dead_window_steps steps; of each row the auxk_k dead features with the largest |p| are decoded
// with ReLU(p) as their codes, gates apart, to what the reconstruction misses: l_aux = mean over
// (b,k) of
// |(a_aux W_D + b_D) - (x - r)|^2, x - r held fixed.
#pragma once

#include "cresco/dictionaries/batch_noise.h"
#include "cresco/dictionaries/crosscoder.h"
#include "cresco/dist/ranks.h"

#include <memory>
#include <span>

namespace cresco::dictionaries {

struct LossTerms {
  double loss = 0, l_rec = 0, l_s = 0, l_aux = 0;
  double l0 = 0;                 // mean open gates per row and head
  double sum_squared_error = 0;  // of the whole batch
  std::int64_t num_silent = 0;   // features that no row of the batch fires; with l_aux: the dead
};

// What a schedule gives a step.
struct StepRates {
  std::int64_t step = 0;
  double l1_coefficient = 0;  // lambda: whatever setting is the kind's own, with its warm-up
  double lr = 0, threshold_lr = 0;
};

// Where the time of a step went, in seconds.
struct StepTimes {
  double gather = 0, encode = 0, gates = 0, decode = 0, band = 0, backward = 0, small = 0;
};

// Ranks that share the heads of one dictionary: each has the weights and rows of its own heads; p,
// dp and the threshold's gradient are summed, so that biases and thresholds are the same
// everywhere. Per step and rank that is B F numbers, as many as entries, and 3 F.
struct HeadShare {
  dist::Ranks* ranks = &dist::one_rank();
  // Of `total` heads this rank's.
  std::int64_t first(std::int64_t total) const { return total / ranks->size() * ranks->rank(); }
  std::int64_t count(std::int64_t total) const { return total / ranks->size(); }
};

class CrosscoderStep {
 public:
  virtual ~CrosscoderStep() = default;

  // The batch is those rows of x_VKD (the parameters' type, or bfloat16, which is widened; on the
  // parameters' device; contiguous). Noise is
  // added to what is read and to what is to be reconstructed alike.
  virtual void load(const at::Tensor& x_VKD, std::span<const std::int64_t> rows,
                    const BatchNoise& noise = {}) = 0;
  // The loss of the batch before the update, and the update. When the loss is not finite nothing is
  // changed.
  virtual LossTerms update(const StepRates& rates) = 0;
  // The same without the update: the gradients, in the shapes of released files.
  virtual LossTerms gradients(const StepRates& rates, CrosscoderParameters& out) = 0;

  // Sum over the batch of (x - mean of all its numbers)^2.
  virtual double batch_deviation() const = 0;
  // Copies, in the shapes of released files.
  virtual CrosscoderParameters parameters() const = 0;
  virtual Activation activation() const = 0;

  // Everything that the next update depends on, by reference: parameters, moments, counts.
  virtual std::vector<tensor::NamedTensor> state() const = 0;
  virtual void load_state(const formats::SafetensorsFile& file) = 0;  // Error for other shapes
  // Parameters under their released names and shapes, each with <name>.exp_avg and .exp_avg_sq, and
  // num_updates: what another program's training goes on from. With adam only.
  virtual std::vector<tensor::NamedTensor> portable_state() const = 0;
  virtual void load_portable_state(const formats::SafetensorsFile& file) = 0;
  // The name of a tensor of the state that holds a number that is not finite, or "".
  std::string first_not_finite() const;

  const StepTimes& times() const { return times_; }

 protected:
  StepTimes times_;
};

// While more than this share of the gates is open, as at the start of a training, the codes with
// their zeros go through whole products, which then are faster than entries; for the
// reconstruction alone half the share is enough.
inline constexpr double kDenseShare = 0.2;

// JumpRelu, TopK and BatchTopK. Batches have up to `max_rows` rows. `start` has this rank's heads,
// as have all parameters and gradients that come back.
std::unique_ptr<CrosscoderStep> make_sparse_step(
    const CrosscoderConfig& config, const Activation& activation, const CrosscoderParameters& start,
    std::int64_t max_rows, double dense_share = kDenseShare, HeadShare share = {});

// Steps that read the same batches: a batch is gathered once and goes through all their encoders in
// one product. Each step then is what it is alone but for that product's rounding.
class JointSteps {
 public:
  virtual ~JointSteps() = default;
  // In place of each step's own load, before their updates.
  virtual void load(const at::Tensor& x_VKD, std::span<const std::int64_t> rows,
                    const BatchNoise& noise) = 0;
};
// `steps` outlive the result. Null when one of them was not made by make_sparse_step or has a
// product of its own (bf16), or their batches differ in size.
std::unique_ptr<JointSteps> join_steps(const std::vector<CrosscoderStep*>& steps);

// That of any activation on that device, to which `start` is copied: on a GPU by whole products
// (whole_step.h).
std::unique_ptr<CrosscoderStep> make_step(const CrosscoderConfig& config,
                                          const Activation& activation,
                                          const CrosscoderParameters& start, std::int64_t max_rows,
                                          HeadShare share = {}, at::Device device = at::kCPU);

}  // namespace cresco::dictionaries
