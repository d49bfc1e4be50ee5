// A recipe: everything that decides a run's numbers. docs/formats/recipe.md explains each field.
#pragma once

#include "cresco/base/fields.h"
#include "cresco/optim/loss_scale.h"
#include "cresco/optim/optimizer_config.h"
#include "cresco/optim/schedule.h"
#include "cresco/pretrain/model_config.h"

#include <string>
#include <vector>

namespace cresco::pretrain {

struct InitConfig {
  std::string name = "small_wang", from;
  void fields(FieldVisitor& v) {
    v.field("name", name, "small_wang | gpt2");
    v.field("from", from, "a snapshot's folder to start from instead");
  }
};

// One corpus of a mixture.
struct MixturePart {
  std::string prefix;
  double weight = 1;
  void fields(FieldVisitor& v) {
    v.field("prefix", prefix, "as data.tokens");
    v.field("weight", weight, "its share of the windows, over the sum of all weights");
  }
};

struct DataConfig {
  std::string tokens;
  std::vector<MixturePart> mixture;  // counts when `tokens` is empty
  std::string validation = "0.02";
  std::int64_t sequence_length = 2048, seed = 1234;
  std::string order = "shuffled", window = "overlap";
  void fields(FieldVisitor& v) {
    v.field("tokens", tokens,
            "the training corpus: prefix of .bin and .idx, of shards, or a file of ids alone; in a "
            "recipe also a list of {prefix, weight}");
    v.list("tokens", field_list(mixture), "or several, mixed");
    v.field("validation", validation,
            "another corpus, the share of documents held out, or blocks:N, the last N windows");
    v.field("sequence_length", sequence_length, "T; targets in a window of kind overlap", "tokens");
    v.field("seed", seed, "of the order and of the held-out documents");
    v.field("order", order,
            "shuffled | sequential | pythia: the data's own, once | numpy: numpy's "
            "default_rng(seed + epoch).permutation");
    v.field("window", window,
            "overlap: T + 1 ids, stride T | block: T ids, stride T | row2049: rows of T + 1 ids");
  }

  // What is read: the one corpus of `tokens`, or the parts of the mixture.
  std::vector<MixturePart> sources() const {
    return tokens.empty() ? mixture : std::vector<MixturePart>{{tokens, 1}};
  }
};

// What `data.validation` says.
struct Validation {
  enum Kind { Share, Blocks, Corpus } kind = Share;
  double share = 0;         // of documents
  std::int64_t blocks = 0;  // the last windows
};
Validation parse_validation(const std::string& text);  // UsageError

struct BatchConfig {
  std::int64_t sequences = 32, micro_sequences = 0;
  void fields(FieldVisitor& v) {
    v.field("sequences", sequences, "windows in one update");
    v.field("micro_sequences", micro_sequences, "windows computed at a time; 0 is all");
  }
};

struct BudgetConfig {
  std::int64_t tokens = 0, steps = 0;
  void fields(FieldVisitor& v) {
    v.field("tokens", tokens, "train on that many", "tokens");
    v.field("steps", steps, "or for that many updates", "steps");
  }
};

struct SnapshotConfig {
  std::string at = "log2", dtype = "fp32";
  bool optimizer_state = false;
  void fields(FieldVisitor& v) {
    v.field("at", at, "log2, pythia, a list, a range 0:1000:100, or tokens:0,1e6,...");
    v.field("dtype", dtype, "fp32 | bf16 | fp16");
    v.field("optimizer_state", optimizer_state,
            "beside each, optimizer.safetensors: what the optimizer knows, in fp32");
  }
};

struct StateConfig {
  std::int64_t every = 500, keep = 2;
  void fields(FieldVisitor& v) {
    v.field("every", every, "write what resume needs; 0 is never", "steps");
    v.field("keep", keep, "how many of the last ones stay");
  }
};

struct EvalConfig {
  std::int64_t every = 250, tokens = 1'000'000;
  void fields(FieldVisitor& v) {
    v.field("every", every, "validation loss; 0 is at the start and the end only", "steps");
    v.field("tokens", tokens, "of the validation text, from its start", "tokens");
  }
};

struct LogConfig {
  std::int64_t every = 10;
  void fields(FieldVisitor& v) { v.field("every", every, "a line of metrics.jsonl", "steps"); }
};

// Where a recipe takes over in its run: not at the start when it was changed on the way.
struct Beginning {
  std::int64_t step = 0;
  std::int64_t tokens = 0;  // seen before
  std::int64_t place = 0;   // of the data's order, read first
};

struct Recipe {
  std::string arm;
  ModelConfig model;
  InitConfig init;
  DataConfig data;
  BatchConfig batch;
  BudgetConfig budget;
  optim::OptimizerConfig optimizer;
  optim::ScheduleConfig schedule;
  std::string precision = "fp32";
  optim::LossScaleConfig loss_scale;
  SnapshotConfig snapshots;
  StateConfig state;
  EvalConfig eval;
  LogConfig log;
  bool activation_checkpointing = false;
  std::int64_t seed = 0;
  Beginning begins;  // no field: a run's data_order.json has it

  void fields(FieldVisitor& v) {
    v.field("arm", arm,
            "a variant that the recipe's file has among its `arms`; all: one after the other, each "
            "in its folder of --out");
    v.config("model", model, "the model, in Hugging Face's names");
    v.config("init", init, "weights at step 0");
    v.config("data", data, "what it reads");
    v.config("batch", batch, "how much of it at a time");
    v.config("budget", budget, "how much in all: tokens or steps");
    v.config("optimizer", optimizer, "how weights change");
    v.config("schedule", schedule, "how fast, over the run");
    v.field("precision", precision,
            "fp32 | bf16 | fp16: of matrix products; weights, moments and sums are fp32");
    v.config("loss_scale", loss_scale, "of precision fp16");
    v.config("snapshots", snapshots, "which weights are kept");
    v.config("state", state, "what a killed run resumes from");
    v.config("eval", eval, "validation");
    v.config("log", log, "metrics");
    v.field("activation_checkpointing", activation_checkpointing,
            "layers keep only what they read and are computed again in the backward pass: less "
            "memory, the same numbers");
    v.field("seed", seed, "of the initial weights");
  }

  std::int64_t tokens_per_step() const { return batch.sequences * data.sequence_length; }
  std::int64_t micro_sequences() const {
    return batch.micro_sequences > 0 ? batch.micro_sequences : batch.sequences;
  }
  // Of the whole run, from its start on.
  std::int64_t total_steps() const;
  // Tokens seen, and windows taken of the order, when the weights are those of `step`, begins.step
  // or later; the steps after that at which snapshots are due, in a run that begins with the recipe
  // the first, too.
  std::int64_t tokens_at(std::int64_t step) const {
    return begins.tokens + (step - begins.step) * tokens_per_step();
  }
  std::int64_t place_at(std::int64_t step) const {
    return begins.place + (step - begins.step) * batch.sequences;
  }
  std::vector<std::int64_t> snapshot_steps() const;
  // The optimizer, told how the model stores its matrices.
  optim::OptimizerConfig optimizer_of_model() const;
};

// UsageError that names the field when a value is out of its range or two contradict each other.
void check(const Recipe& recipe);

// Floating-point operations of one update: 6 per weight and token (without the input embedding),
// and the attention scores.
double flops_per_step(const Recipe& recipe);

}  // namespace cresco::pretrain
