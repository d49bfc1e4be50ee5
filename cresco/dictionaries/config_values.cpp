#include "cresco/dictionaries/config_values.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <algorithm>
#include <utility>

namespace cresco::dictionaries {

Config::Config(Json values, std::string where)
    : values_(std::move(values)), where_(std::move(where)) {
  require(values_.is_object(), "{}: is not a JSON object", where_);
}

std::string Config::text(const char* key, const std::string& otherwise) const {
  return has(key) ? get_string(values_, key, where_) : otherwise;
}

bool Config::flag(const char* key, bool otherwise) const {
  if (!has(key)) return otherwise;
  require(values_[key].is_boolean(), "{}: '{}' is {}, expected true or false", where_, key,
          escape_for_terminal(to_line(values_[key])));
  return values_[key].get<bool>();
}

std::int64_t Config::integer(const char* key) const { return get_int(values_, key, where_); }

std::int64_t Config::positive(const char* key) const {
  const std::int64_t value = integer(key);
  require(value > 0, "{}: '{}' is {}, expected more than 0", where_, key, value);
  return value;
}

double Config::number(const char* key) const { return get_double(values_, key, where_); }

Config Config::below(const char* key) const {
  require(has(key), "{}: '{}' is missing", where_, key);
  require(values_[key].is_object(), "{}: '{}' is {}, expected an object", where_, key,
          escape_for_terminal(to_line(values_[key])));
  return {values_[key], where_};
}

Json Config::object(const char* key) const { return has(key) ? below(key).json() : Json::object(); }

void Config::expect(const char* key, std::initializer_list<Json> known) const {
  if (!has(key)) return;
  require(std::find(known.begin(), known.end(), values_[key]) != known.end(),
          "{}: '{}' is {}: dictionaries of this kind are not computed here", where_, key,
          escape_for_terminal(to_line(values_[key])));
}

void Config::expect_size(const char* key, std::int64_t size) const {
  if (!has(key)) return;
  require(integer(key) == size, "{}: '{}' is {}, but the tensors have {}", where_, key,
          integer(key), size);
}

Config config_of(const Path& path) { return {read_json_file(path), path.string()}; }

}  // namespace cresco::dictionaries
