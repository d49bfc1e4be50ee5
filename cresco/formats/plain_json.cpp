#include "cresco/base/require.h"
#include "cresco/formats/pickle.h"

#include <nlohmann/json.hpp>

namespace cresco::formats {
namespace {

constexpr int kDeepest = 32;
constexpr std::int64_t kMostValues = 1 << 20;

Json converted(const PickleValue& value, int depth, std::int64_t& count) {
  using Kind = PickleValue::Kind;
  require(depth <= kDeepest, "a pickle's values are nested deeper than {}", kDeepest);
  require(++count <= kMostValues, "a pickle holds more than {} plain values", kMostValues);
  switch (value.kind) {
    case Kind::Bool:
      return value.integer != 0;
    case Kind::Int:
      return value.integer;
    case Kind::Float:
      return value.number;
    case Kind::String:
      return value.text;
    case Kind::List:
    case Kind::Tuple: {
      Json out = Json::array();
      for (const PickleValue* item : value.items) out.push_back(converted(*item, depth + 1, count));
      return out;
    }
    case Kind::Object:  // of a class that is a dictionary at heart
    case Kind::Dict: {
      if (value.kind == Kind::Object && value.entries.empty()) return nullptr;
      Json out = Json::object();
      for (const auto& [key, item] : value.entries) {
        if (key->kind != Kind::String) continue;
        Json one = converted(*item, depth + 1, count);
        if (!one.is_null()) out.emplace(key->text, std::move(one));
      }
      return out;
    }
    default:
      return nullptr;
  }
}

}  // namespace

Json plain_json(const PickleValue& value) {
  std::int64_t count = 0;
  return converted(value, 0, count);
}

}  // namespace cresco::formats
