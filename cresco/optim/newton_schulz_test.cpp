#include "cresco/optim/newton_schulz.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace cresco::optim {
namespace {

at::Tensor random(at::IntArrayRef shape, int seed) {
  std::int64_t numel = 1;
  for (const std::int64_t n : shape) numel *= n;
  const at::Tensor x = at::arange(numel, at::kDouble).mul(12.9898).add(seed).sin().mul(43758.5453);
  return x.sub(x.floor()).sub(0.5).reshape(shape);
}

at::Tensor singular_values(const at::Tensor& x) { return std::get<1>(at::linalg_svd(x)); }

double polynomial(double x, const NewtonSchulz& s) {
  const auto [a, b, c] = s.coefficients;
  return a * x + b * std::pow(x, 3) + c * std::pow(x, 5);
}

// The iteration acts on singular values alone, and by its polynomial: the definition through the
// singular value decomposition.
TEST(NewtonSchulz, AppliesItsPolynomialToTheSingularValues) {
  for (const NewtonSchulz& s : {NewtonSchulz{}, NewtonSchulz{{2, -1.5, 0.5}, 3, 0.25}})
    for (const auto& [rows, columns] : {std::pair{12, 12}, std::pair{9, 30}, std::pair{30, 9}}) {
      const at::Tensor u = random({2, rows, columns}, rows);
      const at::Tensor x = newton_schulz(u, s);
      for (std::int64_t i = 0; i < 2; ++i) {
        const auto [left, values, right] = at::linalg_svd(u[i], /*full_matrices=*/false);
        const at::Tensor mapped = (values / (u[i].norm() + s.eps)).clone();
        for (std::int64_t v = 0; v < mapped.numel(); ++v) {
          double value = mapped[v].item<double>();
          for (int step = 0; step < s.steps; ++step) value = polynomial(value, s);
          mapped[v] = value;
        }
        const at::Tensor expected = (left * mapped).mm(right);
        EXPECT_LT((x[i] - expected).norm().item<double>(), 1e-10 * expected.norm().item<double>());
      }
    }
}

TEST(NewtonSchulz, ComesNearAnOrthonormalMatrix) {
  // Singular values of 0.003 to 1 of the norm come to [0.68, 1.2]; 0.001 to 0.47; 0.0001 to 0.048.
  const auto mapped = [](double value) {
    for (int step = 0; step < 5; ++step) value = polynomial(value, {});
    return value;
  };
  for (double value = 0.003; value <= 1; value *= 1.01) {
    EXPECT_GT(mapped(value), 0.67) << value;
    EXPECT_LT(mapped(value), 1.21) << value;
  }
  EXPECT_NEAR(mapped(1e-3), 0.47, 0.01);
  EXPECT_NEAR(mapped(1e-4), 0.048, 0.001);

  const at::Tensor u = random({1, 64, 256}, 3).to(at::kFloat);
  const at::Tensor values = singular_values(newton_schulz(u)[0]);
  EXPECT_GT(values.min().item<double>(), 0.67);
  EXPECT_LT(values.max().item<double>(), 1.21);
}

// It commutes with rotations on both sides and with transposition, and forgets the scale.
TEST(NewtonSchulz, Invariances) {
  const at::Tensor u = random({1, 16, 24}, 1);
  const auto rotation = [](std::int64_t n, int seed) {
    return std::get<0>(at::linalg_qr(random({n, n}, seed)));
  };
  const at::Tensor left = rotation(16, 7), right = rotation(24, 8);
  const at::Tensor x = newton_schulz(u)[0];
  const auto near = [&](const at::Tensor& a, const at::Tensor& b, double tolerance) {
    return (a - b).norm().item<double>() < tolerance * b.norm().item<double>();
  };
  EXPECT_TRUE(
      near(newton_schulz(left.mm(u[0]).mm(right).unsqueeze(0))[0], left.mm(x).mm(right), 1e-11));
  EXPECT_TRUE(near(newton_schulz(u.transpose(1, 2).contiguous())[0], x.t(), 1e-12));
  EXPECT_TRUE(near(newton_schulz(u.mul(1e3))[0], x, 1e-6));  // as far as eps is small
  EXPECT_TRUE(at::equal(newton_schulz(at::zeros({1, 3, 4})), at::zeros({1, 3, 4})));
}

TEST(NewtonSchulz, DoesNotDependOnTheOthersOfABatch) {
  const at::Tensor u = random({5, 40, 24}, 2).to(at::kFloat);
  const at::Tensor all = newton_schulz(u);
  for (std::int64_t i = 0; i < 5; ++i)
    EXPECT_TRUE(at::equal(newton_schulz(u.narrow(0, i, 1))[0], all[i]));
}

}  // namespace
}  // namespace cresco::optim
