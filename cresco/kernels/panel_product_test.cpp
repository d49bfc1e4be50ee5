#include "cresco/kernels/panel_product.h"

#include "cresco/base/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace cresco::kernels {
namespace {

using Floats = std::vector<float>;

Floats numbers(std::int64_t count, const char* what) {
  Floats all(static_cast<std::size_t>(count));
  RandomStream(0, what).fill_normal(all, 0, 1);
  return all;
}

struct Sizes {
  std::int64_t rows, depth, columns;
  bool transposed, adds;
};

// out with two numbers between its rows, made in two calls, cut at row `cut`.
Floats product_of(const Sizes& s, std::int64_t cut, Isa isa) {
  const Floats a = numbers(s.rows * s.depth, "a"), panel = numbers(s.depth * kPanelWidth, "panel");
  const std::int64_t stride = s.columns + 2;
  Floats out(static_cast<std::size_t>(s.rows * stride), 0.5f);
  PanelProduct p{.rows = cut,
                 .depth = s.depth,
                 .columns = s.columns,
                 .a = a.data(),
                 .a_row = s.transposed ? 1 : s.depth,
                 .a_depth = s.transposed ? s.rows : 1,
                 .panel = panel.data(),
                 .out = out.data(),
                 .out_row = stride,
                 .adds = s.adds,
                 .next = a.data(),  // asking for what is next changes nothing
                 .next_bytes = static_cast<std::int64_t>(a.size() * sizeof(float)) - 3};
  panel_product(p, isa);
  p.a += cut * p.a_row;
  p.out += cut * stride;
  p.rows = s.rows - cut;
  panel_product(p, isa);
  return out;
}

class PanelProducts : public testing::TestWithParam<Isa> {};

TEST_P(PanelProducts, AreSumsOfProducts) {
  for (const Sizes& s : {Sizes{1, 1, 64, false, false}, Sizes{6, 128, 64, true, false},
                         Sizes{23, 130, 64, false, true}, Sizes{13, 300, 64, true, true},
                         Sizes{7, 5, 63, false, false}, Sizes{11, 131, 1, true, true}}) {
    SCOPED_TRACE(testing::Message() << s.rows << " x " << s.depth << " x " << s.columns);
    const Floats a = numbers(s.rows * s.depth, "a"),
                 panel = numbers(s.depth * kPanelWidth, "panel"),
                 out = product_of(s, s.rows, GetParam());
    const auto at = [](const Floats& of, std::int64_t i) {
      return static_cast<double>(of[static_cast<std::size_t>(i)]);
    };
    for (std::int64_t i = 0; i < s.rows; ++i) {
      for (std::int64_t c = 0; c < s.columns; ++c) {
        double sum = s.adds ? 0.5 : 0, size = 1;
        for (std::int64_t k = 0; k < s.depth; ++k) {
          const double term = at(a, s.transposed ? k * s.rows + i : i * s.depth + k) *
                              at(panel, k * kPanelWidth + c);
          sum += term;
          size += std::abs(term);
        }
        EXPECT_NEAR(at(out, i * (s.columns + 2) + c), sum, 1e-6 * size);
      }
      for (std::int64_t c = s.columns; c < s.columns + 2; ++c)  // nothing beside it is written
        EXPECT_EQ(at(out, i * (s.columns + 2) + c), 0.5);
    }
  }
}

TEST_P(PanelProducts, DoNotDependOnHowRowsAreCut) {
  for (const std::int64_t columns : {64, 40}) {
    const Sizes s{29, 200, columns, false, true};
    for (const std::int64_t cut : {1, 10, 28})
      EXPECT_EQ(product_of(s, cut, GetParam()), product_of(s, 29, GetParam()));
  }
}

INSTANTIATE_TEST_SUITE_P(, PanelProducts, testing::ValuesIn(available_isas()),
                         [](const auto& info) {
                           return info.param == Isa::X86_64 ? "x86_64" : name_of(info.param);
                         });

}  // namespace
}  // namespace cresco::kernels
