#include "cresco/dictionaries/imports.h"

#include "cresco/artifacts/manifest.h"
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/dictionaries/config_values.h"
#include "cresco/dictionaries/exports.h"
#include "cresco/dictionaries/folding.h"
#include "cresco/dictionaries/legacy_file.h"
#include "cresco/dictionaries/stored_floats.h"
#include "cresco/formats/npz.h"
#include "cresco/formats/safetensors.h"
#include "cresco/formats/torch_file.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace cresco::dictionaries {
namespace {

namespace fs = std::filesystem;
using Kind = ActivationKind;

// Below this a threshold is none: the gate opens at 0.
constexpr double kLeastThreshold = 1.2e-38;

// --- one autoencoder ---------------------------------------------------------------------------

// Of one snapshot, as all of them have it: p = x W_enc + b_enc, r = a W_dec + b_dec.
struct Autoencoder {
  at::Tensor encoder_DF, encoder_bias_F, decoder_FD, decoder_bias_D;
  // The encoder's input is x - b_dec.
  bool subtracts_decoder_bias = false;
};

Dictionary dictionary_of(const Autoencoder& a) {
  Dictionary dictionary;
  at::Tensor bias_F = a.encoder_bias_F;
  if (a.subtracts_decoder_bias)
    bias_F = (bias_F.to(at::kDouble) -
              at::matmul(a.decoder_bias_D.to(at::kDouble), a.encoder_DF.to(at::kDouble)))
                 .to(at::kFloat);
  dictionary.parameters = {.encoder_KDF = a.encoder_DF.contiguous().unsqueeze(0),
                           .encoder_bias_KF = bias_F.unsqueeze(0),
                           .decoder_KFD = a.decoder_FD.contiguous().unsqueeze(0),
                           .decoder_bias_KD = a.decoder_bias_D.unsqueeze(0)};
  return dictionary;
}

// Codes where p > threshold. One that is 0 or less asks nothing that ReLU does not.
void set_threshold(Dictionary& dictionary, const at::Tensor& threshold_F) {
  if (threshold_F.le(0).all().item<bool>()) {
    dictionary.activation.kind = Kind::Relu;
    return;
  }
  dictionary.activation.kind = Kind::SharedJumpRelu;
  dictionary.parameters.log_threshold_F =
      threshold_F.to(at::kDouble).clamp_min(kLeastThreshold).log().to(at::kFloat);
}

void set_gates(Dictionary& dictionary, const at::Tensor& gate_F, const at::Tensor& log_magnitude_F,
               const at::Tensor& magnitude_F, const at::Tensor& input_shift_F) {
  dictionary.activation.kind = Kind::Gated;
  CrosscoderParameters& p = dictionary.parameters;
  // Both branches see x W; what the encoder's own bias carries is the shift of its input.
  p.encoder_bias_KF = input_shift_F.unsqueeze(0);
  p.gate_bias_F = gate_F;
  p.log_magnitude_F = log_magnitude_F;
  p.magnitude_bias_F = magnitude_F;
}

// --- each library's files ----------------------------------------------------------------------

StoredFloats safetensors_at(const Path& path) {
  return {path.string(), formats::SafetensorsFile(path).tensors()};
}

struct Found {
  Dictionary dictionary;
  Config origin{Json::object(), ""};  // what a file that we wrote says of itself
  std::string model_name;
};

Config origin_in(const Config& config) { return {config.object(kOriginKey), config.where()}; }

// Error when the config's expansion_factor, if it has one, makes another number of features.
void require_expansion(const Config& config, std::int64_t width, std::int64_t features) {
  if (!config.has("expansion_factor")) return;
  const double factor = config.number("expansion_factor");
  require(static_cast<double>(width) * factor >= static_cast<double>(features) &&
              static_cast<double>(width) * factor < static_cast<double>(features + 1),
          "{}: 'expansion_factor' is {}, but the tensors have {} features of width {}",
          config.where(), factor, features, width);
}

Found read_saelens(const Path& folder) {
  const Config config = config_of(folder / "cfg.json");
  const StoredFloats file = safetensors_at(folder / "sae_weights.safetensors");
  const std::int64_t D = config.positive("d_in"), F = config.positive("d_sae");
  std::string architecture = config.text("architecture", "standard");
  // Before version 6 TopK was an activation of the standard architecture.
  const std::string activation = config.text("activation_fn", config.text("activation_fn_str"));
  const bool is_old_topk = architecture == "standard" && activation == "topk";
  if (is_old_topk) architecture = "topk";
  require(activation.empty() || activation == "relu" || activation == "topk",
          "{}: its activation is '{}'; relu and topk are read", config.where(),
          escape_for_terminal(activation));
  config.expect("normalize_activations", {"none", false});
  config.expect("finetuning_scaling_factor", {false});
  if (file.has("scaling_factor"))
    require(file.read("scaling_factor", {F}).eq(1).all().item<bool>(),
            "{}: 'scaling_factor' is not 1 throughout: scaled codes are not computed here",
            file.where());
  Autoencoder a{file.read("W_enc", {D, F}), at::zeros({F}), file.read("W_dec", {F, D}),
                file.read("b_dec", {D}), config.flag("apply_b_dec_to_input", true)};
  if (architecture != "gated") a.encoder_bias_F = file.read("b_enc", {F});
  Dictionary dictionary = dictionary_of(a);
  if (architecture == "gated") {
    set_gates(dictionary, file.read("b_gate", {F}), file.logarithms("r_mag", {F}),
              file.read("b_mag", {F}), dictionary.parameters.encoder_bias_KF[0]);
  } else if (architecture == "jumprelu") {
    set_threshold(dictionary, file.read("threshold", {F}));
  } else if (architecture == "topk") {
    const Config holder = is_old_topk && config.has("activation_fn_kwargs")
                              ? config.below("activation_fn_kwargs")
                              : config;
    dictionary.activation = {.kind = Kind::TopK, .k = holder.positive("k")};
    if (config.flag("rescale_acts_by_decoder_norm", false))
      dictionary = fold_norms_into_choice(std::move(dictionary));
  } else {
    require(architecture == "standard",
            "{}: its architecture is '{}'; standard, gated, jumprelu and topk are read",
            config.where(), escape_for_terminal(architecture));
    dictionary.activation.kind = Kind::Relu;
  }
  file.require_all_read(fmt::format("{} dictionary of SAELens", architecture));
  const Config metadata = config.has("metadata") ? config.below("metadata") : config;
  return {std::move(dictionary), origin_in(metadata), metadata.text("model_name")};
}

// One number is the threshold of all features.
at::Tensor threshold_of(const StoredFloats& file, std::int64_t features) {
  if (file.shape("threshold").empty()) return file.read("threshold", {}).expand({features});
  return file.read("threshold", {features});
}

Found read_dictionary_learning(const Path& folder) {
  const Config config = config_of(folder / "config.json");
  const Config trainer = config.below("trainer");
  const Path path = folder / "ae.pt";
  const StoredFloats file(path.string(), formats::TorchFile(path).tensors());
  const std::string kind = trainer.text("dict_class");

  // Its modules keep (out, in) matrices under `encoder` and `decoder`, its parameters W_enc (in,
  // out) and W_dec.
  const bool is_transposed = file.has("encoder.weight");
  const auto& shape = file.shape(is_transposed ? "encoder.weight" : "W_enc");
  require(shape.size() == 2, "{}: its encoder has shape {}, expected a matrix", file.where(),
          formats::shape_text(shape));
  const std::int64_t F = shape[is_transposed ? 0 : 1], D = shape[is_transposed ? 1 : 0];
  trainer.expect_size("activation_dim", D);
  trainer.expect_size("dict_size", F);
  Autoencoder a;
  if (is_transposed) {
    a.encoder_DF = file.read("encoder.weight", {F, D}).t();
    a.decoder_FD = file.read("decoder.weight", {D, F}).t();
  } else {
    a.encoder_DF = file.read("W_enc", {D, F});
    a.decoder_FD = file.read("W_dec", {F, D});
  }
  const auto with_biases = [&](const char* encoder, const char* decoder, bool subtracts) {
    a.encoder_bias_F = *encoder ? file.read(encoder, {F}) : at::zeros({F});
    a.decoder_bias_D = file.read(decoder, {D});
    a.subtracts_decoder_bias = subtracts;
    return dictionary_of(a);
  };
  Found found{.origin = origin_in(config), .model_name = trainer.text("lm_name")};
  Dictionary& dictionary = found.dictionary;
  if (kind == "AutoEncoder" || kind == "AutoEncoderNew") {
    dictionary = kind == "AutoEncoder" ? with_biases("encoder.bias", "bias", true)
                                       : with_biases("encoder.bias", "decoder.bias", false);
    dictionary.activation.kind = Kind::Relu;
  } else if (kind == "JumpReluAutoEncoder") {
    dictionary = with_biases("b_enc", "b_dec", false);
    set_threshold(dictionary, threshold_of(file, F));
  } else if (kind == "GatedAutoEncoder") {
    dictionary = with_biases("", "decoder_bias", true);
    set_gates(dictionary, file.read("gate_bias", {F}), file.logarithms("r_mag", {F}),
              file.read("mag_bias", {F}), dictionary.parameters.encoder_bias_KF[0]);
  } else if (kind == "AutoEncoderTopK") {
    dictionary = with_biases("encoder.bias", "b_dec", true);
    dictionary.activation = {.kind = Kind::TopK, .k = trainer.positive("k")};
  } else if (kind == "BatchTopKSAE" || kind == "MatryoshkaBatchTopKSAE") {
    dictionary = with_biases(is_transposed ? "encoder.bias" : "b_enc", "b_dec", true);
    const at::Tensor threshold_F = threshold_of(file, F);
    // -1 until the training has found one.
    if (threshold_F.lt(0).any().item<bool>())
      dictionary.activation = {.kind = Kind::BatchTopK, .k = trainer.positive("k")};
    else
      set_threshold(dictionary, threshold_F);
  } else {
    fail(
        "{}: 'dict_class' is '{}'; AutoEncoder, AutoEncoderNew, JumpReluAutoEncoder, "
        "GatedAutoEncoder, AutoEncoderTopK, BatchTopKSAE and MatryoshkaBatchTopKSAE are read",
        trainer.where(), escape_for_terminal(kind));
  }
  if (const std::int64_t k = dictionary.activation.k; k > 0 && file.has("k"))
    require(tensor::to_tensor(formats::tensor_named(file.tensors(), "k", file.where()))
                .eq(k)
                .all()
                .item<bool>(),
            "{}: 'k' is {}, but {} holds another", trainer.where(), k, file.where());
  // What its modules keep beside their weights.
  if (kind == "AutoEncoderTopK")
    file.require_all_read(kind, {"k", "threshold"});
  else if (kind == "BatchTopKSAE")
    file.require_all_read(kind, {"k"});
  else if (kind == "MatryoshkaBatchTopKSAE")
    file.require_all_read(kind, {"k", "group_sizes"});
  else
    file.require_all_read(kind);
  return found;
}

Found read_sparsify(const Path& folder) {
  const Config config = config_of(folder / "cfg.json");
  const StoredFloats file = safetensors_at(folder / "sae.safetensors");
  config.expect("activation", {"topk"});
  config.expect("transcode", {false});
  config.expect("skip_connection", {false});
  config.expect("signed", {false});
  const std::int64_t D = config.positive("d_in");
  const auto& shape = file.shape("W_dec");
  require(shape.size() == 2, "{}: 'W_dec' has shape {}, expected a matrix", file.where(),
          formats::shape_text(shape));
  const std::int64_t F = shape[0];
  Found found{.dictionary = dictionary_of(
                  {file.read("encoder.weight", {F, D}).t(), file.read("encoder.bias", {F}),
                   file.read("W_dec", {F, D}), file.read("b_dec", {D}), true}),
              .origin = origin_in(config)};
  found.dictionary.activation = {.kind = Kind::TopK, .k = config.positive("k")};
  if (config.has("num_latents") && config.integer("num_latents") != 0)
    config.expect_size("num_latents", F);
  else
    require_expansion(config, D, F);
  file.require_all_read("dictionary of sparsify");
  return found;
}

Path npz_at(const Path& path) { return fs::is_directory(path) ? path / "params.npz" : path; }

Found read_params_npz(const Path& path) {
  const Path npz = npz_at(path), origin = npz.parent_path() / "origin.json";
  std::vector<formats::StoredTensor> tensors = formats::NpzFile(npz).tensors();
  // Some writers name the weights in lower case.
  for (formats::StoredTensor& t : tensors)
    if (t.name == "w_enc" || t.name == "w_dec") t.name[0] = 'W';
  const StoredFloats file(npz.string(), std::move(tensors));
  const auto& shape = file.shape("W_enc");
  require(shape.size() == 2, "{}: 'W_enc' has shape {}, expected a matrix", file.where(),
          formats::shape_text(shape));
  const std::int64_t D = shape[0], F = shape[1];
  Found found{.dictionary = dictionary_of({file.read("W_enc", {D, F}), file.read("b_enc", {F}),
                                           file.read("W_dec", {F, D}), file.read("b_dec", {D})})};
  if (file.has("threshold"))
    set_threshold(found.dictionary, threshold_of(file, F));
  else
    found.dictionary.activation.kind = Kind::Relu;
  file.require_all_read("dictionary of Gemma Scope");
  if (fs::exists(origin)) found.origin = origin_in(config_of(origin));
  return found;
}

// dataset-wise: x sqrt(d) / |x|, |x| the mean norm that stands beside the weights, one per hook.
std::vector<SnapshotStatistics> norm_factors(const StoredFloats& file, const Config& config,
                                             const std::vector<std::string>& hooks,
                                             std::int64_t width) {
  config.expect("norm_activation", {"dataset-wise"});
  std::vector<SnapshotStatistics> statistics;
  for (const std::string& hook : hooks) {
    const double norm = file.read("dataset_average_activation_norm." + hook, {}).item<double>();
    require(norm > 0, "{}: the mean norm at '{}' is {}", file.where(), escape_for_terminal(hook),
            norm);
    statistics.push_back({at::Tensor(), norm / std::sqrt(static_cast<double>(width))});
  }
  return statistics;
}

Found read_llamascopium(const Path& folder) {
  const Config config = config_of(folder / "config.json");
  StoredFloats file = safetensors_at(folder / "sae_weights.safetensors");
  const std::string type = config.text("sae_type"), act_fn = config.text("act_fn", "relu");
  const bool is_crosscoder = type == "crosscoder";
  require(is_crosscoder || type == "sae", "{}: 'sae_type' is '{}'; crosscoder and sae are read",
          config.where(), escape_for_terminal(type));
  config.expect("use_glu_encoder", {false});
  std::vector<std::string> hooks;
  if (is_crosscoder) {
    require(config.has("hook_points") && config.json()["hook_points"].is_array(),
            "{}: 'hook_points' is missing or no list", config.where());
    for (const Json& hook : config.json()["hook_points"]) {
      require(hook.is_string(), "{}: 'hook_points' holds what is no text", config.where());
      hooks.push_back(hook.get<std::string>());
    }
  } else {
    hooks = {config.text("hook_point_in")};
    require(hooks[0] == config.text("hook_point_out"),
            "{}: reads '{}' and writes '{}': transcoders are not computed here", config.where(),
            escape_for_terminal(hooks[0]), escape_for_terminal(config.text("hook_point_out")));
  }
  const auto K = static_cast<std::int64_t>(hooks.size());
  const auto& shape = file.shape("W_D");
  require(shape.size() == (is_crosscoder ? 3u : 2u), "{}: 'W_D' has shape {}, expected {}",
          file.where(), formats::shape_text(shape), is_crosscoder ? "(K, D, d)" : "(D, d)");
  const std::int64_t F = shape[shape.size() - 2], D = shape.back();
  config.expect_size("d_model", D);
  require_expansion(config, D, F);

  Found found{.origin = origin_in(config)};
  Dictionary& dictionary = found.dictionary;
  CrosscoderParameters& p = dictionary.parameters;
  p.encoder_KDF = file.heads("W_E", {K, D, F});
  p.encoder_bias_KF = file.heads("b_E", {K, F});
  p.decoder_KFD = file.heads("W_D", {K, F, D});
  p.decoder_bias_KD =
      config.flag("use_decoder_bias", true) ? file.heads("b_D", {K, D}) : at::zeros({K, D});
  const bool norms_in_gate = config.flag("sparsity_include_decoder_norm", true);
  Activation& activation = dictionary.activation;
  if (act_fn == "jumprelu") {
    activation.kind = norms_in_gate ? Kind::JumpRelu : Kind::SharedJumpRelu;
    p.log_threshold_F = file.logarithms("activation_function.log_jumprelu_threshold", {F});
  } else if (act_fn == "relu") {
    activation.kind = Kind::Relu;
  } else {
    require(act_fn == "topk" || act_fn == "batchtopk",
            "{}: 'act_fn' is '{}'; relu, jumprelu, topk and batchtopk are read", config.where(),
            escape_for_terminal(act_fn));
    require(!is_crosscoder || K == 1,
            "{}: chooses by {} for each of its {} heads; here all heads share that choice",
            config.where(), act_fn, K);
    activation.kind = activation_named(act_fn);
    activation.k = config.positive("top_k");
    if (norms_in_gate) dictionary = fold_norms_into_choice(std::move(dictionary));
  }
  if (config.text("norm_activation", "dataset-wise") != "inference") {
    dictionary.name = folder.filename().string();
    for (std::int64_t k = 0; k < K; ++k) dictionary.steps.push_back(k);
    dictionary = fold_preprocess(std::move(dictionary), norm_factors(file, config, hooks, D));
  }
  file.require_all_read(fmt::format("{} dictionary of llamascopium", act_fn),
                        {"dataset_average_activation_norm."});
  return found;
}

// --- which is which ----------------------------------------------------------------------------

struct Layout {
  const char* name;
  std::vector<const char*> files;
  Found (*read)(const Path& path);
};

const std::vector<Layout>& layouts() {
  static const std::vector<Layout> all{
      {"llamascopium", {"config.json", "sae_weights.safetensors"}, read_llamascopium},
      {"saelens", {"cfg.json", "sae_weights.safetensors"}, read_saelens},
      {"dictionary_learning", {"config.json", "ae.pt"}, read_dictionary_learning},
      {"sparsify", {"cfg.json", "sae.safetensors"}, read_sparsify},
      {"params_npz", {"params.npz"}, read_params_npz}};
  return all;
}

const Layout& layout_named(const std::string& name) {
  std::vector<std::string> names{"dictionary"};
  for (const Layout& layout : layouts()) {
    if (layout.name == name) return layout;
    names.emplace_back(layout.name);
  }
  fail_usage("--from '{}' is not one of {}{}", escape_for_terminal(name), join(names, ", "),
             did_you_mean(name, names));
}

bool holds_dictionary(const Path& path) {
  if (!fs::is_directory(path)) {
    if (path.extension() == ".safetensors")
      return fs::exists(Path(path).replace_extension(".config.json"));
    if (path.extension() != ".pt" || !fs::exists(path)) return false;
    const auto file = std::make_shared<const InputFile>(path);
    return formats::looks_like_torch(*file) && is_legacy_dictionary(formats::TorchFile(file));
  }
  return !dictionary_files(path).empty();
}

std::string stem_of(const Path& path) {
  Path whole = fs::absolute(path).lexically_normal();
  if (!whole.has_filename()) whole = whole.parent_path();
  if (!fs::is_directory(whole)) whole = whole.parent_path();
  return whole.filename().string();
}

std::vector<std::int64_t> steps_in(const Config& origin) {
  std::vector<std::int64_t> steps;
  if (!origin.has("steps")) return steps;
  require(origin.json()["steps"].is_array(), "{}: '{}.steps' is no list", origin.where(),
          kOriginKey);
  for (const Json& step : origin.json()["steps"]) {
    require(step.is_number_integer(), "{}: '{}.steps' holds what is not an integer", origin.where(),
            kOriginKey);
    steps.push_back(step.get<std::int64_t>());
  }
  return steps;
}

// What a file of ours says of where it comes from; what the user says goes before it.
void put_labels(Found& found, const DictionaryLabels& labels, const Path& path,
                const std::string& layout) {
  Dictionary& dictionary = found.dictionary;
  const std::string where = path.string();
  const Config& origin = found.origin;
  const auto first = [](std::initializer_list<std::string> texts) {
    for (const std::string& text : texts)
      if (!text.empty()) return text;
    return std::string();
  };
  dictionary.name = first({origin.text("name"), stem_of(path)});
  dictionary.model_name = first({labels.model_name, origin.text("model_name"), found.model_name});
  dictionary.matrix = first({labels.matrix, origin.text("matrix")});
  dictionary.steps = labels.steps.empty() ? steps_in(origin) : labels.steps;
  require_usage(!dictionary.model_name.empty(),
                "{}: does not say which model it is of: --model is needed", where);
  require_usage(!dictionary.steps.empty(),
                "{}: does not say of which training steps it is: --steps is needed", where);
  const CrosscoderParameters& p = dictionary.parameters;
  require(static_cast<std::int64_t>(dictionary.steps.size()) == p.num_heads(),
          "{}: has {} heads, {} steps are named", where, p.num_heads(), dictionary.steps.size());
  require(std::is_sorted(dictionary.steps.begin(), dictionary.steps.end(), std::less_equal<>()),
          "{}: the steps {} are not in ascending order", where, list_steps(dictionary.steps));
  dictionary.has_seed = origin.has("seed");
  if (dictionary.has_seed) dictionary.seed = origin.integer("seed");

  dictionary.training.d_sae = p.num_features();
  dictionary.training.expansion_factor =
      static_cast<double>(p.num_features()) / static_cast<double>(p.width());
  dictionary.training.input_preprocess = "none";
  if (origin.has("folded") && !origin.below("folded").flag("input_preprocess", false))
    dictionary.training.input_preprocess = origin.text("input_preprocess", "none");
  dictionary.training_record = size_record(dictionary.training);
  dictionary.quality = origin.object("quality");
  dictionary.provenance = {{"program", "cresco " + artifacts::version()},
                           {"converted_from", layout}};
}

}  // namespace

std::string recognised_layout(const Path& path) {
  std::vector<std::string> found;
  if (holds_dictionary(path)) found.emplace_back("dictionary");
  if (fs::is_directory(path)) {
    for (const Layout& layout : layouts())
      if (std::all_of(layout.files.begin(), layout.files.end(),
                      [&](const char* file) { return fs::exists(path / file); }))
        found.emplace_back(layout.name);
  } else if (path.extension() == ".npz" && fs::exists(path)) {
    found.emplace_back("params_npz");
  }
  require_usage(found.size() <= 1, "{}: could be of layout {}: say which by --from", path.string(),
                join(found, " or "));
  return found.empty() ? "" : found[0];
}

std::vector<Path> files_of_layout(const Path& path, const std::string& layout) {
  if (layout == "dictionary") {
    const Path file = dictionary_file(path);
    if (file.extension() == ".pt") return {file};
    return {file, Path(file).replace_extension(".config.json")};
  }
  if (layout == "params_npz") return {npz_at(path)};
  std::vector<Path> files;
  for (const char* file : layout_named(layout).files) files.push_back(path / file);
  return files;
}

Dictionary import_dictionary(const Path& path, const std::string& layout,
                             const DictionaryLabels& labels) {
  if (layout == "dictionary") return read_dictionary(path, labels);
  Found found = layout_named(layout).read(path);
  put_labels(found, labels, path, layout);
  return std::move(found.dictionary);
}

}  // namespace cresco::dictionaries
