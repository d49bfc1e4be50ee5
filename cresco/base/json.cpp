#include "cresco/base/json.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <nlohmann/json.hpp>

#include <set>

namespace cresco {

Json parse_json(std::string_view text, const std::string& where) {
  // Names of the objects that are open; a second use of one is an error, not a silent replacement.
  std::vector<std::set<std::string>> open;
  const auto check = [&](int depth, Json::parse_event_t event, Json& value) {
    require(depth < 200, "{}: JSON nested deeper than 200 levels", where);
    if (event == Json::parse_event_t::object_start) open.emplace_back();
    if (event == Json::parse_event_t::object_end) open.pop_back();
    if (event == Json::parse_event_t::key) {
      const auto& name = value.get_ref<const std::string&>();
      require(open.back().insert(name).second, "{}: the name '{}' stands twice in one object",
              where, escape_for_terminal(name));
    }
    return true;
  };
  try {
    return Json::parse(text, check);
  } catch (const Json::parse_error& e) {
    fail("{}: not JSON at byte {}: {}", where, e.byte,
         text.empty() ? "the text is empty" : "unexpected text");
  } catch (const Json::exception& e) {
    fail("{}: not JSON that can be read: {}", where, e.what());
  }
}

Json read_json_file(const Path& path, std::int64_t limit_bytes) {
  require(std::filesystem::is_regular_file(path) || !std::filesystem::exists(path),
          "{}: is not a regular file", path.string());
  return parse_json(read_file(path, limit_bytes), path.string());
}

std::string to_text(const Json& value) {
  return value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string to_line(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void write_json_file(const Path& path, const Json& value) { write_file(path, to_text(value)); }

namespace {

std::string shown(const Json& value) {
  return value.is_null()     ? "not set"
         : value.is_string() ? value.get<std::string>()
                             : to_line(value);
}

}  // namespace

std::vector<Difference> differences(const Json& before, const Json& now, const std::string& path) {
  if (before == now) return {};
  if (!before.is_object() || !now.is_object()) return {{path, shown(before), shown(now)}};
  std::vector<Difference> all;
  const auto below = [&](const std::string& key) { return path.empty() ? key : path + "." + key; };
  const auto add = [&](const std::string& key, const Json& old, const Json& other) {
    for (Difference& found : differences(old, other, below(key))) all.push_back(std::move(found));
  };
  for (const auto& [key, value] : before.items())
    add(key, value, now.contains(key) ? now[key] : Json());
  for (const auto& [key, value] : now.items())
    if (!before.contains(key)) add(key, Json(), value);
  return all;
}

std::string to_text(const Difference& difference) {
  return difference.path + " was " + difference.before + ", now it is " + difference.now;
}

std::string first_difference(const Json& before, const Json& now) {
  const auto all = differences(before, now);
  return all.empty() ? "" : to_text(all.front());
}

namespace {

const Json& get(const Json& object, const char* key, const std::string& where) {
  require(object.is_object() && object.contains(key), "{}: '{}' is missing", where, key);
  return object.at(key);
}

}  // namespace

std::int64_t get_int(const Json& object, const char* key, const std::string& where) {
  const Json& value = get(object, key, where);
  require(value.is_number_integer(), "{}: '{}' is {}, expected a whole number", where, key,
          to_line(value));
  return value.get<std::int64_t>();
}

double get_double(const Json& object, const char* key, const std::string& where) {
  const Json& value = get(object, key, where);
  require(value.is_number(), "{}: '{}' is {}, expected a number", where, key, to_line(value));
  return value.get<double>();
}

std::string get_string(const Json& object, const char* key, const std::string& where) {
  const Json& value = get(object, key, where);
  require(value.is_string(), "{}: '{}' is {}, expected text", where, key, to_line(value));
  return value.get<std::string>();
}

}  // namespace cresco
