// cresco pretrain RECIPE --out RUN
#pragma once

#include "cresco/pretrain/pretrain.h"
#include "cresco/verbs/verb.h"

namespace cresco::verbs {

// A recipe's fields may be set beside the verb's own: --optimizer.lr 1e-3, --set optimizer.lr=1e-3.
struct PretrainVerbConfig {
  std::string recipe, resume = "auto";
  std::vector<std::string> allow_change;
  pretrain::Recipe settings;

  void fields(FieldVisitor& v) {
    v.field("recipe", recipe, "a recipe's YAML file");
    v.field("resume", resume, "auto: go on where a stopped run ended | never | must");
    v.field(
        "allow_change", allow_change,
        "a field of the recipe, or of data_order.json, that may be another one when the run goes "
        "on: budget.steps, optimizer.lr, data_order.corpus_sha256");
    settings.fields(v);
  }
};

Outcome run_pretrain(const PretrainVerbConfig& config, VerbContext& context);

}  // namespace cresco::verbs
