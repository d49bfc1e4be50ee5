#include "cresco/trajectories/trajectory.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/families/neox.h"
#include "cresco/tensor/bridge.h"
#include "cresco/trajectories/stack.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace cresco::trajectories {
namespace {

families::NeoxConfig tiny() {
  families::NeoxConfig c;
  c.vocab_size = 5;
  c.hidden_size = 4;
  c.num_hidden_layers = 1;
  c.num_attention_heads = 2;
  c.rotary_pct = 1;
  c.intermediate_size = 8;
  return c;
}

void write_step(const Path& folder, std::int64_t step, double value) {
  std::vector<tensor::NamedTensor> weights;
  for (const auto& spec : families::neox_tensors(tiny()))
    weights.emplace_back(spec.name, at::full(spec.shape, value));
  write_snapshot(folder / fmt::format("step{}", step), families::neox_to_json(tiny(), "float32", 0),
                 weights, at::kFloat, false);
}

std::string error_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(Trajectory, ExtractsAMatrixOfEveryStep) {
  const TemporaryFolder folder;
  for (const std::int64_t step : {0, 5, 10})
    write_step(folder.path(), step, static_cast<double>(step) + 0.5);
  std::filesystem::create_directory(folder / "step007");  // not one of ours
  const Trajectory trajectory(folder.path());
  EXPECT_EQ(trajectory.layout(), "hf_steps");
  EXPECT_EQ(trajectory.steps(), (std::vector<std::int64_t>{0, 5, 10}));
  const Extracted made = extract(trajectory, {"W_U", "0,10", ""}, folder / "s.safetensors");
  EXPECT_EQ(made.shape, (std::vector<std::int64_t>{5, 4}));
  const Stack stack(folder / "s.safetensors");
  EXPECT_TRUE(at::equal(stack.at(1), at::full({5, 4}, 10.5)));
  extract(trajectory, {"gpt_neox.layers.0.mlp.dense_h_to_4h.weight", "all", "bf16"},
          folder / "m.safetensors");
  EXPECT_EQ(Stack(folder / "m.safetensors").dtype(), formats::DType::BF16);
}

TEST(Trajectory, SaysWhatIsMissing) {
  const TemporaryFolder folder;
  EXPECT_NE(error_of([&] { Trajectory t(folder.path()); }).find("holds no step<N>/"),
            std::string::npos);
  write_step(folder.path(), 3, 1);
  const Trajectory trajectory(folder.path());
  EXPECT_NE(error_of([&] { trajectory.open(4); }).find("has no step 4; it has 3"),
            std::string::npos);
  EXPECT_NE(error_of([&] {
              trajectory.open(3).tensor("embed_out.wieght");
            }).find("did you mean 'embed_out.weight'"),
            std::string::npos);
  std::filesystem::remove(folder / "step3" / "model.safetensors");
  EXPECT_NE(error_of([&] { trajectory.open(3); }), "no error");
}

TEST(Trajectory, RefusesAnIndexThatLeavesItsFolder) {
  const TemporaryFolder folder;
  write_step(folder.path(), 3, 1);
  std::filesystem::rename(folder / "step3" / "model.safetensors", folder / "outside.safetensors");
  write_file(folder / "step3" / "model.safetensors.index.json",
             R"({"weight_map": {"embed_out.weight": "../outside.safetensors"}})");
  EXPECT_NE(error_of([&] { Trajectory(folder.path()).open(3); }).find("leads out of the folder"),
            std::string::npos);
}

TEST(Trajectory, ReadsShards) {
  const TemporaryFolder folder;
  write_step(folder.path(), 3, 1);
  const Path step = folder / "step3";
  std::filesystem::rename(step / "model.safetensors", step / "model-00001-of-00001.safetensors");
  write_file(step / "model.safetensors.index.json",
             R"({"weight_map": {"embed_out.weight": "model-00001-of-00001.safetensors"}})");
  EXPECT_EQ(Trajectory(folder.path()).open(3).tensors().size(),
            families::neox_tensors(tiny()).size());
}

}  // namespace
}  // namespace cresco::trajectories
