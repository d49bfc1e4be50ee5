// cresco show ANY;  cresco show pythia
#pragma once

#include "cresco/verbs/verb.h"

namespace cresco::verbs {

struct ShowConfig {
  std::string path, against, step;
  void fields(FieldVisitor& v) {
    v.field("path", path,
            "a recipe (FILE.yaml, or FILE.yaml:ARM), run, trajectory, snapshot, stack, dictionary, "
            "folder of dictionaries, corpus, "
            "tokenizer, table folder or tensor file; or pythia, or a model of that suite, as "
            "pythia-160m");
    v.field("against", against,
            "another recipe, run, training or dictionary: what differs between the settings of the "
            "two, and nothing else");
    v.field("step", step, "of a Pythia model: its learning rate and tokens at these steps");
  }
};

Outcome run_show(const ShowConfig& config, VerbContext& context);

}  // namespace cresco::verbs
