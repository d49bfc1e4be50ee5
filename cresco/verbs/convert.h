// cresco convert TRAJ --to LAYOUT --out PATH: another layout, compared with where it came from.
#pragma once

#include "cresco/trajectories/convert.h"
#include "cresco/verbs/verb.h"

namespace cresco::verbs {

struct ConvertVerbConfig {
  std::string trajectory;
  trajectories::ConvertConfig convert;

  void fields(FieldVisitor& v) {
    v.field("trajectory", trajectory, "a trajectory of any layout, or one model");
    convert.fields(v);
  }
};

Outcome run_convert(const ConvertVerbConfig& config, VerbContext& context);

}  // namespace cresco::verbs
