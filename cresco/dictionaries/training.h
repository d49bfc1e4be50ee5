// Training a crosscoder on a stack: the loop, its log, its resume states.
//
// A run's folder holds settings.json, metrics.jsonl, state/step<N>/ (the last two), in the end the
// dictionary and, last of all, COMPLETE. A run that was stopped at any step and goes on gives
// bitwise the same metrics, states and dictionary as one that was not, on the same machine and
// number of threads.
#pragma once

#include "cresco/artifacts/manifest.h"
#include "cresco/base/progress.h"
#include "cresco/dictionaries/crosscoder.h"
#include "cresco/dictionaries/quality.h"
#include "cresco/trajectories/stack.h"

#include <functional>
#include <string>

namespace cresco::dictionaries {

struct TrainingRun {
  CrosscoderConfig training;
  std::string name;               // of the dictionary's files
  std::string random = "philox";  // philox | torch
  std::uint64_t seed = 0;
  std::string resume = "auto";     // auto: go on from a state when there is one | never | must
  std::int64_t max_steps = 0;      // stop after this many, with every schedule as for all; 0: all
  std::int64_t log_every = 50;     // steps between lines of metrics.jsonl
  std::int64_t state_every = 500;  // steps between states; 0: only when the training stops early
  bool overwrite = false;
  std::string resume_command;    // what Interrupted tells the user to type
  artifacts::Manifest manifest;  // written before COMPLETE
  // Whether to stop at the next step; the program asks for Ctrl-C.
  std::function<bool()> stop_requested = [] { return false; };
};

struct TrainingOutcome {
  Quality quality;
  std::vector<Path> files;
};

struct TrainingPlan {
  std::int64_t num_steps = 0;  // of the whole schedule
  std::int64_t last_step = 0;  // where this run stops
  double flops = 0;            // ten per row, head, width and feature
  double memory_bytes = 0;
};

TrainingPlan plan_training(const TrainingRun& run, const trajectories::Stack& stack);

// Writes into `folder`. Interrupted after a stop that was asked for; Error, with step and tensor,
// for numbers that are not finite.
TrainingOutcome train_crosscoder(const TrainingRun& run, const trajectories::Stack& stack,
                                 const Path& folder, at::Device device, Progress& progress);

}  // namespace cresco::dictionaries
