#include "cresco/dictionaries/moments.h"

#include "cresco/dictionaries/toy_stack.h"

#include <gtest/gtest.h>

namespace cresco::dictionaries {
namespace {

TEST(ColumnMoments, AreThoseOfAllRowsHoweverTheyAreCut) {
  // Columns far from 0, where the difference of mean square and squared mean would keep no digit.
  const at::Tensor x_VD =
      toy::normal({97, 5}, 0, "x").to(at::kDouble) + at::arange(5, at::kDouble) * 1e8;
  for (const std::int64_t block : {1, 10, 97, 200}) {
    ColumnMoments moments;
    for (std::int64_t v = 0; v < 97; v += block) moments.add(x_VD.slice(0, v, v + block));
    EXPECT_EQ(moments.count(), 97);
    EXPECT_TRUE(at::allclose(moments.mean_D(), x_VD.mean(0), 1e-14, 0));
    EXPECT_TRUE(at::allclose(moments.deviation_D(), x_VD.var(0) * 96, 1e-6, 0));
    EXPECT_NEAR(moments.about_columns(), (x_VD.var(0) * 96).sum().item<double>(), 1e-3);
    EXPECT_NEAR(moments.about_mean() / (x_VD.var().item<double>() * (97 * 5 - 1)), 1, 1e-12);
    EXPECT_NEAR(moments.about(3) / (x_VD - 3).square().sum().item<double>(), 1, 1e-12);
  }
}

// Columns and rows beyond those that are worked on together, and a matrix that is part of another;
// transposed and in bfloat16, too.
TEST(ColumnMoments, AreThoseOfMatricesOfAnyKind) {
  const at::Tensor all_VKD = toy::normal({500, 2, 601}, 0, "x") * 3 + 50;
  const auto expect_moments = [](const at::Tensor& x_VD) {
    const at::Tensor x64_VD = x_VD.to(at::kDouble).contiguous();
    ColumnMoments moments;
    moments.add(x_VD);
    EXPECT_TRUE(at::allclose(moments.mean_D(), x64_VD.mean(0), 1e-14, 0));
    EXPECT_TRUE(at::allclose(moments.deviation_D(),
                             x64_VD.var(0, /*unbiased=*/false) * x_VD.size(0), 1e-12, 0));
  };
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16}) {
    const at::Tensor x_VD = all_VKD.to(type).select(1, 1);
    expect_moments(x_VD);
    expect_moments(x_VD.t());
    expect_moments(x_VD.narrow(0, 3, 1));
  }
}

TEST(ColumnMoments, OfRowsThatAreAlikeHaveNoDeviation) {
  ColumnMoments moments;
  for (int i = 0; i < 4; ++i) moments.add(at::full({7, 3}, 0.1f));
  EXPECT_EQ(moments.about_columns(), 0);
}

}  // namespace
}  // namespace cresco::dictionaries
