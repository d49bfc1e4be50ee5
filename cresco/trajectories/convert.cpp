#include "cresco/trajectories/convert.h"

#include "cresco/base/interrupt.h"
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/families/gpt2.h"
#include "cresco/formats/llmc.h"
#include "cresco/formats/safetensors.h"
#include "cresco/formats/torch_writer.h"
#include "cresco/tensor/bridge.h"
#include "cresco/trajectories/extract.h"
#include "cresco/trajectories/matrix_reader.h"
#include "cresco/trajectories/stack.h"
#include "cresco/trajectories/steps.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

namespace cresco::trajectories {
namespace {

namespace fs = std::filesystem;
using formats::DType;
using formats::TensorView;

// A tensor that is to be written: where it comes from, and what it is in the new file.
struct Item {
  std::string name;
  std::vector<std::int64_t> shape;
  DType dtype{};
  std::function<at::Tensor()> read;  // of the source's type, in the new shape
};

DType written_type(const ConvertConfig& config, DType stored) {
  const at::ScalarType type = tensor::scalar_type(stored);
  if (config.dtype.empty() || !at::isFloatingType(type)) return stored;
  return tensor::dtype_of(at::empty({0}, tensor::scalar_type_named(config.dtype)));
}

std::vector<TensorView> views_of(const std::vector<Item>& items) {
  std::vector<TensorView> views;
  for (const Item& item : items) views.push_back({item.name, item.dtype, item.shape, {}});
  return views;
}

const Item& item_named(const std::vector<Item>& items, const std::string& name) {
  return *std::find_if(items.begin(), items.end(), [&](const Item& i) { return i.name == name; });
}

// One tensor in memory at a time, in the order of the file.
template <class Writer>
void write_items(Writer& writer, const std::vector<Item>& items) {
  for (const TensorView& view : writer.tensors()) {
    const Item& item = item_named(items, view.name);
    const at::Tensor tensor = item.read().to(tensor::scalar_type(item.dtype)).contiguous();
    writer.write(tensor::view_of("", tensor).bytes);
  }
  writer.commit();
}

// --- the comparison ---------------------------------------------------------------------------

struct Difference {
  double squared = 0, squared_size = 0, largest = 0;
  std::int64_t num_tensors = 0, num_equal = 0;

  void add(const at::Tensor& read, const at::Tensor& written, const std::string& where) {
    require(read.sizes() == written.sizes(), "{}: has shape {} after writing, it had {}", where,
            formats::shape_text(written.sizes().vec()), formats::shape_text(read.sizes().vec()));
    ++num_tensors;
    if (read.scalar_type() == written.scalar_type()) {
      const at::Tensor a = read.contiguous(), b = written.contiguous();
      require(std::equal(tensor::view_of("", a).bytes.begin(), tensor::view_of("", a).bytes.end(),
                         tensor::view_of("", b).bytes.begin()),
              "{}: what was written is not what was read: a faulty disk?", where);
      ++num_equal;
      squared_size += a.to(at::kDouble).square().nansum().item<double>();
      return;
    }
    const at::Tensor a = read.to(at::kDouble), b = written.to(at::kDouble);
    const at::Tensor apart = (a - b).abs();
    require((a.isfinite() == b.isfinite()).all().item<bool>(),
            "{}: holds numbers up to {} that {} cannot hold", where,
            a.numel() == 0 ? 0 : a.abs().max().item<double>(),
            c10::toString(written.scalar_type()));
    squared += apart.square().nansum().item<double>();
    squared_size += a.square().nansum().item<double>();
    if (apart.numel() > 0) largest = std::max(largest, apart.max().item<double>());
    num_equal += apart.numel() == 0 || (apart == 0).all().item<bool>();
  }

  ConvertedStep result(std::int64_t step, const Path& out) const {
    return {step,      out,     num_tensors,
            num_equal, largest, squared_size > 0 ? std::sqrt(squared / squared_size) : 0};
  }
};

ConvertedStep compare(const std::vector<Item>& items, const Snapshot& written, std::int64_t step) {
  Difference difference;
  for (const Item& item : items) {
    const DType stands_there = written.tensor(item.name).dtype;
    require(stands_there == item.dtype,
            "{}: '{}' stands there as {}, {} is to be written: the output of another conversion? "
            "--overwrite replaces it",
            written.where(), item.name, formats::name_of(stands_there),
            formats::name_of(item.dtype));
    difference.add(item.read(), written.read(item.name),
                   fmt::format("{}: '{}'", written.where(), item.name));
  }
  return difference.result(step, written.place());
}

// --- whole models -----------------------------------------------------------------------------

// The config that a model's folder needs.
Json model_config(const Snapshot& snapshot, const ConvertConfig& config) {
  Json json = snapshot.config();
  if (!config.model_config.empty()) json = read_json_file(config.model_config);
  require(
      json.is_object(),
      "{}: comes without a config.json, and a model's folder needs one: give --model-config FILE",
      snapshot.where());
  // Families that we know no more of are copied as they are.
  const families::Family* family = families::find_family(json);
  for (const families::TensorSpec& spec :
       family ? family->tensors(json, snapshot.where()) : std::vector<families::TensorSpec>()) {
    if (!snapshot.has(spec.name) && family->is_tied(json, snapshot.where())) continue;
    const auto& stored = snapshot.tensor(spec.name);
    require(stored.shape == spec.shape, "{}: has shape {}, by its config {}", stored.where(),
            formats::shape_text(stored.shape), formats::shape_text(spec.shape));
  }
  if (!config.dtype.empty()) {
    const std::string name = config.dtype == "fp32"   ? "float32"
                             : config.dtype == "bf16" ? "bfloat16"
                                                      : "float16";
    for (const char* key : {"torch_dtype", "dtype"})
      if (json.contains(key)) json[key] = name;
  }
  return json;
}

std::vector<Item> stored_items(const Snapshot& snapshot, const ConvertConfig& config) {
  std::vector<Item> items;
  for (const formats::StoredTensor& stored : snapshot.tensors())
    items.push_back({stored.name, stored.shape, written_type(config, stored.dtype),
                     [&stored] { return tensor::to_tensor(stored); }});
  return items;
}

// What is written appears under its name once it has been read again and compared.
ConvertedStep write_model_folder(const Path& folder, const Json& config,
                                 const std::vector<Item>& items, std::int64_t step) {
  if (folder.has_parent_path()) fs::create_directories(folder.parent_path());
  AtomicFolder made(folder);
  formats::SafetensorsWriter writer(made.folder() / "model.safetensors", views_of(items),
                                    {{"format", "pt"}});
  write_items(writer, items);
  write_json_file(made.folder() / "config.json", config);
  ConvertedStep compared =
      compare(items, open_model_folder(made.folder(), step, made.folder()), step);
  made.commit();
  compared.out = folder;
  return compared;
}

// The same for a file: `write` fills <file>.part, `open` reads it again.
template <class Write, class Open>
ConvertedStep write_checked(const Path& file, const std::vector<Item>& items, std::int64_t step,
                            const Write& write, const Open& open) {
  if (file.has_parent_path()) fs::create_directories(file.parent_path());
  const Path part = file.string() + ".part";
  try {
    write(part);
    ConvertedStep compared = compare(items, open(part), step);
    fs::rename(part, file);
    compared.out = file;
    return compared;
  } catch (...) {
    std::error_code ignored;
    fs::remove(part, ignored);
    throw;
  }
}

ConvertedStep convert_to_folder(const Snapshot& snapshot, const ConvertConfig& config,
                                const Path& folder) {
  const std::vector<Item> items = stored_items(snapshot, config);
  const Json json = model_config(snapshot, config);
  if (!fs::exists(folder)) return write_model_folder(folder, json, items, snapshot.step());
  const Snapshot written = open_model_folder(folder, snapshot.step(), folder);
  const std::string changed = first_difference(json, written.config());
  require(changed.empty(), "{}: stands there with another config: {}; --overwrite replaces it",
          folder.string(), changed);
  return compare(items, written, snapshot.step());
}

// --- one matrix -------------------------------------------------------------------------------

// slug of file names: org/name -> org_name
std::string slug_of(std::string model) {
  std::replace(model.begin(), model.end(), '/', '_');
  return model;
}

Item matrix_item(const Snapshot& snapshot, const ConvertConfig& config) {
  const auto& stored = snapshot.tensor(snapshot.resolve(config.matrix_or_default()));
  require(stored.shape.size() == 2, "{}: has shape {}, expected a matrix", stored.where(),
          formats::shape_text(stored.shape));
  return {config.matrix_or_default(), stored.shape, written_type(config, stored.dtype),
          [&stored] { return tensor::to_tensor(stored); }};
}

ConvertedStep convert_to_matrix_file(const Snapshot& snapshot, const ConvertConfig& config,
                                     const std::string& model, const Path& folder) {
  const Path file = folder / fmt::format("{}_step{}_{}.pt", slug_of(model), snapshot.step(),
                                         config.matrix_or_default() == "W_E" ? "we" : "wu");
  const std::vector<Item> items{matrix_item(snapshot, config)};
  const auto open = [&](const Path& path) {
    return open_matrix_files({path}, snapshot.step(), folder);
  };
  if (fs::exists(file)) return compare(items, open(file), snapshot.step());
  return write_checked(
      file, items, snapshot.step(),
      [&](const Path& path) {
        formats::TorchWriter writer(path, views_of(items));
        write_items(writer, items);
      },
      open);
}

std::vector<ConvertedStep> convert_to_stack(const Trajectory& trajectory,
                                            const ConvertConfig& config, const Path& out,
                                            Progress& progress, const std::string& resume_command) {
  const ExtractConfig wanted{
      .matrix = config.matrix_or_default(), .steps = config.steps, .dtype = config.dtype};
  const Extracted made = extract(trajectory, wanted, out, progress, resume_command);
  const Stack stack(out);
  std::vector<ConvertedStep> steps;
  for (std::size_t k = 0; k < made.steps.size(); ++k) {
    const Snapshot snapshot = trajectory.open(made.steps[k]);
    const MatrixReader reader(snapshot, config.matrix_or_default(), false);
    std::vector<std::byte> bytes;
    reader.read(reader.dtype(),
                [&](Bytes piece) { bytes.insert(bytes.end(), piece.begin(), piece.end()); });
    const at::Tensor read = at::from_blob(bytes.data(), {reader.rows(), reader.width()},
                                          tensor::scalar_type(reader.dtype()));
    Difference difference;
    difference.add(read, tensor::to_tensor(stack.stored(static_cast<std::int64_t>(k))),
                   fmt::format("{}: step {}", out.string(), made.steps[k]));
    steps.push_back(difference.result(made.steps[k], out));
  }
  return steps;
}

// --- GPT-2 in the files of three programs -----------------------------------------------------

bool is_linear(const std::string& name) {
  return name.ends_with("attn.c_attn.weight") || name.ends_with("c_proj.weight") ||
         name.ends_with("c_fc.weight");
}

// The tensors of `target`, from a snapshot that may store its matrices the other way round or leave
// out biases, which are then zero.
std::vector<Item> gpt2_items(const Snapshot& snapshot, const families::Gpt2Config& source,
                             const families::Gpt2Config& target, const ConvertConfig& config) {
  std::vector<Item> items;
  for (const families::TensorSpec& spec : families::gpt2_tensors(target)) {
    Item item{spec.name, spec.shape, {}, {}};
    if (!source.bias && spec.name.ends_with(".bias")) {
      const auto& other = snapshot.tensor(snapshot.resolve("W_E"));
      item.dtype = written_type(config, other.dtype);
      item.read = [type = tensor::scalar_type(other.dtype), shape = spec.shape] {
        return at::zeros(shape, type);
      };
    } else {
      const bool is_embedding = spec.name == "transformer.wte.weight";
      const auto& stored = snapshot.tensor(is_embedding ? snapshot.resolve("W_E") : spec.name);
      const bool turn = source.conv1d != target.conv1d && is_linear(spec.name);
      std::vector<std::int64_t> shape = spec.shape;
      if (turn) std::reverse(shape.begin(), shape.end());
      require(stored.shape == shape, "{}: has shape {}, its config asks for {}", stored.where(),
              formats::shape_text(stored.shape), formats::shape_text(shape));
      item.dtype = written_type(config, stored.dtype);
      item.read = [&stored, turn] {
        const at::Tensor tensor = tensor::to_tensor(stored);
        return turn ? tensor.t().contiguous() : tensor;
      };
    }
    items.push_back(std::move(item));
  }
  return items;
}

void require_gpt2(const Snapshot& snapshot, const std::string& to) {
  require(snapshot.family() && snapshot.family()->model_type() == "gpt2",
          "{}: is not a GPT-2 model: {} is a layout of GPT-2's weights alone", snapshot.where(),
          to);
}

void write_nanogpt(const Path& out, const families::Gpt2Config& c, std::int64_t step,
                   std::vector<Item> items) {
  // nanoGPT loads the tied head under a name of its own.
  if (c.tie_word_embeddings) {
    Item head = item_named(items, "transformer.wte.weight");
    head.name = "lm_head.weight";
    items.push_back(std::move(head));
  }
  const Json model_args{{"n_layer", c.n_layer}, {"n_head", c.n_head},
                        {"n_embd", c.n_embd},   {"block_size", c.n_positions},
                        {"bias", c.bias},       {"vocab_size", c.vocab_size},
                        {"dropout", 0.0}};
  const auto views = views_of(items);
  formats::TorchWriter writer(out,
                              {{"model", formats::torch_dictionary(views, out.string())},
                               {"model_args", model_args},
                               {"iter_num", step}},
                              views);
  write_items(writer, items);
}

void write_llmc(const Path& out, const families::Gpt2Config& c, const std::vector<Item>& items) {
  const DType dtype = items[0].dtype;
  for (const Item& item : items)
    require(item.dtype == dtype && (dtype == DType::F32 || dtype == DType::BF16),
            "'{}' is {}: llm.c's files hold fp32 or bf16 throughout; choose one by --dtype",
            item.name, formats::name_of(item.dtype));
  formats::LlmcWriter writer(out, {.dtype = dtype,
                                   .max_seq_len = c.n_positions,
                                   .vocab_size = c.vocab_size,
                                   .num_layers = c.n_layer,
                                   .num_heads = c.n_head,
                                   .channels = c.n_embd,
                                   .padded_vocab_size = (c.vocab_size + 127) / 128 * 128});
  write_items(writer, items);
}

// What the other program fixes and this model does otherwise.
std::vector<std::string> require_representable(const families::Gpt2Config& c, const std::string& to,
                                               const std::string& where) {
  std::vector<std::string> notes;
  if (to == "hf_model") return notes;
  require(c.inner_size() == 4 * c.n_embd, "{}: n_inner is {}, {} computes with 4 n_embd = {}",
          where, c.inner_size(), to, 4 * c.n_embd);
  require(std::abs(c.layer_norm_epsilon - 1e-5) < 1e-12,
          "{}: layer_norm_epsilon is {}, {} computes with 1e-5", where, c.layer_norm_epsilon, to);
  require(c.tie_word_embeddings, "{}: its readout is not its embedding, {} ties them", where, to);
  require(!c.scale_attn_by_inverse_layer_idx && c.scale_attn_weights,
          "{}: its attention is scaled otherwise than {}'s", where, to);
  const bool is_erf = c.activation_function == "gelu", wants_erf = to == "nanogpt";
  if (is_erf != wants_erf)
    notes.push_back(fmt::format(
        "{} computes the {} form of GELU, this model the {} form: activations differ by "
        "up to 5e-4",
        to, wants_erf ? "erf" : "tanh", is_erf ? "erf" : "tanh"));
  return notes;
}

ConvertedStep convert_gpt2(const Snapshot& snapshot, const ConvertConfig& config, const Path& out,
                           std::vector<std::string>& notes) {
  require_gpt2(snapshot, config.to);
  const families::Gpt2Config source = families::gpt2_from_json(snapshot.config(), snapshot.where());
  notes = require_representable(source, config.to, snapshot.where());
  families::Gpt2Config target = source;
  target.conv1d = config.to == "hf_model";
  if (config.to != "nanogpt") target.bias = true;
  const std::vector<Item> items = gpt2_items(snapshot, source, target, config);
  if (config.to == "hf_model") {
    Json json = snapshot.config();
    json.erase("conv1d");
    json.erase("bias");
    json["architectures"] = {"GPT2LMHeadModel"};
    return write_model_folder(out, json, items, snapshot.step());
  }
  return write_checked(
      out, items, snapshot.step(),
      [&](const Path& path) {
        if (config.to == "nanogpt")
          write_nanogpt(path, target, snapshot.step(), items);
        else
          write_llmc(path, target, items);
      },
      open_snapshot);
}

bool is_one_of(const std::string& text, std::initializer_list<const char*> words) {
  return std::find(words.begin(), words.end(), text) != words.end();
}

}  // namespace

const std::vector<std::string>& converted_layouts() {
  static const std::vector<std::string> names{"hf_steps", "wu_pt",   "stack",
                                              "hf_model", "nanogpt", "llmc"};
  return names;
}

void check_convert(const Trajectory& trajectory, const ConvertConfig& config) {
  const std::string& from = trajectory.layout();
  const std::string where = trajectory.path().string();
  const auto& known = converted_layouts();
  require_usage(std::find(known.begin(), known.end(), config.to) != known.end(),
                "--to '{}' is not one of {}", escape_for_terminal(config.to), join(known, ", "));
  require(from != config.to || from == "hf_model", "{}: is of layout {} already", where, from);
  if (config.to == "hf_steps") {
    require(!is_one_of(from, {"wu_pt", "stack"}),
            "{}: layout {} holds single matrices; a model's folder needs all its tensors and a "
            "config.json",
            where, from);
    require(
        is_one_of(from, {"run", "hf_cache", "recipe_control"}),
        "{}: layout {} is not converted to hf_steps; a run, a hub cache and recipe-control arms "
        "are",
        where, from);
  } else if (config.to == "wu_pt") {
    require_usage(is_one_of(config.matrix_or_default(), {"W_U", "W_E"}),
                  "--matrix '{}': files of layout wu_pt hold W_U or W_E",
                  config.matrix_or_default());
  } else if (config.to == "stack") {
    require_usage(config.matrix_or_default().find_first_of("*?[") == std::string::npos,
                  "--matrix '{}' is a pattern: cresco extract writes many stacks",
                  config.matrix_or_default());
  } else {
    const auto steps = choose_steps(config.steps, trajectory.steps(), where);
    require(steps.size() == 1, "{}: {} steps, {} holds one model: choose one by --steps", where,
            steps.size(), config.to);
    require_gpt2(trajectory.open(steps[0]), config.to);
  }
}

Converted convert(const Trajectory& trajectory, const ConvertConfig& config, const Path& out,
                  Progress& progress, const std::string& resume_command) {
  check_convert(trajectory, config);
  Converted made{.from = trajectory.layout()};
  if (config.to == "stack") {
    made.steps = convert_to_stack(trajectory, config, out, progress, resume_command);
    return made;
  }
  const auto steps = choose_steps(config.steps, trajectory.steps(), trajectory.path().string());
  progress.begin("convert", static_cast<std::int64_t>(steps.size()), "snapshot");
  for (const std::int64_t step : steps) {
    if (interrupted()) {
      progress.end();
      throw Interrupted(
          fmt::format("interrupted before step {}; go on with: {}", step, resume_command));
    }
    const Snapshot snapshot = trajectory.open(step);
    if (config.to == "hf_steps")
      made.steps.push_back(convert_to_folder(snapshot, config, out / fmt::format("step{}", step)));
    else if (config.to == "wu_pt")
      made.steps.push_back(convert_to_matrix_file(snapshot, config, trajectory.model(), out));
    else
      made.steps.push_back(convert_gpt2(snapshot, config, out, made.notes));
    made.steps.back().step = step;
    snapshot.require_unchanged();
    progress.update(static_cast<std::int64_t>(made.steps.size()), fmt::format("step {}", step));
  }
  progress.end();
  return made;
}

}  // namespace cresco::trajectories
