#include "cli/program.h"
#include "cresco/verbs/batch.h"
#include "cresco/verbs/bench.h"
#include "cresco/verbs/bench_crosscoder.h"
#include "cresco/verbs/bench_pretrain.h"
#include "cresco/verbs/codes.h"
#include "cresco/verbs/convert.h"
#include "cresco/verbs/demo.h"
#include "cresco/verbs/eval.h"
#include "cresco/verbs/extract.h"
#include "cresco/verbs/generate.h"
#include "cresco/verbs/lifecycle.h"
#include "cresco/verbs/lint.h"
#include "cresco/verbs/logits.h"
#include "cresco/verbs/match.h"
#include "cresco/verbs/plan.h"
#include "cresco/verbs/pretrain.h"
#include "cresco/verbs/report.h"
#include "cresco/verbs/score.h"
#include "cresco/verbs/show.h"
#include "cresco/verbs/spectra.h"
#include "cresco/verbs/tokenize.h"
#include "cresco/verbs/tokenizer.h"
#include "cresco/verbs/train.h"
#include "cresco/verbs/train_matrix_sae.h"

namespace cresco::cli {
namespace {

// Every verb of the program, in the order `--help` shows them: the order of the work.
std::vector<Verb> verbs() {
  Verb pretrain = verb("pretrain", "a recipe and a corpus to a run with snapshots", {"recipe"},
                       verbs::run_pretrain);
  pretrain.settings = "recipe";
  pretrain.has_arms = true;
  pretrain.over_ranks = true;
  Verb bench_pretrain =
      verb("bench pretrain", "how long one step of a recipe's training takes, by part", {"recipe"},
           verbs::run_bench_pretrain);
  bench_pretrain.settings = "recipe";
  bench_pretrain.has_arms = true;
  Verb train = verb("train", "a stack to a dictionary, or to several", {"stack"}, verbs::run_train);
  train.recipe = verbs::crosscoder_recipe;
  train.handover = {"kind", verbs::kinds_of_train_sae(), "train-sae", "class"};
  Verb plan = verb("plan", "what a training of dictionaries would cost: memory, disk, time",
                   {"stack?"}, verbs::run_plan);
  plan.recipe = train.recipe;
  plan.any_device = true;
  train.over_ranks = true;
  return {
      verb("demo", "the whole chain at small size: text to one page", {}, verbs::run_demo),
      verb("tokenizer train", "text to a tokenizer.json", {"files"}, verbs::run_tokenizer_train),
      verb("tokenizer encode", "text to ids", {"file"}, verbs::run_tokenizer_encode),
      verb("tokenizer decode", "ids to text", {"file"}, verbs::run_tokenizer_decode),
      verb("tokenizer show", "what a tokenizer.json holds", {"tokenizer"},
           verbs::run_tokenizer_show),
      verb("tokenize", "text files to a corpus of tokens", {"files"}, verbs::run_tokenize),
      pretrain,
      verb("lint", "what is wrong with a trajectory, and how it stands to another",
           {"trajectories"}, verbs::run_lint),
      verb("show", "what is in a file or folder: tensors, steps, settings, provenance", {"path"},
           verbs::run_show),
      verb("batch", "exactly what a training step saw", {"run?"}, verbs::run_batch),
      verb("extract", "one matrix of every snapshot to a stack", {"trajectory"},
           verbs::run_extract),
      verb("convert",
           "a trajectory, model or dictionary in another layout, read again and compared",
           {"trajectory"}, verbs::run_convert),
      plan,
      train,
      verb("train-sae", "a stack to a sparse autoencoder of each of its matrices", {"stack"},
           verbs::run_train_matrix_sae),
      verb("eval", "how well a dictionary reconstructs its stack", {"dict"}, verbs::run_eval),
      verb("codes", "what a dictionary makes of rows: codes and reconstructions", {"dict"},
           verbs::run_codes),
      verb("lifecycle", "when features are born, peak and die", {"dict"}, verbs::run_lifecycle),
      verb("match", "features of one dictionary in another: seeds, widths, recipes", {"dicts"},
           verbs::run_match),
      verb("generate", "continuations of a prompt at several snapshots", {"trajectory"},
           verbs::run_generate),
      verb("score", "how well every snapshot predicts a text: loss, perplexity, bits per byte",
           {"trajectory"}, verbs::run_score),
      verb("spectra", "singular values of a matrix over training; readouts beside each other",
           {"inputs"}, verbs::run_spectra),
      verb("logits", "a snapshot's logits for given ids", {"snapshot"}, verbs::run_logits),
      verb("bench extract", "how fast one tensor is read, beside a plain read of its bytes",
           {"file"}, verbs::run_bench_extract),
      verb("bench crosscoder", "how long one training step of a crosscoder takes, by part", {},
           verbs::run_bench_crosscoder),
      bench_pretrain,
      verb("report", "folders of tables to one page", {"dirs"}, verbs::run_report),
  };
}

}  // namespace
}  // namespace cresco::cli

int main(int argc, char** argv) {
  return cresco::cli::run_program(argc, argv, cresco::cli::verbs());
}
