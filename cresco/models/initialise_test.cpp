#include "cresco/models/initialise.h"

#include "cresco/base/require.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace cresco::models {
namespace {

// 2/(5 D) and 2/(layers sqrt(D)) at 31M's sizes: 0.039528 and 0.020833. 262,144 draws: within 0.6
// %.
TEST(Initialise, HasTheDeviationsOfSmallAndWang) {
  families::NeoxConfig c;
  c.vocab_size = 1000;
  c.hidden_size = 256;
  c.num_hidden_layers = 6;
  c.num_attention_heads = 8;
  c.intermediate_size = 1024;
  for (const auto& [name, tensor] : initialise(c, "small_wang", 3)) {
    if (tensor.numel() < 100'000) continue;
    const bool writes = name.ends_with("dense_4h_to_h.weight");
    EXPECT_NEAR(tensor.std().item<double>(), writes ? 0.020833 : 0.039528, 0.0003) << name;
  }
  EXPECT_TRUE(at::equal(initialise(c, "small_wang", 3)[0].second,
                        initialise(c, "small_wang", 3)[0].second));
  EXPECT_THROW(initialise(c, "xavier", 3), UsageError);
}

TEST(Initialise, HasTheDeviationsOfGpt2) {
  families::Gpt2Config c;
  c.vocab_size = 1000;
  c.n_layer = 2;
  c.n_embd = 256;
  c.n_head = 4;
  std::size_t residual = 0;
  for (const auto& [name, tensor] : initialise(c, "gpt2", 3)) {
    if (tensor.dim() < 2) {
      const double all = name.ends_with(".bias") ? 0 : 1;
      EXPECT_TRUE(tensor.eq(all).all().item<bool>()) << name;
      continue;
    }
    const bool writes = name.ends_with("c_proj.weight");
    residual += writes ? 1 : 0;
    const double expected = writes ? 0.02 / 2 : 0.02;  // sqrt(2 layers) is 2
    EXPECT_NEAR(tensor.std().item<double>(), expected, 0.02 * expected) << name;
  }
  EXPECT_EQ(residual, 4u);
}

}  // namespace
}  // namespace cresco::models
