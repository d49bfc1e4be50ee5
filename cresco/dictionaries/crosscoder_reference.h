// For tests only: the crosscoder in double, as its formulas read, with one loop for every index.
#pragma once

#include "cresco/dictionaries/crosscoder.h"

#include <ATen/ATen.h>

#include <cmath>
#include <functional>
#include <vector>

namespace cresco::dictionaries::reference {

struct Sizes {
  int B, K, d, F;
};

// The five tensors, row-major, in the order of CrosscoderParameters.
struct Weights {
  std::vector<double> W_E, b_E, W_D, b_D, log_threshold;
  std::vector<std::vector<double>*> all() { return {&W_E, &b_E, &W_D, &b_D, &log_threshold}; }
};

struct Setting {
  double lambda = 0.3, alpha = 0.01, stretch = 1, window = 4;
};

struct Forward {
  std::vector<double> p, norm, code, score, error, mean_score, reconstruction;
  double l_rec = 0, l_s = 0, loss = 0;
  int num_open = 0;
};

inline Forward forward(const Sizes& s, const Weights& w, const Setting& c,
                       const std::vector<double>& x) {
  const auto [B, K, d, F] = s;
  Forward o;
  o.p.assign(B * F, 0);
  o.norm.assign(K * F, 0);
  o.code.assign(B * K * F, 0);
  o.score.assign(B * K * F, 0);
  o.error.assign(B * K * d, 0);
  o.reconstruction.assign(B * K * d, 0);
  o.mean_score.assign(F, 0);
  for (int b = 0; b < B; ++b)
    for (int f = 0; f < F; ++f)
      for (int k = 0; k < K; ++k) {
        o.p[b * F + f] += w.b_E[k * F + f];
        for (int i = 0; i < d; ++i)
          o.p[b * F + f] += x[(b * K + k) * d + i] * w.W_E[(k * d + i) * F + f];
      }
  for (int k = 0; k < K; ++k)
    for (int f = 0; f < F; ++f) {
      double squares = 0;
      for (int i = 0; i < d; ++i)
        squares += w.W_D[(k * F + f) * d + i] * w.W_D[(k * F + f) * d + i];
      o.norm[k * F + f] = std::sqrt(squares);
    }
  for (int b = 0; b < B; ++b)
    for (int k = 0; k < K; ++k) {
      for (int f = 0; f < F; ++f) {
        const int bkf = (b * K + k) * F + f;
        const double u = o.p[b * F + f] * o.norm[k * F + f];
        if (u > std::exp(w.log_threshold[f])) {
          o.code[bkf] = o.p[b * F + f];
          ++o.num_open;
        }
        o.score[bkf] = std::tanh(c.stretch * o.code[bkf] * o.norm[k * F + f]);
        o.mean_score[f] += o.score[bkf] / (B * K);
      }
      for (int i = 0; i < d; ++i) {
        double r = w.b_D[k * d + i];
        for (int f = 0; f < F; ++f) r += o.code[(b * K + k) * F + f] * w.W_D[(k * F + f) * d + i];
        const int bki = (b * K + k) * d + i;
        o.reconstruction[bki] = r;
        o.error[bki] = r - x[bki];
        o.l_rec += o.error[bki] * o.error[bki] / (B * K);
      }
    }
  for (int f = 0; f < F; ++f) o.l_s += o.mean_score[f] * (1 + o.mean_score[f] / c.alpha);
  o.loss = o.l_rec + c.lambda * o.l_s;
  return o;
}

inline Weights gradients(const Sizes& s, const Weights& w, const Setting& c,
                         const std::vector<double>& x) {
  const auto [B, K, d, F] = s;
  const Forward o = forward(s, w, c, x);
  Weights g{std::vector<double>(w.W_E.size()), std::vector<double>(w.b_E.size()),
            std::vector<double>(w.W_D.size()), std::vector<double>(w.b_D.size()),
            std::vector<double>(w.log_threshold.size())};
  const double M = B * K;
  for (int b = 0; b < B; ++b)
    for (int f = 0; f < F; ++f) {
      const double theta = std::exp(w.log_threshold[f]);
      const double G = c.lambda / M * (1 + 2 * o.mean_score[f] / c.alpha);
      double dp = 0;
      for (int k = 0; k < K; ++k) {
        const double n = o.norm[k * F + f], a = o.code[(b * K + k) * F + f],
                     sc = o.score[(b * K + k) * F + f];
        double ga = G * c.stretch * n * (1 - sc * sc);
        for (int i = 0; i < d; ++i)
          ga += 2 / M * o.error[(b * K + k) * d + i] * w.W_D[(k * F + f) * d + i];
        if (a > 0) dp += ga;
        for (int i = 0; i < d; ++i) {
          const int kfi = (k * F + f) * d + i;
          g.W_D[kfi] += a * 2 / M * o.error[(b * K + k) * d + i];
          if (n > 0) g.W_D[kfi] += G * c.stretch * a * (1 - sc * sc) * w.W_D[kfi] / n;
        }
        const double u = o.p[b * F + f] * n;
        if (u > 0 && std::abs(u - theta) < c.window / 2)
          g.log_threshold[f] -= theta * theta / c.window * ga / n;
      }
      for (int k = 0; k < K; ++k) {
        g.b_E[k * F + f] += dp;
        for (int i = 0; i < d; ++i) g.W_E[(k * d + i) * F + f] += x[(b * K + k) * d + i] * dp;
      }
    }
  for (int b = 0; b < B; ++b)
    for (int ki = 0; ki < K * d; ++ki) g.b_D[ki] += 2 / M * o.error[b * K * d + ki];
  return g;
}

// Adam, or SparseAdam, of the five tensors; or AdamW, whose decay is that of W_E and W_D.
struct Optimizer {
  bool sparse = false;
  double weight_decay = 0;
  std::vector<std::vector<double>> m = std::vector<std::vector<double>>(5),
                                   v = std::vector<std::vector<double>>(5);
  std::vector<int> t = std::vector<int>(5);

  void step(Weights& weights, Weights gradients, const std::function<double(int)>& rate) {
    constexpr double b1 = 0.9, b2 = 0.999, eps = 1e-8;
    for (int n = 0; n < 5; ++n) {
      std::vector<double>& p = *weights.all()[n];
      const std::vector<double>& g = *gradients.all()[n];
      m[n].resize(p.size());
      v[n].resize(p.size());
      bool any = false;
      for (const double number : g) any = any || number != 0;
      if (sparse && !any) continue;
      ++t[n];
      const double c1 = 1 - std::pow(b1, t[n]), c2 = 1 - std::pow(b2, t[n]);
      for (std::size_t i = 0; i < p.size(); ++i) {
        m[n][i] = b1 * m[n][i] + (1 - b1) * g[i];
        v[n][i] = b2 * v[n][i] + (1 - b2) * g[i] * g[i];
        if (n == 0 || n == 2) p[i] *= 1 - rate(n) * weight_decay;
        if (!sparse) p[i] -= rate(n) / c1 * m[n][i] / (std::sqrt(v[n][i]) / std::sqrt(c2) + eps);
        if (sparse && g[i] != 0)
          p[i] -= rate(n) * std::sqrt(c2) / c1 * m[n][i] / (std::sqrt(v[n][i]) + eps);
      }
    }
  }
};

// Full-batch training, `rate(i)` the learning rate of tensor i. Returns the loss before each step
// and, last, after all of them.
inline std::vector<double> train(const Sizes& s, Weights& w, const Setting& c,
                                 const std::vector<double>& x, int steps, bool sparse,
                                 const std::function<double(int)>& rate) {
  std::vector<double> losses;
  Optimizer optimizer{.sparse = sparse};
  for (int step = 0; step < steps; ++step) {
    losses.push_back(forward(s, w, c, x).loss);
    optimizer.step(w, gradients(s, w, c, x), rate);
  }
  losses.push_back(forward(s, w, c, x).loss);
  return losses;
}

// A batch and weights given by formulas, whose results are known to many digits.
struct Fixture {
  Sizes sizes{4, 2, 3, 5};
  Setting setting{.lambda = 0.02};
  Weights weights;
  std::vector<double> x;

  Fixture() {
    const auto [B, K, d, F] = sizes;
    for (int k = 0; k < K; ++k) {
      for (int i = 0; i < d; ++i)
        for (int j = 0; j < F; ++j)
          weights.W_E.push_back(0.8 * std::cos(2 + 5 * k + i + 3 * j) + 0.1 * std::sin(i + j));
      for (int j = 0; j < F; ++j) {
        weights.b_E.push_back(0.05 * std::cos(k + 2 * j));
        for (int i = 0; i < d; ++i)
          weights.W_D.push_back((0.5 + 0.5 * k) * std::cos(2 + 5 * k + 3 * j + i));
      }
      for (int i = 0; i < d; ++i) weights.b_D.push_back(0.02 * std::sin(3 + k + i));
    }
    for (int j = 0; j < F; ++j) weights.log_threshold.push_back(std::log(0.3 + 0.15 * j));
    for (int b = 0; b < B; ++b)
      for (int k = 0; k < K; ++k)
        for (int i = 0; i < d; ++i) x.push_back(1.5 * std::sin(0.5 + 1.3 * b + 0.7 * k + 0.9 * i));
  }
};

inline at::Tensor tensor_of(const std::vector<double>& values, at::IntArrayRef shape,
                            at::ScalarType dtype) {
  return at::tensor(values, at::kDouble).reshape(shape).to(dtype).contiguous();
}

inline CrosscoderParameters parameters_of(const Sizes& s, const Weights& w, at::ScalarType dtype) {
  return {tensor_of(w.W_E, {s.K, s.d, s.F}, dtype), tensor_of(w.b_E, {s.K, s.F}, dtype),
          tensor_of(w.W_D, {s.K, s.F, s.d}, dtype), tensor_of(w.b_D, {s.K, s.d}, dtype),
          tensor_of(w.log_threshold, {s.F}, dtype)};
}

}  // namespace cresco::dictionaries::reference
