#include "cresco/dictionaries/sweep.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/dictionaries/folder_contents.h"
#include "cresco/dictionaries/toy_stack.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

namespace cresco::dictionaries {
namespace {

TEST(ParseSweep, ReadsListsAndRanges) {
  const auto axes = parse_sweep({"l1-coefficient=0.3,0.4,1.0", "seed=0..2"});
  ASSERT_EQ(axes.size(), 2u);
  EXPECT_EQ(axes[0].key, "l1_coefficient");
  EXPECT_EQ(axes[0].values, (std::vector<std::string>{"0.3", "0.4", "1.0"}));
  EXPECT_EQ(axes[1].values, (std::vector<std::string>{"0", "1", "2"}));
  const auto all = combinations(axes);
  ASSERT_EQ(all.size(), 9u);
  EXPECT_EQ(member_name(all[5]), "l1_coefficient_0.4_seed_2");
  EXPECT_EQ(combinations({}).size(), 1u);
  for (const char* bad : {"seed", "=1", "seed=", "seed=1,,2", "seed=1,1", "seed=3..1", "seed=a..b",
                          "seed=0..99999999", "l1_coefficient=0.3,.3"})
    EXPECT_THROW(parse_sweep({bad}), UsageError) << bad;
  EXPECT_THROW(parse_sweep({"seed=1", "seed=2"}), UsageError);
}

class Sweep : public testing::Test {
 protected:
  void SetUp() override { at::set_num_threads(1); }

  TrainingRun run(std::uint64_t seed, double l1) const {
    return {.training =
                {.lr = 1e-2, .l1_coefficient = l1, .n_epochs = 6, .batch_size = 16, .d_sae = 20},
            .name = "toy",
            .seed = seed,
            .log_every = 3,
            .state_every = 5};
  }
  // Three members: two seeds, and one that is of half the length.
  std::vector<SweepMember> members(const TrainingData& data) const {
    std::vector<SweepMember> all{{"a", {{"l1_coefficient", "0.3"}}, run(0, 0.3), &data},
                                 {"b", {{"l1_coefficient", "0.6"}}, run(1, 0.6), &data},
                                 {"c", {{"l1_coefficient", "0.1"}}, run(2, 0.1), &data}};
    all[2].run.training.n_epochs = 3;
    return all;
  }

  TrainingData data() {
    std::vector<at::Tensor> matrices;
    for (int k = 0; k < 3; ++k) matrices.push_back(toy::normal({50, 6}, 5, std::to_string(k)));
    toy::write_stack(folder_ / "stack.safetensors", matrices);
    return load_training_data(trajectories::Stack(folder_ / "stack.safetensors"), {0, 1, 2},
                              run(0, 0));
  }

  TemporaryFolder folder_;
};

TEST_F(Sweep, MembersAreBitwiseWhatTheyAreAlone) {
  const TrainingData rows = data();
  for (const double memory : {1e12, 0.0}) {  // all at once, and one after the other
    const Path out = folder_ / (memory > 0 ? "together" : "in_turn");
    const artifacts::Table table = train_sweep(members(rows), out, memory, false, no_progress());
    ASSERT_EQ(table.num_rows(), 3u);
    for (std::size_t i = 0; i < 3; ++i) {
      const SweepMember member = members(rows)[i];
      const Path alone = folder_ / ("alone_" + out.filename().string() + member.name);
      const auto outcome = train_crosscoder(member.run, rows, alone, no_progress());
      toy::expect_same_contents(alone, out / member.name);
      EXPECT_EQ(table.text(i, "member"), member.name);
      EXPECT_EQ(table.text(i, "l1_coefficient"), member.values[0].second);
      EXPECT_DOUBLE_EQ(table.number(i, "l0"), outcome.quality.l0);
      EXPECT_DOUBLE_EQ(table.number(i, "explained_variance_pooled"),
                       outcome.quality.explained_variance_pooled);
    }
  }
}

class Notes final : public Progress {
 public:
  void begin(std::string_view, std::int64_t, std::string_view) override {}
  void update(std::int64_t, std::string_view) override {}
  void end() override {}
  void note(std::string_view line) override { lines.emplace_back(line); }
  std::vector<std::string> lines;
};

// Three dictionaries of two widths on one seed, and one on another, which goes alone.
TEST_F(Sweep, FusedMembersAreWhatTheyAreAloneToRounding) {
  const TrainingData rows = data();
  for (const char* optimizer : {"adam", "sparse_adam"}) {
    auto fused = members(rows);
    fused[1].run.seed = 0;
    fused[1].run.training.d_sae = 33;
    fused[2].run.seed = 0;  // ends early: the other two go on
    fused.push_back({"d", {{"l1_coefficient", "0.2"}}, run(1, 0.2), &rows});
    for (SweepMember& m : fused) m.run.training.optimizer = optimizer;
    const Path together_in = folder_ / (std::string("fused_") + optimizer),
               alone_in = folder_ / (std::string("alone_") + optimizer);
    Notes notes;
    const artifacts::Table together = train_sweep(fused, together_in, 1e12, true, notes);
    EXPECT_EQ(notes.lines,
              (std::vector<std::string>{"--fuse: no other training reads the batches of d",
                                        "one product for the encoders of a, b, c",
                                        "one product for the encoders of a, b"}));
    Notes none;
    const artifacts::Table alone = train_sweep(fused, alone_in, 1e12, false, none);
    EXPECT_TRUE(none.lines.empty());
    for (std::size_t i = 0; i < 4; ++i) {
      SCOPED_TRACE(std::string(optimizer) + " " + fused[i].name);
      for (const char* key : {"explained_variance_pooled", "l0", "reconstruction_mse"})
        EXPECT_NEAR(together.number(i, key), alone.number(i, key),
                    1e-3 * std::abs(alone.number(i, key)))
            << key;
    }
    toy::expect_same_contents(together_in / "d", alone_in / "d");
  }
}

TEST(CanFuse, AsksForTheSameBatchesAndOneProduct) {
  const TrainingRun run{.training = {.batch_size = 16, .d_sae = 20}};
  const auto with = [&](const std::function<void(TrainingRun&)>& change) {
    TrainingRun other = run;
    change(other);
    return can_fuse(run, other) && can_fuse(other, run);
  };
  EXPECT_TRUE(with([](TrainingRun& r) { r.training.d_sae = 33; }));
  EXPECT_TRUE(with([](TrainingRun& r) { r.kind = "topk"; }));
  EXPECT_FALSE(with([](TrainingRun& r) { r.kind = "gated"; }));
  EXPECT_FALSE(with([](TrainingRun& r) { r.kind = "jumprelu"; }));
  EXPECT_FALSE(with([](TrainingRun& r) { r.seed = 1; }));
  EXPECT_FALSE(with([](TrainingRun& r) { r.training.batch_size = 17; }));
  EXPECT_FALSE(with([](TrainingRun& r) { r.training.noise_std = 0.1; }));
  EXPECT_FALSE(with([](TrainingRun& r) { r.training.amp_dtype = "bf16"; }));
}

TEST_F(Sweep, GoesOnWhereItStopped) {
  const TrainingData rows = data();
  train_sweep(members(rows), folder_ / "whole", 1e12, false, no_progress());
  int stops = 0;
  for (;;) {
    auto stopping = members(rows);
    const auto left = std::make_shared<int>(7);
    for (SweepMember& m : stopping) m.run.stop_requested = [left] { return (*left)-- == 0; };
    try {
      train_sweep(stopping, folder_ / "stopped", 1e12, false, no_progress());
      break;
    } catch (const Interrupted&) {
      ++stops;
    }
  }
  EXPECT_GE(stops, 3);
  toy::expect_same_contents(folder_ / "whole", folder_ / "stopped");
  // What is complete is left alone, and heard of all the same.
  std::vector<double> heard;
  const artifacts::Table table =
      train_sweep(members(rows), folder_ / "whole", 1e12, false, no_progress(),
                  [&](const TrainingOutcome& outcome) { heard.push_back(outcome.quality.l0); });
  ASSERT_EQ(heard.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_DOUBLE_EQ(heard[i], table.number(i, "l0"));
}

// One that max_steps cut short is complete for these steps alone.
TEST_F(Sweep, GoesOnWhereMaxStepsCutItShort) {
  const TrainingData rows = data();
  train_sweep(members(rows), folder_ / "whole", 1e12, false, no_progress());
  auto cut = members(rows);
  for (SweepMember& m : cut) m.run.max_steps = 7;
  train_sweep(cut, folder_ / "cut", 1e12, false, no_progress());
  EXPECT_EQ(read_file(folder_ / "cut/a/COMPLETE"), "7\n");
  train_sweep(cut, folder_ / "cut", 1e12, false, no_progress());
  EXPECT_EQ(read_file(folder_ / "cut/a/COMPLETE"), "7\n");
  train_sweep(members(rows), folder_ / "cut", 1e12, false, no_progress());
  toy::expect_same_contents(folder_ / "whole", folder_ / "cut");
}

}  // namespace
}  // namespace cresco::dictionaries
