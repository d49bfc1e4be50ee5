// JSON files, read with limits and written the same way everywhere.
#pragma once

#include "cresco/base/fields.h"
#include "cresco/base/files.h"

#include <string>
#include <string_view>
#include <vector>

namespace cresco {

// Error with `where` and the byte for anything but one well-formed value without duplicate names.
Json parse_json(std::string_view text, const std::string& where);
Json read_json_file(const Path& path, std::int64_t limit_bytes = std::int64_t{64} << 20);

// Indented for files that people read; numbers in their shortest exact form. Text that is not UTF-8
// is shown with replacement characters.
std::string to_text(const Json& value);
std::string to_line(const Json& value);
void write_json_file(const Path& path, const Json& value);

// Where two settings differ: objects are compared name by name, everything else as a whole.
struct Difference {
  std::string path;         // "optimizer.lr"
  std::string before, now;  // as text; "not set" where one side has nothing
};
std::vector<Difference> differences(const Json& before, const Json& now,
                                    const std::string& path = "");
// The same of two configs' fields.
template <class Config>
std::vector<Difference> field_differences(Config before, Config now) {
  return differences(fields_to_json([&](FieldVisitor& v) { before.fields(v); }),
                     fields_to_json([&](FieldVisitor& v) { now.fields(v); }));
}
// The first of them: "optimizer.lr was 0.01, now it is 0.02"; "" when they are equal.
std::string first_difference(const Json& before, const Json& now);
std::string to_text(const Difference& difference);

// Typed access with a message that names the key: "config.json: 'hidden_size' is missing".
std::int64_t get_int(const Json& object, const char* key, const std::string& where);
double get_double(const Json& object, const char* key, const std::string& where);
std::string get_string(const Json& object, const char* key, const std::string& where);

}  // namespace cresco
