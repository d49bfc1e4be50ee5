// cresco lint TRAJ [OTHER]: what is wrong with a trajectory, and how it stands to another one.
#pragma once

#include "cresco/trajectories/lint.h"
#include "cresco/verbs/verb.h"

namespace cresco::verbs {

struct LintVerbConfig {
  std::vector<std::string> trajectories;
  trajectories::LintConfig lint;

  void fields(FieldVisitor& v) {
    v.field("trajectories", trajectories, "a trajectory of any layout, and another to compare");
    lint.fields(v);
  }
};

Outcome run_lint(const LintVerbConfig& config, VerbContext& context);

}  // namespace cresco::verbs
