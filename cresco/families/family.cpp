#include "cresco/families/family.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/families/gpt2.h"
#include "cresco/families/neox.h"
#include "cresco/families/olmo2.h"

#include <nlohmann/json.hpp>

namespace cresco::families {
namespace {

std::string model_type_of(const Json& config) {
  if (!config.is_object()) return "";
  const auto found = config.find("model_type");
  return found != config.end() && found->is_string() ? found->get<std::string>() : "";
}

}  // namespace

const Family* find_family(const Json& config) {
  const std::string type = model_type_of(config);
  for (const Family* family : {&neox_family(), &olmo2_family(), &gpt2_family()})
    if (family->model_type() == type) return family;
  return nullptr;
}

const Family& family_of(const Json& config, const std::string& where) {
  const Family* const family = find_family(config);
  if (family) return *family;
  const std::string type = model_type_of(config);
  require(!type.empty(), "{}: has no model_type; known are gpt_neox, olmo2, gpt2", where);
  fail("{}: model_type '{}' is not known, only gpt_neox, olmo2, gpt2", where,
       escape_for_terminal(type));
}

std::int64_t num_parameters(const std::vector<TensorSpec>& tensors) {
  std::int64_t total = 0;
  for (const TensorSpec& tensor : tensors) {
    std::int64_t count = 1;
    for (const std::int64_t size : tensor.shape) count *= size;
    total += count;
  }
  return total;
}

}  // namespace cresco::families
