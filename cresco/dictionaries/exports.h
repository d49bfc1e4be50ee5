// Dictionaries in the files of other libraries. See docs/formats/other_dictionaries.md.
//   llamascopium         config.json, sae_weights.safetensors: any number of heads
//   saelens              cfg.json, sae_weights.safetensors
//   dictionary_learning  config.json, ae.pt
//   sparsify             cfg.json, sae.safetensors
//   params_npz           params.npz, as Gemma Scope has it, and origin.json
#pragma once

#include "cresco/dictionaries/preprocess.h"
#include "cresco/dictionaries/released.h"

#include <string>
#include <vector>

namespace cresco::dictionaries {

// Under this name the configs of all of them say where the dictionary comes from and what was
// folded into its numbers.
inline constexpr const char* kOriginKey = "cresco";

const std::vector<std::string>& export_layouts();

// UsageError for a layout that is none of those; Error, with what it is, for a dictionary that the
// layout cannot hold, with these statistics folded into it.
void check_export(const Dictionary& dictionary, const std::string& layout,
                  const std::vector<SnapshotStatistics>& statistics = {});

struct Exported {
  std::vector<Path> files;
  Json origin;
};
// `statistics` of the snapshots, one per head, are folded into the numbers; without them the rows
// that the library is given have to be preprocessed. Decoder norms are folded (fold_decoder_norms)
// but for llamascopium, whose gate has them.
Exported export_dictionary(const Dictionary& dictionary, const std::string& layout,
                           const Path& folder, const std::vector<SnapshotStatistics>& statistics);

// How far an export, read again, is from the dictionary it was made of, over `num_rows` rows of
// normal numbers: ||a - b|| / ||a|| of codes times decoder norms, and of reconstructions.
struct ExportDifference {
  double codes = 0, reconstructions = 0;
};
ExportDifference export_difference(const Dictionary& dictionary, const Dictionary& read_again,
                                   const std::vector<SnapshotStatistics>& statistics,
                                   std::uint64_t seed, std::int64_t num_rows = 64);

}  // namespace cresco::dictionaries
