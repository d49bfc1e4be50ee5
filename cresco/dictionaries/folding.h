// Brings a dictionary to the form that other libraries compute with. What a feature adds to a
// reconstruction, its code times its decoder row, stays what it was.
#pragma once

#include "cresco/dictionaries/preprocess.h"
#include "cresco/dictionaries/released.h"

#include <vector>

namespace cresco::dictionaries {

// For rows as they stand in the snapshots, where the dictionary was trained on (x - mu) / s: the
// encoder is divided by s, the decoder multiplied, both biases take up mu. Codes stay the same.
// Error for heads of different s that share a threshold on p |W_D|: check_scales.
void check_scales(const Dictionary& dictionary, const std::vector<SnapshotStatistics>& statistics);
Dictionary fold_preprocess(Dictionary dictionary,
                           const std::vector<SnapshotStatistics>& statistics);

// Of a dictionary of one snapshot: every decoder row gets length 1, and the codes what the rows
// lose, so that JumpRelu's gate is on the pre-activation alone (SharedJumpRelu). A row of zeros
// becomes a unit vector of a feature that never fires. With TopK and BatchTopK nothing is done:
// they choose by pre-activation, and would choose others.
Dictionary fold_decoder_norms(Dictionary dictionary);

// The same numbers for TopK where the choice was by p |W_D|.
Dictionary fold_norms_into_choice(Dictionary dictionary);

}  // namespace cresco::dictionaries
