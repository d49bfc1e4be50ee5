// Any bytes as a config.json: a list of tensors and parts that lie inside them, or an Error. What
// names no family is read as nanoGPT's model_args, which make a config.json.
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/families/family.h"
#include "cresco/families/gpt2.h"
#include "cresco/families/neox.h"

#include <nlohmann/json.hpp>

#include <cstdlib>
#include <map>

using namespace cresco;

namespace {

void read_config(const Json& config) {
  const families::Family& family = families::family_of(config, "fuzz");
  std::map<std::string, std::vector<std::int64_t>> shapes;
  for (const families::TensorSpec& spec : family.tensors(config, "fuzz")) {
    if (family.canonical_name(spec.name) != spec.name) std::abort();
    if (family.canonical_name("module._orig_mod." + spec.name) != spec.name) std::abort();
    shapes[spec.name] = spec.shape;
  }
  for (const char* name :
       {"lm_head.weight", "h.0.attn.bias", "layers.0.attention.bias", "rotary_emb.inv_freq"})
    family.canonical_name(name);
  if (families::num_parameters(family.tensors(config, "fuzz")) <= 0) std::abort();
  for (const families::MatrixPart& part : family.matrices(config, "fuzz"))
    for (const families::RowRange& rows : part.rows)
      if (rows.begin < 0 || rows.begin >= rows.end ||
          rows.end > shapes.at(part.tensor).at(part.transposed ? 1 : 0))
        std::abort();
  if (family.attention(config, "fuzz").layers <= 0) std::abort();
  family.is_tied(config, "fuzz");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const Json config = parse_json(text, "fuzz");
    if (!config.is_object() || !config.contains("model_type"))
      read_config(families::gpt2_config_from_nanogpt(config, "fuzz"));
    read_config(config);
    if (families::family_of(config, "fuzz").model_type() == "gpt_neox")
      read_config(families::neox_to_json(families::neox_from_json(config, "fuzz"), "float32", 0));
  } catch (const Error&) {
  }
  return 0;
}
