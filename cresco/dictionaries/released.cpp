#include "cresco/dictionaries/released.h"

#include "cresco/artifacts/manifest.h"
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/dictionaries/config_values.h"
#include "cresco/dictionaries/legacy_file.h"
#include "cresco/dictionaries/stored_floats.h"
#include "cresco/formats/safetensors.h"
#include "cresco/formats/torch_file.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <tuple>

namespace cresco::dictionaries {
namespace {

constexpr const char* kThresholdName = "activation_function.log_jumprelu_threshold";
// Of a batchtopk dictionary that does not say.
constexpr std::int64_t kReleasedBatchTopK = 64;
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
  if (!dictionary.matrix.empty()) out["matrix"] = dictionary.matrix;
  out["steps"] = dictionary.steps;
  if (dictionary.has_seed) out["seed"] = dictionary.seed;
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

// A whole number may be written as 300.0.
std::int64_t whole_number(const Config& config, const char* key) {
  if (!config.json()[key].is_number_float()) return config.integer(key);
  const double value = config.number(key);
  require(value == std::floor(value) && std::abs(value) < 1e15,
          "{}: '{}' is {}, expected a whole number", config.where(), key, value);
  return static_cast<std::int64_t>(value);
}

// The settings that the file has; the others keep their defaults, and then the record is what the
// file says.
void read_training(const Config& recorded, Dictionary& dictionary) {
  CrosscoderConfig& training = dictionary.training;
  bool is_complete = true;
  EachField visitor([&](const std::string& name, auto& value, const char*, const char*) {
    using Value = std::decay_t<decltype(value)>;
    const char* const key = name.c_str();
    if (!recorded.has(key)) {
      is_complete = false;
      return;
    }
    if constexpr (std::is_same_v<Value, std::string>) {
      value = recorded.text(key);
    } else if constexpr (std::is_same_v<Value, std::int64_t>) {
      value = whole_number(recorded, key);
    } else if constexpr (std::is_same_v<Value, double>) {
      value = recorded.number(key);
    }
  });
  training.fields(visitor);
  const std::string& mode = training.input_preprocess;
  require(mode == "none" || mode == "center" || mode == "center_scale",
          "{}: training.input_preprocess is '{}', expected none, center or center_scale",
          recorded.where(), escape_for_terminal(mode));
  require(training.batch_size > 0, "{}: training.batch_size is {}, expected more than 0",
          recorded.where(), training.batch_size);
  if (is_complete) return;
  dictionary.training_record = recorded.json();
  dictionary.training_record["d_sae"] = training.d_sae;  // checked_shape fills it in
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
  if (Activation{kind}.has_threshold()) p.log_threshold_F = file.logarithms(kThresholdName, {F});
  if (kind == ActivationKind::Gated) {
    p.gate_bias_F = file.read("activation_function.b_gate", {F});
    p.log_magnitude_F = file.logarithms("activation_function.r_mag", {F});
    p.magnitude_bias_F = file.read("activation_function.b_mag", {F});
  }
  file.require_all_read(fmt::format("{} dictionary", name_of(kind)));
  return p;
}

// `config.arch` marks the variants of the architecture comparison, which share one code among all
// heads; without it `config.act_fn` is that of the production crosscoder.
void read_activation(const Config& config, Dictionary& dictionary) {
  Activation& activation = dictionary.activation;
  const std::string& where = config.where();
  const std::string arch = config.text("arch"), act_fn = config.text("act_fn");
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
  if (activation.kind == ActivationKind::TopK) {
    activation.k = config.positive("topk_k");
  } else if (activation.kind == ActivationKind::BatchTopK && config.has("batchtopk_k")) {
    activation.k = config.positive("batchtopk_k");
  } else if (activation.kind == ActivationKind::BatchTopK) {
    activation.k = kReleasedBatchTopK;
    dictionary.notes.push_back(fmt::format(
        "{}: config.batchtopk_k is missing: taken as {}, as the release's own loader does", where,
        activation.k));
  }
  if (activation.k > 0) activation.slice_rows = dictionary.training.batch_size;
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
  const Config config(file.config, file.where);
  Dictionary dictionary;
  dictionary.name = file.path.stem().string();
  dictionary.model_name = get_string(file.config, "model_name", file.where);
  dictionary.steps = read_steps(file.config, file.where);
  dictionary.has_seed = config.has("seed");
  if (dictionary.has_seed) dictionary.seed = config.integer("seed");
  dictionary.kind = config.text("kind");
  dictionary.matrix = config.text("matrix");
  if (dictionary.matrix.empty()) dictionary.matrix = matrix_of_place(file.path);
  read_training({config.object("training"), file.where}, dictionary);
  dictionary.quality = config.object("quality");
  dictionary.provenance = config.object("provenance");
  read_activation({config.object("config"), file.where}, dictionary);
  return dictionary;
}

// Error where the config says otherwise. What it does not say of sizes is put into the settings.
DecoderShape checked_shape(const OpenedFile& file, Dictionary& dictionary) {
  const DecoderShape shape = decoder_shape({file.path.string(), file.tensors},
                                           static_cast<std::int64_t>(dictionary.steps.size()));
  const Json config = file.config.value("config", Json());
  if (config.is_object()) {
    const Config sizes(config, file.where);
    sizes.expect_size("n_snapshots", shape[0]);
    sizes.expect_size("d_sae", shape[1]);
    sizes.expect_size("d_model", shape[2]);
  }
  CrosscoderConfig& training = dictionary.training;
  require(training.d_sae == 0 || training.d_sae == shape[1],
          "{}: training.d_sae is {}, but the tensors have {}", file.where, training.d_sae,
          shape[1]);
  training.d_sae = shape[1];
  if (training.expansion_factor == 0)
    training.expansion_factor = static_cast<double>(shape[1]) / static_cast<double>(shape[2]);
  if (Json& record = dictionary.training_record; !record.empty()) {
    record["d_sae"] = training.d_sae;
    record["expansion_factor"] = training.expansion_factor;
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

std::vector<Path> dictionary_files(const Path& folder) {
  std::vector<Path> found;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().extension() == ".safetensors" &&
        !entry.path().filename().string().starts_with(".") &&
        std::filesystem::exists(Path(entry.path()).replace_extension(".config.json")))
      found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  return found;
}

Path dictionary_file(const Path& path) {
  if (!std::filesystem::is_directory(path)) {
    require(path.extension() == ".safetensors" || path.extension() == ".pt",
            "{}: is not a dictionary: expected a .safetensors or .pt file, or a folder",
            path.string());
    require(std::filesystem::exists(path), "{}: no such file", path.string());
    return path;
  }
  const auto found = dictionary_files(path);
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
  const OpenedFile file = open_dictionary(path);
  const Config config(file.config, file.where);
  return {config.object("quality"), config.object("provenance")};
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
