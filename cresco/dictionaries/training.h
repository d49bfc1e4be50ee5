// Training a dictionary on a stack: the loop, its log, its resume states.
//
// A run's folder holds settings.json, metrics.jsonl, state/step<N>/ (the last two), in the end the
// dictionary and, last of all, COMPLETE. A run that was stopped at any step and goes on gives
// bitwise the same metrics, states and dictionary as one that was not, on the same machine and
// number of threads. On a GPU the steps are taken there (whole_step.h); a state is the same file.
#pragma once

#include "cresco/artifacts/manifest.h"
#include "cresco/base/progress.h"
#include "cresco/dictionaries/crosscoder.h"
#include "cresco/dictionaries/crosscoder_step.h"
#include "cresco/dictionaries/quality.h"
#include "cresco/trajectories/stack.h"

#include <functional>
#include <memory>
#include <string>

namespace cresco::dictionaries {

// What is trained:
//   crosscoder  all snapshots given, one gate per head
//   sae         the same of one snapshot alone
//   topk, batchtopk, gated, jumprelu  all heads share one code: the architecture comparison
// UsageError that names them all.
const std::vector<std::string>& training_kinds();
Activation activation_of_kind(const std::string& kind, const CrosscoderConfig& config);
bool trains_single_snapshots(const std::string& kind);
// The weight of the kind's own sparsity term: l1_coefficient, or gated_l1_coefficient, or 0 where
// there is none.
double sparsity_coefficient(const std::string& kind, const CrosscoderConfig& config);

struct TrainingRun {
  CrosscoderConfig training;
  std::string name;  // of the dictionary's files
  std::string kind = "crosscoder";
  std::string random = "philox";  // philox | torch
  std::uint64_t seed = 0;
  std::string resume = "auto";       // auto: go on from a state when there is one | never | must
  std::int64_t max_steps = 0;        // stop after this many, with every schedule as for all; 0: all
  std::int64_t log_every = 50;       // steps between lines of metrics.jsonl
  std::int64_t state_every = 500;    // steps between states; 0: only when the training stops early
  std::string stack_dtype = "fp32";  // fp32 | bf16: how the resident rows are stored
  bool overwrite = false;
  std::string resume_command;    // what Interrupted tells the user to type
  artifacts::Manifest manifest;  // written before COMPLETE
  // Whether to stop at the next step; the program asks for Ctrl-C.
  std::function<bool()> stop_requested = [] { return false; };
};

// What a training reads: snapshots of a matrix of `rows` x `width`, one for each head; of several
// ranks that share the heads what each of them reads.
struct TrainingShape {
  std::int64_t rows = 0, width = 0, heads = 0, ranks = 1;
};

// What trainings read: rows of some snapshots of a stack, preprocessed, in memory once for all.
// When ranks share the heads, x_VKD has those of this rank and the rest is as for all.
struct TrainingData {
  std::string model, matrix;
  std::vector<std::int64_t> steps;  // of the snapshots, one per head
  Path stack;
  std::string stack_sha256;
  at::Tensor x_VKD;  // float32 or bfloat16, on the device that trains
  HeadShare share;
  std::int64_t num_heads() const { return static_cast<std::int64_t>(steps.size()); }
  TrainingShape shape() const { return {x_VKD.size(0), x_VKD.size(2), num_heads()}; }
};
// As the run's input_preprocess and stack_dtype say. `indices` are those of the stack's snapshots.
// Without a hash it is computed.
TrainingData load_training_data(const trajectories::Stack& stack,
                                const std::vector<std::int64_t>& indices, const TrainingRun& run,
                                std::string stack_sha256 = "", HeadShare share = {},
                                at::Device device = at::kCPU);

struct TrainingOutcome {
  Quality quality;
  std::vector<Path> files;
};

struct TrainingPlan {
  std::int64_t num_steps = 0;  // of the whole schedule
  std::int64_t last_step = 0;  // where this run stops
  double flops = 0;            // ten per row, head, width and feature
  // The largest the process gets: weights, moments, the resident rows, a step's work, the
  // dictionary and its measurement at the end, the program itself.
  double memory_bytes = 0;      // of several ranks on the first, which writes the dictionary
  double resident_bytes = 0;    // of these the rows
  double shared_bytes = 0;      // of these what trainings in one process share: rows, program,
                                // one step or measurement at a time
  double gathered_bytes = 0;    // of these the heads of all ranks: 0 on other ranks than the first
  double parameter_bytes = 0;   // of these weights and moments
  double state_bytes = 0;       // on disk, each; two are kept, a third stands while it is written
  std::int64_t num_states = 0;  // on disk at once, at most
  double dictionary_bytes = 0;  // on disk
  double gpu_bytes = 0;  // on the GPU that trains; memory_bytes then is what its process takes
};

// UsageError for settings that do not go together.
TrainingPlan plan_training(const TrainingRun& run, const TrainingShape& shape,
                           at::DeviceType device = at::kCPU);

// The step that a training begins with, before its first update; `shape` is that of all ranks.
std::unique_ptr<CrosscoderStep> initial_step(const TrainingRun& run, const TrainingShape& shape,
                                             HeadShare share = {}, at::Device device = at::kCPU);

// The rates of a step out of `num_steps`; `coefficient` is the sparsity term's without its warm-up.
StepRates rates_at(const CrosscoderConfig& config, double coefficient, std::int64_t step,
                   std::int64_t num_steps);

double flops_of_step(const TrainingRun& run, const TrainingShape& shape);  // as `flops`

// Steps that are small run on one thread: they gain little from more, and on a busy machine threads
// that wait for each other at every operation cost far more than they bring.
class ThreadsForSteps {
 public:
  explicit ThreadsForSteps(double flops);
  ~ThreadsForSteps();
  ThreadsForSteps(const ThreadsForSteps&) = delete;
  ThreadsForSteps& operator=(const ThreadsForSteps&) = delete;

 private:
  int before_;
};

// Whether the folder holds this training with all the steps that it is to take. Error when it holds
// one with other settings.
bool is_complete(const TrainingRun& run, const TrainingData& data, const Path& folder);
std::int64_t steps_to_take(const TrainingRun& run, const TrainingData& data);

// Whether two trainings of the same rows can take their batches together (join_steps).
bool can_fuse(const TrainingRun& a, const TrainingRun& b);

// One training in memory. Several can take their steps in turn; each is bitwise what it is alone.
class CrosscoderTraining {
 public:
  // Opens the folder: goes on from its newest state, or begins. `data` has to outlive this.
  CrosscoderTraining(const TrainingRun& run, const TrainingData& data, const Path& folder,
                     Progress& progress);
  ~CrosscoderTraining();
  CrosscoderTraining(CrosscoderTraining&&) noexcept;
  CrosscoderTraining& operator=(CrosscoderTraining&&) noexcept;

  std::int64_t next_step() const;
  std::int64_t last_step() const;
  bool finished() const { return next_step() >= last_step(); }
  // One step. Error, with step and tensor, for numbers that are not finite.
  LossTerms advance();
  // The next step of several that read the same batch: that of `joint`, made of their steps.
  static std::vector<LossTerms> advance_together(const std::vector<CrosscoderTraining*>& trainings,
                                                 JointSteps& joint);
  // Whether both read the same batches from here on, and can take them together.
  bool reads_with(const CrosscoderTraining& other) const;
  CrosscoderStep& step();
  // A state of the step reached, so that nothing is lost by stopping here.
  void save();
  // After the last step: dictionary, quality, manifest, COMPLETE. The first rank writes them and
  // returns what is there; others return nothing.
  TrainingOutcome finish();

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

// Of a folder that holds the whole training: what finish() returned, measured again.
TrainingOutcome outcome_of(const TrainingRun& run, const TrainingData& data, const Path& folder);

// From the beginning, or the newest state, to the end, with all snapshots of the stack. Interrupted
// after a stop that was asked for.
TrainingOutcome train_crosscoder(const TrainingRun& run, const trajectories::Stack& stack,
                                 const Path& folder, at::Device device, Progress& progress);
TrainingOutcome train_crosscoder(const TrainingRun& run, const TrainingData& data,
                                 const Path& folder, Progress& progress);

}  // namespace cresco::dictionaries
