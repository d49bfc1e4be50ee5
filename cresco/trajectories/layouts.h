// The layouts that trajectories come in, and how each is recognised. docs/formats/trajectories.md
// shows one of each.
#pragma once

#include "cresco/trajectories/snapshot.h"

#include <optional>
#include <string>
#include <vector>

namespace cresco::trajectories {

// Where one snapshot lies.
struct SnapshotPlace {
  std::int64_t step = 0;
  std::vector<Path> paths;  // its folder or file; the _wu.pt and the _we.pt file
  std::string revision;     // what the layout calls it: "step3000", "stage1-step150-tokens1B"
};

struct Layout {
  std::string name;   // run | hf_steps | hf_cache | wu_pt | recipe_control | stack | hf_model
  std::string model;  // a Hugging Face id, or what the run or folder is called
  Path path;          // as it was given
  std::vector<SnapshotPlace> places;  // by step, ascending, each step once
  std::optional<Path> tokenizer;      // its tokenizer.json
  std::vector<std::string> notes;     // what was seen and left out: other stages, dangling refs

  Snapshot open(const SnapshotPlace& place) const;
};

// Nothing when no layout fits; Error when one does and something is wrong with it.
std::optional<Layout> find_layout(const Path& path);
// Error that says what was looked for when no layout fits.
Layout recognise(const Path& path);

// The step that a branch or folder name stands for.
struct Revision {
  std::string series;  // what comes before "step": "" for Pythia, "stage1-", "stage2-ingredient1-"
  std::int64_t step = 0;
};
// step<N>, stage<S>-step<N>-tokens<T>B, stage<S>-ingredient<K>-step<N>-tokens<T>B; nothing for
// other names, and for numbers with leading zeros.
std::optional<Revision> parse_revision(const std::string& name);

// The commit folder that a revision of a hub cache (models--org--name) stands for; nothing when the
// ref is not there, names no commit, or its snapshot was not fetched.
std::optional<Path> cached_snapshot(const Path& cache, const std::string& revision);

}  // namespace cresco::trajectories
