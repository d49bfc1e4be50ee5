#include "cresco/families/config_json.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace cresco::families {
namespace {

template <class Value>
void take(const Json& object, const std::string& key, Value& value, const std::string& where) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return;
  bool fits = found->is_number_integer();
  if constexpr (std::is_same_v<Value, bool>) fits = found->is_boolean();
  if constexpr (std::is_same_v<Value, double>) fits = found->is_number();
  if constexpr (std::is_same_v<Value, std::string>) fits = found->is_string();
  require(fits, "{}: '{}' is {}, of an unexpected type", where, key,
          escape_for_terminal(to_line(*found).substr(0, 60)));
  value = found->get<Value>();
}

}  // namespace

void check_config(const Json& config, const std::string& model_type,
                  const std::vector<const char*>& needed, const std::string& where) {
  require(config.is_object(), "{}: is not a JSON object", where);
  std::string type = model_type;
  take(config, "model_type", type, where);
  require(type == model_type, "{}: model_type is '{}', expected '{}'", where,
          escape_for_terminal(type), model_type);
  for (const char* key : needed) get_int(config, key, where);
}

void take_fields(const Fields& fields, const Json& config, const std::string& where) {
  EachField visitor([&](const std::string& name, auto& value, const char*, const char*) {
    using Value = std::decay_t<decltype(value)>;
    if constexpr (std::is_arithmetic_v<Value> || std::is_same_v<Value, std::string>)
      take(config, name, value, where);
  });
  fields(visitor);
}

void take_rope(const Json& config, const std::string& where, double& theta, double& share) {
  take(config, "rope_theta", theta, where);
  take(config, "partial_rotary_factor", share, where);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const auto nested = config.find(key);
    if (nested == config.end() || nested->is_null()) continue;
    const std::string inside = fmt::format("{}: {}", where, key);
    require(nested->is_object(), "{}: is not a JSON object", inside);
    take(*nested, "rope_theta", theta, inside);
    take(*nested, "partial_rotary_factor", share, inside);
    for (const char* name : {"rope_type", "type"}) {
      std::string type = "default";
      take(*nested, name, type, inside);
      require(type == "default", "{}: rotary scaling '{}' is not supported, only 'default'", inside,
              escape_for_terminal(type));
    }
  }
}

void check_size(const char* field, std::int64_t size, std::int64_t limit,
                const std::string& where) {
  require(size > 0 && size <= limit, "{}: {} is {}, expected 1 to {}", where, field, size, limit);
}

void check_layers(const char* layers_field, std::int64_t layers, std::int64_t heads,
                  const std::string& where) {
  check_size(layers_field, layers, 10'000, where);
  require(heads <= kMaxWidth && layers * heads <= kMaxWidth,
          "{}: {} layers of {} heads, expected at most {} heads in all", where, layers, heads,
          kMaxWidth);
}

void check_epsilon(const char* field, double epsilon, const std::string& where) {
  require(epsilon > 0 && epsilon < 1, "{}: {} is {}, expected more than 0 and less than 1", where,
          field, epsilon);
}

void check_gelu(const char* field, const std::string& name, const std::string& where) {
  const std::vector<std::string> known{"gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh"};
  require(std::find(known.begin(), known.end(), name) != known.end(),
          "{}: {} '{}' is not one of {}", where, field, escape_for_terminal(name),
          join(known, ", "));
}

std::string without_wrappers(const std::string& name) {
  std::string_view rest = name;
  for (bool stripped = true; stripped;) {
    stripped = false;
    for (const std::string_view wrapper : {"_orig_mod.", "module."})
      if (rest.starts_with(wrapper)) {
        rest.remove_prefix(wrapper.size());
        stripped = true;
      }
  }
  return std::string(rest);
}

}  // namespace cresco::families
