#include "cresco/dictionaries/matrix_sae.h"

#include "cresco/base/require.h"
#include "cresco/dictionaries/selection.h"
#include "cresco/dictionaries/straight_through.h"
#include "cresco/dictionaries/toy_stack.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <functional>

namespace cresco::dictionaries {
namespace {

constexpr int kRows = 14, kWidth = 5, kFeatures = 11;

MatrixSaeConfig small_config(const std::string& sae_class) {
  return resolved({.sae_class = sae_class,
                   .d_sae = kFeatures,
                   .k = 2,
                   .k_aux = 3,
                   .init_threshold = 0.4,
                   .bandwidth = 0.5},
                  kWidth);
}

// Every parameter drawn in double, so that no term of a formula is 0 by accident.
MatrixSae drawn_sae(const std::string& sae_class, std::uint64_t seed = 1) {
  const MatrixSaeConfig config = small_config(sae_class);
  MatrixSaeParameters p = initial_matrix_sae(config, seed, kWidth);
  for (at::Tensor* t :
       {&p.encoder_DF, &p.encoder_bias_F, &p.decoder_FD, &p.decoder_bias_D, &p.log_threshold_F,
        &p.gate_bias_F, &p.log_magnitude_F, &p.magnitude_bias_F}) {
    if (!t->defined()) continue;
    const at::Tensor drawn = toy::normal(t->sizes(), seed, std::to_string(t - &p.encoder_DF));
    *t = (t->detach() + (t->dim() == 2 ? 0.4 : 0.2) * drawn).to(at::kDouble);
  }
  MatrixSae sae(config, p);
  sae.normalise_decoder();
  for (auto& [name, t] : p.named()) t.set_requires_grad(true);
  return sae;
}

at::Tensor rows(std::uint64_t seed = 2) {
  return toy::normal({kRows, kWidth}, seed, "rows").to(at::kDouble);
}

std::vector<double> numbers(const at::Tensor& t) {
  const at::Tensor flat = t.detach().contiguous().flatten();
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// The loss as its formulas read, with one loop for every index.
struct Reference {
  double loss = 0, recon = 0, aux = 0;
  std::vector<double> code;
};

Reference reference_loss(const MatrixSae& sae, const at::Tensor& input, const at::Tensor& target,
                         double lambda, const std::vector<bool>& dead) {
  const MatrixSaeParameters& p = sae.parameters();
  const MatrixSaeConfig& c = sae.config();
  const auto of = [](const at::Tensor& t) {
    return t.defined() ? numbers(t) : std::vector<double>();
  };
  const auto W_enc = of(p.encoder_DF), b_enc = of(p.encoder_bias_F), W_dec = of(p.decoder_FD),
             b_dec = of(p.decoder_bias_D), log_theta = of(p.log_threshold_F),
             b_gate = of(p.gate_bias_F), r_mag = of(p.log_magnitude_F),
             b_mag = of(p.magnitude_bias_F), x_in = numbers(input), x = numbers(target);
  const auto kind = sae.kind().activation;
  std::vector<double> z(kRows * kFeatures);
  for (int b = 0; b < kRows; ++b)
    for (int f = 0; f < kFeatures; ++f) {
      z[b * kFeatures + f] = b_enc.empty() ? 0 : b_enc[f];
      for (int i = 0; i < kWidth; ++i)
        z[b * kFeatures + f] +=
            (x_in[b * kWidth + i] - b_dec[i]) *
            (sae.kind().tied ? W_dec[f * kWidth + i] : W_enc[i * kFeatures + f]);
    }

  // Codes of the first m features.
  const auto codes = [&](int m) {
    std::vector<double> code(kRows * kFeatures);
    for (int b = 0; b < kRows; ++b)
      for (int f = 0; f < m; ++f) {
        const double u = z[b * kFeatures + f];
        double& out = code[b * kFeatures + f];
        if (kind == ActivationKind::Gated)
          out = u + b_gate[f] > 0 ? std::max(0.0, std::exp(r_mag[f]) * u + b_mag[f]) : 0;
        else if (kind == ActivationKind::JumpRelu)
          out = u > std::exp(log_theta[f]) ? u : 0;
        else
          out = std::max(0.0, u);
      }
    // What is chosen: the largest one after the other.
    const auto choose = [&](int first_row, int last_row, int count) {
      std::vector<std::pair<double, int>> all;
      for (int b = first_row; b < last_row; ++b)
        for (int f = 0; f < m; ++f) all.emplace_back(code[b * kFeatures + f], b * kFeatures + f);
      std::sort(all.rbegin(), all.rend());
      for (int n = count; n < static_cast<int>(all.size()); ++n) code[all[n].second] = 0;
    };
    if (kind == ActivationKind::TopK)
      for (int b = 0; b < kRows; ++b) choose(b, b + 1, static_cast<int>(c.k));
    if (kind == ActivationKind::BatchTopK) choose(0, kRows, static_cast<int>(c.k) * kRows);
    return code;
  };
  const auto error = [&](const std::vector<double>& code, int b, int i) {
    double r = b_dec[i];
    for (int f = 0; f < kFeatures; ++f) r += code[b * kFeatures + f] * W_dec[f * kWidth + i];
    return r - x[b * kWidth + i];
  };
  const auto mean_error = [&](const std::vector<double>& code) {
    double sum = 0;
    for (int b = 0; b < kRows; ++b)
      for (int i = 0; i < kWidth; ++i) sum += error(code, b, i) * error(code, b, i) / kRows;
    return sum;
  };

  Reference out;
  out.code = codes(kFeatures);
  out.recon = mean_error(out.code);
  out.loss = out.recon;
  if (sae.kind().has_penalty()) {
    for (int b = 0; b < kRows; ++b)
      for (int f = 0; f < kFeatures; ++f) {
        const double u = z[b * kFeatures + f];
        out.aux += (kind == ActivationKind::Gated ? sigmoid(u + b_gate[f])
                    : kind == ActivationKind::JumpRelu
                        ? sigmoid((u - std::exp(log_theta[f])) / c.bandwidth)
                        : std::abs(out.code[b * kFeatures + f])) /
                   kRows;
      }
    out.loss += lambda * out.aux;
  } else if (kind == ActivationKind::TopK) {
    for (int b = 0; b < kRows; ++b) {
      std::vector<std::pair<double, int>> candidates;
      for (int f = 0; f < kFeatures; ++f)
        if (dead[f]) candidates.emplace_back(z[b * kFeatures + f], f);
      std::sort(candidates.rbegin(), candidates.rend());
      candidates.resize(
          std::min<std::size_t>(candidates.size(), static_cast<std::size_t>(c.k_aux)));
      for (int i = 0; i < kWidth && !candidates.empty(); ++i) {
        double left = -error(out.code, b, i);
        for (const auto& [u, f] : candidates) left -= std::max(0.0, u) * W_dec[f * kWidth + i];
        out.aux += left * left / kRows;
      }
    }
    out.loss += c.auxk_coefficient * out.aux;
  } else if (sae.kind().nested) {
    out.loss = 0;
    const std::vector<int> sizes{2, 5, 11};  // of 11 / 8 = 1, 11 / 4 = 2, 11 / 2, 11 with k = 2
    for (const int m : sizes) out.loss += mean_error(codes(m)) / static_cast<double>(sizes.size());
  }
  return out;
}

std::vector<std::string> class_names(bool with_steps) {
  std::vector<std::string> names;
  for (const MatrixSaeClass& kind : matrix_sae_classes())
    if (with_steps ||
        (kind.activation != ActivationKind::Gated && kind.activation != ActivationKind::JumpRelu))
      names.emplace_back(kind.name);
  return names;
}

class EachClass : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(, EachClass, testing::ValuesIn(class_names(/*with_steps=*/true)),
                         [](const auto& info) { return info.param; });
// A step is differentiated as a sigmoid: differences say nothing of it.
class EachClassWithoutSteps : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(, EachClassWithoutSteps,
                         testing::ValuesIn(class_names(/*with_steps=*/false)),
                         [](const auto& info) { return info.param; });

TEST_P(EachClass, LossIsThatOfTheDefinition) {
  const MatrixSae sae = drawn_sae(GetParam());
  const at::Tensor x = rows(), noisy = x + 0.3 * rows(9);
  std::vector<bool> dead(kFeatures);
  at::Tensor dead_F = at::zeros({kFeatures}, at::kBool);
  for (const int f : {0, 3, 4, 7, 10}) {
    dead[f] = true;
    dead_F[f] = true;
  }
  const auto loss = sae.loss(sae.pre_activation(noisy), x, 0.07, dead_F);
  const Reference expected = reference_loss(sae, noisy, x, 0.07, dead);
  EXPECT_NEAR(loss.loss.item<double>(), expected.loss, 1e-12 * expected.loss);
  EXPECT_NEAR(loss.recon.item<double>(), expected.recon, 1e-12 * expected.recon);
  EXPECT_NEAR(loss.aux.item<double>(), expected.aux, 1e-12 * (1 + expected.aux));
  const auto code = numbers(loss.code_BF);
  for (std::size_t i = 0; i < code.size(); ++i) EXPECT_NEAR(code[i], expected.code[i], 1e-12) << i;
  EXPECT_GT(*std::max_element(code.begin(), code.end()), 0);
}

TEST_P(EachClassWithoutSteps, GradientsAreThoseOfDifferences) {
  const MatrixSae sae = drawn_sae(GetParam());
  const at::Tensor x = rows();
  const bool auxk = sae.kind().has_auxk();
  const at::Tensor none = at::zeros({kFeatures}, at::kBool);
  const auto loss = sae.loss(sae.pre_activation(x), x, 0.07, none);
  torch::autograd::backward({loss.loss}, {});
  const std::vector<bool> dead(kFeatures);
  int checked = 0;
  for (const auto& [name, t] : sae.parameters().named()) {
    const at::Tensor plain = t.detach().view({-1}), gradient = t.grad().view({-1});
    for (std::int64_t i = 0; i < plain.size(0); i += 3, ++checked) {
      const double at = plain[i].item<double>(), h = 1e-6;
      const auto loss_at = [&](double value) {
        plain[i].fill_(value);
        return reference_loss(sae, x, x, 0.07, dead).loss;
      };
      const double difference = (loss_at(at + h) - loss_at(at - h)) / (2 * h);
      plain[i].fill_(at);
      EXPECT_NEAR(gradient[i].item<double>(), difference, 1e-7) << name << " " << i;
    }
  }
  EXPECT_GT(checked, 20);
  EXPECT_TRUE(!auxk || loss.aux.item<double>() == 0);
}

TEST_P(EachClass, FoldedIntoADictionaryItReconstructsTheSame) {
  const torch::autograd::AutoGradMode no_grad(false);
  const MatrixSaeConfig config =
      resolved({.sae_class = GetParam(), .d_sae = 40, .k = 5, .init_threshold = 0.1}, 24);
  MatrixSaeParameters p = initial_matrix_sae(config, 3, 24);
  for (const auto& [name, t] : p.named()) t.add_(0.1 * toy::normal(t.sizes(), 3, name));
  MatrixSae sae(config, p);
  sae.normalise_decoder();
  const at::Tensor x = toy::normal({200, 24}, 4, "x");
  const Crosscoder dictionary(sae.folded(), sae.activation(200));
  const at::Tensor of_dictionary = dictionary.reconstruct(x.unsqueeze(1)).squeeze(1),
                   of_sae = sae.reconstruct(x);
  EXPECT_LE((of_dictionary - of_sae).abs().max().item<double>(),
            1e-6 * of_sae.abs().max().item<double>());
  EXPECT_GT((of_sae - p.decoder_bias_D).abs().mean().item<double>(), 0.05);
  for (const at::Tensor& norm : dictionary.norm_KF().unbind())
    EXPECT_LE((norm - 1).abs().max().item<double>(), 1e-6);
}

TEST_P(EachClass, StartsAsItIsDescribed) {
  const MatrixSaeConfig config = resolved({.sae_class = GetParam(), .d_sae = 400}, 100);
  const MatrixSaeParameters p = initial_matrix_sae(config, 0, 100);
  const MatrixSaeClass& kind = matrix_sae_class(GetParam());
  EXPECT_EQ(p.encoder_DF.defined(), !kind.tied);
  EXPECT_EQ(p.encoder_bias_F.defined(), kind.activation != ActivationKind::Gated);
  if (!kind.tied) {
    EXPECT_LE(p.encoder_DF.abs().max().item<double>(), 0.1);
    EXPECT_NEAR(p.encoder_DF.std().item<double>(), 0.1 / std::sqrt(3.0), 1e-3);
  }
  EXPECT_LE((p.decoder_FD.norm(2, 1) - 1).abs().max().item<double>(), 1e-6);
  for (const auto& [name, t] : p.named()) {
    EXPECT_TRUE(t.requires_grad()) << name;
    if (name.starts_with("b_") || name == "r_mag") {
      EXPECT_EQ(t.abs().max().item<double>(), 0) << name;
    }
  }
  if (kind.activation == ActivationKind::JumpRelu) {
    EXPECT_NEAR(p.log_threshold_F.max().item<double>(), std::log(0.001), 1e-6);
  }
}

// The formulas of straight_through.h in numbers of their own.
TEST(StraightThrough, StepHasTheGradientOfASigmoid) {
  const double theta = 0.3, width = 0.25;
  const std::vector<double> z{-2, -0.1, 0.2999, 0.3, 0.31, 0.7, 4}, upstream{1, 2, -1, 3, 5, -2, 1};
  at::Tensor z_F = at::tensor(z, at::kDouble), theta_F = at::full({7}, theta, at::kDouble);
  z_F.set_requires_grad(true);
  theta_F.set_requires_grad(true);
  const at::Tensor a = z_F * step_with_sigmoid_gradient((z_F - theta_F) / width);
  torch::autograd::backward({(a * at::tensor(upstream, at::kDouble)).sum()}, {});
  for (int i = 0; i < 7; ++i) {
    const double s = sigmoid((z[i] - theta) / width), slope = z[i] * s * (1 - s) / width;
    EXPECT_EQ(a[i].item<double>(), z[i] > theta ? z[i] : 0);
    EXPECT_NEAR(z_F.grad()[i].item<double>(), upstream[i] * ((z[i] > theta) + slope), 1e-12);
    EXPECT_NEAR(theta_F.grad()[i].item<double>(), -upstream[i] * slope, 1e-12);
  }
}

// The whole losses of gated and jumprelu: the chain rule with the sigmoid's slope for the step's,
// written out for every row and feature.
TEST(StraightThrough, GradientsOfTheLossAreThoseOfTheFormulas) {
  const at::Tensor x = rows(), none = at::zeros({kFeatures}, at::kBool);
  const double lambda = 0.07;
  for (const std::string name : {"gated", "jumprelu"}) {
    SCOPED_TRACE(name);
    const MatrixSae sae = drawn_sae(name);
    const MatrixSaeParameters& p = sae.parameters();
    const double w = sae.config().bandwidth;
    const at::Tensor z_BF = sae.pre_activation(x);
    torch::autograd::backward({sae.loss(z_BF, x, lambda, none).loss}, {});

    const auto W_enc = numbers(p.encoder_DF), W_dec = numbers(p.decoder_FD),
               b_dec = numbers(p.decoder_bias_D), z = numbers(z_BF), x_in = numbers(x);
    const Reference forward = reference_loss(sae, x, x, lambda, std::vector<bool>(kFeatures));
    std::vector<double> to_encoder(W_enc.size()), to_decoder(W_dec.size()), to_b_dec(kWidth),
        to_bias(kFeatures), to_log_theta(kFeatures), to_b_gate(kFeatures), to_r(kFeatures),
        to_b_mag(kFeatures);
    for (int b = 0; b < kRows; ++b) {
      double e[kWidth];
      for (int i = 0; i < kWidth; ++i) {
        e[i] = b_dec[i] - x_in[b * kWidth + i];
        for (int f = 0; f < kFeatures; ++f)
          e[i] += forward.code[b * kFeatures + f] * W_dec[f * kWidth + i];
        e[i] *= 2.0 / kRows;
        to_b_dec[i] += e[i];
      }
      for (int f = 0; f < kFeatures; ++f) {
        const double u = z[b * kFeatures + f], code = forward.code[b * kFeatures + f];
        double to_code = 0, to_z = 0;
        for (int i = 0; i < kWidth; ++i) {
          to_decoder[f * kWidth + i] += code * e[i];
          to_code += W_dec[f * kWidth + i] * e[i];
        }
        if (name == "gated") {
          const double gate_at = u + p.gate_bias_F[f].item<double>(), s = sigmoid(gate_at);
          const double scale = std::exp(p.log_magnitude_F[f].item<double>());
          const double inner = scale * u + p.magnitude_bias_F[f].item<double>();
          const double to_gate =
              to_code * std::max(0.0, inner) * s * (1 - s) + lambda / kRows * s * (1 - s);
          const double to_inner = gate_at > 0 && inner > 0 ? to_code : 0;
          to_z = to_gate + to_inner * scale;
          to_b_gate[f] += to_gate;
          to_r[f] += to_inner * scale * u;
          to_b_mag[f] += to_inner;
        } else {
          const double theta = std::exp(p.log_threshold_F[f].item<double>());
          const double s = sigmoid((u - theta) / w), slope = s * (1 - s) / w;
          const double through_gate = to_code * u * slope + lambda / kRows * slope;
          to_z = to_code * (u > theta) + through_gate;
          to_log_theta[f] -= theta * through_gate;
        }
        to_bias[f] += to_z;
        for (int i = 0; i < kWidth; ++i) {
          to_encoder[i * kFeatures + f] += to_z * (x_in[b * kWidth + i] - b_dec[i]);
          to_b_dec[i] -= to_z * W_enc[i * kFeatures + f];
        }
      }
    }
    const auto expect = [](const at::Tensor& t, const std::vector<double>& expected,
                           const char* what) {
      if (!t.defined()) return;
      const auto got = numbers(t.grad());
      double largest = 0;
      for (std::size_t i = 0; i < got.size(); ++i) {
        EXPECT_NEAR(got[i], expected[i], 1e-12) << what << " " << i;
        largest = std::max(largest, std::abs(got[i]));
      }
      EXPECT_GT(largest, 1e-3) << what;
    };
    expect(p.encoder_DF, to_encoder, "W_enc");
    expect(p.encoder_bias_F, to_bias, "b_enc");
    expect(p.decoder_FD, to_decoder, "W_dec");
    expect(p.decoder_bias_D, to_b_dec, "b_dec");
    expect(p.log_threshold_F, to_log_theta, "log_threshold");
    expect(p.gate_bias_F, to_b_gate, "b_gate");
    expect(p.log_magnitude_F, to_r, "r_mag");
    expect(p.magnitude_bias_F, to_b_mag, "b_mag");
  }
}

// The residual is held constant, so AuxK moves dead features and nothing else.
TEST(AuxK, PullsDeadFeaturesTowardsWhatIsLeft) {
  const MatrixSae sae = drawn_sae("topk");
  const MatrixSaeParameters& p = sae.parameters();
  const at::Tensor x = rows();
  at::Tensor dead_F = at::zeros({kFeatures}, at::kBool);
  const at::Tensor dead = at::tensor({1, 2, 6, 8}, at::kLong);
  dead_F.index_fill_(0, dead, 1);
  const at::Tensor z_BF = sae.pre_activation(x);
  const auto loss = sae.loss(z_BF, x, 0, dead_F);
  torch::autograd::backward({loss.aux}, {});

  const torch::autograd::AutoGradMode no_grad(false);
  // 3 of the 4 dead ones a row.
  const at::Tensor z_dead = z_BF.index_select(1, dead),
                   smallest = std::get<0>(z_dead.min(1, /*keepdim=*/true));
  const at::Tensor code_BA = at::relu(z_dead.masked_fill(z_dead.eq(smallest), 0));
  const at::Tensor left_BD =
      x - sae.decode(loss.code_BF) - code_BA.mm(p.decoder_FD.index_select(0, dead));
  const at::Tensor expected_AD = code_BA.t().mm(left_BD) * (-2.0 / kRows);
  EXPECT_LE((p.decoder_FD.grad().index_select(0, dead) - expected_AD).abs().max().item<double>(),
            1e-12);
  EXPECT_GT(expected_AD.abs().min().item<double>(), 0);
  const at::Tensor alive = dead_F.logical_not().nonzero().squeeze(1);
  EXPECT_EQ(p.decoder_FD.grad().index_select(0, alive).abs().max().item<double>(), 0);
  EXPECT_EQ(p.encoder_DF.grad().index_select(1, alive).abs().max().item<double>(), 0);
  EXPECT_GT(p.encoder_DF.grad().abs().max().item<double>(), 1e-3);
}

TEST(Selection, KeepsExactlyAsManyAsAsked) {
  const at::Tensor x = toy::normal({30, 20}, 0, "x").abs();
  const at::Tensor in_rows = keep_largest_in_rows(x, 7), in_all = keep_largest(x, 30 * 7);
  EXPECT_TRUE(in_rows.gt(0).sum(1).eq(7).all().item<bool>());
  EXPECT_EQ(in_all.gt(0).sum().item<std::int64_t>(), 210);
  EXPECT_FALSE(in_all.gt(0).sum(1).eq(7).all().item<bool>());
  // Whatever is kept is no smaller than what is not, and unchanged.
  EXPECT_GE(in_all.masked_select(in_all.gt(0)).min().item<float>(),
            x.masked_select(in_all.eq(0)).max().item<float>());
  EXPECT_TRUE(at::equal(in_rows.masked_select(in_rows.gt(0)), x.masked_select(in_rows.gt(0))));
  // Equal numbers: still as many.
  EXPECT_EQ(keep_largest(at::ones({30, 20}), 11).sum().item<float>(), 11);
  EXPECT_TRUE(keep_largest_in_rows(at::ones({30, 20}), 3).sum(1).eq(3).all().item<bool>());
  // No more than there are.
  EXPECT_TRUE(at::equal(keep_largest(x, 100000), x));
  EXPECT_TRUE(at::equal(keep_largest_in_rows(x, 50), x));
}

TEST(Matryoshka, LevelsAreNested) {
  MatrixSaeConfig config{.sae_class = "matryoshka", .d_sae = 100, .k = 3};
  EXPECT_EQ(levels(config), (std::vector<std::int64_t>{12, 25, 50, 100}));
  config.k = 30;
  EXPECT_EQ(levels(config), (std::vector<std::int64_t>{30, 50, 100}));
  config.k = 100;
  EXPECT_EQ(levels(config), (std::vector<std::int64_t>{100}));
  config.sae_class = "batchtopk";
  EXPECT_EQ(levels(config), (std::vector<std::int64_t>{100}));

  // What a level's loss sees of the features past it: nothing. With the last level alone left to
  // vary, the loss changes by a share of its own error only.
  const MatrixSae sae = drawn_sae("matryoshka");
  const at::Tensor x = rows(), none = at::zeros({kFeatures}, at::kBool);
  const auto loss = [&] { return sae.loss(sae.pre_activation(x), x, 0, none); };
  const auto before = loss();
  sae.parameters().decoder_FD.detach().narrow(0, 5, kFeatures - 5).mul_(-1);
  const auto after = loss();
  const double all_before = before.recon.item<double>(), all_after = after.recon.item<double>();
  EXPECT_GT(std::abs(all_after - all_before), 0.01);
  EXPECT_NEAR(after.loss.item<double>() - before.loss.item<double>(), (all_after - all_before) / 3,
              1e-12);
}

TEST(MatrixSaeConfig, RefusesWhatMakesNoSense) {
  const auto message = [](const MatrixSaeConfig& config) -> std::string {
    try {
      resolved(config, 8);
    } catch (const UsageError& error) {
      return error.what();
    }
    return "nothing was thrown";
  };
  EXPECT_NE(message({.sae_class = "topkk", .d_sae = 8}).find("did you mean 'topk'"),
            std::string::npos);
  EXPECT_NE(message({}).find("--d-sae"), std::string::npos);
  EXPECT_NE(message({.d_sae = 8, .k = 9}).find("k is 9, more than the 8"), std::string::npos);
  EXPECT_NE(message({.expansion_factor = 2, .k = 17}).find("k is 17"), std::string::npos);
  EXPECT_NE(message({.d_sae = 8, .k = 2, .val_fraction = 1}).find("val_fraction"),
            std::string::npos);
  EXPECT_NE(message({.d_sae = 8, .k = 2, .lr = std::nan("")}).find("lr"), std::string::npos);
  EXPECT_NE(message({.d_sae = 8, .k = 2, .bandwidth = 0}).find("bandwidth"), std::string::npos);
  EXPECT_NE(message({.d_sae = 8, .input_preprocess = "centre", .k = 2}).find("centre"),
            std::string::npos);
  EXPECT_EQ(resolved(MatrixSaeConfig{.sae_class = "gated", .d_sae = 8, .k = 50}, 8).d_sae, 8);  // k is not used
  EXPECT_EQ(resolved(MatrixSaeConfig{.expansion_factor = 2.5, .k = 3}, 8).d_sae, 20);
  EXPECT_EQ(resolved(MatrixSaeConfig{.d_sae = 8, .k = 3}, 8).k_aux, 6);
}

}  // namespace
}  // namespace cresco::dictionaries
