// What linear accounts of a stack explain, to set beside a dictionary. All of the stored matrices
// about their column means, without division by a scale unless it is said; read block by block.
// Formulas: docs/metrics.md.
#pragma once

#include "cresco/dictionaries/rows.h"

#include <cstdint>
#include <vector>

namespace cresco::dictionaries {

// Squared singular values in descending order (double), and the sum of all there are.
struct Spectrum {
  at::Tensor squared_N;
  double total = 0;
  // Of the first `rank`, or as many as there are; 0 when there is nothing to explain.
  double explained_variance(std::int64_t rank) const;
};

// Of one snapshot, exact, by its (D,D) Gram matrix in double.
Spectrum snapshot_spectrum(const StackRows& rows, std::int64_t k);

// Of all snapshots side by side, (V, K D), which is never made: a random range of `sketch` columns,
// one power iteration, the singular values of the matrix in that range (Halko, Martinsson and Tropp
// 2011). Below the exact values, and close to them for ranks well below `sketch`. The stack is read
// four times.
inline constexpr std::int64_t kSketch = 256 + 64;
Spectrum randomized_spectrum(const StackRows& rows, std::uint64_t seed,
                             std::int64_t sketch = kSketch);

// Mean and quantiles (linear between neighbours) of numbers by row.
struct Spread {
  double mean, deviation, p10, p50, p90;  // deviation unbiased
};

// Each row as a point on the line from its first to its last snapshot.
struct EndpointLine {
  double explained_variance = 0;  // of the snapshot
  Spread row;                     // the same of each row by itself
  Spread alpha;                   // where on the line: 0 is the first snapshot, 1 the last
};
std::vector<EndpointLine> endpoint_lines(const StackRows& rows);  // by snapshot

}  // namespace cresco::dictionaries
