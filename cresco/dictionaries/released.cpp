#include "cresco/dictionaries/released.h"

#include "cresco/artifacts/manifest.h"
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace cresco::dictionaries {
namespace {

constexpr const char* kThresholdName = "activation_function.log_jumprelu_threshold";

Path with_suffix(const Path& folder, const std::string& name, const char* suffix) {
  return folder / (name + suffix);
}

Json config_json(const Dictionary& dictionary) {
  const CrosscoderParameters& p = dictionary.parameters;
  Json hook_points = Json::array();
  for (std::int64_t k = 0; k < p.num_heads(); ++k)
    hook_points.push_back(fmt::format("wu_step_{}", k));
  CrosscoderConfig training = dictionary.training;
  Json out;
  out["kind"] = p.num_heads() == 1 ? "per-snapshot" : "cross-snapshot";
  out["model_name"] = dictionary.model_name;
  out["matrix"] = dictionary.matrix;
  out["steps"] = dictionary.steps;
  out["seed"] = dictionary.seed;
  out["config"] = {{"sae_type", "crosscoder"},
                   {"act_fn", "jumprelu"},
                   {"d_model", p.width()},
                   {"d_sae", p.num_features()},
                   {"expansion_factor", training.expansion_factor},
                   {"jumprelu_threshold_window", kThresholdWindow},
                   {"sparsity_include_decoder_norm", true},
                   {"use_decoder_bias", true},
                   {"norm_activation", "inference"},
                   {"use_triton_kernel", false},
                   {"hook_points", hook_points}};
  out["training"] = fields_to_json([&](FieldVisitor& v) { training.fields(v); });
  out["quality"] = dictionary.quality;
  out["provenance"] = dictionary.provenance;
  return out;
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
  CrosscoderConfig training = dictionary.training;
  std::string out = fmt::format(
      "# {}\n\nA crosscoder of {} features over {} snapshots of the matrix {} of {}: {} "
      "parameters.\n\n"
      "Snapshots at steps {}.\n\n",
      dictionary.name, p.num_features(), p.num_heads(), dictionary.matrix,
      escape_for_terminal(dictionary.model_name), p.count(), fmt::join(dictionary.steps, ", "));
  out += markdown_table("quality", dictionary.quality);
  out += markdown_table("training", fields_to_json([&](FieldVisitor& v) { training.fields(v); }));
  out += markdown_table("provenance", dictionary.provenance);
  out +=
      "Tensors: `W_E` (K, d, D), `b_E` (K, D), `W_D` (K, D, d), `b_D` (K, d), "
      "`activation_function.log_jumprelu_threshold` (D), float32. A row x (K, d) of the snapshots, "
      "each centred and "
      "scaled as `input_preprocess` says, has the pre-activations p = sum over k of x[k] W_E[k] + "
      "b_E[k]. Feature j "
      "fires at snapshot k where p[j] |W_D[k, j]| > exp(threshold[j]); its code is then p[j], else "
      "0. The "
      "reconstruction is a[k] W_D[k] + b_D[k].\n";
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

at::Tensor read_tensor(const formats::SafetensorsFile& file, const std::string& name,
                       std::vector<std::int64_t> shape) {
  const formats::StoredTensor& view = file.tensor(name);
  at::Tensor t = tensor::to_tensor(view);
  require(t.is_floating_point(), "{}: '{}' holds {}, expected floating-point numbers",
          file.path().string(), name, formats::name_of(view.dtype));
  // A dictionary of one snapshot may be stored without its first axis.
  if (shape.size() > 1 && shape[0] == 1 && t.dim() + 1 == static_cast<std::int64_t>(shape.size()))
    t = t.unsqueeze(0);
  require(t.sizes() == at::IntArrayRef(shape), "{}: '{}' has shape {}, expected {}",
          file.path().string(), name, formats::shape_text(view.shape), formats::shape_text(shape));
  t = t.to(at::kFloat).contiguous();
  require(t.isfinite().all().item<bool>(), "{}: '{}' holds a number that is not finite",
          file.path().string(), name);
  return t;
}

CrosscoderParameters read_parameters(const formats::SafetensorsFile& file, std::int64_t num_heads) {
  const std::string where = file.path().string();
  for (const auto& view : file.tensors())
    require(
        view.name == "W_E" || view.name == "b_E" || view.name == "W_D" || view.name == "b_D" ||
            view.name == kThresholdName,
        "{}: tensor '{}' is no part of a JumpReLU crosscoder; other kinds are not computed here",
        where, escape_for_terminal(view.name));
  const auto& decoder = file.tensor("W_D").shape;
  require(decoder.size() == 3 || (decoder.size() == 2 && num_heads == 1),
          "{}: 'W_D' has shape {}, expected (K, D, d)", where, formats::shape_text(decoder));
  const std::int64_t K = decoder.size() == 3 ? decoder[0] : 1;
  const std::int64_t F = decoder[decoder.size() - 2], D = decoder[decoder.size() - 1];
  require(K == num_heads, "{}: 'W_D' has {} heads, the config names {} steps", where, K, num_heads);
  require(F > 0 && D > 0, "{}: 'W_D' has shape {}: there is nothing in it", where,
          formats::shape_text(decoder));
  return {read_tensor(file, "W_E", {K, D, F}), read_tensor(file, "b_E", {K, F}),
          read_tensor(file, "W_D", {K, F, D}), read_tensor(file, "b_D", {K, D}),
          read_tensor(file, kThresholdName, {F})};
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

void check_model_config(const Json& config, const CrosscoderParameters& p,
                        const std::string& where) {
  if (!config.is_object()) return;
  const auto agrees = [&](const char* key, std::int64_t value) {
    const auto found = config.find(key);
    if (found == config.end() || !found->is_number_integer()) return;
    require(found->get<std::int64_t>() == value, "{}: config.{} is {}, but the tensors have {}",
            where, key, found->get<std::int64_t>(), value);
  };
  agrees("d_sae", p.num_features());
  agrees("d_model", p.width());
  agrees("n_snapshots", p.num_heads());
  // `arch` marks the variants of the architecture comparison, which share one gate among all heads.
  for (const char* key : {"act_fn", "arch"}) {
    const auto found = config.find(key);
    if (found == config.end() || !found->is_string()) continue;
    require(key == std::string_view("act_fn") && found->get<std::string>() == "jumprelu",
            "{}: config.{} is '{}'; only crosscoders with act_fn jumprelu are computed here", where,
            key, escape_for_terminal(found->get<std::string>()));
  }
}

}  // namespace

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
    require(path.extension() == ".safetensors",
            "{}: is not a dictionary: expected a .safetensors file or its folder", path.string());
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

Dictionary read_dictionary(const Path& path) {
  const Path file_path = dictionary_file(path);
  const Path config_path = Path(file_path).replace_extension(".config.json");
  const std::string where = config_path.string();
  const Json config = read_json_file(config_path);
  require(config.is_object(), "{}: is not a JSON object", where);

  Dictionary dictionary;
  dictionary.name = file_path.stem().string();
  dictionary.model_name = get_string(config, "model_name", where);
  dictionary.steps = read_steps(config, where);
  if (const auto seed = config.find("seed"); seed != config.end() && seed->is_number_integer())
    dictionary.seed = seed->get<std::int64_t>();
  if (const auto matrix = config.find("matrix"); matrix != config.end() && matrix->is_string())
    dictionary.matrix = matrix->get<std::string>();
  dictionary.training = read_training(config.value("training", Json()));
  dictionary.quality = config.value("quality", Json::object());
  dictionary.provenance = config.value("provenance", Json::object());
  dictionary.parameters = read_parameters(formats::SafetensorsFile(file_path),
                                          static_cast<std::int64_t>(dictionary.steps.size()));
  check_model_config(config.value("config", Json()), dictionary.parameters, where);
  return dictionary;
}

std::vector<std::int64_t> heads_in(const trajectories::Stack& stack, const Dictionary& dictionary) {
  require(stack.width() == dictionary.parameters.width(), "{}: is {} wide, the dictionary {}",
          stack.path().string(), stack.width(), dictionary.parameters.width());
  return stack.indices(dictionary.steps);
}

}  // namespace cresco::dictionaries
