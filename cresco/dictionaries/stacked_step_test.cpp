#include "cresco/dictionaries/stacked_step.h"

#include "cresco/base/require.h"
#include "cresco/dictionaries/toy_stack.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace cresco::dictionaries {
namespace {

constexpr int B = 7, K = 3, D = 4, F = 9;

std::vector<double> numbers(const at::Tensor& t) {
  const at::Tensor flat = t.detach().to(at::kDouble).contiguous().flatten();
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

// Everything drawn, so that no term is 0 by accident.
CrosscoderParameters drawn_parameters(const Activation& activation) {
  CrosscoderParameters p =
      stacked_initial_parameters(activation, RandomKind::Philox, 0, K, D, F, 0.4);
  int purpose = 0;
  for (at::Tensor* t :
       {&p.encoder_KDF, &p.encoder_bias_KF, &p.decoder_KFD, &p.decoder_bias_KD, &p.log_threshold_F,
        &p.gate_bias_F, &p.log_magnitude_F, &p.magnitude_bias_F})
    if (t->defined())
      *t = (*t + 0.3 * toy::normal(t->sizes(), 1, std::to_string(purpose++))).to(at::kDouble);
  return p;
}

// The loss and its gradients in double, one loop for every index: sums over the batch of the chain
// rule, with the sigmoid's slope in the place of the step's.
struct Reference {
  double loss = 0, l_rec = 0, l_s = 0, l_aux = 0, num_open = 0;
  std::vector<double> W_E = std::vector<double>(K * D * F), b_E = std::vector<double>(K * F),
                      W_D = std::vector<double>(K * F * D), b_D = std::vector<double>(K * D),
                      log_threshold = std::vector<double>(F), b_gate = std::vector<double>(F),
                      r_mag = std::vector<double>(F), b_mag = std::vector<double>(F);

  Reference(const Activation& activation, const StackedSettings& s, const CrosscoderParameters& p,
            const at::Tensor& x_BKD) {
    const auto of = [](const at::Tensor& t) {
      return t.defined() ? numbers(t) : std::vector<double>(F);
    };
    const auto We = numbers(p.encoder_KDF), be = numbers(p.encoder_bias_KF),
               Wd = numbers(p.decoder_KFD), bd = numbers(p.decoder_bias_KD),
               log_theta = of(p.log_threshold_F), gate = of(p.gate_bias_F),
               mag = of(p.log_magnitude_F), mag_bias = of(p.magnitude_bias_F), x = numbers(x_BKD);
    const auto kind = activation.kind;
    const auto sigma = [](double u) { return 1 / (1 + std::exp(-u)); };
    double pre[B][F] = {}, code[B][F] = {}, open_gate[B][F] = {}, norm[K][F] = {}, N[F] = {};
    for (int k = 0; k < K; ++k)
      for (int f = 0; f < F; ++f) {
        for (int i = 0; i < D; ++i) norm[k][f] += Wd[(k * F + f) * D + i] * Wd[(k * F + f) * D + i];
        N[f] += norm[k][f] = std::sqrt(norm[k][f]);
      }
    for (int b = 0; b < B; ++b)
      for (int f = 0; f < F; ++f) {
        for (int k = 0; k < K; ++k) {
          pre[b][f] += be[k * F + f];
          for (int i = 0; i < D; ++i) pre[b][f] += x[(b * K + k) * D + i] * We[(k * D + i) * F + f];
        }
        const double u = pre[b][f];
        if (kind == ActivationKind::SharedJumpRelu)
          code[b][f] = u > std::exp(log_theta[f]) ? u : 0;
        else
          code[b][f] = u + gate[f] > 0 ? std::max(0.0, std::exp(mag[f]) * u + mag_bias[f]) : 0;
        open_gate[b][f] = std::max(0.0, u + gate[f]);
      }
    double to_code[B][F] = {}, to_open[B][F] = {}, to_N[F] = {};
    // Adds weight times the reconstruction term of these codes, and its gradients.
    const auto reconstruct = [&](const double(&of_row)[B][F], double(&to)[B][F], double weight) {
      double sum = 0;
      for (int b = 0; b < B; ++b)
        for (int k = 0; k < K; ++k)
          for (int i = 0; i < D; ++i) {
            double e = bd[k * D + i] - x[(b * K + k) * D + i];
            for (int f = 0; f < F; ++f) e += of_row[b][f] * Wd[(k * F + f) * D + i];
            sum += e * e / (B * K);
            const double pull = weight * 2 * e / (B * K);
            b_D[k * D + i] += pull;
            for (int f = 0; f < F; ++f) {
              W_D[(k * F + f) * D + i] += of_row[b][f] * pull;
              to[b][f] += Wd[(k * F + f) * D + i] * pull;
            }
          }
      return sum;
    };
    l_rec = reconstruct(code, to_code, 1);
    loss = l_rec;
    if (kind == ActivationKind::SharedJumpRelu) {
      for (int f = 0; f < F; ++f) {
        double m = 0;
        for (int b = 0; b < B; ++b)
          m += std::tanh(s.tanh_stretch_coefficient * code[b][f] * N[f]) / B;
        l_s += m * (1 + m / s.frequency_scale);
        const double to_m = s.coefficient * (1 + 2 * m / s.frequency_scale);
        for (int b = 0; b < B; ++b) {
          const double t = std::tanh(s.tanh_stretch_coefficient * code[b][f] * N[f]);
          const double slope = to_m / B * s.tanh_stretch_coefficient * (1 - t * t);
          to_code[b][f] += slope * N[f];
          to_N[f] += slope * code[b][f];
        }
      }
      loss += s.coefficient * l_s;
    }
    if (kind == ActivationKind::Gated) {
      l_aux = reconstruct(open_gate, to_open, s.gated_aux_coefficient);
      for (int b = 0; b < B; ++b)
        for (int f = 0; f < F; ++f) {
          l_s += open_gate[b][f] * N[f] / B;
          to_open[b][f] += s.coefficient * N[f] / B;
          to_N[f] += s.coefficient * open_gate[b][f] / B;
        }
      loss += s.coefficient * l_s + s.gated_aux_coefficient * l_aux;
    }
    for (int k = 0; k < K; ++k)
      for (int f = 0; f < F; ++f)
        for (int i = 0; i < D; ++i)
          W_D[(k * F + f) * D + i] += to_N[f] * Wd[(k * F + f) * D + i] / norm[k][f];

    for (int b = 0; b < B; ++b)
      for (int f = 0; f < F; ++f) {
        const double u = pre[b][f];
        num_open += code[b][f] > 0;
        double to_p = 0;
        if (kind == ActivationKind::SharedJumpRelu) {
          const double theta = std::exp(log_theta[f]), h = sigma((u - theta) / s.bandwidth);
          const double slope = u * h * (1 - h) / s.bandwidth;
          to_p = to_code[b][f] * ((u > theta) + slope);
          log_threshold[f] -= to_code[b][f] * slope * theta;
        } else {
          const double h = sigma(u + gate[f]), scale = std::exp(mag[f]);
          const double inner = scale * u + mag_bias[f];
          const double to_gate = to_code[b][f] * std::max(0.0, inner) * h * (1 - h);
          const double to_inner = u + gate[f] > 0 && inner > 0 ? to_code[b][f] : 0;
          const double to_pi = to_gate + (u + gate[f] > 0 ? to_open[b][f] : 0);
          to_p = to_pi + to_inner * scale;
          b_gate[f] += to_pi;
          r_mag[f] += to_inner * scale * u;
          b_mag[f] += to_inner;
        }
        for (int k = 0; k < K; ++k) {
          b_E[k * F + f] += to_p;
          for (int i = 0; i < D; ++i) W_E[(k * D + i) * F + f] += to_p * x[(b * K + k) * D + i];
        }
      }
  }
};

void expect_near(const at::Tensor& got, const std::vector<double>& expected, double tolerance,
                 const std::string& what) {
  const auto values = numbers(got);
  ASSERT_EQ(values.size(), expected.size()) << what;
  double largest = 0;
  for (const double e : expected) largest = std::max(largest, std::abs(e));
  EXPECT_GT(largest, 1e-3) << what;
  for (std::size_t i = 0; i < values.size(); ++i)
    EXPECT_NEAR(values[i], expected[i], tolerance * largest) << what << " " << i;
}

const Activation kActivations[] = {{.kind = ActivationKind::SharedJumpRelu},
                                   {.kind = ActivationKind::Gated}};

class StackedStep : public testing::TestWithParam<Activation> {};
INSTANTIATE_TEST_SUITE_P(, StackedStep, testing::ValuesIn(kActivations),
                         [](const auto& info) { return std::string(name_of(info.param.kind)); });

TEST_P(StackedStep, IsThatOfTheDefinition) {
  const Activation& activation = GetParam();
  const StackedSettings settings{
      .coefficient = activation.kind == ActivationKind::Gated ? 0.16 : 0.04,
      .frequency_scale = 0.3,
      .tanh_stretch_coefficient = 0.7,
      .bandwidth = 1.5,
      .gated_aux_coefficient = 0.6};
  const at::Tensor x_BKD = toy::normal({B, K, D}, 2, "x");
  const CrosscoderParameters exact = drawn_parameters(activation);
  for (const auto& [dtype, tolerance] :
       {std::pair{at::kDouble, 1e-12}, std::pair{at::kFloat, 1e-5}}) {
    CrosscoderParameters p = exact;
    for (at::Tensor* t :
         {&p.encoder_KDF, &p.encoder_bias_KF, &p.decoder_KFD, &p.decoder_bias_KD,
          &p.log_threshold_F, &p.gate_bias_F, &p.log_magnitude_F, &p.magnitude_bias_F})
      if (t->defined()) *t = t->to(dtype);
    CrosscoderParameters gradients = p.empty_like();
    for (const auto& [name, t] : gradients.named())
      t.fill_(std::numeric_limits<double>::quiet_NaN());  // overwritten, not added to
    const LossTerms terms =
        stacked_loss_and_gradients(activation, settings, p, x_BKD.to(dtype), gradients);
    const Reference expected(activation, settings, exact, x_BKD);
    EXPECT_NEAR(terms.loss, expected.loss, tolerance * expected.loss);
    EXPECT_NEAR(terms.l_rec, expected.l_rec, tolerance * expected.l_rec);
    EXPECT_NEAR(terms.l_s, expected.l_s, tolerance * (1 + expected.l_s));
    EXPECT_NEAR(terms.l_aux, expected.l_aux, tolerance * (1 + expected.l_aux));
    EXPECT_NEAR(terms.sum_squared_error, expected.l_rec * B * K, tolerance * terms.loss * B * K);
    EXPECT_DOUBLE_EQ(terms.l0, expected.num_open / B);
    expect_near(gradients.encoder_KDF, expected.W_E, tolerance, "W_E");
    expect_near(gradients.encoder_bias_KF, expected.b_E, tolerance, "b_E");
    expect_near(gradients.decoder_KFD, expected.W_D, tolerance, "W_D");
    expect_near(gradients.decoder_bias_KD, expected.b_D, tolerance, "b_D");
    if (activation.kind == ActivationKind::SharedJumpRelu)
      expect_near(gradients.log_threshold_F, expected.log_threshold, tolerance, "log_threshold");
    if (activation.kind == ActivationKind::Gated) {
      expect_near(gradients.gate_bias_F, expected.b_gate, tolerance, "b_gate");
      expect_near(gradients.log_magnitude_F, expected.r_mag, tolerance, "r_mag");
      expect_near(gradients.magnitude_bias_F, expected.b_mag, tolerance, "b_mag");
    }
    for (const auto& [name, t] : p.named()) EXPECT_FALSE(t.requires_grad()) << name;
  }
}

// The codes that are trained are those that evaluation computes.
TEST_P(StackedStep, CodesAreThoseOfTheEvaluation) {
  const Activation& activation = GetParam();
  const CrosscoderParameters p = drawn_parameters(activation);
  const at::Tensor x_BKD = toy::normal({B, K, D}, 2, "x").to(at::kDouble);
  CrosscoderParameters gradients = p.empty_like();
  const LossTerms terms = stacked_loss_and_gradients(activation, {}, p, x_BKD, gradients);
  const Crosscoder crosscoder(p, activation);
  EXPECT_NEAR(terms.sum_squared_error,
              (crosscoder.reconstruct(x_BKD) - x_BKD).square().sum().item<double>(), 1e-10);
  EXPECT_DOUBLE_EQ(terms.l0,
                   crosscoder.open(crosscoder.pre_activation(x_BKD), 0).sum().item<double>() / B);
}

TEST_P(StackedStep, LowersItsLoss) {
  const Activation& activation = GetParam();
  CrosscoderParameters p = stacked_initial_parameters(activation, RandomKind::Philox, 1, K, D, F);
  const at::Tensor x_BKD = toy::normal({64, 1, D}, 2, "x").expand({64, K, D}).contiguous();
  CrosscoderParameters gradients = p.empty_like();
  double first = 0, last = 0;
  for (int step = 0; step < 60; ++step) {
    last = stacked_loss_and_gradients(activation, {.coefficient = 0.01}, p, x_BKD, gradients).loss;
    if (step == 0) first = last;
    const auto of_parameters = p.named(), of_gradients = gradients.named();
    for (std::size_t i = 0; i < of_parameters.size(); ++i)
      of_parameters[i].second.sub_(0.02 * of_gradients[i].second);
  }
  EXPECT_LT(last, 0.9 * first);
}

TEST(StackedInitialParameters, DrawsEveryHeadByItself) {
  for (const RandomKind kind : {RandomKind::Philox, RandomKind::Torch}) {
    const auto p = stacked_initial_parameters({.kind = ActivationKind::SharedJumpRelu}, kind, 3, 4,
                                              50, 100, 0.15);
    EXPECT_EQ(p.decoder_KFD.sizes(), (std::vector<std::int64_t>{4, 100, 50}));
    EXPECT_LE(p.decoder_KFD.abs().max().item<double>(), 0.1);
    EXPECT_NEAR(p.decoder_KFD.std().item<double>(), 0.1 / std::sqrt(3.0), 1e-3);
    EXPECT_TRUE(at::equal(p.encoder_KDF, p.decoder_KFD.transpose(1, 2)));
    EXPECT_FALSE(at::equal(p.decoder_KFD[0], p.decoder_KFD[1]));
    EXPECT_EQ(p.encoder_bias_KF.abs().max().item<double>(), 0);
    EXPECT_NEAR(p.log_threshold_F[7].item<double>(), std::log(0.15), 1e-6);
  }
  // The stream is PyTorch's: one call for all heads.
  std::mt19937 generator(3);
  at::Tensor whole = at::empty({4, 100, 50});
  torch_uniform(generator, whole, -0.1f, 0.1f);
  EXPECT_TRUE(at::equal(whole, stacked_initial_parameters({.kind = ActivationKind::TopK, .k = 1},
                                                          RandomKind::Torch, 3, 4, 50, 100)
                                   .decoder_KFD));
}

TEST(StackedStepErrors, ActivationsWithOtherLossesAreRefused) {
  const CrosscoderParameters p = drawn_parameters({.kind = ActivationKind::JumpRelu});
  CrosscoderParameters gradients = p.empty_like();
  const at::Tensor x_BKD = at::zeros({B, K, D}, at::kDouble);
  for (const ActivationKind kind :
       {ActivationKind::JumpRelu, ActivationKind::Relu, ActivationKind::TopK})
    EXPECT_THROW(stacked_loss_and_gradients({.kind = kind}, {}, p, x_BKD, gradients), Error);
}

}  // namespace
}  // namespace cresco::dictionaries
