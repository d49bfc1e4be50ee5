#include "cresco/models/model.h"

#include "cresco/base/require.h"
#include "cresco/families/family.h"
#include "cresco/models/gpt2.h"
#include "cresco/models/neox.h"
#include "cresco/models/olmo2.h"

#include <ATen/ATen.h>

#include <set>

namespace cresco::models {
namespace {

// Where a tied model's files hold the matrix under the name of the input embedding, of the readout,
// or both (what torch.save writes).
struct Tie {
  std::string embedding, readout;  // empty for models that are not tied
};

Tie tie_of(const families::Family& family, const Json& config, const std::string& where) {
  if (!family.is_tied(config, where)) return {};
  for (const families::MatrixPart& part : family.matrices(config, where))
    if (part.name == "W_E") return {part.tensor, family.canonical_name("lm_head.weight")};
  return {};
}

std::vector<tensor::NamedTensor> read_weights(const trajectories::Snapshot& snapshot,
                                              const std::vector<families::TensorSpec>& specs,
                                              const Tie& tie, at::ScalarType dtype,
                                              at::Device device) {
  const auto stored_name = [&](const std::string& name) {
    return name == tie.embedding && !snapshot.has(name) ? tie.readout : name;
  };
  std::vector<std::string> missing;
  for (const families::TensorSpec& spec : specs)
    if (!snapshot.has(stored_name(spec.name))) missing.push_back(spec.name);
  require(missing.empty(),
          "{}: {} of the {} tensors that config.json asks for are missing, the first is '{}'",
          snapshot.where(), missing.size(), specs.size(), missing.empty() ? "" : missing.front());
  std::vector<tensor::NamedTensor> weights;
  for (const families::TensorSpec& spec : specs) {
    const at::Tensor stored = snapshot.read(stored_name(spec.name));
    require(stored.sizes() == at::IntArrayRef(spec.shape),
            "{}: tensor '{}' has shape {}, config.json asks for {}", snapshot.where(), spec.name,
            formats::shape_text(stored.sizes().vec()), formats::shape_text(spec.shape));
    require(at::isFloatingType(stored.scalar_type()),
            "{}: tensor '{}' is of type {}, expected floating numbers", snapshot.where(), spec.name,
            formats::name_of(tensor::dtype_of(stored)));
    // Some versions of transformers would then take the one as the readout, some the other.
    if (spec.name == tie.embedding && snapshot.has(tie.readout))
      require(at::equal(stored, snapshot.read(tie.readout)),
              "{}: config.json ties '{}' to '{}', but both are stored and differ: is "
              "tie_word_embeddings meant to be false?",
              snapshot.where(), tie.readout, tie.embedding);
    weights.emplace_back(spec.name, stored.to(device, dtype));
  }
  return weights;
}

// "h.12.attn" -> "h.#.attn"
std::string without_numbers(const std::string& name) {
  std::string text;
  for (const char c : name) {
    const bool is_digit = c >= '0' && c <= '9';
    if (!is_digit)
      text += c;
    else if (text.empty() || text.back() != '#')
      text += '#';
  }
  return text;
}

// Error for layers that the config does not count: a model cut short would give numbers too.
void require_all_layers(const trajectories::Snapshot& snapshot,
                        const std::vector<families::TensorSpec>& specs) {
  std::set<std::string> known, kinds;
  for (const families::TensorSpec& spec : specs) {
    known.insert(spec.name);
    kinds.insert(without_numbers(spec.name));
  }
  for (const auto& tensor : snapshot.tensors())
    require(known.contains(tensor.name) || !kinds.contains(without_numbers(tensor.name)),
            "{}: is of a layer that config.json does not count", tensor.where());
}

}  // namespace

std::unique_ptr<LanguageModel> load_model(const trajectories::Snapshot& snapshot,
                                          at::ScalarType dtype, at::Device device) {
  const Json& config = snapshot.config();
  const std::string where = snapshot.where() + "/config.json";
  const families::Family& family = families::family_of(config, where);
  const std::string type = family.model_type();
  const auto specs = family.tensors(config, where);
  require_all_layers(snapshot, specs);
  auto weights = read_weights(snapshot, specs, tie_of(family, config, where), dtype, device);
  if (type == "olmo2")
    return std::make_unique<Olmo2>(families::olmo2_from_json(config, where), std::move(weights));
  if (type == "gpt2")
    return std::make_unique<Gpt2>(families::gpt2_from_json(config, where), std::move(weights));
  return std::make_unique<Neox>(families::neox_from_json(config, where), std::move(weights));
}

std::int64_t max_context(const trajectories::Snapshot& snapshot) {
  const Json& config = snapshot.config();
  const std::string where = snapshot.where() + "/config.json";
  const std::string type = families::family_of(config, where).model_type();
  if (type == "olmo2") return families::olmo2_from_json(config, where).max_position_embeddings;
  if (type == "gpt2") return families::gpt2_from_json(config, where).n_positions;
  return families::neox_from_json(config, where).max_position_embeddings;
}

}  // namespace cresco::models
