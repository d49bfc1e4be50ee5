// A made-up lifecycle folder as large as those of released dictionaries.
#pragma once

#include "cresco/base/files.h"

#include <cstdint>

namespace cresco::report::testing {

inline constexpr std::int64_t kPlantedFeature = 12345;
inline constexpr const char* kPlantedToken = " zebrafinch";  // promoted by that feature alone

// What `lifecycle --tokenizer` writes for `num_features` features over 32 snapshots, with a
// vocabulary of 50,000: random lives, ten promoted and ten suppressed tokens at five snapshots,
// five neighbours. The same bytes each time.
void write_large_lifecycle(const Path& folder, std::int64_t num_features);

}  // namespace cresco::report::testing
