// What is wrong with a trajectory: its files, its configs, copies among its snapshots, and
// snapshots that do not lie on the path of the others. The codes: docs/formats/lint.md.
#pragma once

#include "cresco/base/progress.h"
#include "cresco/trajectories/snapshot_digest.h"

#include <optional>
#include <string>
#include <vector>

namespace cresco::trajectories {

enum class Level { Note, Warning, Error };
std::string name_of(Level level);  // "error"

struct Finding {
  std::string code;  // "identical-snapshots"
  Level level = Level::Note;
  std::optional<std::int64_t> step;  // none: the whole trajectory
  std::string tensor;                // "" unless it is about one
  std::string message;
};
using Findings = std::vector<Finding>;

struct LintConfig {
  std::string steps = "all", preset;

  void fields(FieldVisitor& v) {
    v.field("steps", steps, "list, range or preset: the snapshots to look at");
    v.field("preset", preset,
            "the steps that should be there: pythia, pythia-32, pythia-16, olmo2-32, heldout-8, "
            "log2, a list or a range");
  }
};

struct LintReport {
  std::vector<SnapshotDigest> snapshots;  // by step
  Findings findings;                      // errors first, then by step
  std::int64_t num_bytes = 0;             // of weights that were read

  bool ok() const;  // no error
};

// Reads every snapshot once, a thread each.
LintReport lint(const Trajectory& trajectory, const LintConfig& config, Progress& progress);

// How two trajectories that were linted stand to each other: `same_run`, `same_initialisation`
// (true, false or null), `common_steps`, `identical_steps`, `last_identical_step`,
// `diverge_after_step`, `same_data_order` (of runs of ours), `distances`: relative ones by step.
// What it has to say of them goes to `findings`.
Json compare(const Trajectory& a, const LintReport& report_a, const Trajectory& b,
             const LintReport& report_b, Findings& findings);

Json findings_json(const Findings& findings);
std::string findings_text(const Findings& findings);  // a table for people

}  // namespace cresco::trajectories
