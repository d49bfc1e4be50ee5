#include "cresco/dictionaries/exports.h"

#include "cresco/artifacts/manifest.h"
#include "cresco/base/json.h"
#include "cresco/base/random.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/dictionaries/folding.h"
#include "cresco/formats/npz.h"
#include "cresco/formats/torch_writer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace cresco::dictionaries {
namespace {

using Kind = ActivationKind;

// The versions whose layouts these are.
constexpr const char* kLlamascopiumVersion = "2.0.0b34";
constexpr const char* kSaeLensVersion = "6.54.12";

bool is_one_of(Kind kind, std::initializer_list<Kind> kinds) {
  return std::find(kinds.begin(), kinds.end(), kind) != kinds.end();
}

// One head's parameters, without its axis.
struct Head {
  explicit Head(const CrosscoderParameters& p)
      : encoder_DF(p.encoder_KDF[0]),
        encoder_bias_F(p.encoder_bias_KF[0]),
        decoder_FD(p.decoder_KFD[0]),
        decoder_bias_D(p.decoder_bias_KD[0]) {}

  // For encoders that subtract the decoder's bias from the row.
  at::Tensor bias_of_centred_rows_F() const {
    return (encoder_bias_F.to(at::kDouble) +
            at::matmul(decoder_bias_D.to(at::kDouble), encoder_DF.to(at::kDouble)))
        .to(at::kFloat);
  }

  at::Tensor encoder_DF, encoder_bias_F, decoder_FD, decoder_bias_D;
};

// The threshold on the pre-activation; zeros with Relu, whose gate opens there.
at::Tensor threshold_of(const Dictionary& dictionary) {
  const at::Tensor& log_F = dictionary.parameters.log_threshold_F;
  return log_F.defined() ? log_F.to(at::kDouble).exp().to(at::kFloat)
                         : at::zeros({dictionary.parameters.num_features()});
}

// Gated encoders elsewhere have no bias of their own: each of the two branches has one.
struct GatedBiases {
  at::Tensor gate_F, magnitude_F;
};
GatedBiases gated_biases(const CrosscoderParameters& p, const at::Tensor& encoder_bias_F) {
  const at::Tensor bias_F = encoder_bias_F.to(at::kDouble);
  return {(p.gate_bias_F.to(at::kDouble) + bias_F).to(at::kFloat),
          (p.magnitude_bias_F.to(at::kDouble) + p.log_magnitude_F.to(at::kDouble).exp() * bias_F)
              .to(at::kFloat)};
}

// --- each library's files ----------------------------------------------------------------------

// Its config gives the number of features as int(d_model * expansion_factor).
double factor_that_truncates_to(std::int64_t features, std::int64_t width) {
  const auto d = static_cast<double>(width);
  double factor = static_cast<double>(features) / d;
  while (static_cast<std::int64_t>(d * factor) < features) factor = std::nextafter(factor, 1e300);
  return factor;
}

std::vector<Path> write_llamascopium(const Dictionary& dictionary, const Json& origin,
                                     const Path& folder) {
  const CrosscoderParameters& p = dictionary.parameters;
  const Kind kind = dictionary.activation.kind;
  const bool is_crosscoder = p.num_heads() > 1;
  Json config{
      {"d_model", p.width()},
      {"expansion_factor", factor_that_truncates_to(p.num_features(), p.width())},
      {"use_decoder_bias", true},
      {"act_fn", kind == Kind::SharedJumpRelu ? "jumprelu" : name_of(kind)},
      {"norm_activation", "inference"},
      {"sparsity_include_decoder_norm", is_crosscoder || kind == Kind::JumpRelu},
      {"top_k", dictionary.activation.k > 0 ? std::min(dictionary.activation.k, p.num_features())
                                            : std::int64_t{50}},
      {"use_triton_kernel", false},
      {"sparsity_threshold_for_triton_spmm_kernel", 0.996},
      {"jumprelu_threshold_window", kThresholdWindow}};
  config["sae_type"] = is_crosscoder ? "crosscoder" : "sae";
  std::vector<tensor::NamedTensor> tensors = p.named();
  if (is_crosscoder) {
    for (std::int64_t k = 0; k < p.num_heads(); ++k)
      config["hook_points"].push_back(fmt::format("wu_step_{}", k));
  } else {
    config["hook_point_in"] = config["hook_point_out"] = "wu_step_0";
    config["use_glu_encoder"] = false;
    for (auto& [name, t] : tensors)
      if (t.dim() > 1) t = t.squeeze(0);
  }
  config[kOriginKey] = origin;
  const std::vector<Path> files{folder / "sae_weights.safetensors", folder / "config.json"};
  tensor::write_tensors(files[0], tensors, {{"version", kLlamascopiumVersion}});
  write_json_file(files[1], config);
  return files;
}

std::vector<Path> write_saelens(const Dictionary& dictionary, const Json& origin,
                                const Path& folder) {
  const CrosscoderParameters& p = dictionary.parameters;
  const Head head(p);
  Json config{{"architecture", ""},
              {"d_in", p.width()},
              {"d_sae", p.num_features()},
              {"dtype", "float32"},
              {"device", "cpu"},
              {"apply_b_dec_to_input", false},
              {"normalize_activations", "none"},
              {"reshape_activations", "none"}};
  std::vector<tensor::NamedTensor> tensors{
      {"W_enc", head.encoder_DF}, {"W_dec", head.decoder_FD}, {"b_dec", head.decoder_bias_D}};
  switch (dictionary.activation.kind) {
    case Kind::Gated: {
      config["architecture"] = "gated";
      const GatedBiases biases = gated_biases(p, head.encoder_bias_F);
      tensors.insert(
          tensors.end(),
          {{"b_gate", biases.gate_F}, {"b_mag", biases.magnitude_F}, {"r_mag", p.log_magnitude_F}});
      break;
    }
    case Kind::TopK:
      config["architecture"] = "topk";
      config["k"] = std::min(dictionary.activation.k, p.num_features());
      config["rescale_acts_by_decoder_norm"] = false;
      break;
    case Kind::Relu:
      config["architecture"] = "standard";
      break;
    default:
      config["architecture"] = "jumprelu";
      tensors.emplace_back("threshold", threshold_of(dictionary));
  }
  if (dictionary.activation.kind != Kind::Gated) tensors.emplace_back("b_enc", head.encoder_bias_F);
  config["metadata"] = {{"sae_lens_version", kSaeLensVersion},
                        {"sae_lens_training_version", nullptr},
                        {"model_name", dictionary.model_name},
                        {kOriginKey, origin}};
  const std::vector<Path> files{folder / "sae_weights.safetensors", folder / "cfg.json"};
  tensor::write_tensors(files[0], tensors);
  write_json_file(files[1], config);
  return files;
}

std::vector<Path> write_dictionary_learning(const Dictionary& dictionary, const Json& origin,
                                            const Path& folder) {
  const CrosscoderParameters& p = dictionary.parameters;
  const Head head(p);
  Json trainer{{"dict_class", ""},
               {"activation_dim", p.width()},
               {"dict_size", p.num_features()},
               {"lm_name", dictionary.model_name},
               {"layer", nullptr},
               {"submodule_name", dictionary.matrix},
               {"seed", dictionary.seed},
               {"device", "cpu"}};
  std::vector<tensor::NamedTensor> tensors;
  const at::Tensor encoder_FD = head.encoder_DF.t(), decoder_DF = head.decoder_FD.t();
  switch (dictionary.activation.kind) {
    case Kind::Relu:
      trainer["dict_class"] = "AutoEncoder";
      tensors = {{"bias", head.decoder_bias_D},
                 {"encoder.weight", encoder_FD},
                 {"encoder.bias", head.bias_of_centred_rows_F()},
                 {"decoder.weight", decoder_DF}};
      break;
    case Kind::Gated: {
      trainer["dict_class"] = "GatedAutoEncoder";
      const GatedBiases biases = gated_biases(p, head.bias_of_centred_rows_F());
      tensors = {{"decoder_bias", head.decoder_bias_D}, {"r_mag", p.log_magnitude_F},
                 {"gate_bias", biases.gate_F},          {"mag_bias", biases.magnitude_F},
                 {"encoder.weight", encoder_FD},        {"decoder.weight", decoder_DF}};
      break;
    }
    case Kind::TopK: {
      const std::int64_t k = std::min(dictionary.activation.k, p.num_features());
      trainer["dict_class"] = "AutoEncoderTopK";
      trainer["k"] = k;
      tensors = {{"b_dec", head.decoder_bias_D},
                 {"k", at::scalar_tensor(k, at::TensorOptions(at::kInt))},
                 {"threshold", at::scalar_tensor(-1)},  // none
                 {"decoder.weight", decoder_DF},
                 {"encoder.weight", encoder_FD},
                 {"encoder.bias", head.bias_of_centred_rows_F()}};
      break;
    }
    default:
      trainer["dict_class"] = "JumpReluAutoEncoder";
      tensors = {{"W_enc", head.encoder_DF},
                 {"b_enc", head.encoder_bias_F},
                 {"W_dec", head.decoder_FD},
                 {"b_dec", head.decoder_bias_D},
                 {"threshold", threshold_of(dictionary)}};
  }
  const std::vector<Path> files{folder / "ae.pt", folder / "config.json"};
  std::vector<formats::TensorView> views;
  for (auto& [name, t] : tensors) {
    t = t.contiguous();
    views.push_back(tensor::view_of(name, t));
  }
  formats::write_torch(files[0], views);
  write_json_file(files[1], {{"trainer", trainer}, {kOriginKey, origin}});
  return files;
}

std::vector<Path> write_sparsify(const Dictionary& dictionary, const Json& origin,
                                 const Path& folder) {
  const CrosscoderParameters& p = dictionary.parameters;
  const Head head(p);
  const std::vector<Path> files{folder / "sae.safetensors", folder / "cfg.json"};
  tensor::write_tensors(files[0], {{"encoder.weight", head.encoder_DF.t()},
                                   {"encoder.bias", head.bias_of_centred_rows_F()},
                                   {"W_dec", head.decoder_FD},
                                   {"b_dec", head.decoder_bias_D}});
  write_json_file(files[1],
                  {{"activation", "topk"},
                   {"expansion_factor",
                    std::max<std::int64_t>(1, p.num_features() / p.width())},  // num_latents wins
                   {"normalize_decoder", false},
                   {"num_latents", p.num_features()},
                   {"k", std::min(dictionary.activation.k, p.num_features())},
                   {"multi_topk", false},
                   {"skip_connection", false},
                   {"transcode", false},
                   {"d_in", p.width()},
                   {kOriginKey, origin}});
  return files;
}

std::vector<Path> write_params_npz(const Dictionary& dictionary, const Json& origin,
                                   const Path& folder) {
  const Head head(dictionary.parameters);
  std::vector<tensor::NamedTensor> tensors{{"W_enc", head.encoder_DF},
                                           {"b_enc", head.encoder_bias_F},
                                           {"W_dec", head.decoder_FD},
                                           {"b_dec", head.decoder_bias_D},
                                           {"threshold", threshold_of(dictionary)}};
  std::vector<formats::TensorView> views;
  for (auto& [name, t] : tensors) {
    t = t.contiguous();
    views.push_back(tensor::view_of(name, t));
  }
  const std::vector<Path> files{folder / "params.npz", folder / "origin.json"};
  formats::write_npz(files[0], views);
  write_json_file(files[1], {{kOriginKey, origin}});
  return files;
}

// --- what each can hold ------------------------------------------------------------------------

struct Layout {
  const char* name;
  std::vector<Kind> kinds;  // of one head
  std::vector<Path> (*write)(const Dictionary&, const Json&, const Path&);
};

const std::vector<Layout>& layouts() {
  static const std::vector<Layout> all{
      {"llamascopium",
       {Kind::JumpRelu, Kind::SharedJumpRelu, Kind::TopK, Kind::BatchTopK, Kind::Relu},
       write_llamascopium},
      {"saelens",
       {Kind::JumpRelu, Kind::SharedJumpRelu, Kind::TopK, Kind::Gated, Kind::Relu},
       write_saelens},
      {"dictionary_learning",
       {Kind::JumpRelu, Kind::SharedJumpRelu, Kind::TopK, Kind::Gated, Kind::Relu},
       write_dictionary_learning},
      {"sparsify", {Kind::TopK}, write_sparsify},
      {"params_npz", {Kind::JumpRelu, Kind::SharedJumpRelu, Kind::Relu}, write_params_npz}};
  return all;
}

const Layout& layout_named(const std::string& name) {
  for (const Layout& layout : layouts())
    if (layout.name == name) return layout;
  fail_usage("layout '{}' is not one of {}{}", escape_for_terminal(name),
             join(export_layouts(), ", "), did_you_mean(name, export_layouts()));
}

}  // namespace

const std::vector<std::string>& export_layouts() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const Layout& layout : layouts()) all.emplace_back(layout.name);
    return all;
  }();
  return names;
}

void check_export(const Dictionary& dictionary, const std::string& name,
                  const std::vector<SnapshotStatistics>& statistics) {
  const Layout& layout = layout_named(name);
  const Kind kind = dictionary.activation.kind;
  const std::int64_t K = dictionary.parameters.num_heads();
  const bool is_llamascopium = name == "llamascopium";
  require(K == 1 || is_llamascopium,
          "{}: has {} snapshots; files of {} hold a dictionary of one (llamascopium's hold all)",
          dictionary.name, K, name);
  const char* why = kind == Kind::BatchTopK
                        ? ": without a threshold its codes depend on the rows beside them"
                        : "";
  require(std::find(layout.kinds.begin(), layout.kinds.end(), kind) != layout.kinds.end(),
          "{}: its activation is {}, which files of {} do not hold{}", dictionary.name,
          name_of(kind), name, why);
  require(K == 1 || is_one_of(kind, {Kind::JumpRelu, Kind::Relu}),
          "{}: its {} heads share a {} code; crosscoders of {} have a jumprelu gate for each head, "
          "or relu",
          dictionary.name, K, name_of(kind), name);
  try {
    check_scales(dictionary, statistics);
  } catch (const Error& error) {
    fail("files of {}: {}", name, error.what());
  }
  if (!is_llamascopium || (K == 1 && kind != Kind::JumpRelu)) return;
  const at::Tensor norm_KF = dictionary.crosscoder().norm_KF();
  if (const at::Tensor zeros = (norm_KF == 0).nonzero(); zeros.size(0) > 0)
    fail("{}: the decoder row of feature {} at step {} is zero, and {} divides by its norm",
         dictionary.name, zeros[0][1].item<std::int64_t>(),
         dictionary.steps[static_cast<std::size_t>(zeros[0][0].item<std::int64_t>())], name);
}

Exported export_dictionary(const Dictionary& dictionary, const std::string& name,
                           const Path& folder, const std::vector<SnapshotStatistics>& statistics) {
  check_export(dictionary, name, statistics);
  Dictionary folded = statistics.empty() ? dictionary : fold_preprocess(dictionary, statistics);
  const bool folds_norms = name != "llamascopium" &&
                           !is_one_of(dictionary.activation.kind, {Kind::TopK, Kind::BatchTopK});
  if (folds_norms) folded = fold_decoder_norms(std::move(folded));
  const Json origin{
      {"program", "cresco " + artifacts::version()},
      {"name", dictionary.name},
      {"model_name", dictionary.model_name},
      {"matrix", dictionary.matrix},
      {"steps", dictionary.steps},
      {"seed", dictionary.has_seed ? Json(dictionary.seed) : Json()},
      {"activation", name_of(dictionary.activation.kind)},
      {"input_preprocess", dictionary.training.input_preprocess},
      {"folded", {{"input_preprocess", !statistics.empty()}, {"decoder_norms", folds_norms}}},
      {"quality", dictionary.quality}};
  return {layout_named(name).write(folded, origin, folder), origin};
}

ExportDifference export_difference(const Dictionary& dictionary, const Dictionary& read_again,
                                   const std::vector<SnapshotStatistics>& statistics,
                                   std::uint64_t seed, std::int64_t num_rows) {
  const std::int64_t K = dictionary.parameters.num_heads(), D = dictionary.parameters.width();
  const at::Tensor x_BKD = at::empty({num_rows, K, D});
  RandomStream(seed, "export/rows")
      .fill_normal({x_BKD.mutable_data_ptr<float>(), static_cast<std::size_t>(x_BKD.numel())}, 0,
                   1);
  const auto of_head = [&](std::int64_t k) {
    return statistics.empty() ? SnapshotStatistics{} : statistics[static_cast<std::size_t>(k)];
  };
  at::Tensor raw_BKD = x_BKD.clone();
  for (std::int64_t k = 0; k < K; ++k)
    raw_BKD.select(1, k).copy_(restore(x_BKD.select(1, k), of_head(k)));
  const Crosscoder a = dictionary.crosscoder(), b = read_again.crosscoder();
  const at::Tensor p_BF = a.pre_activation(x_BKD), q_BF = b.pre_activation(raw_BKD);
  double codes = 0, codes_size = 0, rows = 0, rows_size = 0;
  const auto add = [](const at::Tensor& left, const at::Tensor& right, double& apart,
                      double& size) {
    apart += (left - right).to(at::kDouble).square().sum().item<double>();
    size += left.to(at::kDouble).square().sum().item<double>();
  };
  for (std::int64_t k = 0; k < K; ++k) {
    const at::Tensor a_BF = a.codes(p_BF, k), b_BF = b.codes(q_BF, k);
    add(a_BF * a.norm_KF()[k] * of_head(k).scale, b_BF * b.norm_KF()[k], codes, codes_size);
    add(restore(a.decode(a_BF, k), of_head(k)), b.decode(b_BF, k), rows, rows_size);
  }
  const auto ratio = [](double apart, double size) {
    return size > 0 ? std::sqrt(apart / size) : std::sqrt(apart);
  };
  return {ratio(codes, codes_size), ratio(rows, rows_size)};
}

}  // namespace cresco::dictionaries
