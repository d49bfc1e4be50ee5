// cresco convert TRAJ|DICT|TREE --to LAYOUT --out PATH: another layout, compared with where it came
// from.
#pragma once

#include "cresco/trajectories/convert.h"
#include "cresco/verbs/verb.h"

namespace cresco::verbs {

struct ConvertVerbConfig {
  std::string trajectory;
  trajectories::ConvertConfig convert;
  std::string from, stack, model;

  void fields(FieldVisitor& v) {
    v.field("trajectory", trajectory,
            "a trajectory of any layout, one model, a dictionary of any library, or a folder of "
            "dictionaries");
    convert.fields(v);
    v.field("from", from, "the layout of a dictionary's files, where several could be meant");
    v.field("stack", stack,
            "of a dictionary: the stack whose means and scales are folded into its numbers");
    v.field("model", model, "of a dictionary whose files don't say it: its model");
  }
};

Outcome run_convert(const ConvertVerbConfig& config, VerbContext& context);

}  // namespace cresco::verbs
