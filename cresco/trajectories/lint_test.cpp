#include "cresco/trajectories/lint.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/families/neox.h"
#include "cresco/families/pythia.h"
#include "cresco/formats/safetensors.h"
#include "cresco/formats/torch_writer.h"
#include "cresco/tensor/bridge.h"
#include "cresco/trajectories/lint_warnings.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace cresco::trajectories {
namespace {

namespace fs = std::filesystem;
using Steps = std::vector<std::int64_t>;
using Weights = std::vector<tensor::NamedTensor>;

families::NeoxConfig tiny() {
  families::NeoxConfig c;
  c.vocab_size = 64;
  c.hidden_size = 16;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 2;
  c.rotary_pct = 0.5;
  c.intermediate_size = 32;
  return c;
}

// A training as its weights see it: a direction that all runs of one initialisation share and that
// fades, and noise that is a run's own and stays. `data` chooses the noise, `seed` the weights at
// step 0.
struct Training {
  Steps steps{0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512};
  at::ScalarType dtype = at::kFloat;
  double lr = 1e-3;
  std::uint64_t seed = 1, data = 1;
  std::int64_t spike = -1;  // an update at which it moves a hundred times as far

  std::vector<Weights> weights() const {
    std::vector<Weights> all(steps.size());
    std::uint64_t stream = 0;
    for (const auto& spec : families::neox_tensors(tiny())) {
      ++stream;
      at::manual_seed(seed * 1000 + stream);
      const bool is_matrix = spec.shape.size() == 2;
      at::Tensor w = is_matrix                            ? at::randn(spec.shape) * 0.1
                     : spec.name.ends_with("norm.weight") ? at::ones(spec.shape)
                                                          : at::zeros(spec.shape);
      at::manual_seed(seed * 3000 + stream);
      const at::Tensor shared = at::randn(spec.shape);
      at::manual_seed(data * 100000 + stream);
      std::size_t next = 0;
      for (std::int64_t step = 0; step <= steps.back(); ++step) {
        if (next < steps.size() && steps[next] == step)
          all[next++].emplace_back(spec.name, w.clone());
        const double size = step == spike ? 100 * lr : lr;
        w = w + size * (0.5 * std::exp(-static_cast<double>(step) / 80) * shared +
                        at::randn(spec.shape));
      }
    }
    return all;
  }
};

void write_step(const Path& folder, const Weights& weights, at::ScalarType dtype) {
  fs::create_directories(folder.parent_path());
  write_snapshot(folder, families::neox_to_json(tiny(), "float32", 0), weights, dtype, true);
}

// A trajectory on disk that tests damage.
class LintTest : public testing::Test {
 protected:
  Path step_folder(std::int64_t step) const { return folder_ / fmt::format("step{}", step); }

  void write(const Training& training) {
    for (const std::int64_t step : training_.steps) fs::remove_all(step_folder(step));
    training_ = training;
    weights_ = training.weights();
    for (std::size_t i = 0; i < weights_.size(); ++i) put(training.steps[i], weights_[i]);
  }
  void put(std::int64_t step, const Weights& weights) {
    write_step(step_folder(step), weights, training_.dtype);
  }
  Weights& at_step(std::int64_t step) {
    for (std::size_t i = 0; i < training_.steps.size(); ++i)
      if (training_.steps[i] == step) return weights_[i];
    fail("no step {}", step);
  }
  // Of a step, by a piece of a tensor's name.
  at::Tensor& tensor_at(std::int64_t step, const std::string& part) {
    for (auto& [name, tensor] : at_step(step))
      if (name.find(part) != std::string::npos) return tensor;
    fail("no tensor {}", part);
  }
  void edit_config(std::int64_t step, const Json& changes) {
    const Path file = step_folder(step) / "config.json";
    Json config = read_json_file(file);
    config.update(changes);
    write_json_file(file, config);
  }

  LintReport lint_it(const LintConfig& config = {}) {
    return lint(Trajectory(folder_.path()), config, no_progress());
  }
  // "code@step" of all findings of at least that level, in their order.
  std::string codes(Level least = Level::Warning, const LintConfig& config = {}) {
    std::string text;
    for (const Finding& finding : lint_it(config).findings)
      if (finding.level >= least)
        text += fmt::format("{}{}{}", text.empty() ? "" : " ", finding.code,
                            finding.step ? fmt::format("@{}", *finding.step) : "");
    return text;
  }

  const TemporaryFolder folder_;
  Training training_;
  std::vector<Weights> weights_;
};

const Steps kLinear{0, 40, 80, 120, 160, 200, 240, 280, 320, 360, 400};
const Steps kIrregular{0, 3, 11, 30, 50, 57, 110, 160, 250, 263, 400, 470, 500};

TEST_F(LintTest, SaysNothingOfTrainingsOfAnyKind) {
  for (const Steps& steps : {Training().steps, kLinear, kIrregular})
    for (const at::ScalarType dtype : {at::kFloat, at::kHalf, at::kBFloat16})
      for (const std::int64_t spike : {-1, 150}) {
        const double lr = spike > 0 ? 1e-3 : 4e-3;
        write({.steps = steps, .dtype = dtype, .lr = lr, .spike = spike});
        EXPECT_EQ(codes(), "") << steps[1] << " " << at::toString(dtype) << " " << spike;
      }
}

TEST_F(LintTest, FirstStepsThatAreEqualAreNoFault) {
  write({});
  put(1, at_step(0));
  EXPECT_EQ(codes(), "");
  EXPECT_EQ(codes(Level::Note), "identical-first-steps@1");
  put(2, at_step(0));
  EXPECT_EQ(codes(), "identical-early-steps@2");
}

TEST_F(LintTest, CopiesOfOtherSteps) {
  write({.steps = kLinear});
  put(120, at_step(320));
  const LintReport report = lint_it();
  ASSERT_EQ(report.findings.size(), 1u);
  EXPECT_EQ(report.findings[0].code, "identical-snapshots");
  EXPECT_EQ(report.findings[0].step, 120);
  EXPECT_NE(report.findings[0].message.find("at step 320"), std::string::npos);
  EXPECT_FALSE(report.ok());
  put(120, at_step(160));  // a neighbour of the one it equals: either may be the copy
  EXPECT_EQ(codes(), "identical-snapshots@120 identical-snapshots@160");
}

TEST_F(LintTest, ShardsAndTensorsOfOtherSteps) {
  write({.steps = kLinear});
  tensor_at(200, "layers.1.mlp.dense_h_to_4h.weight") =
      tensor_at(400, "layers.1.mlp.dense_h_to_4h.weight");
  put(200, at_step(200));
  EXPECT_EQ(codes(), "mixed-snapshot@200");
  EXPECT_NE(lint_it().findings[0].message.find("of step 400"), std::string::npos);

  write({.steps = kLinear});
  tensor_at(200, "embed_in") = tensor_at(160, "embed_in");  // a neighbour's
  put(200, at_step(200));
  // Half way between two steps and on one of them is too little difference to tell which is wrong.
  EXPECT_EQ(codes(), "mixed-snapshot@160 mixed-snapshot@200");
}

TEST_F(LintTest, FrozenTensorsAreANote) {
  write({.steps = kLinear});
  for (const std::int64_t step : kLinear) {
    tensor_at(step, "embed_in") = tensor_at(0, "embed_in");
    put(step, at_step(step));
  }
  EXPECT_EQ(codes(Level::Note), "unchanged-tensor@400");
}

TEST_F(LintTest, SnapshotsOfOtherRuns) {
  for (const Steps& steps : {kLinear, kIrregular}) {
    write({.steps = steps});
    Training other{.steps = steps, .seed = 2};
    const std::size_t at = 5;
    put(steps[at], other.weights()[at]);
    EXPECT_EQ(codes(), fmt::format("other-initialisation@{}", steps[at]));
    other = {.steps = steps, .data = 2};
    put(steps[at], other.weights()[at]);
    EXPECT_EQ(codes(), fmt::format("other-run@{}", steps[at]));
    put(steps[at], weights_[at]);
    put(steps.back(), other.weights().back());
    EXPECT_EQ(codes(), fmt::format("other-run@{}", steps.back()));
  }
}

TEST_F(LintTest, OnlyTheFirstSnapshotHasAnotherInitialisation) {
  write({});
  put(0, Training{.seed = 5}.weights()[0]);
  EXPECT_EQ(codes(), "other-initialisation@0");
}

TEST_F(LintTest, ExchangedSnapshots) {
  for (const Steps& steps : {Training().steps, kLinear, kIrregular}) {
    for (const auto& [a, b] : {std::pair{4, 5}, {3, 8}, {7, 10}}) {
      write({.steps = steps});
      const auto i = static_cast<std::size_t>(a), j = static_cast<std::size_t>(b);
      put(steps[i], weights_[j]);
      put(steps[j], weights_[i]);
      EXPECT_EQ(codes(),
                fmt::format("swapped-snapshots@{} swapped-snapshots@{}", steps[i], steps[j]));
    }
  }
}

TEST_F(LintTest, AlteredSnapshots) {
  write({.steps = kLinear});
  for (auto& [name, tensor] : at_step(200)) tensor = tensor * 1.25;
  put(200, at_step(200));
  EXPECT_EQ(codes(), "scaled-snapshot@200");
  write({.steps = kLinear});
  for (auto& [name, tensor] : at_step(200)) tensor = tensor + at::randn(tensor.sizes()) * 0.02;
  put(200, at_step(200));
  EXPECT_EQ(codes(), "off-path@200");
}

TEST_F(LintTest, NumbersThatAreNone) {
  for (const at::ScalarType dtype : {at::kFloat, at::kHalf, at::kBFloat16}) {
    write({.steps = kLinear, .dtype = dtype});
    tensor_at(80, "embed_out")[3][1] = NAN;
    tensor_at(120, "layers.0.attention.dense.bias")[0] = -INFINITY;
    put(80, at_step(80));
    put(120, at_step(120));
    EXPECT_EQ(codes(), "not-finite@80 not-finite@120");
    EXPECT_EQ(lint_it().findings[0].tensor, "embed_out.weight");
  }
}

TEST_F(LintTest, FilesThatCannotBeRead) {
  write({.steps = kLinear});
  fs::resize_file(step_folder(80) / "model.safetensors", 5000);
  fs::remove(step_folder(160) / "model.safetensors");
  write_file(step_folder(240) / "config.json", "{");
  EXPECT_EQ(codes(), "unreadable@80 unreadable@160 unreadable@240");
}

TEST_F(LintTest, TensorsThatAreNotThoseOfTheConfig) {
  write({.steps = kLinear});
  auto without = at_step(80);
  without.erase(without.begin() + 3);
  put(80, without);
  tensor_at(120, "embed_in") = at::randn({64, 8});
  put(120, at_step(120));
  auto more = at_step(160);
  more.emplace_back("gpt_neox.layers.0.attention.extra", at::ones({3}));
  more.emplace_back("gpt_neox.layers.0.attention.masked_bias", at::ones({}));  // a known buffer
  put(160, more);
  EXPECT_EQ(codes(), "missing-tensor@80 wrong-shape@120 surplus-tensor@160");
}

TEST_F(LintTest, TypesThatOtherStepsDoNotHave) {
  write({.steps = kLinear, .dtype = at::kHalf});
  write_step(step_folder(80), at_step(80), at::kFloat);
  EXPECT_EQ(codes(), "type-differs@80");
  EXPECT_TRUE(lint_it().ok());
  for (auto& [name, tensor] : at_step(120)) tensor = tensor.to(at::kLong);
  write_step(step_folder(120), at_step(120), at::kLong);
  EXPECT_EQ(codes(Level::Error).substr(0, 12), "not-real@120");
}

TEST_F(LintTest, ConfigsThatContradict) {
  write({.steps = kLinear});
  edit_config(80, {{"num_attention_heads", 4}, {"transformers_version", "5.0"}});
  edit_config(120, {{"hidden_size", "wide"}});
  edit_config(160, {{"transformers_version", "5.0"}});  // says nothing of the model
  EXPECT_EQ(codes(), "config-differs@80 config-differs@120 bad-config@120");
}

TEST_F(LintTest, TiedHeads) {
  write({.steps = kLinear});
  tensor_at(80, "embed_out") = tensor_at(80, "embed_in");
  put(80, at_step(80));
  EXPECT_NE(codes(Level::Note).find("untied-head-equals@80"), std::string::npos);
  for (const std::int64_t step : kLinear) edit_config(step, {{"tie_word_embeddings", true}});
  const std::string found = codes();
  EXPECT_NE(found.find("tied-head-differs@120"), std::string::npos) << found;
  EXPECT_EQ(found.find("tied-head-differs@80 "), std::string::npos) << found;
}

TEST_F(LintTest, TokenizersOfOtherModels) {
  const auto with_ids = [&](int count) {
    Json vocabulary;
    for (int id = 0; id < count; ++id) vocabulary[fmt::format("t{}", id)] = id;
    return to_text(
        {{"version", "1.0"},
         {"added_tokens", Json::array()},
         {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
         {"decoder", {{"type", "ByteLevel"}}},
         {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", Json::array()}}}});
  };
  write({.steps = kLinear});
  write_file(folder_ / "tokenizer.json", with_ids(60));
  EXPECT_EQ(codes(Level::Note), "padding-rows");
  write_file(folder_ / "tokenizer.json", with_ids(70));
  EXPECT_EQ(codes().substr(0, 21), "tokenizer-too-large@0");
  write_file(folder_ / "tokenizer.json", "[]");
  EXPECT_EQ(codes(), "bad-tokenizer");
}

TEST_F(LintTest, StepsThatShouldBeThere) {
  write({.steps = kLinear});
  EXPECT_EQ(codes(Level::Note, {.preset = "0:400:40"}), "");
  EXPECT_EQ(codes(Level::Note, {.preset = "0:440:40"}), "missing-step@440");
  EXPECT_EQ(codes(Level::Note, {.preset = "0:360:40"}), "surplus-step@400");
  EXPECT_THROW(codes(Level::Note, {.preset = "phytia"}), UsageError);
  fs::remove_all(step_folder(200));
  EXPECT_EQ(codes(), "step-gap@200");
  EXPECT_EQ(codes(Level::Warning, {.steps = "0:120:40"}), "");
}

TEST_F(LintTest, StatesOfOtherSteps) {
  write({.steps = kLinear});
  fs::create_directory(folder_ / "snapshots");
  for (const std::int64_t step : kLinear)
    fs::rename(step_folder(step), folder_ / "snapshots" / fmt::format("step{}", step));
  write_file(folder_ / "recipe.yaml", "");
  const auto put_state = [&](std::int64_t step, std::int64_t says, const Weights& weights) {
    const Path folder = folder_ / "state" / fmt::format("step{}", step);
    fs::create_directories(folder);
    tensor::write_tensors(folder / "state.safetensors", weights, {});
    write_json_file(folder / "state.json", {{"step", says}, {"optimizer", {{"num_steps", says}}}});
  };
  put_state(200, 200, at_step(200));
  put_state(210, 210, at_step(200));  // no snapshot to compare with
  EXPECT_EQ(codes(), "");
  put_state(200, 240, at_step(200));
  EXPECT_EQ(codes(), "foreign-state@200");
  put_state(200, 200, at_step(240));
  EXPECT_EQ(codes(), "foreign-state@200");
  write_file(folder_ / "state/step200/state.json", "{");
  EXPECT_EQ(codes(), "unreadable-state@200");
}

TEST(LintKnownFaults, AreThoseOfTheModelsName) {
  const auto faults = families::pythia_known_faults();
  const auto fault = std::find_if(faults.begin(), faults.end(), [](const auto& f) {
    return !f.steps.empty() && f.model != "all";
  });
  ASSERT_NE(fault, faults.end());
  const TemporaryFolder folder;
  for (const char* name : {fault->model.c_str(), "another"})
    for (const std::int64_t step : {fault->steps[0], fault->steps[0] + 1})
      write_step(folder / name / fmt::format("step{}", step),
                 Training{.steps = {0}, .seed = static_cast<std::uint64_t>(step)}.weights()[0],
                 at::kFloat);
  const auto known_at = [&](const std::string& name) {
    std::set<std::int64_t> steps;
    for (const Finding& finding : lint(Trajectory(folder / name), {}, no_progress()).findings)
      if (finding.code == "known-fault") steps.insert(finding.step.value());
    return steps;
  };
  EXPECT_TRUE(known_at(fault->model).contains(fault->steps[0]));
  EXPECT_TRUE(known_at("another").empty());
}

TEST(LintCompare, SaysHowTwoTrajectoriesStandToEachOther) {
  const TemporaryFolder a, b;
  const auto put = [](const TemporaryFolder& folder, const Training& training) {
    const auto weights = training.weights();
    for (std::size_t i = 0; i < weights.size(); ++i)
      write_step(folder / fmt::format("step{}", training.steps[i]), weights[i], at::kFloat);
  };
  const auto compared = [&](Findings& findings) {
    const Trajectory x(a.path()), y(b.path());
    return compare(x, lint(x, {}, no_progress()), y, lint(y, {}, no_progress()), findings);
  };
  Findings findings;
  put(a, {.steps = kLinear});
  put(b, {.steps = kLinear});
  Json found = compared(findings);
  EXPECT_EQ(found["same_run"], true);
  EXPECT_EQ(findings[0].code, "same-run");

  findings.clear();
  put(b, {.steps = kLinear, .data = 2});
  found = compared(findings);
  EXPECT_EQ(found["same_run"], false);
  EXPECT_EQ(found["same_initialisation"], true);
  EXPECT_EQ(found["diverge_after_step"], 0);
  EXPECT_EQ(found["identical_steps"], Steps{0});

  write_step(b / "step200", Training{.steps = kLinear}.weights()[5], at::kFloat);
  findings.clear();
  found = compared(findings);
  EXPECT_EQ(findings.back().code, "identical-after-divergence");
  EXPECT_EQ(findings.back().level, Level::Error);
  EXPECT_EQ(findings.back().step, 200);

  findings.clear();
  put(b, {.steps = kLinear, .seed = 2});
  EXPECT_EQ(compared(findings)["same_initialisation"], false);
}

TEST(LintWarnings, CountsTheErrorsOfTheStepsThatAreUsed) {
  const TemporaryFolder folder, elsewhere;
  for (const std::int64_t step : {0, 8, 16})
    write_step(folder / fmt::format("step{}", step), Training{.steps = {step}}.weights()[0],
               at::kFloat);
  const Trajectory trajectory(folder.path());
  EXPECT_EQ(lint_warning(trajectory, {0, 8}, ""), "");
  const Findings findings{{"not-finite", Level::Error, 8, "W", "is bad"},
                          {"not-finite", Level::Error, 8, "V", "is bad"},
                          {"type-differs", Level::Warning, 0, "", "is odd"}};
  write_json_file(elsewhere / "lint.json", {{"ok", false}, {"findings", findings_json(findings)}});
  EXPECT_EQ(lint_warning(trajectory, {0, 16}, elsewhere.path().string()), "");
  const std::string said = lint_warning(trajectory, {0, 8}, elsewhere.path().string());
  EXPECT_NE(said.find("2 errors at steps 8 of those used here (not-finite)"), std::string::npos)
      << said;
  EXPECT_THROW(lint_warning(trajectory, {0}, (elsewhere / "no.json").string()), Error);
  fs::copy(elsewhere / "lint.json", folder / "lint.json");
  EXPECT_EQ(lint_warning(trajectory, {8}, "").substr(0, 26), "warning: lint found 2 erro");
  write_file(folder / "lint.json", "{}");
  EXPECT_THROW(lint_warning(trajectory, {8}, ""), Error);
}

}  // namespace
}  // namespace cresco::trajectories
