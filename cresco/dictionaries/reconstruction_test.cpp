#include "cresco/dictionaries/reconstruction.h"

#include "cresco/base/temporary_folder.h"
#include "cresco/dictionaries/toy_stack.h"

#include <gtest/gtest.h>

#include <cmath>

namespace cresco::dictionaries {
namespace {

// Whatever the activation and the blocks: what the dictionary makes of all rows at once.
TEST(Reconstruction, IsThatOfTheDictionaryInTheUnitsOfTheStack) {
  const TemporaryFolder folder;
  const std::int64_t V = 40, K = 3, D = 6, F = 20;
  std::vector<at::Tensor> matrices;
  for (const char* name : {"a", "b", "c"}) matrices.push_back(toy::normal({V, D}, 0, name) * 4 + 9);
  toy::write_stack(folder / "s", matrices);
  const trajectories::Stack stack(folder / "s");
  for (const ActivationKind kind : {ActivationKind::JumpRelu, ActivationKind::SharedJumpRelu,
                                    ActivationKind::BatchTopK, ActivationKind::Relu}) {
    CrosscoderParameters parameters{
        toy::normal({K, D, F}, 0, "W_E") * 0.3, toy::normal({K, F}, 0, "b_E") * 0.1,
        toy::normal({K, F, D}, 0, "W_D") * 0.3, toy::normal({K, D}, 0, "b_D") * 0.1};
    if (Activation{kind}.has_threshold()) parameters.log_threshold_F = at::full({F}, std::log(0.4));
    const Crosscoder crosscoder(parameters, {kind, 4, 8});
    const PreprocessedStack whole = preprocess_stack(stack, {2, 0, 1}, "center_scale", at::kCPU);
    const at::Tensor r_VKD = crosscoder.reconstruct(whole.x_VKD);
    for (const std::int64_t block_bytes : {1, 1 << 20}) {
      const StackRows rows(stack, {2, 0, 1}, "center_scale", block_bytes);
      const Reconstruction reconstruction(crosscoder, rows);
      for (std::int64_t k = 0; k < K; ++k)
        EXPECT_TRUE(at::allclose(reconstruction.matrix(k),
                                 restore(r_VKD.select(1, k), whole.statistics[std::size_t(k)]),
                                 1e-5, 1e-4))
            << name_of(kind) << ", head " << k;
      EXPECT_GT(reconstruction.num_bytes(), 0);
      EXPECT_LT(reconstruction.num_bytes(), 12 * V * F);
    }
  }
}

}  // namespace
}  // namespace cresco::dictionaries
