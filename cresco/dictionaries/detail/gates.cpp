#include "cresco/dictionaries/detail/gates.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace cresco::dictionaries::detail {
namespace {

// Calls task(chunk, first row, last row) for every chunk of rows.
template <class Task>
void over_chunks(std::int64_t rows, const Task& task) {
  at::parallel_for(0, num_chunks(rows), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t chunk = begin; chunk < end; ++chunk)
      task(chunk, chunk * kChunkRows, std::min(rows, (chunk + 1) * kChunkRows));
  });
}

template <class Number>
std::int32_t open_gates_of_row(std::int64_t features, const Number* __restrict p,
                               const Number* __restrict norm, const Number* __restrict threshold,
                               Number stretch, Number* __restrict code, Number* __restrict score) {
  std::int32_t count = 0;
  for (std::int64_t f = 0; f < features; ++f) {
    const Number u = p[f] * norm[f];
    const bool open = u > threshold[f];
    code[f] = open ? p[f] : Number(0);
    score[f] = open ? stretch * u : Number(0);
    count += open;
  }
  return count;
}

template <class Number>
void gate_gradients_of_row(std::int64_t features, const Number* __restrict p,
                           const Number* __restrict norm, const Number* __restrict threshold,
                           const Number* __restrict code, const Number* __restrict tanh_score,
                           const Number* __restrict from_decoder, const Number* __restrict pull,
                           Number half_window, Number* __restrict dp, Number* __restrict code_pull,
                           Number* __restrict near_threshold) {
  for (std::int64_t f = 0; f < features; ++f) {
    const Number q = 1 - tanh_score[f] * tanh_score[f];
    const Number g = from_decoder[f] + pull[f] * q;
    const Number u = p[f] * norm[f];
    dp[f] += code[f] > 0 ? g : Number(0);
    code_pull[f] += code[f] * q;
    near_threshold[f] += (u > 0) & (std::abs(u - threshold[f]) < half_window) ? g : Number(0);
  }
}

}  // namespace

template <class Number>
std::int64_t open_gates(const Head<Number>& head, Number stretch, Number* code_BF,
                        Number* score_BF) {
  const auto F = head.features;
  std::vector<std::int64_t> counts(static_cast<std::size_t>(num_chunks(head.rows)));
  over_chunks(head.rows, [&](std::int64_t chunk, std::int64_t begin, std::int64_t end) {
    std::int64_t count = 0;
    for (std::int64_t b = begin; b < end; ++b)
      count += open_gates_of_row(F, head.p_BF + b * F, head.norm_F, head.threshold_F, stretch,
                                 code_BF + b * F, score_BF + b * F);
    counts[static_cast<std::size_t>(chunk)] = count;
  });
  return std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
}

template <class Number>
void gate_gradients(const Head<Number>& head, const GateGradients<Number>& g) {
  const auto F = head.features;
  over_chunks(head.rows, [&](std::int64_t chunk, std::int64_t begin, std::int64_t end) {
    Number* const code_pull = g.code_pull_CF + chunk * F;
    Number* const near_threshold = g.near_threshold_CF + chunk * F;
    std::fill_n(code_pull, F, Number(0));
    std::fill_n(near_threshold, F, Number(0));
    for (std::int64_t b = begin; b < end; ++b)
      gate_gradients_of_row(F, head.p_BF + b * F, head.norm_F, head.threshold_F, g.code_BF + b * F,
                            g.tanh_score_BF + b * F, g.from_decoder_BF + b * F, g.pull_F,
                            g.half_window, g.pre_activation_BF + b * F, code_pull, near_threshold);
  });
}

template std::int64_t open_gates(const Head<float>&, float, float*, float*);
template std::int64_t open_gates(const Head<double>&, double, double*, double*);
template void gate_gradients(const Head<float>&, const GateGradients<float>&);
template void gate_gradients(const Head<double>&, const GateGradients<double>&);

}  // namespace cresco::dictionaries::detail
