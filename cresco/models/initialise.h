// Weights at step 0.
#pragma once

#include "cresco/families/gpt2.h"
#include "cresco/families/neox.h"
#include "cresco/tensor/bridge.h"

#include <string>
#include <vector>

namespace cresco::models {

// Named initialisations, float32, from numbers keyed by (seed, tensor name); D is the width, L the
// number of layers. Norm weights are 1, biases 0, matrices N(0, s^2):
//   small_wang  s = sqrt(2/(5D)); 2/(L sqrt(D)) for the two of a layer that write to the residual
//               (Nguyen and Salazar 2019; Wang and Komatsuzaki 2021)
//   gpt2        s = 0.02; 0.02/sqrt(2L) for those two (Radford et al. 2019)
// UsageError for another name.
void check_initialisation(const std::string& name);
std::vector<tensor::NamedTensor> initialise(const families::NeoxConfig& config,
                                            const std::string& name, std::uint64_t seed);
std::vector<tensor::NamedTensor> initialise(const families::Gpt2Config& config,
                                            const std::string& name, std::uint64_t seed);

}  // namespace cresco::models
