#include "cresco/trajectories/convert.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/families/family.h"
#include "cresco/formats/torch_writer.h"
#include "cresco/tensor/bridge.h"
#include "cresco/trajectories/stack.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace cresco::trajectories {
namespace {

namespace fs = std::filesystem;

const Json kNeox = {{"model_type", "gpt_neox"}, {"vocab_size", 7},
                    {"hidden_size", 8},         {"num_hidden_layers", 2},
                    {"num_attention_heads", 2}, {"intermediate_size", 12},
                    {"rotary_pct", 0.5},        {"torch_dtype", "float32"}};
const Json kGpt2 = {
    {"model_type", "gpt2"}, {"vocab_size", 7},  {"n_embd", 8},        {"n_layer", 2},
    {"n_head", 2},          {"n_positions", 5}, {"n_inner", nullptr}, {"torch_dtype", "float32"}};

std::vector<tensor::NamedTensor> random_weights(const Json& config, std::uint64_t seed) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  std::vector<tensor::NamedTensor> weights;
  for (const auto& spec : families::family_of(config, "test").tensors(config, "test"))
    weights.emplace_back(spec.name, at::randn(spec.shape, generator, at::kFloat));
  return weights;
}

Converted run(const Path& from, const ConvertConfig& config, const Path& out) {
  return convert(Trajectory(from), config, out, no_progress(), "again");
}

std::string error_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

#define EXPECT_SAYS(act, text)                             \
  do {                                                     \
    const std::string said = error_of([&] { act; });       \
    EXPECT_NE(said.find(text), std::string::npos) << said; \
  } while (false)

// A run of ours, as far as a trajectory is concerned.
void write_run(const Path& folder) {
  fs::create_directories(folder / "snapshots");
  write_file(folder / "recipe.yaml", "");
  for (const std::uint64_t step : {0, 5})
    write_snapshot(folder / "snapshots" / fmt::format("step{}", step), kNeox,
                   random_weights(kNeox, step), at::kFloat, false);
}

TEST(Convert, ARunToFoldersOfSteps) {
  const TemporaryFolder folder;
  write_run(folder / "run");
  const Converted made = run(folder / "run", {.to = "hf_steps"}, folder / "out");
  ASSERT_EQ(made.steps.size(), 2u);
  EXPECT_EQ(made.steps[1].num_tensors, made.steps[1].num_equal);
  const Trajectory trajectory(folder / "out");
  EXPECT_EQ(trajectory.layout(), "hf_steps");
  for (const auto& [name, weight] : random_weights(kNeox, 5))
    EXPECT_TRUE(at::equal(trajectory.open(5).read(name), weight)) << name;

  // In another type: as far apart as rounding makes it, and the config says so.
  const Converted rounded = run(folder / "run", {.to = "hf_steps", .dtype = "fp16"}, folder / "h");
  EXPECT_GT(rounded.steps[0].relative_difference, 1e-5);
  EXPECT_LT(rounded.steps[0].relative_difference, 1.0 / 2048);
  EXPECT_EQ(Trajectory(folder / "h").open(0).config()["torch_dtype"], "float16");
  EXPECT_SAYS(run(folder / "out", {.to = "hf_steps"}, folder / "x"),
              "is of layout hf_steps already");
}

// A call that was stopped goes on, and what stands there is compared again.
TEST(Convert, GoesOnAndFindsDamage) {
  const TemporaryFolder folder;
  write_run(folder / "run");
  run(folder / "run", {.to = "hf_steps", .steps = "0"}, folder / "out");
  EXPECT_EQ(run(folder / "run", {.to = "hf_steps"}, folder / "out").steps.size(), 2u);
  const Path file = folder / "out/step0/model.safetensors";
  std::string bytes = read_file(file);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  write_file(file, bytes);
  EXPECT_SAYS(run(folder / "run", {.to = "hf_steps"}, folder / "out"),
              "what was written is not what was read");
}

TEST(Convert, NumbersThatASmallerTypeCannotHold) {
  const TemporaryFolder folder;
  write_run(folder / "run");
  auto weights = random_weights(kNeox, 0);
  weights[0].second.fill_(1e6);
  write_snapshot(folder / "run/snapshots/step0", kNeox, weights, at::kFloat, true);
  EXPECT_SAYS(run(folder / "run", {.to = "hf_steps", .dtype = "fp16"}, folder / "out"),
              "that Half cannot hold");
}

TEST(Convert, MatricesBetweenFilesAndStacks) {
  const TemporaryFolder folder;
  write_run(folder / "run");
  run(folder / "run", {.to = "wu_pt"}, folder / "wu");
  const Trajectory files(folder / "wu");
  EXPECT_EQ(files.layout(), "wu_pt");
  EXPECT_EQ(files.model(), "run");
  EXPECT_TRUE(fs::exists(folder / "wu/run_step5_wu.pt"));
  run(folder / "wu", {.to = "stack"}, folder / "s.safetensors");
  EXPECT_TRUE(at::equal(Stack(folder / "s.safetensors").at(1),
                        Trajectory(folder / "run").open(5).read("embed_out.weight")));
  const Converted back = run(folder / "s.safetensors", {.to = "wu_pt"}, folder / "back");
  EXPECT_EQ(back.steps.size(), 2u);
  EXPECT_EQ(read_file(folder / "back/run_step5_wu.pt"), read_file(folder / "wu/run_step5_wu.pt"));
  run(folder / "run", {.to = "wu_pt", .matrix = "W_E", .dtype = "bf16"}, folder / "wu");
  EXPECT_EQ(Trajectory(folder / "wu").open(0).tensors().size(), 2u);
  EXPECT_SAYS(run(folder / "wu", {.to = "hf_steps"}, folder / "x"), "holds single matrices");
  EXPECT_SAYS(run(folder / "run", {.to = "wu_pt", .matrix = "W_in.0"}, folder / "x"),
              "hold W_U or W_E");
  EXPECT_SAYS(run(folder / "run", {.to = "gguf"}, folder / "x"), "is not one of");
}

TEST(Convert, RecipeControlArmsNeedAConfig) {
  const TemporaryFolder folder;
  fs::create_directories(folder / "arm/ckpts/step7");
  std::vector<formats::TensorView> views;
  const auto weights = random_weights(kNeox, 7);
  for (const auto& [name, weight] : weights) views.push_back(tensor::view_of(name, weight));
  formats::write_torch(folder / "arm/ckpts/step7/model_fp16.pt", views);
  EXPECT_SAYS(run(folder / "arm", {.to = "hf_steps"}, folder / "out"), "--model-config");
  write_json_file(folder / "c.json", kNeox);
  const std::string config = (folder / "c.json").string();
  run(folder / "arm", {.to = "hf_steps", .model_config = config}, folder / "out");
  EXPECT_TRUE(at::equal(Trajectory(folder / "out").open(7).read("embed_out.weight"),
                        weights.back().second));
  Json other = kNeox;
  other["vocab_size"] = 9;
  write_json_file(folder / "c.json", other);
  EXPECT_SAYS(run(folder / "arm", {.to = "hf_steps", .model_config = config}, folder / "y"),
              "by its config (9, 8)");
}

TEST(Convert, Gpt2BetweenThreePrograms) {
  const TemporaryFolder folder;
  const auto weights = random_weights(kGpt2, 1);
  write_snapshot(folder / "hf", kGpt2, weights, at::kFloat, false);
  const Converted nanogpt = run(folder / "hf", {.to = "nanogpt"}, folder / "ckpt.pt");
  ASSERT_EQ(nanogpt.notes.size(), 1u);  // erf against tanh
  const Snapshot opened = open_snapshot(folder / "ckpt.pt");
  EXPECT_EQ(opened.config()["n_layer"], 2);
  const Snapshot hf = open_snapshot(folder / "hf");
  EXPECT_TRUE(at::equal(opened.read("transformer.h.1.attn.c_proj.weight"),
                        hf.read("transformer.h.1.attn.c_proj.weight").t()));
  EXPECT_TRUE(at::equal(opened.read("lm_head.weight"), hf.read("transformer.wte.weight")));

  run(folder / "ckpt.pt", {.to = "llmc"}, folder / "model.bin");
  EXPECT_EQ(open_snapshot(folder / "model.bin").config()["n_head"], 2);
  run(folder / "model.bin", {.to = "hf_model"}, folder / "back");
  const Snapshot back = open_snapshot(folder / "back");
  EXPECT_FALSE(back.config().contains("conv1d"));
  for (const auto& [name, weight] : weights)
    EXPECT_TRUE(at::equal(back.read(name), weight)) << name;

  EXPECT_SAYS(run(folder / "hf", {.to = "llmc", .dtype = "fp16"}, folder / "x.bin"),
              "hold fp32 or bf16");
  EXPECT_LT(run(folder / "hf", {.to = "llmc", .dtype = "bf16"}, folder / "b.bin")
                .steps[0]
                .relative_difference,
            1.0 / 256);
  write_run(folder / "run");
  EXPECT_SAYS(run(folder / "run", {.to = "llmc"}, folder / "x.bin"), "choose one by --steps");
  EXPECT_SAYS(run(folder / "run", {.to = "llmc", .steps = "5"}, folder / "x.bin"),
              "is not a GPT-2 model");
}

}  // namespace
}  // namespace cresco::trajectories
