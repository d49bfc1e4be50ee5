// cresco pretrain RECIPE --out RUN
#pragma once

#include "cresco/pretrain/pretrain.h"
#include "cresco/verbs/verb.h"

namespace cresco::verbs {

// A recipe's fields may be set beside the verb's own: --optimizer.lr 1e-3, --set optimizer.lr=1e-3.
struct PretrainVerbConfig {
  std::string recipe, resume = "auto";
  pretrain::Recipe settings;

  void fields(FieldVisitor& v) {
    v.field("recipe", recipe, "a recipe's YAML file");
    v.field("resume", resume, "auto: go on where a stopped run ended | never | must");
    settings.fields(v);
  }
};

Outcome run_pretrain(const PretrainVerbConfig& config, VerbContext& context);

}  // namespace cresco::verbs
