#include "cresco/dictionaries/released.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/dictionaries/toy_stack.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

namespace cresco::dictionaries {
namespace {

Dictionary small_dictionary(std::int64_t K = 3) {
  Dictionary dictionary{.name = "seed0", .model_name = "EleutherAI/pythia-160m", .matrix = "W_U"};
  for (std::int64_t k = 0; k < K; ++k) dictionary.steps.push_back(k * k);
  dictionary.training.d_sae = 7;
  dictionary.training.input_preprocess = "center";
  dictionary.training.lr = 2e-5;
  dictionary.parameters = {toy::normal({K, 4, 7}, 0, "W_E"), toy::normal({K, 7}, 0, "b_E"),
                           toy::normal({K, 7, 4}, 0, "W_D"), toy::normal({K, 4}, 0, "b_D"),
                           toy::normal({7}, 0, "threshold")};
  dictionary.quality = {{"explained_variance", 0.9}};
  return dictionary;
}

TEST(Dictionary, SurvivesItsFiles) {
  const TemporaryFolder folder;
  const Dictionary written = small_dictionary();
  write_dictionary(folder.path(), written);
  for (const Path& path : {folder.path(), folder / "seed0.safetensors"}) {
    const Dictionary read = read_dictionary(path);
    EXPECT_EQ(read.name, "seed0");
    EXPECT_EQ(read.model_name, written.model_name);
    EXPECT_EQ(read.matrix, "W_U");
    EXPECT_EQ(read.steps, written.steps);
    EXPECT_EQ(read.training.input_preprocess, "center");
    EXPECT_EQ(read.training.lr, 2e-5);
    EXPECT_EQ(read.quality["explained_variance"], 0.9);
    const auto a = written.parameters.named(), b = read.parameters.named();
    for (std::size_t i = 0; i < a.size(); ++i)
      EXPECT_TRUE(at::equal(a[i].second, b[i].second)) << a[i].first;
  }
}

TEST(Dictionary, HasTheReleasedNames) {
  const TemporaryFolder folder;
  write_dictionary(folder.path(), small_dictionary());
  const formats::SafetensorsFile file(folder / "seed0.safetensors");
  ASSERT_EQ(file.tensors().size(), 5u);
  EXPECT_EQ(file.tensor("W_E").shape, (std::vector<std::int64_t>{3, 4, 7}));
  EXPECT_EQ(file.tensor("b_E").shape, (std::vector<std::int64_t>{3, 7}));
  EXPECT_EQ(file.tensor("W_D").shape, (std::vector<std::int64_t>{3, 7, 4}));
  EXPECT_EQ(file.tensor("b_D").shape, (std::vector<std::int64_t>{3, 4}));
  EXPECT_EQ(file.tensor("activation_function.log_jumprelu_threshold").shape,
            (std::vector<std::int64_t>{7}));
  const Json config = read_json_file(folder / "seed0.config.json");
  EXPECT_EQ(config["kind"], "cross-snapshot");
  EXPECT_EQ(config["config"]["act_fn"], "jumprelu");
  EXPECT_EQ(config["config"]["d_sae"], 7);
  EXPECT_EQ(config["config"]["hook_points"][2], "wu_step_2");
  EXPECT_EQ(config["training"]["n_epochs"], 300);
}

// Every activation that a dictionary can have, with the tensors that belong to it.
TEST(Dictionary, OfEveryActivationComesBackAsItWas) {
  for (const auto kind :
       {ActivationKind::JumpRelu, ActivationKind::SharedJumpRelu, ActivationKind::TopK,
        ActivationKind::BatchTopK, ActivationKind::Gated, ActivationKind::Relu}) {
    SCOPED_TRACE(name_of(kind));
    const TemporaryFolder folder;
    Dictionary written = small_dictionary();
    written.activation = {.kind = kind};
    CrosscoderParameters& p = written.parameters;
    if (!written.activation.has_threshold()) p.log_threshold_F = at::Tensor();
    if (kind == ActivationKind::TopK || kind == ActivationKind::BatchTopK) written.activation.k = 2;
    if (kind == ActivationKind::Gated) {
      p.gate_bias_F = toy::normal({7}, 0, "b_gate");
      p.log_magnitude_F = toy::normal({7}, 0, "r_mag");
      p.magnitude_bias_F = toy::normal({7}, 0, "b_mag");
    }
    write_dictionary(folder.path(), written);
    const Dictionary read = read_dictionary(folder.path());
    EXPECT_EQ(read.activation.kind, kind);
    EXPECT_EQ(read.activation.k, written.activation.k);
    const auto expected = p.named(), found = read.parameters.named();
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(found[i].first, expected[i].first);
      EXPECT_TRUE(at::equal(found[i].second, expected[i].second)) << expected[i].first;
    }
    // A crosscoder of it computes, and its codes are none below 0.
    const at::Tensor x_BKD = toy::normal({9, 3, 4}, 0, "x");
    const Crosscoder crosscoder = read.crosscoder();
    EXPECT_TRUE(crosscoder.reconstruct(x_BKD).isfinite().all().item<bool>());
    EXPECT_TRUE(crosscoder.codes(crosscoder.pre_activation(x_BKD), 1).ge(0).all().item<bool>());
  }
}

// What other people's sidecars may lack, or hold as null.
TEST(Dictionary, IsReadFromASparseConfig) {
  const TemporaryFolder folder;
  write_dictionary(folder.path(), small_dictionary(1));
  Json config = {{"model_name", "m"},
                 {"steps", {143000}},
                 {"training", {{"lr", nullptr}, {"batch_size", 2048}}}};
  write_json_file(folder / "seed0.config.json", config);
  const Dictionary read = read_dictionary(folder.path());
  EXPECT_EQ(read.training.batch_size, 2048);
  EXPECT_EQ(read.training.lr, CrosscoderConfig{}.lr);
  EXPECT_EQ(read.training.input_preprocess, "center_scale");
}

// What the file says and its tensors show, and nothing else.
TEST(Dictionary, WrittenAgainSaysNothingThatNobodySaid) {
  const TemporaryFolder folder;
  write_dictionary(folder.path(), small_dictionary(1));
  write_json_file(folder / "seed0.config.json",
                  {{"model_name", "m"}, {"steps", {1}}, {"training", {{"batch_size", 64}}}});
  const Dictionary read = read_dictionary(folder.path());
  EXPECT_EQ(read.training.d_sae, 7);
  write_dictionary(folder.path(), read);
  const Json config = read_json_file(folder / "seed0.config.json");
  EXPECT_EQ(config["training"],
            (Json{{"batch_size", 64}, {"d_sae", 7}, {"expansion_factor", 7.0 / 4}}));
  EXPECT_EQ(config["config"]["expansion_factor"], 7.0 / 4);
  EXPECT_FALSE(config.contains("seed"));
  EXPECT_FALSE(config.contains("matrix"));
  EXPECT_EQ(read_file(folder / "seed0.md").find("center_scale"), std::string::npos);

  write_json_file(folder / "seed0.config.json", {{"model_name", "m"}, {"steps", {1}}});
  write_dictionary(folder.path(), read_dictionary(folder.path()));
  EXPECT_EQ(read_json_file(folder / "seed0.config.json")["training"],
            (Json{{"d_sae", 7}, {"expansion_factor", 7.0 / 4}}));
}

TEST(Dictionary, OfBatchTopKWithoutItsKTakesThatOfTheRelease) {
  const TemporaryFolder folder;
  Dictionary written = small_dictionary();
  written.activation = {.kind = ActivationKind::BatchTopK, .k = 2};
  written.parameters.log_threshold_F = at::Tensor();
  write_dictionary(folder.path(), written);
  Json config = read_json_file(folder / "seed0.config.json");
  EXPECT_TRUE(read_dictionary(folder.path()).notes.empty());
  for (const Json& k : {Json(), Json("missing")}) {
    config["config"]["batchtopk_k"] = k;
    if (k.is_string()) config["config"].erase("batchtopk_k");
    write_json_file(folder / "seed0.config.json", config);
    const Dictionary read = read_dictionary(folder.path());
    EXPECT_EQ(read.activation.k, 64);
    ASSERT_EQ(read.notes.size(), 1u);
    EXPECT_NE(read.notes[0].find("batchtopk_k"), std::string::npos);
  }
}

TEST(Dictionary, IsNoneOfTheFilesThatMacOsLeaves) {
  const TemporaryFolder folder;
  write_dictionary(folder.path(), small_dictionary());
  for (const char* name : {"._seed0.safetensors", "._seed0.config.json"})
    write_file(folder / name, "Mac OS X");
  EXPECT_EQ(dictionary_file(folder.path()), folder / "seed0.safetensors");
  EXPECT_EQ(read_dictionary(folder.path()).name, "seed0");
}

TEST(Dictionary, OfOneSnapshotMayLackTheFirstAxis) {
  const TemporaryFolder folder;
  const Dictionary written = small_dictionary(1);
  write_dictionary(folder.path(), written);
  auto tensors = written.parameters.named();
  for (auto& [name, t] : tensors) t = t.squeeze(0);
  tensor::write_tensors(folder / "seed0.safetensors", tensors);
  EXPECT_TRUE(at::equal(read_dictionary(folder.path()).parameters.decoder_KFD,
                        written.parameters.decoder_KFD));
}

TEST(StoredDecoder, ReadsTheRowsThatAreAskedFor) {
  const TemporaryFolder folder;
  const Dictionary written = small_dictionary();
  write_dictionary(folder.path(), written);
  const StoredDecoder decoder(folder.path());
  EXPECT_EQ(decoder.num_heads(), 3);
  EXPECT_EQ(decoder.num_features(), 7);
  EXPECT_EQ(decoder.width(), 4);
  EXPECT_EQ(decoder.dictionary().steps, written.steps);
  EXPECT_TRUE(at::allclose(decoder.norm_FK(),
                           written.parameters.decoder_KFD.norm(2, -1).t().to(at::kDouble)));
  EXPECT_EQ(decoder.dictionary().matrix, "W_U");
  const at::Tensor rows_FKD = decoder.rows_FKD(2, 4, {2, 0}),
                   &whole = written.parameters.decoder_KFD;
  ASSERT_EQ(rows_FKD.sizes(), at::IntArrayRef({4, 2, 4}));
  EXPECT_TRUE(at::equal(rows_FKD.select(1, 0), whole[2].narrow(0, 2, 4)));
  EXPECT_TRUE(at::equal(rows_FKD.select(1, 1), whole[0].narrow(0, 2, 4)));
}

TEST(StoredDecoder, NeedsNothingButADecoder) {
  const TemporaryFolder folder;
  const Dictionary written = small_dictionary(1);
  write_dictionary(folder.path(), written);
  const at::Tensor half = written.parameters.decoder_KFD[0].to(at::kHalf);
  tensor::write_tensors(folder / "seed0.safetensors", {{"W_D", half}});
  EXPECT_TRUE(at::equal(StoredDecoder(folder.path()).rows_FKD(3, 2, {0}).select(1, 0),
                        half.narrow(0, 3, 2).to(at::kFloat)));

  tensor::write_tensors(folder / "seed0.safetensors", {{"W_D", at::ones({1, 7, 4}, at::kInt)}});
  EXPECT_THROW(StoredDecoder(folder.path()), Error);
  tensor::write_tensors(folder / "seed0.safetensors", {{"W_D", at::ones({1, 8, 4})}});
  EXPECT_THROW(StoredDecoder(folder.path()), Error);  // config.d_sae is 7
  tensor::write_tensors(folder / "seed0.safetensors", {{"W_E", half}});
  EXPECT_THROW(StoredDecoder(folder.path()), Error);
  const at::Tensor damaged = at::ones({1, 7, 4});
  damaged[0][5][1] = INFINITY;
  tensor::write_tensors(folder / "seed0.safetensors", {{"W_D", damaged}});
  EXPECT_THROW(StoredDecoder(folder.path()), Error);
}

std::string message_of_reading(const Path& path) {
  try {
    read_dictionary(path);
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

void expect_refused(const Path& folder, const std::string& part) {
  const std::string message = message_of_reading(folder);
  EXPECT_NE(message.find(part), std::string::npos) << message;
}

TEST(Dictionary, SaysWhatIsWrongWithTensors) {
  const TemporaryFolder folder;
  const auto with = [&](const std::function<void(std::vector<tensor::NamedTensor>&)>& damage) {
    write_dictionary(folder.path(), small_dictionary());
    auto tensors = small_dictionary().parameters.named();
    damage(tensors);
    tensor::write_tensors(folder / "seed0.safetensors", tensors);
  };
  with([](auto& t) { t.pop_back(); });
  expect_refused(folder.path(), "log_jumprelu_threshold");
  with([](auto& t) { t[0].second = t[0].second.transpose(1, 2); });
  expect_refused(folder.path(), "'W_E' has shape (3, 7, 4), expected (3, 4, 7)");
  with([](auto& t) { t[4].second = at::ones({6}); });
  expect_refused(folder.path(), "expected (7)");
  with([](auto& t) { t[2].second[1][2][3] = NAN; });
  expect_refused(folder.path(), "'W_D' holds a number that is not finite");
  with([](auto& t) { t[3].second = t[3].second.to(at::kInt); });
  expect_refused(folder.path(), "expected floating-point");
  with([](auto& t) { t.emplace_back("activation_function.b_gate", at::ones({7})); });
  expect_refused(folder.path(), "b_gate");
  with([](auto& t) { t[4].second = at::full({7}, 200.0); });
  expect_refused(folder.path(), "log_jumprelu_threshold' holds 200, a logarithm of no finite");
  with([](auto& t) { t[2].second = at::ones({7}); });
  expect_refused(folder.path(), "'W_D' has shape (7)");
}

TEST(Dictionary, SaysWhatIsWrongWithTheConfig) {
  const TemporaryFolder folder;
  write_dictionary(folder.path(), small_dictionary());
  const Json sound = read_json_file(folder / "seed0.config.json");
  const auto with = [&](const std::function<void(Json&)>& damage) {
    Json config = sound;
    damage(config);
    write_json_file(folder / "seed0.config.json", config);
  };
  with([](Json& c) { c.erase("steps"); });
  expect_refused(folder.path(), "'steps' is missing");
  with([](Json& c) { c["steps"] = {0, 1}; });
  expect_refused(folder.path(), "3 heads, the config names 2 steps");
  with([](Json& c) { c["steps"] = {0, 2, 1}; });
  expect_refused(folder.path(), "ascending");
  with([](Json& c) { c["steps"] = {0, "x", 1}; });
  expect_refused(folder.path(), "not an integer");
  with([](Json& c) { c.erase("model_name"); });
  expect_refused(folder.path(), "model_name");
  with([](Json& c) { c["config"]["d_sae"] = 8; });
  expect_refused(folder.path(), "'d_sae' is 8, but the tensors have 7");
  with([](Json& c) { c["training"]["d_sae"] = 8; });
  expect_refused(folder.path(), "training.d_sae is 8, but the tensors have 7");
  with([](Json& c) { c["training"]["input_preprocess"] = "whiten"; });
  expect_refused(folder.path(), "seed0.config.json: training.input_preprocess is 'whiten'");
  for (const int rows : {0, -3}) {
    with([&](Json& c) { c["training"]["batch_size"] = rows; });
    expect_refused(folder.path(), fmt::format("training.batch_size is {}", rows));
  }
  // Values of another type than they should have.
  const std::vector<std::pair<const char*, Json>> wrong{{"/config/act_fn", 5},
                                                        {"/config/arch", true},
                                                        {"/config/d_sae", "7"},
                                                        {"/config/n_snapshots", 2.5},
                                                        {"/config", "jumprelu"},
                                                        {"/training", 4},
                                                        {"/training/batch_size", "64"},
                                                        {"/training/n_epochs", 2.5},
                                                        {"/training/input_preprocess", 1},
                                                        {"/training/lr", "fast"},
                                                        {"/seed", "0"},
                                                        {"/kind", 1},
                                                        {"/matrix", 1},
                                                        {"/quality", 0.5},
                                                        {"/provenance", "here"}};
  for (const auto& [pointer, value] : wrong) {
    with([&, at = pointer, v = value](Json& c) { c[Json::json_pointer(at)] = v; });
    const std::string key = std::string(pointer).substr(std::string(pointer).rfind('/') + 1);
    expect_refused(folder.path(), "seed0.config.json: '" + key + "' is ");
  }
  with([](Json& c) { c["training"]["n_epochs"] = 300.0; });
  EXPECT_EQ(read_dictionary(folder.path()).training.n_epochs, 300);
  with([](Json& c) { c["config"]["act_fn"] = "batchtopk"; });
  expect_refused(folder.path(), "config.act_fn is 'batchtopk'");
  with([](Json& c) { c["config"]["arch"] = "jumpreluu"; });
  expect_refused(folder.path(), "config.arch is 'jumpreluu'");
  with([](Json& c) { c["config"]["arch"] = "gated"; });
  expect_refused(folder.path(), "b_gate");
  with([](Json& c) { c["config"]["arch"] = "batchtopk"; });
  expect_refused(folder.path(), "log_jumprelu_threshold' is no part of a batchtopk dictionary");
  with([](Json& c) { c["config"]["arch"] = "topk"; });
  expect_refused(folder.path(), "'topk_k' is missing");
  with([](Json& c) { c = Json::array(); });
  expect_refused(folder.path(), "not a JSON object");
  write_file(folder / "seed0.config.json", "{\"steps\": [");
  expect_refused(folder.path(), "seed0.config.json");
}

TEST(Dictionary, SaysWhatIsWrongWithFiles) {
  const TemporaryFolder folder;
  expect_refused(folder.path(), "holds no dictionary");
  expect_refused(folder / "nowhere.safetensors", "no such file");
  expect_refused(folder / "x.npy", "expected a .safetensors or .pt file");
  write_dictionary(folder.path(), small_dictionary());
  std::filesystem::resize_file(folder / "seed0.safetensors", 500);
  expect_refused(folder.path(), "seed0.safetensors");
  Dictionary second = small_dictionary();
  second.name = "seed1";
  write_dictionary(folder.path(), second);
  expect_refused(folder.path(), "holds 2 dictionaries");
}

}  // namespace
}  // namespace cresco::dictionaries
