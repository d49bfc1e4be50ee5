// A small made-up demo folder for tests of the report: 16 snapshots, 200 features, and tokens that
// try to break the page.
#pragma once

#include "cresco/base/files.h"

#include <string>
#include <vector>

namespace cresco::report::testing {

// Text that must stay text.
const std::vector<std::string>& hostile_tokens();

// run/, dictionary/, sweep/, quality/, lifecycle/, generate/, spectra/, match/, baselines.csv and
// planted.csv in `folder`, the same bytes each time.
void write_demo_folder(const Path& folder);

// Runs of five arms and two more seeds of the first, arms/ and seeds/, and their readouts'
// geometry/. One arm overflowed once.
void write_arms_folder(const Path& folder);

}  // namespace cresco::report::testing
