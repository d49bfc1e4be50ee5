// Any bytes as a config.json: a list of tensors and parts that lie inside them, or an Error.
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/families/family.h"

#include <nlohmann/json.hpp>

#include <cstdlib>
#include <map>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace cresco;
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const Json config = parse_json(text, "fuzz");
    const families::Family& family = families::family_of(config, "fuzz");
    std::map<std::string, std::vector<std::int64_t>> shapes;
    for (const families::TensorSpec& spec : family.tensors(config, "fuzz")) {
      if (family.canonical_name(spec.name) != spec.name) std::abort();
      shapes[spec.name] = spec.shape;
    }
    if (families::num_parameters(family.tensors(config, "fuzz")) <= 0) std::abort();
    for (const families::MatrixPart& part : family.matrices(config, "fuzz"))
      for (const families::RowRange& rows : part.rows)
        if (rows.begin < 0 || rows.begin >= rows.end ||
            rows.end > shapes.at(part.tensor).at(part.transposed ? 1 : 0))
          std::abort();
  } catch (const Error&) {
  }
  return 0;
}
