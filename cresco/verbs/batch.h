// cresco batch RUN --step N;  cresco batch --data PREFIX --step N
#pragma once

#include "cresco/verbs/verb.h"

namespace cresco::verbs {

struct BatchVerbConfig {
  std::string run, data, order = "auto", tokenizer, format;
  std::int64_t step = -1, first = 0, count = 0;
  bool documents = false;
  // For data without a run; the defaults are Pythia's.
  std::int64_t batch_size = 1024, row_tokens = 2049, shard_bytes = 0;
  std::int64_t sequence_length = 2048, data_seed = 1234, train_steps = 143'000;

  void fields(FieldVisitor& v) {
    v.field("run", run, "a run; its recipe says what it read (or data, as --data)");
    v.field("data", data,
            "instead of a run: a corpus's prefix, its .bin, or one of its shards; with a run: "
            "where its corpus is now, or the folder where all its corpora are");
    v.field("step", step,
            "the update that takes step N to N + 1; the checkpoint of step N has seen the batches "
            "0 to N - 1");
    v.field("first", first, "the first row of the batch to show");
    v.field("count", count, "how many rows; 0 is all from there on");
    v.field("format", format, "text | ids; empty is text when there is a tokenizer");
    v.field("tokenizer", tokenizer,
            "tokenizer.json; empty is the one of the run or beside the corpus");
    v.field("documents", documents, "say which documents the rows are made of");
    v.field("order", order,
            "of --data: preshuffled (rows in training order) | neox (the order that GPT-NeoX "
            "makes of a corpus) | auto");
    v.field("batch_size", batch_size, "of --data: rows in one update");
    v.field("row_tokens", row_tokens, "of preshuffled data: ids in a row", "tokens");
    v.field("shard_bytes", shard_bytes,
            "of preshuffled data: size of every shard but the last; 0 is what the files say",
            "bytes");
    v.field("sequence_length", sequence_length, "of order neox: targets in a row", "tokens");
    v.field("data_seed", data_seed, "of order neox");
    v.field("train_steps", train_steps, "of order neox: updates of the whole run", "steps");
  }
};

Outcome run_batch(const BatchVerbConfig& config, VerbContext& context);

}  // namespace cresco::verbs
