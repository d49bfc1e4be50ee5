// Does training find what is there? Atoms planted in every row, at three seeds. 1,200 epochs find
// all 16 atoms at |cos| > 0.999 and l0 = 3.00; a tenth of that is enough to see it.
#include "cresco/base/temporary_folder.h"
#include "cresco/dictionaries/released.h"
#include "cresco/dictionaries/toy_stack.h"
#include "cresco/dictionaries/training.h"

#include <gtest/gtest.h>

namespace cresco::dictionaries {
namespace {

TEST(Crosscoder, FindsPlantedAtoms) {
  for (const std::uint64_t seed : {0, 1, 2}) {
    SCOPED_TRACE(seed);
    const TemporaryFolder folder;
    const toy::Planted planted(seed);
    toy::write_stack(folder / "stack.safetensors", planted.matrices);
    const TrainingRun run{.training = {.lr = 1e-3,
                                       .l1_coefficient = 0.3,
                                       .n_epochs = 120,
                                       .batch_size = 64,
                                       .d_sae = 256,
                                       .input_preprocess = "center"},
                          .name = "toy",
                          .seed = seed};
    train_crosscoder(run, trajectories::Stack(folder / "stack.safetensors"), folder / "run",
                     at::kCPU, no_progress());
    const Dictionary dictionary = read_dictionary(folder / "run");

    // Of each atom, the decoder row that is most nearly parallel to it, at the last snapshot.
    const at::Tensor decoder_FD = dictionary.parameters.decoder_KFD[-1];
    const at::Tensor cos_AF =
        planted.atoms_AD.mm(decoder_FD.t()).abs() /
        (planted.atoms_AD.norm(2, -1).unsqueeze(1) * decoder_FD.norm(2, -1) + 1e-12);
    const auto [best_A, feature_A] = cos_AF.max(1);
    EXPECT_GE(best_A.ge(0.9).sum().item<std::int64_t>(), 15) << best_A;

    // The norms of those features grow as the atoms were made to.
    const at::Tensor norms_KA =
        dictionary.parameters.decoder_KFD.norm(2, -1).index_select(1, feature_A);
    const at::Tensor growth_K = (norms_KA / norms_KA.mean(0)).mean(1);
    EXPECT_NEAR(growth_K[0].item<double>(), 0.8, 0.05);
    EXPECT_NEAR(growth_K[-1].item<double>(), 1.2, 0.05);
  }
}

}  // namespace
}  // namespace cresco::dictionaries
