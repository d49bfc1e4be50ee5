#include "cresco/optim/moments.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/optim/adam.h"
#include "cresco/optim/sparse_adam.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace cresco::optim {
namespace {

// The definition, in double, for one number of a tensor that holds nothing else.
struct Reference {
  double p, m = 0, v = 0;
  int t = 0;
  void adam(double g, double lr) {
    ++t;
    m = 0.9 * m + 0.1 * g;
    v = 0.999 * v + 0.001 * g * g;
    p -=
        lr / (1 - std::pow(0.9, t)) * m / (std::sqrt(v) / std::sqrt(1 - std::pow(0.999, t)) + 1e-8);
  }
  void sparse_adam(double g, double lr) {
    m = 0.9 * m + 0.1 * g;
    v = 0.999 * v + 0.001 * g * g;
    if (g != 0)
      p -= lr * std::sqrt(1 - std::pow(0.999, t)) / (1 - std::pow(0.9, t)) * m /
           (std::sqrt(v) + 1e-8);
  }
};

// Of number i at update t; number 1 is silent at every other update.
double gradient(int i, int t) { return i == 1 && t % 2 == 1 ? 0 : std::sin(1.0 + 3 * i + t); }

TEST(Adam, AgreesWithTheDefinition) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    at::Tensor p = at::tensor({0.5, -2.0}, at::kDouble).to(dtype);
    Adam adam({}, {{"p", p}});
    Reference a{0.5}, b{-2};
    for (int t = 0; t < 50; ++t) {
      adam.step({at::tensor({gradient(0, t), gradient(1, t)}, at::kDouble).to(dtype)}, {1e-2});
      a.adam(gradient(0, t), 1e-2);
      b.adam(gradient(1, t), 1e-2);
    }
    const double tolerance = dtype == at::kFloat ? 1e-6 : 1e-14;
    EXPECT_NEAR(p[0].item<double>(), a.p, tolerance);
    EXPECT_NEAR(p[1].item<double>(), b.p, tolerance);
  }
}

TEST(SparseAdam, AgreesWithTheDefinition) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    at::Tensor p = at::tensor({0.5, -2.0}, at::kDouble).to(dtype);
    SparseAdam adam({}, {{"p", p}});
    Reference a{0.5}, b{-2};
    for (int t = 0; t < 50; ++t) {
      adam.step({at::tensor({gradient(0, t), gradient(1, t)}, at::kDouble).to(dtype)}, {1e-2});
      a.t = b.t = t + 1;
      a.sparse_adam(gradient(0, t), 1e-2);
      b.sparse_adam(gradient(1, t), 1e-2);
    }
    const double tolerance = dtype == at::kFloat ? 2e-6 : 1e-14;
    EXPECT_NEAR(p[0].item<double>(), a.p, tolerance);
    EXPECT_NEAR(p[1].item<double>(), b.p, tolerance);
  }
}

TEST(SparseAdam, SkipsATensorWithoutAnyGradient) {
  at::Tensor p = at::ones({3});
  SparseAdam adam({}, {{"p", p}});
  adam.step({at::ones({3})}, {0.1});
  const at::Tensor before = p.clone();
  const auto moments = adam.state();
  adam.step({at::zeros({3})}, {0.1});
  EXPECT_TRUE(at::equal(p, before));
  EXPECT_TRUE(at::equal(adam.state()[0].second, moments[0].second));
  EXPECT_EQ(adam.state()[2].second.item<std::int64_t>(), 1);
}

TEST(SparseAdam, WakesWithALargeStep) {
  at::Tensor p = at::zeros({2}, at::kDouble);
  SparseAdam adam({}, {{"p", p}});
  for (int t = 0; t < 20000; ++t) adam.step({at::tensor({1.0, 0.0}, at::kDouble)}, {1.0});
  EXPECT_EQ(p[1].item<double>(), 0);
  adam.step({at::tensor({1.0, 1.0}, at::kDouble)}, {1.0});
  EXPECT_NEAR(p[1].item<double>(), -0.1 / std::sqrt(0.001), 1e-3);
}

TEST(MomentOptimizer, ResumesBitForBit) {
  const TemporaryFolder folder;
  for (const char* name : {"adam", "sparse_adam"}) {
    at::Tensor a = at::tensor({0.5f, -2.0f});
    const auto g = [](int t) {
      return at::tensor({gradient(0, t), gradient(1, t)}, at::kDouble).to(at::kFloat);
    };
    const auto whole = make_moment_optimizer(name, {}, {{"p", a}});
    for (int t = 0; t < 5; ++t) whole->step({g(t)}, {1e-2});
    tensor::write_tensors(folder / "state", whole->state());
    at::Tensor b = a.clone();
    const auto resumed = make_moment_optimizer(name, {}, {{"p", b}});
    resumed->load(formats::SafetensorsFile(folder / "state"));
    for (int t = 5; t < 9; ++t) {
      whole->step({g(t)}, {1e-2});
      resumed->step({g(t)}, {1e-2});
    }
    EXPECT_TRUE(at::equal(a, b));
  }
  EXPECT_THROW(make_moment_optimizer("adamm", {}, {}), UsageError);
}

}  // namespace
}  // namespace cresco::optim
