#include "cresco/trajectories/extract.h"

#include "cresco/base/hash.h"
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/tensor/bridge.h"
#include "cresco/trajectories/matrix_reader.h"
#include "cresco/trajectories/stack.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace cresco::trajectories {
namespace {

const Json kNeox = {{"model_type", "gpt_neox"}, {"vocab_size", 7},
                    {"hidden_size", 8},         {"num_hidden_layers", 2},
                    {"num_attention_heads", 2}, {"intermediate_size", 12},
                    {"rotary_pct", 0.5}};
const Json kGpt2 = {{"model_type", "gpt2"}, {"vocab_size", 7}, {"n_embd", 8},
                    {"n_layer", 2},         {"n_head", 2},     {"n_positions", 5}};
const Json kOlmo2 = {{"model_type", "olmo2"},    {"vocab_size", 7},
                     {"hidden_size", 8},         {"num_hidden_layers", 1},
                     {"num_attention_heads", 4}, {"num_key_value_heads", 2},
                     {"intermediate_size", 12}};

// A folder of step<N>/ with random weights, the same at every call.
void write_steps(const Path& folder, const Json& config, const std::vector<std::int64_t>& steps,
                 at::ScalarType dtype = at::kFloat) {
  const auto& family = families::family_of(config, "test");
  for (const std::int64_t step : steps) {
    auto generator = at::make_generator<at::CPUGeneratorImpl>(static_cast<std::uint64_t>(step));
    std::vector<tensor::NamedTensor> weights;
    for (const auto& spec : family.tensors(config, "test"))
      weights.emplace_back(spec.name, at::randn(spec.shape, generator, at::kFloat));
    write_snapshot(folder / fmt::format("step{}", step), config, weights, dtype, false);
  }
}

Extracted run(const Path& path, const ExtractConfig& config, const Path& out) {
  return extract(Trajectory(path), config, out, no_progress(), "again");
}

// The matrix of the only or the last step.
at::Tensor matrix_of(const Path& stack) {
  const Stack opened(stack);
  return opened.at(opened.num_snapshots() - 1);
}

at::Tensor weight(const Path& folder, const std::string& name) {
  const Trajectory trajectory(folder);
  return trajectory.open(trajectory.steps().back()).read(name).to(at::kFloat);
}

TEST(Extract, ReadsAMatrixOfEveryStep) {
  const TemporaryFolder folder;
  write_steps(folder.path(), kNeox, {0, 5, 10});
  const Path out = folder / "s.safetensors";
  const Extracted made = run(folder.path(), {"W_U", "0,10"}, out);
  EXPECT_EQ(made.steps, (std::vector<std::int64_t>{0, 10}));
  EXPECT_EQ(made.matrices[0].shape, (std::vector<std::int64_t>{7, 8}));
  EXPECT_TRUE(at::equal(matrix_of(out), weight(folder.path(), "embed_out.weight")));
  // The hash is that of the bytes in the file.
  const at::Tensor last = weight(folder.path(), "embed_out.weight").contiguous();
  EXPECT_EQ(made.matrices[0].sha256[1], sha256_hex(tensor::view_of("", last).bytes));

  run(folder.path(), {"W_E", "all", "bf16"}, folder / "e.safetensors");
  EXPECT_EQ(Stack(folder / "e.safetensors").dtype(), formats::DType::BF16);
  EXPECT_TRUE(at::equal(matrix_of(folder / "e.safetensors"),
                        weight(folder.path(), "gpt_neox.embed_in.weight").to(at::kBFloat16)));
  // A vector is a matrix of one row; a tensor may be named as the file does.
  run(folder.path(), {"layers.1.input_layernorm.bias"}, folder / "b.safetensors");
  EXPECT_TRUE(at::equal(matrix_of(folder / "b.safetensors")[0],
                        weight(folder.path(), "gpt_neox.layers.1.input_layernorm.bias")));
  EXPECT_THROW(run(folder.path(), {"W_X"}, folder / "x.safetensors"), Error);
}

// Bytes in are bytes out: 16-bit weights with every bit pattern, NaN payloads too.
TEST(Extract, KeepsEveryBit) {
  const TemporaryFolder folder;
  std::vector<std::uint16_t> all(1 << 16);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  const auto bytes = std::as_bytes(std::span(all));
  std::filesystem::create_directory(folder / "step3");
  formats::write_safetensors(folder / "step3/model.safetensors",
                             {{"lm_head.weight", formats::DType::BF16, {256, 256}, bytes}});
  write_file(folder / "step3/config.json", R"({"model_type": "llama"})");  // a family by name only
  run(folder.path(), {"W_U"}, folder / "s.safetensors");
  std::vector<std::uint16_t> back(all.size());
  formats::read(Stack(folder / "s.safetensors").stored(0), std::as_writable_bytes(std::span(back)));
  EXPECT_EQ(back, all);
}

TEST(Extract, CutsNeoxAttentionIntoHeads) {
  const TemporaryFolder folder;
  write_steps(folder.path(), kNeox, {1});
  const at::Tensor qkv =
      weight(folder.path(), "gpt_neox.layers.1.attention.query_key_value.weight");
  const at::Tensor heads = qkv.reshape({2, 3, 4, 8});  // head, q|k|v, head size, width
  run(folder.path(), {"W_K.1"}, folder / "k.safetensors");
  EXPECT_TRUE(at::equal(matrix_of(folder / "k.safetensors"), heads.select(1, 1).reshape({8, 8})));
  const at::Tensor bias = weight(folder.path(), "gpt_neox.layers.1.attention.query_key_value.bias");
  run(folder.path(), {"b_V.1"}, folder / "b.safetensors");
  EXPECT_TRUE(at::equal(matrix_of(folder / "b.safetensors")[0],
                        bias.reshape({2, 3, 4}).select(1, 2).flatten()));
  run(folder.path(), {"W_QK.1.1"}, folder / "qk.safetensors");
  const at::Tensor q = heads[1][0].to(at::kDouble), k = heads[1][1].to(at::kDouble),
                   v = heads[1][2].to(at::kDouble);
  EXPECT_TRUE(at::allclose(matrix_of(folder / "qk.safetensors"), q.t().mm(k).to(at::kFloat)));
  EXPECT_NE(Stack(folder / "qk.safetensors").info().note.find("without rotary"), std::string::npos);
  run(folder.path(), {"W_OV.1.0"}, folder / "ov.safetensors");
  const at::Tensor o = weight(folder.path(), "gpt_neox.layers.1.attention.dense.weight");
  EXPECT_TRUE(at::allclose(
      matrix_of(folder / "ov.safetensors"),
      o.slice(1, 0, 4).to(at::kDouble).mm(heads[0][2].to(at::kDouble)).to(at::kFloat)));
  EXPECT_THROW(run(folder.path(), {"W_QK.2.0"}, folder / "x.safetensors"), Error);
}

TEST(Extract, TurnsGpt2sMatricesAround) {
  const TemporaryFolder folder;
  write_steps(folder.path(), kGpt2, {1}, at::kHalf);
  const at::Tensor c_attn =
      weight(folder.path(), "transformer.h.1.attn.c_attn.weight");  // (in, out)
  run(folder.path(), {"W_V.1"}, folder / "v.safetensors");
  EXPECT_TRUE(at::equal(matrix_of(folder / "v.safetensors"), c_attn.slice(1, 16, 24).t()));
  run(folder.path(), {"W_in.0"}, folder / "in.safetensors");
  EXPECT_TRUE(at::equal(matrix_of(folder / "in.safetensors"),
                        weight(folder.path(), "transformer.h.0.mlp.c_fc.weight").t()));
  run(folder.path(), {"W_OV.1.1"}, folder / "ov.safetensors");
  const at::Tensor c_proj = weight(folder.path(), "transformer.h.1.attn.c_proj.weight");
  const at::Tensor expected =
      c_proj.slice(0, 4, 8).t().to(at::kDouble).mm(c_attn.slice(1, 20, 24).t().to(at::kDouble));
  EXPECT_TRUE(at::allclose(matrix_of(folder / "ov.safetensors"), expected.to(at::kFloat)));
  run(folder.path(), {"W_U"}, folder / "u.safetensors");  // tied
  EXPECT_TRUE(at::equal(matrix_of(folder / "u.safetensors"),
                        weight(folder.path(), "transformer.wte.weight")));
}

TEST(Extract, SharesKeyHeadsAmongQueryHeads) {
  const TemporaryFolder folder;
  write_steps(folder.path(), kOlmo2, {1}, at::kBFloat16);
  run(folder.path(), {"W_QK.0.3"}, folder / "qk.safetensors");
  const at::Tensor q = weight(folder.path(), "model.layers.0.self_attn.q_proj.weight"),
                   k = weight(folder.path(), "model.layers.0.self_attn.k_proj.weight");
  const at::Tensor expected =
      q.slice(0, 6, 8).t().to(at::kDouble).mm(k.slice(0, 2, 4).to(at::kDouble));
  EXPECT_TRUE(at::allclose(matrix_of(folder / "qk.safetensors"), expected.to(at::kFloat)));
  run(folder.path(), {"W_OV.0.3"}, folder / "ov.safetensors");
  const at::Tensor o = weight(folder.path(), "model.layers.0.self_attn.o_proj.weight"),
                   v = weight(folder.path(), "model.layers.0.self_attn.v_proj.weight");
  EXPECT_TRUE(at::allclose(
      matrix_of(folder / "ov.safetensors"),
      o.slice(1, 6, 8).to(at::kDouble).mm(v.slice(0, 2, 4).to(at::kDouble)).to(at::kFloat)));
  // A norm without a bias leaves nothing to write beside the folded readout.
  EXPECT_EQ(run(folder.path(), {"W_U", "all", "", true}, folder / "u.safetensors").matrices.size(),
            1u);
}

TEST(Extract, FoldsTheFinalNorm) {
  const TemporaryFolder folder;
  write_steps(folder.path(), kNeox, {1, 2});
  const Extracted made = run(folder.path(), {"W_U", "all", "", true}, folder / "u.safetensors");
  ASSERT_EQ(made.matrices.size(), 2u);
  const at::Tensor W_U = weight(folder.path(), "embed_out.weight").to(at::kDouble),
                   gain = weight(folder.path(), "gpt_neox.final_layer_norm.weight"),
                   bias = weight(folder.path(), "gpt_neox.final_layer_norm.bias");
  EXPECT_TRUE(at::equal(matrix_of(folder / "u.safetensors"), (W_U * gain).to(at::kFloat)));
  EXPECT_EQ(made.matrices[1].out, folder / "u.bias.safetensors");
  EXPECT_TRUE(at::allclose(matrix_of(folder / "u.bias.safetensors")[0],
                           W_U.mv(bias.to(at::kDouble)).to(at::kFloat)));
  EXPECT_THROW(run(folder.path(), {"W_E", "all", "", true}, folder / "e.safetensors"), UsageError);
}

TEST(Extract, WritesAStackForEachMatrixOfAPattern) {
  const TemporaryFolder folder;
  write_steps(folder.path(), kNeox, {0, 1});
  const Extracted made = run(folder.path(), {"W_out.*"}, folder / "stacks");
  ASSERT_EQ(made.matrices.size(), 2u);
  EXPECT_TRUE(at::equal(matrix_of(folder / "stacks/W_out.1.safetensors"),
                        weight(folder.path(), "gpt_neox.layers.1.mlp.dense_4h_to_h.weight")));
  EXPECT_EQ(run(folder.path(), {"W_QK.0.*"}, folder / "heads").matrices.size(), 2u);
  EXPECT_EQ(run(folder.path(), {"ln_final.?"}, folder / "norm").matrices.size(), 2u);
  EXPECT_EQ(
      run(folder.path(), {"gpt_neox.layers.*.mlp.*.bias"}, folder / "by_name").matrices.size(), 4u);
  EXPECT_THROW(run(folder.path(), {"W_none.*"}, folder / "none"), Error);
}

// What is computed keeps saying how, also when it is cut out of its own stack.
TEST(Extract, ReadsItsOwnStacks) {
  const TemporaryFolder folder;
  write_steps(folder.path(), kNeox, {1, 2});
  run(folder.path(), {"W_QK.0.0"}, folder / "qk.safetensors");
  run(folder / "qk.safetensors", {"W_QK.0.0", "2"}, folder / "one.safetensors");
  const Stack cut(folder / "one.safetensors");
  EXPECT_TRUE(at::equal(cut.at(0), matrix_of(folder / "qk.safetensors")));
  EXPECT_EQ(cut.info().note, Stack(folder / "qk.safetensors").info().note);
}

TEST(Extract, RefusesTensorsThatTheirConfigDoesNotAskFor) {
  const TemporaryFolder folder;
  write_steps(folder.path(), kNeox, {1});
  Json other = kNeox;
  other["num_attention_heads"] = 1;
  other["hidden_size"] = 4;
  write_file(folder / "step1/config.json", other.dump());
  for (const char* matrix : {"W_OV.0.0", "W_QK.0.0", "W_in.1", "W_U"})
    EXPECT_THROW(run(folder.path(), {matrix}, folder / "x.safetensors"), Error) << matrix;
}

TEST(Extract, RefusesNumbersThatASmallerTypeCannotHold) {
  const TemporaryFolder folder;
  write_stack(folder / "s.safetensors", {"m", "W_U", {1}, ""}, {at::full({2, 2}, 1e6f)});
  EXPECT_THROW(run(folder / "s.safetensors", {"W_U", "all", "fp16"}, folder / "h.safetensors"),
               Error);
  EXPECT_FALSE(std::filesystem::exists(folder / "h.safetensors"));
}

TEST(Extract, RefusesStepsOfAnotherShape) {
  const TemporaryFolder folder;
  write_steps(folder.path(), kNeox, {0});
  Json other = kNeox;
  other["vocab_size"] = 9;
  write_steps(folder.path(), other, {5});
  try {
    run(folder.path(), {"W_U"}, folder / "s.safetensors");
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("'W_U' is (9, 8) of F32, at step 0 it was (7, 8)"),
              std::string::npos)
        << e.what();
  }
  EXPECT_FALSE(std::filesystem::exists(folder / "s.safetensors.part"));
}

}  // namespace
}  // namespace cresco::trajectories
