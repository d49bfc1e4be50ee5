#include "cresco/dictionaries/exports.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/dictionaries/folding.h"
#include "cresco/dictionaries/imports.h"
#include "cresco/dictionaries/toy_stack.h"
#include "cresco/formats/npz.h"
#include "cresco/formats/safetensors.h"
#include "cresco/formats/torch_file.h"
#include "cresco/formats/torch_writer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <set>

namespace cresco::dictionaries {
namespace {

using Kind = ActivationKind;
constexpr std::int64_t kWidth = 6, kFeatures = 17;

// Decoder rows of all lengths, thresholds that half of the pre-activations pass.
Dictionary dictionary_of(Kind kind, std::int64_t K = 1) {
  Dictionary d{.name = "seed3", .model_name = "org/model", .matrix = "W_U", .seed = 3};
  for (std::int64_t k = 0; k < K; ++k) d.steps.push_back(100 * k);
  d.training.d_sae = kFeatures;
  d.training.input_preprocess = "center_scale";
  d.activation = {.kind = kind};
  d.parameters = {
      toy::normal({K, kWidth, kFeatures}, 0, "W_E"), toy::normal({K, kFeatures}, 0, "b_E"),
      toy::normal({K, kFeatures, kWidth}, 0, "W_D") * (1 + at::arange(kFeatures).unsqueeze(1)) / 5,
      toy::normal({K, kWidth}, 0, "b_D")};
  CrosscoderParameters& p = d.parameters;
  if (d.activation.has_threshold()) p.log_threshold_F = toy::normal({kFeatures}, 0, "theta");
  if (kind == Kind::TopK || kind == Kind::BatchTopK) d.activation.k = 4;
  if (kind == Kind::Gated) {
    p.gate_bias_F = toy::normal({kFeatures}, 0, "b_gate");
    p.log_magnitude_F = toy::normal({kFeatures}, 0, "r_mag");
    p.magnitude_bias_F = toy::normal({kFeatures}, 0, "b_mag");
  }
  d.quality = {{"mean_l0", 3.5}};
  return d;
}

std::vector<SnapshotStatistics> statistics_of(std::int64_t K, double scale = 2.5) {
  std::vector<SnapshotStatistics> all;
  for (std::int64_t k = 0; k < K; ++k)
    all.push_back({toy::normal({kWidth}, 0, "mean" + std::to_string(k)), scale});
  return all;
}

const std::map<std::string, std::set<Kind>> kHeld{
    {"llamascopium",
     {Kind::JumpRelu, Kind::SharedJumpRelu, Kind::TopK, Kind::BatchTopK, Kind::Relu}},
    {"saelens", {Kind::JumpRelu, Kind::SharedJumpRelu, Kind::TopK, Kind::Gated, Kind::Relu}},
    {"dictionary_learning",
     {Kind::JumpRelu, Kind::SharedJumpRelu, Kind::TopK, Kind::Gated, Kind::Relu}},
    {"sparsify", {Kind::TopK}},
    {"params_npz", {Kind::JumpRelu, Kind::SharedJumpRelu, Kind::Relu}}};
constexpr Kind kKinds[] = {Kind::JumpRelu,  Kind::SharedJumpRelu, Kind::TopK,
                           Kind::BatchTopK, Kind::Gated,          Kind::Relu};

TEST(Exports, ThereAndBackIsTheSameDictionary) {
  for (const auto& [layout, kinds] : kHeld)
    for (const Kind kind : kinds)
      for (const bool folds : {false, true}) {
        SCOPED_TRACE(fmt::format("{} {} {}", layout, name_of(kind), folds));
        const TemporaryFolder folder;
        const Dictionary written = dictionary_of(kind);
        const auto statistics = folds ? statistics_of(1) : std::vector<SnapshotStatistics>{};
        const Exported made = export_dictionary(written, layout, folder.path(), statistics);
        for (const Path& file : made.files) EXPECT_TRUE(std::filesystem::exists(file)) << file;
        EXPECT_EQ(recognised_layout(folder.path()), layout);
        const Dictionary read = import_dictionary(folder.path(), layout, {});
        EXPECT_EQ(read.name, "seed3");
        EXPECT_EQ(read.model_name, "org/model");
        EXPECT_EQ(read.matrix, "W_U");
        EXPECT_EQ(read.steps, written.steps);
        EXPECT_EQ(read.seed, 3);
        EXPECT_EQ(read.quality["mean_l0"], 3.5);
        EXPECT_EQ(read.training.input_preprocess, folds ? "none" : "center_scale");
        EXPECT_FALSE(read.training_record.contains("lr"));
        const auto apart = export_difference(written, read, statistics, 0);
        EXPECT_LT(apart.codes, 1e-5);
        EXPECT_LT(apart.reconstructions, 1e-5);
      }
}

TEST(Exports, DecoderRowsHaveLengthOneWhereTheGateIsOnPreActivations) {
  for (const Kind kind : {Kind::JumpRelu, Kind::SharedJumpRelu, Kind::Gated, Kind::Relu}) {
    const TemporaryFolder folder;
    export_dictionary(dictionary_of(kind), "saelens", folder.path(), statistics_of(1));
    const Dictionary read = import_dictionary(folder.path(), "saelens", {});
    EXPECT_TRUE(at::allclose(read.crosscoder().norm_KF(), at::ones({1, kFeatures}), 1e-6));
  }
}

TEST(Exports, AFeatureWithoutADecoderRowNeverFires) {
  for (const Kind kind : {Kind::JumpRelu, Kind::SharedJumpRelu, Kind::Gated, Kind::Relu}) {
    SCOPED_TRACE(name_of(kind));
    const TemporaryFolder folder;
    Dictionary written = dictionary_of(kind);
    written.parameters.decoder_KFD[0][5] = 0;
    export_dictionary(written, "saelens", folder.path(), {});
    const Dictionary read = import_dictionary(folder.path(), "saelens", {});
    const auto apart = export_difference(written, read, {}, 0);
    EXPECT_LT(apart.codes, 1e-5);
    EXPECT_LT(apart.reconstructions, 1e-5);
    EXPECT_EQ(read.crosscoder().norm_KF()[0][5].item<float>(), 1);
  }
}

TEST(Exports, CrosscodersGoToLlamascopiumWithAllHeads) {
  for (const Kind kind : {Kind::JumpRelu, Kind::Relu}) {
    const TemporaryFolder folder;
    const Dictionary written = dictionary_of(kind, 3);
    // Heads divided by one number can be folded, whatever their means.
    export_dictionary(written, "llamascopium", folder.path(), statistics_of(3));
    const Json config = read_json_file(folder / "config.json");
    EXPECT_EQ(config["sae_type"], "crosscoder");
    EXPECT_EQ(config["hook_points"], (Json{"wu_step_0", "wu_step_1", "wu_step_2"}));
    EXPECT_EQ(config["sparsity_include_decoder_norm"], true);
    const Dictionary read = import_dictionary(folder.path(), "llamascopium", {});
    EXPECT_EQ(read.activation.kind, kind);
    const auto apart = export_difference(written, read, statistics_of(3), 0);
    EXPECT_LT(apart.codes, 1e-5);
    EXPECT_LT(apart.reconstructions, 1e-5);
  }
}

// Its reader takes the number of features from int(d_model * expansion_factor).
TEST(Exports, TheExpansionFactorTruncatesToTheFeatures) {
  for (const std::int64_t features : {1, 5, 17, 29, 58, 1000, 8191}) {
    const TemporaryFolder folder;
    Dictionary d = dictionary_of(Kind::Relu, 2);
    d.parameters = {at::ones({2, 49, features}), at::zeros({2, features}),
                    at::ones({2, features, 49}), at::zeros({2, 49})};
    export_dictionary(d, "llamascopium", folder.path(), {});
    const Json config = read_json_file(folder / "config.json");
    EXPECT_EQ(static_cast<std::int64_t>(49 * config["expansion_factor"].get<double>()), features);
  }
}

std::string message_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

#define EXPECT_SAYS(work, words)                                  \
  do {                                                            \
    const std::string message = message_of([&] { work; });        \
    EXPECT_NE(message.find(words), std::string::npos) << message; \
  } while (false)

TEST(Exports, RefuseWhatALayoutCannotHold) {
  for (const auto& [layout, kinds] : kHeld)
    for (const Kind kind : kKinds)
      if (!kinds.contains(kind))
        EXPECT_SAYS(check_export(dictionary_of(kind), layout), name_of(kind));
  EXPECT_SAYS(check_export(dictionary_of(Kind::BatchTopK), "saelens"), "without a threshold");
  EXPECT_SAYS(check_export(dictionary_of(Kind::JumpRelu, 2), "saelens"), "has 2 snapshots");
  EXPECT_SAYS(check_export(dictionary_of(Kind::Gated, 2), "llamascopium"), "gated");
  EXPECT_SAYS(check_export(dictionary_of(Kind::TopK, 2), "llamascopium"), "topk");
  EXPECT_SAYS(check_export(dictionary_of(Kind::Relu), "saelenz"), "did you mean 'saelens'");
  Dictionary zero = dictionary_of(Kind::JumpRelu, 2);
  zero.parameters.decoder_KFD[1][4] = 0;
  EXPECT_SAYS(check_export(zero, "llamascopium"), "feature 4 at step 100");

  auto statistics = statistics_of(2);
  statistics[1].scale = 3;
  const TemporaryFolder folder;
  EXPECT_SAYS(export_dictionary(dictionary_of(Kind::JumpRelu, 2), "llamascopium", folder.path(),
                                statistics),
              "share a threshold");
  EXPECT_SAYS(check_export(dictionary_of(Kind::JumpRelu, 2), "llamascopium", statistics),
              "files of llamascopium");
  check_export(dictionary_of(Kind::Relu, 2), "llamascopium", statistics);
}

// --- files as the libraries write them ---------------------------------------------------------

// Of an autoencoder with random weights: x W + b and so on, by each library's own formula.
struct Weights {
  at::Tensor x_BD = toy::normal({9, kWidth}, 1, "x");
  at::Tensor W_DF = toy::normal({kWidth, kFeatures}, 1, "W"),
             b_F = toy::normal({kFeatures}, 1, "b");
  at::Tensor V_FD = toy::normal({kFeatures, kWidth}, 1, "V"), c_D = toy::normal({kWidth}, 1, "c");
  at::Tensor centred_BF() const { return at::matmul(x_BD - c_D, W_DF) + b_F; }
  at::Tensor plain_BF() const { return at::matmul(x_BD, W_DF) + b_F; }
};

void expect_codes(const Dictionary& read, const Weights& w, const at::Tensor& codes_BF) {
  const Crosscoder crosscoder = read.crosscoder();
  const at::Tensor p_BF = crosscoder.pre_activation(w.x_BD.unsqueeze(1));
  EXPECT_TRUE(at::allclose(crosscoder.codes(p_BF, 0), codes_BF, 1e-5, 1e-5));
  EXPECT_TRUE(at::allclose(crosscoder.reconstruct(w.x_BD.unsqueeze(1)).squeeze(1),
                           at::matmul(codes_BF, w.V_FD) + w.c_D, 1e-5, 1e-4));
}

const DictionaryLabels kLabels{"org/m", "W_U", {7}};

void write_pt(const Path& path, const std::vector<tensor::NamedTensor>& tensors) {
  std::vector<at::Tensor> kept;
  std::vector<formats::TensorView> views;
  for (const auto& [name, t] : tensors) {
    kept.push_back(t.contiguous());
    views.push_back(tensor::view_of(name, kept.back()));
  }
  formats::write_torch(path, views);
}

TEST(Imports, ReadSaeLensOfBothGenerations) {
  const Weights w;
  const TemporaryFolder folder;
  const at::Tensor theta_F = toy::normal({kFeatures}, 1, "theta");  // some below 0
  const auto write = [&](Json config, std::vector<tensor::NamedTensor> more = {}) {
    more.insert(more.end(), {{"W_enc", w.W_DF}, {"W_dec", w.V_FD}, {"b_dec", w.c_D}});
    config.update({{"d_in", kWidth}, {"d_sae", kFeatures}});
    tensor::write_tensors(folder / "sae_weights.safetensors", more);
    write_json_file(folder / "cfg.json", config);
  };
  const auto read = [&] { return import_dictionary(folder.path(), "saelens", kLabels); };

  write({{"architecture", "standard"}, {"apply_b_dec_to_input", true}}, {{"b_enc", w.b_F}});
  expect_codes(read(), w, at::relu(w.centred_BF()));
  EXPECT_EQ(read().model_name, "org/m");
  EXPECT_EQ(read().steps, std::vector<std::int64_t>{7});
  EXPECT_EQ(read().training.input_preprocess, "none");
  write({{"architecture", "jumprelu"}, {"apply_b_dec_to_input", false}},
        {{"b_enc", w.b_F}, {"threshold", theta_F}});
  expect_codes(read(), w, at::relu(w.plain_BF()) * w.plain_BF().gt(theta_F));
  write({{"architecture", "jumprelu"}, {"apply_b_dec_to_input", false}},
        {{"b_enc", w.b_F}, {"threshold", at::zeros({kFeatures})}});
  EXPECT_EQ(read().activation.kind, Kind::Relu);

  const auto top_k = [](const at::Tensor& p_BF, std::int64_t k) {
    const auto [values, places] = p_BF.topk(k, 1);
    return at::zeros_like(p_BF).scatter_(1, places, at::relu(values));
  };
  write({{"architecture", "topk"}, {"k", 3}}, {{"b_enc", w.b_F}});
  expect_codes(read(), w, top_k(w.centred_BF(), 3));
  write({{"activation_fn_str", "topk"}, {"activation_fn_kwargs", {{"k", 2}}}}, {{"b_enc", w.b_F}});
  expect_codes(read(), w, top_k(w.centred_BF(), 2));
  // Chosen by p |V|, and decoded by V / |V|.
  write({{"architecture", "topk"}, {"k", 3}, {"rescale_acts_by_decoder_norm", true}},
        {{"b_enc", w.b_F}});
  const at::Tensor norm_F = w.V_FD.norm(2, -1);
  Weights scaled = w;
  scaled.V_FD = w.V_FD / norm_F.unsqueeze(1);
  expect_codes(read(), scaled, top_k(w.centred_BF() * norm_F, 3));

  const at::Tensor gate_F = toy::normal({kFeatures}, 1, "gate"),
                   r_F = toy::normal({kFeatures}, 1, "r"), mag_F = toy::normal({kFeatures}, 1, "m");
  for (const bool centred : {true, false}) {
    write({{"architecture", "gated"}, {"apply_b_dec_to_input", centred}},
          {{"b_gate", gate_F}, {"r_mag", r_F}, {"b_mag", mag_F}});
    const at::Tensor z_BF = at::matmul(centred ? w.x_BD - w.c_D : w.x_BD, w.W_DF);
    expect_codes(read(), w, at::relu(z_BF * r_F.exp() + mag_F) * (z_BF + gate_F).gt(0));
  }

  write({{"architecture", "transcoder"}}, {{"b_enc", w.b_F}});
  EXPECT_SAYS(read(), "'transcoder'");
  write({{"normalize_activations", "layer_norm"}}, {{"b_enc", w.b_F}});
  EXPECT_SAYS(read(), "normalize_activations");
  write({{"architecture", "jumprelu"}}, {{"b_enc", w.b_F}});
  EXPECT_SAYS(read(), "threshold");
  write({{"architecture", "topk"}}, {{"b_enc", w.b_F}});
  EXPECT_SAYS(read(), "'k' is missing");
  write({{"activation_fn", "tanh-relu"}}, {{"b_enc", w.b_F}});
  EXPECT_SAYS(read(), "tanh-relu");
  write({}, {{"b_enc", w.b_F}});
  EXPECT_SAYS(import_dictionary(folder.path(), "saelens", {"", "", {7}}), "--model is needed");
  EXPECT_SAYS(import_dictionary(folder.path(), "saelens", {"m", "", {}}), "--steps is needed");
  EXPECT_SAYS(import_dictionary(folder.path(), "saelens", {"m", "", {1, 2}}), "1 heads, 2 steps");
}

TEST(Imports, ReadDictionaryLearning) {
  const Weights w;
  const TemporaryFolder folder;
  const auto write = [&](const char* kind, const std::vector<tensor::NamedTensor>& tensors) {
    write_pt(folder / "ae.pt", tensors);
    write_json_file(folder / "config.json",
                    {{"trainer", {{"dict_class", kind}, {"k", 3}, {"lm_name", "org/lm"}}}});
  };
  const auto read = [&] {
    return import_dictionary(folder.path(), "dictionary_learning", {"", "", {7}});
  };
  const std::vector<tensor::NamedTensor> modules{{"encoder.weight", w.W_DF.t()},
                                                 {"decoder.weight", w.V_FD.t()}};
  const auto with = [&](std::vector<tensor::NamedTensor> more) {
    more.insert(more.end(), modules.begin(), modules.end());
    return more;
  };
  write("AutoEncoder", with({{"encoder.bias", w.b_F}, {"bias", w.c_D}}));
  expect_codes(read(), w, at::relu(w.centred_BF()));
  EXPECT_EQ(read().model_name, "org/lm");
  write("AutoEncoderNew", with({{"encoder.bias", w.b_F}, {"decoder.bias", w.c_D}}));
  expect_codes(read(), w, at::relu(w.plain_BF()));
  const at::Tensor theta_F = toy::normal({kFeatures}, 1, "theta").abs();
  write("JumpReluAutoEncoder", {{"W_enc", w.W_DF},
                                {"b_enc", w.b_F},
                                {"W_dec", w.V_FD},
                                {"b_dec", w.c_D},
                                {"threshold", theta_F}});
  expect_codes(read(), w, w.plain_BF() * w.plain_BF().gt(theta_F));
  const auto k = [](int value) {
    return tensor::NamedTensor{"k", at::scalar_tensor(value, at::TensorOptions(at::kInt))};
  };
  write(
      "AutoEncoderTopK",
      with(
          {{"encoder.bias", w.b_F}, {"b_dec", w.c_D}, k(3), {"threshold", at::scalar_tensor(-1)}}));
  const auto [values, places] = at::relu(w.centred_BF()).topk(3, 1);
  expect_codes(read(), w, at::zeros_like(w.centred_BF()).scatter_(1, places, values));
  write("BatchTopKSAE", with({{"encoder.bias", w.b_F},
                              {"b_dec", w.c_D},
                              k(3),
                              {"threshold", at::scalar_tensor(0.75)}}));
  expect_codes(read(), w, w.centred_BF() * w.centred_BF().gt(0.75));
  write(
      "BatchTopKSAE",
      with(
          {{"encoder.bias", w.b_F}, {"b_dec", w.c_D}, k(3), {"threshold", at::scalar_tensor(-1)}}));
  EXPECT_EQ(read().activation.kind, Kind::BatchTopK);
  EXPECT_EQ(read().activation.k, 3);
  const at::Tensor gate_F = toy::normal({kFeatures}, 1, "gate"),
                   r_F = toy::normal({kFeatures}, 1, "r"), mag_F = toy::normal({kFeatures}, 1, "m");
  write(
      "GatedAutoEncoder",
      with({{"decoder_bias", w.c_D}, {"r_mag", r_F}, {"gate_bias", gate_F}, {"mag_bias", mag_F}}));
  const at::Tensor z_BF = at::matmul(w.x_BD - w.c_D, w.W_DF);
  expect_codes(read(), w, at::relu(z_BF * r_F.exp() + mag_F) * (z_BF + gate_F).gt(0));

  write("CrossCoder", with({{"encoder.bias", w.b_F}, {"bias", w.c_D}}));
  EXPECT_SAYS(read(), "'CrossCoder'");
  write("AutoEncoder", with({{"encoder.bias", w.b_F}, {"bias", w.c_D * NAN}}));
  EXPECT_SAYS(read(), "'bias' holds a number that is not finite");
  write("AutoEncoder", with({{"encoder.bias", w.c_D}, {"bias", w.c_D}}));
  EXPECT_SAYS(read(), "'encoder.bias' has shape (6), expected (17)");
}

TEST(Imports, ReadSparsifyAndParamsNpz) {
  const Weights w;
  const TemporaryFolder folder;
  tensor::write_tensors(folder / "sae.safetensors", {{"encoder.weight", w.W_DF.t()},
                                                     {"encoder.bias", w.b_F},
                                                     {"W_dec", w.V_FD},
                                                     {"b_dec", w.c_D}});
  Json config{{"d_in", kWidth}, {"k", 5}, {"activation", "topk"}, {"transcode", false}};
  write_json_file(folder / "cfg.json", config);
  const auto read = [&] { return import_dictionary(folder.path(), "sparsify", kLabels); };
  const auto [values, places] = at::relu(w.centred_BF()).topk(5, 1);
  expect_codes(read(), w, at::zeros_like(w.centred_BF()).scatter_(1, places, values));
  for (const char* key : {"transcode", "skip_connection"}) {
    Json changed = config;
    changed[key] = true;
    write_json_file(folder / "cfg.json", changed);
    EXPECT_SAYS(read(), key);
  }
  config["activation"] = "groupmax";
  write_json_file(folder / "cfg.json", config);
  EXPECT_SAYS(read(), "groupmax");

  const at::Tensor theta_F = toy::normal({kFeatures}, 1, "theta").abs();
  std::vector<formats::TensorView> arrays{
      tensor::view_of("w_enc", w.W_DF), tensor::view_of("b_enc", w.b_F),
      tensor::view_of("w_dec", w.V_FD), tensor::view_of("b_dec", w.c_D)};
  formats::write_npz(folder / "relu.npz", arrays);
  EXPECT_EQ(recognised_layout(folder / "relu.npz"), "params_npz");
  expect_codes(import_dictionary(folder / "relu.npz", "params_npz", kLabels), w,
               at::relu(w.plain_BF()));
  arrays.push_back(tensor::view_of("threshold", theta_F));
  formats::write_npz(folder / "params.npz", arrays);
  expect_codes(import_dictionary(folder / "params.npz", "params_npz", kLabels), w,
               w.plain_BF() * w.plain_BF().gt(theta_F));
}

TEST(Imports, ReadLlamascopium) {
  const Weights w;
  const TemporaryFolder folder;
  const at::Tensor theta_F = toy::normal({kFeatures}, 1, "theta");
  const auto write = [&](Json config, std::vector<tensor::NamedTensor> more = {}) {
    more.insert(more.end(), {{"W_E", w.W_DF}, {"b_E", w.b_F}, {"W_D", w.V_FD}, {"b_D", w.c_D}});
    tensor::write_tensors(folder / "sae_weights.safetensors", more);
    const Json base{
        {"sae_type", "sae"},       {"hook_point_in", "h"},           {"hook_point_out", "h"},
        {"d_model", kWidth},       {"norm_activation", "inference"}, {"top_k", 3},
        {"use_decoder_bias", true}};
    Json all = base;
    all.update(config);
    write_json_file(folder / "config.json", all);
  };
  const auto read = [&] { return import_dictionary(folder.path(), "llamascopium", kLabels); };
  const at::Tensor norm_F = w.V_FD.norm(2, -1), p_BF = w.plain_BF();
  const tensor::NamedTensor threshold{"activation_function.log_jumprelu_threshold", theta_F};

  write({{"act_fn", "jumprelu"}}, {threshold});
  expect_codes(read(), w, p_BF * (p_BF * norm_F).gt(theta_F.exp()));
  write({{"act_fn", "jumprelu"}, {"sparsity_include_decoder_norm", false}}, {threshold});
  expect_codes(read(), w, p_BF * p_BF.gt(theta_F.exp()));
  const auto [values, places] = at::relu(p_BF * norm_F).topk(3, 1);
  const at::Tensor chosen_BF = at::zeros_like(p_BF).scatter_(1, places, values);
  Weights scaled = w;
  scaled.V_FD = w.V_FD / norm_F.unsqueeze(1);
  write({{"act_fn", "topk"}});
  expect_codes(read(), scaled, chosen_BF);

  // What it was trained on: rows times sqrt(d) over their mean norm.
  const double factor = std::sqrt(static_cast<double>(kWidth)) / 3.5;
  const at::Tensor norm = at::scalar_tensor(3.5);
  write({{"act_fn", "jumprelu"}, {"norm_activation", "dataset-wise"}},
        {threshold, {"dataset_average_activation_norm.h", norm}});
  const at::Tensor q_BF = at::matmul(w.x_BD * factor, w.W_DF) + w.b_F;
  Weights restored = w;
  restored.V_FD = w.V_FD / factor;
  restored.c_D = w.c_D / factor;
  expect_codes(read(), restored, q_BF * (q_BF * norm_F).gt(theta_F.exp()));

  write({{"act_fn", "jumprelu"}, {"norm_activation", "token-wise"}}, {threshold});
  EXPECT_SAYS(read(), "token-wise");
  write({{"act_fn", "jumprelu"}, {"hook_point_out", "g"}}, {threshold});
  EXPECT_SAYS(read(), "transcoders");
  write({{"act_fn", "swish"}});
  EXPECT_SAYS(read(), "'swish'");
  write({{"sae_type", "clt"}});
  EXPECT_SAYS(read(), "'clt'");
  write({{"sae_type", "crosscoder"}, {"hook_points", {"a", "b"}}});
  EXPECT_SAYS(read(), "expected (K, D, d)");
}

// Of every layout an export whose config is changed in one place.
TEST(Imports, RefuseConfigsOfTheWrongTypeOrSize) {
  struct Change {
    const char *layout, *file, *pointer;
    Json value;
    const char* says;
  };
  const Change changes[] = {
      {"saelens", "cfg.json", "/architecture", 7, "'architecture' is 7, expected text"},
      {"saelens", "cfg.json", "/rescale_acts_by_decoder_norm", "yes", "expected true or false"},
      {"saelens", "cfg.json", "/apply_b_dec_to_input", 1, "'apply_b_dec_to_input' is 1"},
      {"saelens", "cfg.json", "/d_sae", "17", "'d_sae' is \"17\""},
      {"saelens", "cfg.json", "/metadata/cresco", 5, "'cresco' is 5, expected an object"},
      {"llamascopium", "config.json", "/sparsity_include_decoder_norm", "no",
       "expected true or false"},
      {"llamascopium", "config.json", "/act_fn", 3, "'act_fn' is 3"},
      {"llamascopium", "config.json", "/d_model", 7, "'d_model' is 7, but the tensors have 6"},
      {"llamascopium", "config.json", "/expansion_factor", 4, "'expansion_factor' is 4"},
      {"dictionary_learning", "config.json", "/trainer/dict_size", 18, "'dict_size' is 18"},
      {"dictionary_learning", "config.json", "/trainer/activation_dim", 5, "'activation_dim' is 5"},
      {"dictionary_learning", "config.json", "/trainer/dict_class", false, "expected text"},
      {"dictionary_learning", "config.json", "/trainer/k", 5, "'k' is 5"},
      {"sparsify", "cfg.json", "/num_latents", 5, "'num_latents' is 5, but the tensors have 17"},
      {"sparsify", "cfg.json", "/num_latents", 0, "'expansion_factor' is 2"},
      {"params_npz", "origin.json", "/cresco/steps", "all", "'cresco.steps' is no list"},
      {"params_npz", "origin.json", "/cresco/name", 4, "expected text"}};
  for (const Change& change : changes) {
    const TemporaryFolder folder;
    const bool is_jump_relu = std::string_view(change.layout) == "params_npz";
    export_dictionary(dictionary_of(is_jump_relu ? Kind::JumpRelu : Kind::TopK), change.layout,
                      folder.path(), {});
    Json config = read_json_file(folder / change.file);
    config[Json::json_pointer(change.pointer)] = change.value;
    write_json_file(folder / change.file, config);
    SCOPED_TRACE(change.pointer);
    EXPECT_SAYS(import_dictionary(folder.path(), change.layout, {}), change.says);
    EXPECT_SAYS(import_dictionary(folder.path(), change.layout, {}), change.file);
  }
}

TEST(Imports, RefuseTensorsThatAreNoPartOfTheKind) {
  const Weights w;
  const TemporaryFolder folder;
  std::vector<tensor::NamedTensor> tensors{
      {"W_enc", w.W_DF}, {"W_dec", w.V_FD}, {"b_dec", w.c_D}, {"b_enc", w.b_F}};
  write_json_file(folder / "cfg.json",
                  {{"architecture", "standard"}, {"d_in", kWidth}, {"d_sae", kFeatures}});
  const auto read = [&] { return import_dictionary(folder.path(), "saelens", kLabels); };
  tensor::write_tensors(folder / "sae_weights.safetensors", tensors);
  read();
  tensors.emplace_back("threshold", at::ones({kFeatures}));
  tensor::write_tensors(folder / "sae_weights.safetensors", tensors);
  EXPECT_SAYS(read(), "tensor 'threshold' is no part of a standard dictionary of SAELens");

  const std::pair<const char*, const char*> weights[] = {
      {"llamascopium", "sae_weights.safetensors"}, {"sparsify", "sae.safetensors"}};
  for (const auto& [layout, file] : weights) {
    const TemporaryFolder other;
    export_dictionary(dictionary_of(Kind::TopK), layout, other.path(), {});
    std::vector<tensor::NamedTensor> more{{"W_skip", at::ones({kWidth, kWidth})}};
    {
      const formats::SafetensorsFile stored(other / file);
      for (const auto& t : stored.tensors())
        more.emplace_back(t.name, tensor::to_tensor(t).clone());
    }
    tensor::write_tensors(other / file, more);
    EXPECT_SAYS(import_dictionary(other.path(), layout, {}), "'W_skip' is no part");
  }
  std::vector<formats::TensorView> arrays{
      tensor::view_of("W_enc", w.W_DF), tensor::view_of("b_enc", w.b_F),
      tensor::view_of("W_dec", w.V_FD), tensor::view_of("b_dec", w.c_D),
      tensor::view_of("affine_skip_connection", w.c_D)};
  formats::write_npz(folder / "params.npz", arrays);
  EXPECT_SAYS(import_dictionary(folder / "params.npz", "params_npz", kLabels), "affine_skip");
}

TEST(Imports, SayWhatCouldBeMeant) {
  const TemporaryFolder folder;
  EXPECT_EQ(recognised_layout(folder.path()), "");
  for (const char* name : {"cfg.json", "config.json", "sae_weights.safetensors"})
    write_file(folder / name, "{}");
  EXPECT_SAYS(recognised_layout(folder.path()), "llamascopium or saelens: say which by --from");
  EXPECT_SAYS(import_dictionary(folder.path(), "saelens2", {}), "did you mean 'saelens'");
}

}  // namespace
}  // namespace cresco::dictionaries
