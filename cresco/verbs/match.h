// cresco match A B...: features of one dictionary in another, of the first in each of the others.
#pragma once

#include "cresco/dictionaries/match.h"
#include "cresco/verbs/verb.h"

#include <string>
#include <vector>

namespace cresco::verbs {

struct MatchVerbConfig {
  std::vector<std::string> dicts;
  dictionaries::MatchConfig match;

  void fields(FieldVisitor& v) {
    v.field("dicts", dicts,
            "two dictionaries or more, files or folders: the first is looked for in the others");
    match.fields(v);
  }
};

// Summary of two dictionaries: `a`, `b` (paths), `num_a`, `num_b`, `mmcs`, `mmcs_symmetric`,
// `mutual`, `assigned_mean`, `shares` {threshold: share}, `null` (object or null), further metric
// ids, with --out `tables`. Of more: `pairs`, a list of these, and `mean` {metric id: value}.
Outcome run_match(const MatchVerbConfig& config, VerbContext& context);

}  // namespace cresco::verbs
