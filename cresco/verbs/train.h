// cresco train STACK --d-sae F --out DIR: a stack to a dictionary, or to several.
#pragma once

#include "cresco/dictionaries/crosscoder.h"
#include "cresco/verbs/verb.h"

#include <string>
#include <string_view>
#include <vector>

namespace cresco::verbs {

struct TrainConfig {
  std::string stack, kind = "crosscoder", recipe, steps = "all", name, random = "philox",
                     resume = "auto", stack_dtype = "fp32";
  dictionaries::CrosscoderConfig training;
  std::vector<std::string> sweep;
  std::int64_t max_steps = 0, log_every = 50, state_every = 500, state_every_epochs = 0;
  bool smoke = false, fuse = false, append_manifest = false;
  std::string manifest_path = "results/crosscoder_sweep_manifest.csv", manifest_notes;

  void fields(FieldVisitor& v) {
    v.field("stack", stack, "a stack file, from extract");
    v.field("kind", kind,
            "crosscoder | sae (of each snapshot by itself) | topk | batchtopk | gated | "
            "jumprelu (these four with one code for all heads); or one of train-sae's, with its "
            "options: tied_topk | tied_batchtopk | matryoshka | tied_matryoshka | vanilla_l1; or a "
            "linear account, computed at once: pca | concatenated_pca | endpoint_line | mean");
    v.field("recipe", recipe,
            "settings by name: demo, or those of record of a released dictionary, as "
            "pythia-160m/W_U/cross-snapshot-32/d8192");
    v.field("steps", steps, "snapshots of the stack: all, a list, a range or a preset");
    v.field("stack_dtype", stack_dtype,
            "fp32 | bf16: how the stack's rows lie in memory, in half the room; they are widened "
            "as a batch is read");
    v.field("name", name, "of the dictionary's files; empty: <matrix>_d<d_sae>_seed<seed>");
    training.fields(v);
    v.field("sweep", sweep,
            "SETTING=V1,V2 or seed=0..4: one dictionary for each value, or for each "
            "combination of several; they share the stack in memory");
    v.field("fuse", fuse,
            "members of a sweep with one seed share their batches and one product for their "
            "encoders: faster for small dictionaries, equal to rounding");
    v.field("random", random, "philox | torch: PyTorch's own CPU streams, for comparisons");
    v.field("max_steps", max_steps,
            "stop after this many; every schedule stays that of the whole training; 0: all");
    v.field("append_manifest", append_manifest,
            "add a line for each finished training to the CSV at manifest_path");
    v.field("manifest_path", manifest_path,
            "a CSV that many trainings share; its folder has to exist");
    v.field("manifest_notes", manifest_notes, "for the column notes");
    v.field("smoke", smoke, "a short try: first and last snapshot, one epoch");
    v.field("log_every", log_every, "between lines of metrics.jsonl", "steps");
    v.field("state_every", state_every, "between states to resume from; 0: only when stopped early",
            "steps");
    v.alias("ckpt_every_epochs", "state_every_epochs");
    v.field("state_every_epochs", state_every_epochs,
            "the same in epochs, in place of state_every; 0: as that says", "epochs");
    v.field("resume", resume, "auto: go on from the newest state in --out | never | must");
  }
};

// The text of a recipe. UsageError that gives the nearest name.
std::string_view crosscoder_recipe(const std::string& name);

// Summary of one training: `name`, `files`, `metrics` (`pooled` and `snapshots`, as eval), `step`,
// `folder`. Of several: `members`, a list of the rows of sweep.csv, `table`, `folder`.
Outcome run_train(const TrainConfig& config, VerbContext& context);

}  // namespace cresco::verbs
