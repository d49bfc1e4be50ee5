#include "cresco/dictionaries/legacy_file.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"

namespace cresco::dictionaries {
namespace {

// The first of the places that holds a value.
Json first_of(const Json& values, std::initializer_list<const char*> places) {
  for (const char* place : places) {
    const Json::json_pointer pointer(place);
    if (values.contains(pointer)) return values[pointer];
  }
  return nullptr;
}

void put(Json& out, const char* key, Json value) {
  if (!value.is_null()) out[key] = std::move(value);
}

}  // namespace

std::vector<formats::StoredTensor> legacy_tensors(const formats::TorchFile& file) {
  const auto* state = file.find_value("state_dict");
  if (state && state->kind == formats::PickleValue::Kind::Dict)
    return file.tensors_at("state_dict");
  return file.tensors();
}

bool is_legacy_dictionary(const formats::TorchFile& file) {
  const auto tensors = legacy_tensors(file);
  return formats::find_tensor(tensors, "W_E") && formats::find_tensor(tensors, "W_D");
}

Json legacy_config(const formats::TorchFile& file) {
  Json values = formats::plain_json(file.root());
  require(values.is_object(), "{}: holds no dictionary of values", file.path().string());
  const auto has = [](const Json& object, const char* key) {
    return object.is_object() && object.contains(key);
  };
  const Json nested = values.value("config", Json());
  if (has(nested, "steps") && has(nested, "model_name") && !has(values, "steps") &&
      !has(values, "model_name")) {
    values.erase("config");
    values.update(nested);
  }
  Json out;
  put(out, "kind", first_of(values, {"/kind"}));
  put(out, "model_name",
      first_of(values, {"/model_name", "/model", "/config/model_name", "/config/model"}));
  put(out, "matrix", first_of(values, {"/matrix", "/config/matrix"}));
  put(out, "steps", first_of(values, {"/steps", "/config/steps"}));
  if (!out.contains("steps") && values.contains("step")) out["steps"] = {values["step"]};
  put(out, "seed", first_of(values, {"/seed", "/config/seed"}));
  put(out, "config", first_of(values, {"/config"}));
  put(out, "training", first_of(values, {"/training", "/config/training"}));
  put(out, "quality", first_of(values, {"/quality", "/config/quality"}));
  put(out, "provenance", first_of(values, {"/provenance"}));
  if (!has(out["training"], "input_preprocess"))
    put(out["training"], "input_preprocess",
        first_of(values, {"/preprocess_mode", "/config/preprocess_mode", "/preprocess_stats/mode",
                          "/config/input_preprocess"}));
  return out;
}

}  // namespace cresco::dictionaries
