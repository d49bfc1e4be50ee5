#include "cresco/dictionaries/training.h"

#include "cresco/artifacts/metrics_log.h"
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/base/threads.h"
#include "cresco/dictionaries/crosscoder_reference.h"
#include "cresco/dictionaries/folder_contents.h"
#include "cresco/dictionaries/preprocess.h"
#include "cresco/dictionaries/random_source.h"
#include "cresco/dictionaries/released.h"
#include "cresco/dictionaries/schedules.h"
#include "cresco/dictionaries/toy_stack.h"
#include "cresco/dictionaries/training_folder.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <map>

extern char** environ;

namespace cresco::dictionaries {
namespace {

constexpr std::int64_t kRows = 50, kWidth = 6, kHeads = 3,
                       kEpochs = 8;  // four steps an epoch, the last of 2 rows

Path small_stack(const Path& folder) {
  const Path path = folder / "stack.safetensors";
  std::vector<at::Tensor> matrices;
  const at::Tensor base = toy::normal({kRows, kWidth}, 5, "base");
  for (int k = 0; k < kHeads; ++k)
    matrices.push_back(base + 0.3 * toy::normal({kRows, kWidth}, 5, std::to_string(k)));
  toy::write_stack(path, matrices);
  return path;
}

TrainingRun small_run() {
  return {.training = {.lr = 1e-2,
                       .n_epochs = kEpochs,
                       .batch_size = 16,
                       .d_sae = 20,
                       .l1_warmup_fraction = 0.2},
          .name = "toy",
          .log_every = 3,
          .state_every = 5};
}

TrainingOutcome train(const TrainingRun& run, const Path& stack, const Path& folder) {
  return train_crosscoder(run, trajectories::Stack(stack), folder, at::kCPU, no_progress());
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

#define EXPECT_HAS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

// Steps this small gain nothing from threads, and wait for them when the machine is busy.
class Training : public testing::Test {
 protected:
  void SetUp() override { at::set_num_threads(1); }
  void TearDown() override { at::set_num_threads(num_threads()); }
};

TEST_F(Training, RepeatsBitForBitOnTwoThreads) {
  at::set_num_threads(2);
  const TemporaryFolder folder;
  std::vector<at::Tensor> matrices;
  for (int k = 0; k < 3; ++k) matrices.push_back(toy::normal({300, 24}, 0, std::to_string(k)));
  toy::write_stack(folder / "stack.safetensors", matrices);
  TrainingRun run = small_run();
  run.training.batch_size = 256;
  run.training.d_sae = 1300;  // a step of more FLOPs than are left to one thread
  run.training.n_epochs = 3;
  run.log_every = 1;
  for (const char* name : {"a", "b"}) train(run, folder / "stack.safetensors", folder / name);
  toy::expect_same_contents(folder / "a", folder / "b");
}

TEST_F(Training, RepeatsBitForBit) {
  const TemporaryFolder folder;
  const Path stack = small_stack(folder.path());
  for (const char* random : {"philox", "torch"}) {
    TrainingRun run = small_run();
    run.random = random;
    train(run, stack, folder / (std::string("a") + random));
    train(run, stack, folder / (std::string("b") + random));
    toy::expect_same_contents(folder / (std::string("a") + random),
                              folder / (std::string("b") + random));
  }
  EXPECT_NE(read_file(folder / "aphilox/metrics.jsonl"),
            read_file(folder / "atorch/metrics.jsonl"));
}

TEST_F(Training, WritesWhatItSays) {
  const TemporaryFolder folder;
  const auto outcome = train(small_run(), small_stack(folder.path()), folder / "run");
  for (const Path& file : outcome.files) EXPECT_TRUE(std::filesystem::exists(file)) << file;
  EXPECT_EQ(read_file(folder / "run/COMPLETE"), "32\n");
  EXPECT_FALSE(std::filesystem::exists(folder / "run/state"));
  EXPECT_TRUE(std::filesystem::exists(folder / "run/manifest.json"));
  const auto lines = artifacts::read_metrics(folder / "run/metrics.jsonl");
  ASSERT_EQ(lines.size(), 11u);
  for (const char* key :
       {"step", "loss", "l_rec", "l_s", "l0", "explained_variance", "dead", "lr", "l1_coefficient"})
    EXPECT_TRUE(lines[0].contains(key)) << key;
  EXPECT_EQ(lines[0]["l1_coefficient"], 0);
  EXPECT_DOUBLE_EQ(lines[1]["l1_coefficient"].get<double>(), 0.3 * 3 / 6);
  EXPECT_LT(lines.back()["loss"].get<double>(),
            lines[3]["loss"].get<double>());  // with full sparsity in both
}

// The first steps with PyTorch's streams, against the slow reference: same initial weights, same
// order of rows, same batches (the last of an epoch is ragged), same schedules.
TEST_F(Training, TakesTheStepsOfTheReference) {
  const TemporaryFolder folder;
  const Path path = small_stack(folder.path());
  for (const char* optimizer : {"adam", "adamw", "sparse_adam"}) {
    TrainingRun run = small_run();
    run.training.optimizer = optimizer;
    run.training.weight_decay = std::string(optimizer) == "adamw" ? 0.5 : 0;
    run.training.lr_warmup_fraction = 0.1;
    run.training.lr_decay_fraction = 0.5;
    run.random = "torch";
    run.seed = 3;
    run.log_every = 1;
    run.max_steps = 10;
    run.overwrite = true;
    train(run, path, folder / "run");
    const auto lines = artifacts::read_metrics(folder / "run/metrics.jsonl");
    ASSERT_EQ(lines.size(), 10u);

    const trajectories::Stack stack(path);
    const at::Tensor x_VKD = preprocess_stack(stack, {0, 1, 2}, "center_scale", at::kCPU).x_VKD;
    const auto drawn = draw_initial_matrices(RandomKind::Torch, 3, kWidth, 20);
    auto parameters = initial_parameters(run.training, kHeads, drawn.encoder_DF, drawn.decoder_FD);
    const auto numbers = [](const at::Tensor& t) {
      const at::Tensor d = t.to(at::kDouble).contiguous();
      return std::vector<double>(d.const_data_ptr<double>(),
                                 d.const_data_ptr<double>() + d.numel());
    };
    reference::Weights weights{numbers(parameters.encoder_KDF), numbers(parameters.encoder_bias_KF),
                               numbers(parameters.decoder_KFD), numbers(parameters.decoder_bias_KD),
                               numbers(parameters.log_threshold_F)};
    reference::Optimizer adam{.sparse = std::string(optimizer) == "sparse_adam",
                              .weight_decay = run.training.weight_decay};
    RowOrder order(RandomKind::Torch, 3, kRows);
    for (std::int64_t step = 0; step < 10; ++step) {
      const std::int64_t begin = step % 4 * 16, rows = std::min<std::int64_t>(16, kRows - begin);
      const at::Tensor batch =
          x_VKD.index_select(0, order.of_epoch(step / 4).narrow(0, begin, rows));
      const reference::Sizes sizes{static_cast<int>(rows), kHeads, kWidth, 20};
      const reference::Setting setting{.lambda = 0.3 * sparsity_factor(step, 32, 0.2)};
      const auto expected = reference::forward(sizes, weights, setting, numbers(batch));
      const auto& line = lines[static_cast<std::size_t>(step)];
      EXPECT_NEAR(line["loss"].get<double>() / expected.loss, 1, 1e-5) << step;
      EXPECT_NEAR(line["l_rec"].get<double>() / expected.l_rec, 1, 1e-5) << step;
      EXPECT_NEAR(line["l_s"].get<double>() / expected.l_s, 1, 1e-5) << step;
      EXPECT_EQ(std::llround(line["l0"].get<double>() * static_cast<double>(rows * kHeads)),
                expected.num_open)
          << step;
      const double lr = 1e-2 * learning_rate_factor(step, 32, 0.1, 0.5);
      EXPECT_DOUBLE_EQ(line["lr"].get<double>(), lr);
      const auto gradients = reference::gradients(sizes, weights, setting, numbers(batch));
      adam.step(weights, gradients, [&](int tensor) { return tensor == 4 ? 0.1 * lr : lr; });
    }
  }
}

TEST_F(Training, StoppedAtAnyStepGoesOnBitForBit) {
  const TemporaryFolder folder;
  const Path stack = small_stack(folder.path());
  for (const char* optimizer : {"adam", "sparse_adam"}) {
    TrainingRun run = small_run();
    run.training.optimizer = optimizer;
    const Path whole = folder / (std::string("whole_") + optimizer);
    train(run, stack, whole);
    for (const int stop : {0, 1, 3, 4, 10, 31}) {
      SCOPED_TRACE(stop);
      const Path stopped = folder / fmt::format("{}_{}", optimizer, stop);
      TrainingRun first = run;
      first.resume_command = "cresco train x";
      first.stop_requested = [left = stop]() mutable { return left-- == 0; };
      EXPECT_THROW(
          try { train(first, stack, stopped); } catch (const Interrupted& e) {
            EXPECT_HAS(std::string(e.what()), "cresco train x");
            throw;
          },
          Interrupted);
      EXPECT_FALSE(std::filesystem::exists(stopped / "COMPLETE"));
      EXPECT_LE(StateFolders(stopped).steps().size(), 2u);
      train(run, stack, stopped);
      toy::expect_same_contents(whole, stopped);
    }
  }
}

// Whatever a training keeps beside weights and moments: dead features, the steered coefficient,
// noise, codes of other kinds.
TEST_F(Training, OfEveryKindGoesOnBitForBit) {
  const TemporaryFolder folder;
  const Path stack = small_stack(folder.path());
  using Change = std::function<void(TrainingRun&)>;
  const std::pair<const char*, Change> variants[] = {
      {"auxk",
       [](TrainingRun& run) {
         run.training.auxk_coefficient = 0.1;
         run.training.auxk_k = 3;
         run.training.dead_window_steps = 2;
         run.training.l1_coefficient = 3;
       }},
      {"noise", [](TrainingRun& run) { run.training.noise_std = 0.3; }},
      {"target_l0", [](TrainingRun& run) { run.training.target_l0 = 2; }},
      {"adamw",
       [](TrainingRun& run) {
         run.training.optimizer = "adamw";
         run.training.weight_decay = 0.3;
       }},
      {"topk", [](TrainingRun& run) { run.kind = "topk", run.training.k = 3; }},
      {"batchtopk", [](TrainingRun& run) { run.kind = "batchtopk", run.training.k = 3; }},
      {"gated", [](TrainingRun& run) { run.kind = "gated"; }},
      {"jumprelu", [](TrainingRun& run) { run.kind = "jumprelu"; }},
      {"bf16", [](TrainingRun& run) { run.training.amp_dtype = "bf16"; }}};
  std::map<std::string, std::string> logs;
  for (const auto& [name, change] : variants) {
    SCOPED_TRACE(name);
    TrainingRun run = small_run();
    change(run);
    run.log_every = 1;
    const Path whole = folder / (std::string("whole_") + name);
    train(run, stack, whole);
    for (const int stop : {4, 17}) {
      const Path stopped = folder / fmt::format("{}_{}", name, stop);
      TrainingRun first = run;
      first.stop_requested = [left = stop]() mutable { return left-- == 0; };
      EXPECT_THROW(train(first, stack, stopped), Interrupted);
      train(run, stack, stopped);
      toy::expect_same_contents(whole, stopped);
    }
    const std::string log = read_file(whole / "metrics.jsonl");
    for (const auto& [other, text] : logs) EXPECT_NE(text, log) << other;  // each does something
    logs[name] = log;
  }
}

TEST_F(Training, ReadsRowsInBf16AsIfTheyHadBeenRounded) {
  const TemporaryFolder folder;
  const trajectories::Stack stack(small_stack(folder.path()));
  for (const char* kind : {"crosscoder", "batchtopk", "gated"}) {
    TrainingRun run = small_run();
    run.kind = kind;
    run.training.k = 4;
    run.stack_dtype = "bf16";
    const TrainingData data = load_training_data(stack, {0, 1, 2}, run);
    EXPECT_EQ(data.x_VKD.scalar_type(), at::kBFloat16);
    TrainingData widened = data;
    widened.x_VKD = data.x_VKD.to(at::kFloat);
    const Path bf16 = folder / kind, fp32 = folder / (std::string(kind) + "_widened");
    const Quality quality = train_crosscoder(run, data, bf16, no_progress()).quality;
    train_crosscoder(run, widened, fp32, no_progress());
    EXPECT_EQ(read_file(bf16 / "metrics.jsonl"), read_file(fp32 / "metrics.jsonl")) << kind;
    const auto from = read_dictionary(bf16).parameters, to = read_dictionary(fp32).parameters;
    EXPECT_TRUE(from.decoder_KFD.equal(to.decoder_KFD)) << kind;
    // The dictionary is measured on the rows themselves.
    run.stack_dtype = "fp32";
    const at::Tensor x_VKD = load_training_data(stack, {0, 1, 2}, run).x_VKD;
    EXPECT_FALSE(x_VKD.equal(widened.x_VKD));
    EXPECT_EQ(read_dictionary(bf16).provenance["stack_dtype"], "bf16");
    const Quality own =
        measure_quality(read_dictionary(bf16).crosscoder(), x_VKD, std::int64_t{1} << 20);
    EXPECT_NEAR(quality.explained_variance_pooled, own.explained_variance_pooled, 1e-9) << kind;
  }
}

// One step of AdamW is that of Adam less lr weight_decay of the two weights as they were.
TEST_F(Training, DecaysTheWeightsOfEveryKind) {
  for (const char* kind : {"crosscoder", "topk", "gated", "jumprelu"}) {
    SCOPED_TRACE(kind);
    const at::Tensor x_VKD = toy::normal({kRows, kHeads, kWidth}, 1, "x");
    const std::vector<std::int64_t> rows{0, 3, 7, 9};
    const auto after = [&](const char* optimizer, double weight_decay) {
      TrainingRun run = small_run();
      run.kind = kind;
      run.training.k = 3;
      run.training.optimizer = optimizer;
      run.training.weight_decay = weight_decay;
      const auto step = initial_step(run, {kRows, kWidth, kHeads});
      const CrosscoderParameters start = step->parameters();
      step->load(x_VKD, rows);
      step->update({.l1_coefficient = 0.3, .lr = 0.01, .threshold_lr = 0.01});
      return std::pair{start.named(), step->parameters().named()};
    };
    const auto [start, adam] = after("adam", 0);
    const auto [same, adamw] = after("adamw", 0.5);
    for (std::size_t i = 0; i < adam.size(); ++i) {
      const std::string& name = adam[i].first;
      const double decay = name == "W_E" || name == "W_D" ? 0.01 * 0.5 : 0;
      EXPECT_TRUE(
          at::allclose(adamw[i].second, adam[i].second - decay * start[i].second, 1e-5, 1e-7))
          << name;
      EXPECT_EQ(decay > 0, !at::allclose(adamw[i].second, adam[i].second, 1e-5, 1e-7)) << name;
    }
  }
}

// The weight of the sparsity term is the kind's own, and the log says what it was.
TEST_F(Training, OfGatedDoesNotAskForTheCoefficientOfOthers) {
  const TemporaryFolder folder;
  const Path stack = small_stack(folder.path());
  const auto log_of = [&](const char* kind, double l1, double gated_l1) {
    TrainingRun run = small_run();
    run.kind = kind;
    run.training.k = 3;
    run.training.l1_coefficient = l1;
    run.training.gated_l1_coefficient = gated_l1;
    const Path out = folder / fmt::format("{}_{}_{}", kind, l1, gated_l1);
    train(run, stack, out);
    return artifacts::read_metrics(out / "metrics.jsonl");
  };
  const auto with = log_of("gated", 0.3, 0.7), without = log_of("gated", 0, 0.7),
             other = log_of("gated", 0.3, 0);
  EXPECT_EQ(with.back()["loss"], without.back()["loss"]);
  EXPECT_EQ(without.back()["l1_coefficient"], 0.7);
  EXPECT_NE(with.back()["loss"], other.back()["loss"]);
  EXPECT_EQ(log_of("batchtopk", 0.3, 0.3).back()["l1_coefficient"], 0);
  for (const Json& line : with)
    EXPECT_NEAR(line["loss"].get<double>(),
                line["l_rec"].get<double>() +
                    line["l1_coefficient"].get<double>() * line["l_s"].get<double>() +
                    line["l_aux"].get<double>(),
                1e-5 * line["loss"].get<double>());
}

class Notes final : public Progress {
 public:
  void begin(std::string_view, std::int64_t, std::string_view) override {}
  void update(std::int64_t, std::string_view) override {}
  void end() override {}
  void note(std::string_view line) override { text += std::string(line) + "\n"; }
  std::string text;
};

TEST_F(Training, SaysWhenLambdaEndedAtItsBound) {
  const TemporaryFolder folder;
  const trajectories::Stack stack(small_stack(folder.path()));
  TrainingRun run = small_run();
  run.training.target_l0 = 1.5;
  run.training.lr = 0;  // nothing moves but lambda
  run.training.n_epochs = 60;
  Notes notes;
  train_crosscoder(run, stack, folder / "run", at::kCPU, notes);
  EXPECT_HAS(notes.text, "l1_coefficient ended at its bound, 300, with an l0 of");
}

TEST_F(Training, SteersToATargetL0) {
  const TemporaryFolder folder;
  const Path stack = small_stack(folder.path());
  for (const double target : {1.5, 5.0}) {
    TrainingRun run = small_run();
    run.training.n_epochs = 500;
    run.training.target_l0 = target;
    Notes notes;
    const auto outcome = train_crosscoder(run, trajectories::Stack(stack),
                                          folder / fmt::format("{}", target), at::kCPU, notes);
    if (target < 2) {
      EXPECT_EQ(notes.text, "");
    }
    EXPECT_NEAR(outcome.quality.l0 / target, 1, 0.15) << target;
  }
}

TEST_F(Training, StoppedManyTimesGoesOnBitForBit) {
  const TemporaryFolder folder;
  const Path stack = small_stack(folder.path());
  train(small_run(), stack, folder / "whole");
  TrainingRun run = small_run();
  run.random = "philox";
  int stops = 0;
  for (;;) {
    run.stop_requested = [left = 3]() mutable { return left-- == 0; };
    try {
      train(run, stack, folder / "stopped");
      break;
    } catch (const Interrupted&) {
      ++stops;
    }
  }
  EXPECT_EQ(stops, 10);
  toy::expect_same_contents(folder / "whole", folder / "stopped");
}

TEST_F(Training, MaxStepsStopsEarlyShortensNoScheduleAndGoesOn) {
  const TemporaryFolder folder;
  const Path stack = small_stack(folder.path());
  train(small_run(), stack, folder / "whole");
  TrainingRun run = small_run();
  run.max_steps = 7;
  train(run, stack, folder / "part");
  EXPECT_EQ(read_file(folder / "part/COMPLETE"), "7\n");
  const std::string whole_log = read_file(folder / "whole/metrics.jsonl");
  EXPECT_EQ(whole_log.find(read_file(folder / "part/metrics.jsonl")), 0u);
  EXPECT_HAS(message_of([&] { train(run, stack, folder / "part"); }), "is complete already");
  run.max_steps = 0;
  train(run, stack, folder / "part");
  toy::expect_same_contents(folder / "whole", folder / "part");
}

TEST_F(Training, GoesOnFromTheStateBeforeADamagedOne) {
  const TemporaryFolder folder;
  const Path stack = small_stack(folder.path());
  train(small_run(), stack, folder / "whole");
  TrainingRun run = small_run();
  run.stop_requested = [left = 13]() mutable { return left-- == 0; };
  EXPECT_THROW(train(run, stack, folder / "stopped"), Interrupted);
  ASSERT_EQ(StateFolders(folder / "stopped").steps(), (std::vector<std::int64_t>{10, 13}));
  std::filesystem::resize_file(folder / "stopped/state/step13/state.safetensors", 1000);
  train(small_run(), stack, folder / "stopped");
  toy::expect_same_contents(folder / "whole", folder / "stopped");
}

// Run by SurvivesBeingKilled in a process of its own.
TEST_F(Training, DISABLED_Child) {
  const char* const folder = std::getenv("CRESCO_TEST_FOLDER");
  ASSERT_NE(folder, nullptr);
  TrainingRun run = small_run();
  run.state_every = 1;
  run.training.n_epochs = 50;
  train(run, Path(folder) / "stack.safetensors", Path(folder) / "run");
}

pid_t spawn_child(const Path& folder) {
  ::setenv("CRESCO_TEST_FOLDER", folder.c_str(), 1);
  char program[] = "/proc/self/exe", filter[] = "--gtest_filter=Training.DISABLED_Child",
       disabled[] = "--gtest_also_run_disabled_tests";
  char* const arguments[] = {program, filter, disabled, nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", 1, 0);
  pid_t child = 0;
  EXPECT_EQ(::posix_spawn(&child, "/proc/self/exe", &actions, nullptr, arguments, environ), 0);
  posix_spawn_file_actions_destroy(&actions);
  return child;
}

TEST_F(Training, SurvivesBeingKilled) {
  const TemporaryFolder folder, calm;
  small_stack(folder.path());
  TrainingRun run = small_run();
  run.state_every = 1;
  run.training.n_epochs = 50;
  train(run, small_stack(calm.path()), calm / "run");

  for (const std::int64_t until : {2, 9, 40}) {
    const pid_t child = spawn_child(folder.path());
    const double give_up = now_seconds() + 60;
    const StateFolders states(folder / "run");
    const auto newest = [&] {
      const auto steps = states.steps();
      return steps.empty() ? 0 : steps.back();
    };
    while (newest() < until && now_seconds() < give_up) ::usleep(1000);
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child ended before it could be killed";
    EXPECT_FALSE(std::filesystem::exists(folder / "run/COMPLETE"));
  }
  train(run, folder / "stack.safetensors", folder / "run");
  toy::expect_same_contents(calm / "run", folder / "run");
}

TEST_F(Training, RefusesAFolderThatAnotherWorksOn) {
  const TemporaryFolder folder;
  const Path stack = small_stack(folder.path());
  std::filesystem::create_directories(folder / "run");
  const FolderLock lock(folder / "run");
  EXPECT_HAS(message_of([&] { train(small_run(), stack, folder / "run"); }), "another process");
}

TEST_F(Training, RefusesToGoOnWithOtherSettings) {
  const TemporaryFolder folder;
  const Path stack = small_stack(folder.path());
  TrainingRun run = small_run();
  run.stop_requested = [left = 6]() mutable { return left-- == 0; };
  EXPECT_THROW(train(run, stack, folder / "run"), Interrupted);
  run = small_run();
  run.training.lr = 0.5;
  EXPECT_HAS(message_of([&] { train(run, stack, folder / "run"); }),
             "training.lr was 0.01, now it is 0.5");
  run = small_run();
  run.stack_dtype = "bf16";
  EXPECT_HAS(message_of([&] { train(run, stack, folder / "run"); }), "stack_dtype");
  run = small_run();
  run.resume = "never";
  EXPECT_HAS(message_of([&] { train(run, stack, folder / "run"); }), "exists already");
  run.resume = "must";
  EXPECT_HAS(message_of([&] { train(run, stack, folder / "elsewhere"); }), "no state");
  run.overwrite = true;
  run.resume = "auto";
  train(run, stack, folder / "run");
  EXPECT_TRUE(std::filesystem::exists(folder / "run/COMPLETE"));
}

TEST_F(Training, LeavesAloneAFolderThatIsNotItsOwn) {
  const TemporaryFolder folder;
  const Path stack = small_stack(folder.path());
  std::filesystem::create_directories(folder / "run");
  write_file(folder / "run/thesis.tex", "all of it");
  EXPECT_HAS(message_of([&] { train(small_run(), stack, folder / "run"); }),
             "--overwrite replaces it");
  EXPECT_EQ(read_file(folder / "run/thesis.tex"), "all of it");
}

TEST_F(Training, SaysWhereNumbersStoppedBeingFinite) {
  const TemporaryFolder folder;
  TrainingRun run = small_run();
  run.training.lr = 1e30;
  run.state_every = 1;
  const std::string message =
      message_of([&] { train(run, small_stack(folder.path()), folder / "run"); });
  EXPECT_HAS(message, "step");
  EXPECT_HAS(message, "state");
  EXPECT_FALSE(std::filesystem::exists(folder / "run/COMPLETE"));
}

TEST_F(Training, RefusesBadSettings) {
  const TemporaryFolder folder;
  const Path stack = small_stack(folder.path());
  const auto refused = [&](const std::function<void(TrainingRun&)>& change) {
    TrainingRun run = small_run();
    change(run);
    EXPECT_THROW(train(run, stack, folder / "run"), UsageError);
    EXPECT_FALSE(std::filesystem::exists(folder / "run"));
  };
  refused([](TrainingRun& run) { run.training.d_sae = 0; });
  refused([](TrainingRun& run) { run.training.d_sae = -5; });
  refused([](TrainingRun& run) { run.training.batch_size = 0; });
  refused([](TrainingRun& run) { run.training.n_epochs = 0; });
  refused([](TrainingRun& run) { run.training.lr = std::nan(""); });
  refused([](TrainingRun& run) { run.training.init_threshold = 0; });
  refused([](TrainingRun& run) { run.training.frequency_scale = 0; });
  refused([](TrainingRun& run) { run.training.input_preprocess = "centre"; });
  refused([](TrainingRun& run) { run.training.optimizer = "sgd"; });
  refused([](TrainingRun& run) { run.training.amp_dtype = "fp16"; });
  refused([](TrainingRun& run) { run.training.auxk_coefficient = -1; });
  refused([](TrainingRun& run) { run.training.noise_std = -1; });
  refused([](TrainingRun& run) { run.kind = "topkk"; });
  refused([](TrainingRun& run) { run.kind = "topk", run.training.k = 21; });
  refused([](TrainingRun& run) {
    run.kind = "topk", run.training.k = 2, run.training.auxk_coefficient = 1;
  });
  refused([](TrainingRun& run) { run.kind = "gated", run.training.target_l0 = 3; });
  refused([](TrainingRun& run) { run.training.target_l0 = 3, run.training.l1_coefficient = 0; });
  refused(
      [](TrainingRun& run) { run.training.target_l0 = 3, run.training.l1_warmup_fraction = 1; });
  refused([](TrainingRun& run) { run.training.target_l0 = 20; });
  refused([](TrainingRun& run) { run.training.weight_decay = 0.1; });
  refused([](TrainingRun& run) {
    run.training.optimizer = "sparse_adam", run.training.weight_decay = 0.1;
  });
  refused(
      [](TrainingRun& run) { run.training.optimizer = "adamw", run.training.weight_decay = -0.1; });
  refused([](TrainingRun& run) { run.training.expansion_factor = 2; });  // 12, not 20
  refused([](TrainingRun& run) { run.resume = "must", run.overwrite = true; });
  refused([](TrainingRun& run) { run.training.l1_warmup_fraction = 1.5; });
  refused([](TrainingRun& run) { run.random = "pcg"; });
  refused([](TrainingRun& run) { run.name = "../up"; });
  refused([](TrainingRun& run) { run.log_every = 0; });
  refused([](TrainingRun& run) { run.stack_dtype = "fp16"; });
}

TEST_F(Training, RefusesAStackWithNumbersThatAreNotFinite) {
  const TemporaryFolder folder;
  at::Tensor matrix = toy::normal({kRows, kWidth}, 0, "x");
  matrix[7][2] = std::nan("");
  toy::write_stack(folder / "stack.safetensors", {toy::normal({kRows, kWidth}, 0, "y"), matrix});
  const std::string message =
      message_of([&] { train(small_run(), folder / "stack.safetensors", folder / "run"); });
  EXPECT_HAS(message, "step 100");
  EXPECT_HAS(message, "row 7");
}

TEST_F(Training, SurvivesAConstantSnapshot) {
  const TemporaryFolder folder;
  toy::write_stack(folder / "stack.safetensors",
                   {at::ones({kRows, kWidth}), toy::normal({kRows, kWidth}, 0, "y"),
                    at::zeros({kRows, kWidth})});
  const auto outcome = train(small_run(), folder / "stack.safetensors", folder / "run");
  EXPECT_TRUE(std::isfinite(outcome.quality.explained_variance_pooled));
  EXPECT_TRUE(std::isnan(outcome.quality.snapshots[0].explained_variance));
}

TEST_F(Training, TakesExpansionFactorForDSae) {
  EXPECT_EQ(resolved({.expansion_factor = 10.6667}, 768).d_sae, 8192);
  EXPECT_EQ(resolved({.expansion_factor = 21.3333}, 768).d_sae, 16383);
  EXPECT_DOUBLE_EQ(resolved({.d_sae = 8192}, 768).expansion_factor, 8192 / 768.0);
  EXPECT_EQ(resolved({.expansion_factor = 21.3333, .d_sae = 16384}, 768).d_sae, 16384);
  EXPECT_THROW(resolved({.expansion_factor = 4, .d_sae = 8192}, 768), UsageError);
}

TEST(Plan, CountsResidentRowsAsTheyAreStored) {
  TrainingRun run = small_run();
  EXPECT_EQ(plan_training(run, {kRows, kWidth, kHeads}).resident_bytes, 4 * 50 * 6 * 3);
  run.stack_dtype = "bf16";
  EXPECT_EQ(plan_training(run, {kRows, kWidth, kHeads}).resident_bytes, 2 * 50 * 6 * 3);
}

TEST(Plan, OfTheFirstRankCountsTheWholeDictionary) {
  const TrainingRun run = small_run();
  const TrainingPlan all = plan_training(run, {kRows, kWidth, 4}),
                     own = plan_training(run, {kRows, kWidth, 2}),
                     first = plan_training(run, {kRows, kWidth, 2, 2});
  EXPECT_EQ(first.dictionary_bytes, all.dictionary_bytes);
  EXPECT_EQ(first.gathered_bytes, all.dictionary_bytes);
  EXPECT_EQ(first.memory_bytes - first.shared_bytes,
            own.memory_bytes - own.shared_bytes + all.dictionary_bytes);
  EXPECT_GT(first.shared_bytes, own.shared_bytes);  // it measures the heads of all
  EXPECT_EQ(own.gathered_bytes, 0);
}

TEST(Plan, CountsTenPerRowHeadWidthAndFeature) {
  const TemporaryFolder folder;
  const trajectories::Stack stack(small_stack(folder.path()));
  const TrainingPlan plan = plan_training(small_run(), {stack.num_rows(), stack.width(), kHeads});
  EXPECT_EQ(plan.num_steps, 32);
  EXPECT_EQ(plan.flops, 10.0 * 50 * 8 * kHeads * kWidth * 20);
}

}  // namespace
}  // namespace cresco::dictionaries
