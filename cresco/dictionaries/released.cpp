#include "cresco/dictionaries/released.h"

#include "cresco/artifacts/manifest.h"
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/dictionaries/legacy_file.h"
#include "cresco/dictionaries/stored_floats.h"
#include "cresco/formats/safetensors.h"
#include "cresco/formats/torch_file.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <tuple>

namespace cresco::dictionaries {
namespace {

constexpr const char* kThresholdName = "activation_function.log_jumprelu_threshold";
// Of the JumpReLU of the architecture comparison, which has one gate for all heads.
constexpr const char* kSharedGate = "raw_pre_shared_across_snapshots";

std::string kind_of(const Dictionary& dictionary) {
  if (!dictionary.kind.empty()) return dictionary.kind;
  return dictionary.parameters.num_heads() == 1 ? "per-snapshot" : "cross-snapshot";
}

Path with_suffix(const Path& folder, const std::string& name, const char* suffix) {
  return folder / (name + suffix);
}

// What the model is, without how it was trained. The production crosscoder is described as its
// library does, the others as the architecture comparison does.
Json model_json(const Dictionary& dictionary) {
  const CrosscoderParameters& p = dictionary.parameters;
  const Activation& activation = dictionary.activation;
  Json out{{"sae_type", "crosscoder"}};
  if (activation.kind == ActivationKind::SharedJumpRelu)
    out["arch"] = "jumprelu";
  else if (activation.kind == ActivationKind::JumpRelu || activation.kind == ActivationKind::Relu)
    out["act_fn"] = name_of(activation.kind);
  else
    out["arch"] = name_of(activation.kind);
  out["d_model"] = p.width();
  out["d_sae"] = p.num_features();
  out["n_snapshots"] = p.num_heads();
  out["expansion_factor"] = dictionary.training.expansion_factor;
  switch (activation.kind) {
    case ActivationKind::JumpRelu: {
      out["jumprelu_threshold_window"] = kThresholdWindow;
      out["sparsity_include_decoder_norm"] = true;
      out["use_decoder_bias"] = true;
      out["norm_activation"] = "inference";
      out["use_triton_kernel"] = false;
      for (std::int64_t k = 0; k < p.num_heads(); ++k)
        out["hook_points"].push_back(fmt::format("wu_step_{}", k));
      break;
    }
    case ActivationKind::SharedJumpRelu:
      out["jumprelu_gate"] = kSharedGate;
      break;
    case ActivationKind::TopK:
      out["topk_k"] = activation.k;
      break;
    case ActivationKind::BatchTopK:
      out["batchtopk_k"] = activation.k;
      break;
    default:
      break;
  }
  return out;
}

Json training_json(const Dictionary& dictionary) {
  if (!dictionary.training_record.empty()) return dictionary.training_record;
  CrosscoderConfig training = dictionary.training;
  return fields_to_json([&](FieldVisitor& v) { training.fields(v); });
}

Json config_json(const Dictionary& dictionary) {
  Json out;
  out["kind"] = kind_of(dictionary);
  out["model_name"] = dictionary.model_name;
  out["matrix"] = dictionary.matrix;
  out["steps"] = dictionary.steps;
  out["seed"] = dictionary.seed;
  out["config"] = model_json(dictionary);
  out["training"] = training_json(dictionary);
  out["quality"] = dictionary.quality;
  out["provenance"] = dictionary.provenance;
  return out;
}

// How the codes come of the pre-activations, for the card.
std::string activation_sentence(const Activation& activation) {
  switch (activation.kind) {
    case ActivationKind::JumpRelu:
      return "Feature j fires at snapshot k where p[j] |W_D[k, j]| > exp(threshold[j]); its code "
             "is then "
             "p[j], else 0.";
    case ActivationKind::SharedJumpRelu:
      return "Feature j fires, at all snapshots, where p[j] > exp(threshold[j]); its code is then "
             "p[j], "
             "else 0.";
    case ActivationKind::TopK:
      return fmt::format("The codes of a row are its {} largest ReLU(p); the others are 0.",
                         activation.k);
    case ActivationKind::BatchTopK:
      return fmt::format(
          "The codes of a batch of B rows are its {} B largest ReLU(p); the others are 0.",
          activation.k);
    case ActivationKind::Gated:
      return "Feature j fires, at all snapshots, where p[j] + b_gate[j] > 0; its code is then "
             "ReLU(exp(r_mag[j]) p[j] + b_mag[j]), else 0.";
    case ActivationKind::Relu:
      return "The codes are ReLU(p).";
  }
  return "";
}

std::string value_text(const Json& value) {
  return value.is_string() ? value.get<std::string>()
                           : value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string markdown_table(const char* head, const Json& object) {
  std::string out = fmt::format("| {} | |\n|---|---|\n", head);
  for (const auto& [key, value] : object.items())
    out += fmt::format("| {} | {} |\n", key, value_text(value));
  return out + "\n";
}

std::string card(const Dictionary& dictionary) {
  const CrosscoderParameters& p = dictionary.parameters;
  std::string out = fmt::format(
      "# {}\n\nA dictionary of {} features ({}) over {} snapshots of the matrix {} of {}: {} "
      "parameters.\n\n"
      "Snapshots at steps {}.\n\n",
      dictionary.name, p.num_features(), name_of(dictionary.activation.kind), p.num_heads(),
      dictionary.matrix, escape_for_terminal(dictionary.model_name), p.count(),
      fmt::join(dictionary.steps, ", "));
  out += markdown_table("quality", dictionary.quality);
  out += markdown_table("training", training_json(dictionary));
  out += markdown_table("provenance", dictionary.provenance);
  out += "Tensors, float32: `W_E` (K, d, D), `b_E` (K, D), `W_D` (K, D, d), `b_D` (K, d)";
  for (const auto& [name, t] : p.named())
    if (t.dim() == 1) out += fmt::format(", `{}` (D)", name);
  out +=
      ". A row x (K, d) of the snapshots, each centred and scaled as `input_preprocess` says, has "
      "the "
      "pre-activations p = sum over k of x[k] W_E[k] + b_E[k]. " +
      activation_sentence(dictionary.activation) + " The reconstruction is a[k] W_D[k] + b_D[k].\n";
  return out;
}

// Each field of the recorded training settings that the file has with the right type; others keep
// theirs.
CrosscoderConfig read_training(const Json& recorded) {
  CrosscoderConfig training;
  if (!recorded.is_object()) return training;
  EachField visitor([&](const std::string& name, auto& value, const char*, const char*) {
    using Value = std::decay_t<decltype(value)>;
    const auto found = recorded.find(name);
    if (found == recorded.end()) return;
    if constexpr (std::is_same_v<Value, std::string>) {
      if (found->is_string()) value = found->template get<Value>();
    } else if constexpr (std::is_same_v<Value, std::int64_t>) {
      if (found->is_number_integer()) value = found->template get<Value>();
    } else if constexpr (std::is_same_v<Value, double>) {
      if (found->is_number()) value = found->template get<Value>();
    }
  });
  training.fields(visitor);
  return training;
}

// Heads, features and width of the decoder.
using DecoderShape = std::array<std::int64_t, 3>;

DecoderShape decoder_shape(const StoredFloats& file, std::int64_t num_heads) {
  const std::string& where = file.where();
  const auto& decoder = file.shape("W_D");
  require(decoder.size() == 3 || (decoder.size() == 2 && num_heads == 1),
          "{}: 'W_D' has shape {}, expected (K, D, d)", where, formats::shape_text(decoder));
  const std::int64_t K = decoder.size() == 3 ? decoder[0] : 1;
  const std::int64_t F = decoder[decoder.size() - 2], D = decoder[decoder.size() - 1];
  require(K == num_heads, "{}: 'W_D' has {} heads, the config names {} steps", where, K, num_heads);
  require(F > 0 && D > 0, "{}: 'W_D' has shape {}: there is nothing in it", where,
          formats::shape_text(decoder));
  return {K, F, D};
}

// The tensors that a dictionary of this activation has, each of them with the features' axis alone
// as its shape but for the four weights.
CrosscoderParameters read_parameters(const StoredFloats& file, const DecoderShape& shape,
                                     ActivationKind kind) {
  const auto [K, F, D] = shape;
  CrosscoderParameters p{
      .encoder_KDF = file.heads("W_E", {K, D, F}),
      .encoder_bias_KF = file.heads("b_E", {K, F}),
      .decoder_KFD = file.heads("W_D", {K, F, D}),
      .decoder_bias_KD = file.heads("b_D", {K, D}),
  };
  if (Activation{kind}.has_threshold()) p.log_threshold_F = file.read(kThresholdName, {F});
  if (kind == ActivationKind::Gated) {
    p.gate_bias_F = file.read("activation_function.b_gate", {F});
    p.log_magnitude_F = file.read("activation_function.r_mag", {F});
    p.magnitude_bias_F = file.read("activation_function.b_mag", {F});
  }
  const auto known = p.named();
  for (const auto& view : file.tensors())
    require(std::any_of(known.begin(), known.end(),
                        [&](const tensor::NamedTensor& t) { return t.first == view.name; }),
            "{}: tensor '{}' is no part of a {} dictionary", file.where(),
            escape_for_terminal(view.name), name_of(kind));
  return p;
}

// `config.arch` marks the variants of the architecture comparison, which share one code among all
// heads; without it `config.act_fn` is that of the production crosscoder.
Activation read_activation(const Json& config, const CrosscoderConfig& training,
                           const std::string& where) {
  const auto text = [&](const char* key) -> std::string {
    const auto found = config.is_object() ? config.find(key) : config.end();
    return config.is_object() && found != config.end() && found->is_string()
               ? found->get<std::string>()
               : "";
  };
  Activation activation;
  const std::string arch = text("arch"), act_fn = text("act_fn");
  if (arch == "jumprelu") {
    activation.kind = ActivationKind::SharedJumpRelu;
  } else if (!arch.empty() || (!act_fn.empty() && act_fn != "jumprelu")) {
    const std::string name = arch.empty() ? act_fn : arch;
    const bool known =
        arch.empty() ? name == "relu" : name == "topk" || name == "batchtopk" || name == "gated";
    require(known,
            "{}: config.{} is '{}'; dictionaries here are of act_fn jumprelu or relu, or of arch "
            "jumprelu, topk, batchtopk or gated",
            where, arch.empty() ? "act_fn" : "arch", escape_for_terminal(name));
    activation.kind = activation_named(name);
  }
  if (activation.kind == ActivationKind::TopK || activation.kind == ActivationKind::BatchTopK) {
    const char* key = activation.kind == ActivationKind::TopK ? "topk_k" : "batchtopk_k";
    const auto found = config.find(key);
    require(found != config.end() && found->is_number_integer() && found->get<std::int64_t>() > 0,
            "{}: config.{} is missing or no number above 0", where, key);
    activation.k = found->get<std::int64_t>();
    activation.slice_rows = training.batch_size;
  }
  return activation;
}

std::vector<std::int64_t> read_steps(const Json& config, const std::string& where) {
  const auto found = config.find("steps");
  require(found != config.end() && found->is_array() && !found->empty(),
          "{}: 'steps' is missing or not a list", where);
  std::vector<std::int64_t> steps;
  for (const Json& step : *found) {
    require(step.is_number_integer(), "{}: 'steps' holds something that is not an integer", where);
    steps.push_back(step.get<std::int64_t>());
  }
  require(std::is_sorted(steps.begin(), steps.end(), std::less_equal<>()),
          "{}: 'steps' are not in ascending order", where);
  return steps;
}

// Files of the release don't say which matrix they are of; their folders do.
std::string matrix_of_place(const Path& file) {
  const Path whole = std::filesystem::absolute(file);
  for (const char* matrix : {"W_U", "W_E"})
    if (std::find(whole.begin(), whole.end(), Path(matrix)) != whole.end()) return matrix;
  return "";
}

void apply(const DictionaryLabels& labels, Json& config) {
  if (!labels.model_name.empty()) config["model_name"] = labels.model_name;
  if (!labels.matrix.empty()) config["matrix"] = labels.matrix;
  if (!labels.steps.empty()) config["steps"] = labels.steps;
}

// A dictionary's file and what the release keeps beside it in <name>.config.json.
struct OpenedFile {
  Path path;
  std::string where;  // the config's
  Json config;
  std::vector<formats::StoredTensor> tensors, all_tensors;  // a training's file has more of them
};

OpenedFile open_dictionary(const Path& path, const DictionaryLabels& labels = {}) {
  OpenedFile file{.path = dictionary_file(path)};
  if (file.path.extension() == ".pt") {
    const formats::TorchFile torch(file.path);
    file.where = file.path.string();
    file.config = legacy_config(torch);
    file.tensors = legacy_tensors(torch);
    file.all_tensors = torch.tensors();
  } else {
    const Path config_path = Path(file.path).replace_extension(".config.json");
    file.where = config_path.string();
    file.config = read_json_file(config_path);
    require(file.config.is_object(), "{}: is not a JSON object", file.where);
    file.tensors = file.all_tensors = formats::SafetensorsFile(file.path).tensors();
  }
  apply(labels, file.config);
  return file;
}

Dictionary all_but_parameters(const OpenedFile& file) {
  const Json& config = file.config;
  Dictionary dictionary;
  const auto text = [&](const char* key) -> std::string {
    const auto found = config.find(key);
    return found != config.end() && found->is_string() ? found->get<std::string>() : "";
  };
  dictionary.name = file.path.stem().string();
  dictionary.model_name = get_string(config, "model_name", file.where);
  dictionary.steps = read_steps(config, file.where);
  if (const auto seed = config.find("seed"); seed != config.end() && seed->is_number_integer())
    dictionary.seed = seed->get<std::int64_t>();
  dictionary.kind = text("kind");
  dictionary.matrix = text("matrix");
  if (dictionary.matrix.empty()) dictionary.matrix = matrix_of_place(file.path);
  const Json training = config.value("training", Json());
  dictionary.training = read_training(training);
  if (!training.is_object() || !training.contains("lr"))
    dictionary.training_record = size_record(dictionary.training);
  dictionary.quality = config.value("quality", Json::object());
  dictionary.provenance = config.value("provenance", Json::object());
  dictionary.activation =
      read_activation(config.value("config", Json()), dictionary.training, file.where);
  return dictionary;
}

// Error where the config says otherwise.
DecoderShape checked_shape(const OpenedFile& file, const Dictionary& dictionary) {
  const DecoderShape shape = decoder_shape({file.path.string(), file.tensors},
                                           static_cast<std::int64_t>(dictionary.steps.size()));
  const Json config = file.config.value("config", Json());
  if (!config.is_object()) return shape;
  const char* const keys[] = {"n_snapshots", "d_sae", "d_model"};
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const auto found = config.find(keys[i]);
    if (found == config.end() || !found->is_number_integer()) continue;
    require(found->get<std::int64_t>() == shape[i], "{}: config.{} is {}, but the tensors have {}",
            file.where, keys[i], found->get<std::int64_t>(), shape[i]);
  }
  return shape;
}

// `preprocess_stats` of a training: mean (K, 1, d) and scale (K, 1, 1), or with fewer axes of 1.
std::vector<SnapshotStatistics> read_statistics(const StoredFloats& file, const Dictionary& d) {
  const std::int64_t K = d.parameters.num_heads(), D = d.parameters.width();
  const char *mean = "preprocess_stats.mean", *scale = "preprocess_stats.scale";
  if (!file.has(mean) || !file.has(scale)) return {};
  const auto read = [&](const char* name, std::int64_t width) {
    const at::Tensor t = file.read(name, file.shape(name));
    require(t.numel() == K * width,
            "{}: '{}' has shape {}, expected {} numbers for each of {} heads", file.where(), name,
            formats::shape_text(file.shape(name)), width, K);
    return t.reshape({K, width});
  };
  const at::Tensor mean_KD = read(mean, D), scale_K1 = read(scale, 1);
  require(scale_K1.gt(0).all().item<bool>(), "{}: '{}' holds a scale that is not above 0",
          file.where(), scale);
  std::vector<SnapshotStatistics> statistics;
  for (std::int64_t k = 0; k < K; ++k)
    statistics.push_back({mean_KD[k], scale_K1[k][0].item<double>()});
  return statistics;
}

Dictionary read(const Path& path, const DictionaryLabels& labels, Numbers numbers) {
  const OpenedFile file = open_dictionary(path, labels);
  Dictionary dictionary = all_but_parameters(file);
  dictionary.parameters =
      read_parameters({file.path.string(), file.tensors, numbers}, checked_shape(file, dictionary),
                      dictionary.activation.kind);
  if (numbers == Numbers::Read && dictionary.training.input_preprocess != "none")
    dictionary.statistics = read_statistics({file.path.string(), file.all_tensors}, dictionary);
  return dictionary;
}

}  // namespace

Json size_record(const CrosscoderConfig& training) {
  return {{"d_sae", training.d_sae},
          {"expansion_factor", training.expansion_factor},
          {"input_preprocess", training.input_preprocess}};
}

std::vector<Path> Dictionary::files(const Path& folder) const {
  return {with_suffix(folder, name, ".safetensors"), with_suffix(folder, name, ".config.json"),
          with_suffix(folder, name, ".md")};
}

void write_dictionary(const Path& folder, const Dictionary& dictionary) {
  const auto files = dictionary.files(folder);
  tensor::write_tensors(files[0], dictionary.parameters.named());
  write_json_file(files[1], config_json(dictionary));
  write_file(files[2], card(dictionary));
}

Path dictionary_file(const Path& path) {
  if (!std::filesystem::is_directory(path)) {
    require(path.extension() == ".safetensors" || path.extension() == ".pt",
            "{}: is not a dictionary: expected a .safetensors or .pt file, or a folder",
            path.string());
    require(std::filesystem::exists(path), "{}: no such file", path.string());
    return path;
  }
  std::vector<Path> found;
  for (const auto& entry : std::filesystem::directory_iterator(path))
    if (entry.path().extension() == ".safetensors" &&
        std::filesystem::exists(Path(entry.path()).replace_extension(".config.json")))
      found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  require(!found.empty(), "{}: holds no dictionary (a .safetensors file with its .config.json)",
          path.string());
  require(found.size() == 1, "{}: holds {} dictionaries: name one, for example {}", path.string(),
          found.size(), found[0].filename().string());
  return found[0];
}

Dictionary read_dictionary(const Path& path, const DictionaryLabels& labels) {
  return read(path, labels, Numbers::Read);
}

Dictionary describe_dictionary(const Path& path) { return read(path, {}, Numbers::ShapesOnly); }

Json recomputed_metrics(const Path& dictionary_file) {
  const Path path = Path(dictionary_file).replace_extension(".metrics_recomputed.json");
  if (!std::filesystem::exists(path)) return nullptr;
  Json metrics = read_json_file(path);
  require(metrics.is_object(), "{}: is not a JSON object", path.string());
  return metrics;
}

Record read_record(const Path& path) {
  const Json config = open_dictionary(path).config;
  return {config.value("quality", Json::object()), config.value("provenance", Json::object())};
}

StoredDecoder::StoredDecoder(const Path& path, Progress& progress) {
  const OpenedFile file = open_dictionary(path);
  path_ = file.path;
  dictionary_ = all_but_parameters(file);
  const std::string where = path_.string();
  const DecoderShape shape = checked_shape(file, dictionary_);
  std::tie(num_heads_, num_features_, width_) = std::tuple(shape[0], shape[1], shape[2]);
  decoder_ = formats::tensor_named(file.tensors, "W_D", where);
  require(at::isFloatingType(tensor::scalar_type(decoder_.dtype)),
          "{}: 'W_D' holds {}, expected floating-point numbers", where,
          formats::name_of(decoder_.dtype));
  if (decoder_.strides.empty()) decoder_.strides = {num_features_ * width_, width_, 1};
  if (decoder_.strides.size() == 2) decoder_.strides.insert(decoder_.strides.begin(), 0);

  constexpr std::int64_t kSlice = 256;
  norm_FK_ = at::empty({num_features_, num_heads_}, at::kDouble);
  progress.begin("norms", num_heads_, "snapshot");
  for (std::int64_t k = 0; k < num_heads_; ++k) {
    for (std::int64_t begin = 0; begin < num_features_; begin += kSlice) {
      const std::int64_t count = std::min(kSlice, num_features_ - begin);
      const at::Tensor rows_FD = rows_FKD(begin, count, {k}).select(1, 0).to(at::kDouble);
      const at::Tensor norm_F = rows_FD.square().sum(1).sqrt_();
      require(norm_F.isfinite().all().item<bool>(),
              "{}: 'W_D' holds a number that is not finite, at step {}, features {} to {}", where,
              dictionary_.steps[static_cast<std::size_t>(k)], begin, begin + count - 1);
      norm_FK_.select(1, k).narrow(0, begin, count).copy_(norm_F);
    }
    progress.update(k + 1, where);
  }
  progress.end();
}

at::Tensor StoredDecoder::rows_FKD(std::int64_t begin, std::int64_t count,
                                   const std::vector<std::int64_t>& heads) const {
  const std::vector<std::int64_t>& strides = decoder_.strides;
  at::Tensor rows_FKD = at::empty({count, static_cast<std::int64_t>(heads.size()), width_});
  for (std::size_t k = 0; k < heads.size(); ++k) {
    formats::StoredTensor slice = decoder_;
    slice.shape = {count, width_};
    slice.strides = {strides[1], strides[2]};
    slice.offset +=
        (heads[k] * strides[0] + begin * strides[1]) * formats::bits_of(slice.dtype) / 8;
    rows_FKD.select(1, static_cast<std::int64_t>(k)).copy_(tensor::to_tensor(slice));
  }
  return rows_FKD;
}

std::vector<std::int64_t> heads_in(const trajectories::Stack& stack, const Dictionary& dictionary) {
  require(stack.width() == dictionary.parameters.width(), "{}: is {} wide, the dictionary {}",
          stack.path().string(), stack.width(), dictionary.parameters.width());
  return stack.indices(dictionary.steps);
}

}  // namespace cresco::dictionaries
