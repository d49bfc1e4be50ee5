// The values of a JSON config by name. A value that is there with another type than the one asked
// for is an Error that names the file and the key; null is as good as missing.
#pragma once

#include "cresco/base/json.h"

#include <nlohmann/json.hpp>

#include <initializer_list>
#include <string>

namespace cresco::dictionaries {

class Config {
 public:
  Config(Json values, std::string where);  // Error when it is no object

  const std::string& where() const { return where_; }
  const Json& json() const { return values_; }
  bool has(const char* key) const { return values_.contains(key) && !values_[key].is_null(); }
  std::string text(const char* key, const std::string& otherwise = "") const;
  bool flag(const char* key, bool otherwise) const;
  std::int64_t integer(const char* key) const;   // Error when it is missing
  std::int64_t positive(const char* key) const;  // the same, above 0
  double number(const char* key) const;          // Error when it is missing
  Config below(const char* key) const;           // Error when it is missing
  Json object(const char* key) const;            // {} when it is missing
  // Refused when it is there and anything but one of `known`.
  void expect(const char* key, std::initializer_list<Json> known) const;
  // Refused when it is there and anything but `size`, which the tensors have.
  void expect_size(const char* key, std::int64_t size) const;

 private:
  Json values_;
  std::string where_;
};

Config config_of(const Path& path);

}  // namespace cresco::dictionaries
