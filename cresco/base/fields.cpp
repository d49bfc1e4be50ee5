#include "cresco/base/fields.h"

#include "cresco/base/files.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <yaml-cpp/yaml.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <set>
#include <type_traits>

namespace cresco {
namespace {

// A config may have text or a list of configs under one name, `tokens: PREFIX` or `tokens:
// [{prefix: A}, ...]`: it calls field(), then list(). Reading one empties the other; of two that
// are not empty the text is written.

// ---- YAML in ----

std::string scalar(const YAML::Node& node, const std::string& where) {
  require_usage(node.IsScalar() || node.IsNull(), "{}: expected one value, found a {}", where,
                node.IsMap() ? "mapping" : "list");
  return node.IsNull() ? "" : node.Scalar();
}

void read_value(const YAML::Node& node, bool& value, const std::string& where) {
  const std::string text = scalar(node, where);
  require_usage(YAML::convert<bool>::decode(node, value), "{}: '{}' is not true or false", where,
                text);
}
void read_value(const YAML::Node& node, std::int64_t& value, const std::string& where) {
  value = as_usage([&] { return parse_int(scalar(node, where), where); });
}
void read_value(const YAML::Node& node, double& value, const std::string& where) {
  value = as_usage([&] { return parse_double(scalar(node, where), where); });
}
void read_value(const YAML::Node& node, std::string& value, const std::string& where) {
  if (!node.IsSequence()) {
    value = scalar(node, where);
    return;
  }
  std::vector<std::string> parts;
  for (const YAML::Node& item : node) parts.push_back(scalar(item, where));
  value = join(parts, ",");
}
template <class Item>
void read_value(const YAML::Node& node, std::optional<Item>& value, const std::string& where) {
  value.reset();
  if (!node.IsNull()) read_value(node, value.emplace(), where);
}
template <class Item>
void read_value(const YAML::Node& node, std::vector<Item>& value, const std::string& where) {
  value.clear();
  if (node.IsScalar()) {  // --betas 0.9,0.95
    for (const std::string& part : split(node.Scalar(), ',')) {
      Item item;
      read_value(YAML::Node(part), item, where);
      value.push_back(item);
    }
    return;
  }
  require_usage(node.IsSequence() || node.IsNull(), "{}: expected a list", where);
  for (const YAML::Node& part : node) {
    Item item;
    read_value(part, item, where);
    value.push_back(item);
  }
}

// Visits one mapping; names of it that no field asked for are errors.
class YamlReader final : public FieldVisitor {
 public:
  YamlReader(const YAML::Node& in, std::string where) : in_(in), where_(std::move(where)) {
    require_usage(in_.IsMap() || in_.IsNull() || !in_.IsDefined(),
                  "{}: expected `name: value` pairs", where_);
  }
  void field(const char* n, bool& v, const char*, const char*) override { read(n, v); }
  void field(const char* n, std::int64_t& v, const char*, const char*) override { read(n, v); }
  void field(const char* n, double& v, const char*, const char*) override { read(n, v); }
  void field(const char* n, std::string& v, const char*, const char*) override {
    if (is_list_of_configs(n))  // read by list(), which is called with the same name
      v.clear();
    else
      read(n, v);
  }
  void field(const char* n, std::vector<double>& v, const char*, const char*) override {
    read(n, v);
  }
  void field(const char* n, std::vector<std::string>& v, const char*, const char*) override {
    read(n, v);
  }
  void field(const char* n, std::optional<bool>& v, const char*) override { read(n, v); }
  void field(const char* n, std::optional<double>& v, const char*) override { read(n, v); }
  void group(const char* name, const Fields& fields, const char*) override {
    known_.emplace_back(name);
    if (const YAML::Node node = find(name)) fields_from_yaml(fields, node, path(name));
  }
  void list(const char* name, const FieldList& items, const char*) override {
    const bool is_text_too = std::find(known_.begin(), known_.end(), name) != known_.end();
    known_.emplace_back(name);
    const YAML::Node node = find(name);
    if (!node) return;
    if (is_text_too) return items.resize(0);  // field() has read it
    require_usage(node.IsSequence(), "{}: expected a list", path(name));
    items.resize(node.size());
    for (std::size_t i = 0; i < node.size(); ++i)
      fields_from_yaml(items.item(i), node[i], fmt::format("{}[{}]", path(name), i));
  }
  void alias(const char* other, const char* name, const char* value) override {
    known_.emplace_back(other);
    aliases_.push_back({other, name, value});
  }
  void refuse_unknown() const {
    if (!in_.IsMap()) return;
    std::set<std::string> seen;
    for (const auto& pair : in_) {
      const std::string name = scalar(pair.first, where_);
      require_usage(std::find(known_.begin(), known_.end(), name) != known_.end(),
                    "{}: unknown field '{}'{}", where_, name, did_you_mean(name, known_));
      require_usage(seen.insert(name).second, "{}: field '{}' is given twice", where_, name);
    }
  }

 private:
  bool is_list_of_configs(const char* name) const {
    const YAML::Node node = find(name);
    return node && node.IsSequence() && node.size() > 0 && node[0].IsMap();
  }
  // What is given for a field, by whichever of its names.
  YAML::Node find(const char* name) const {
    std::vector<std::pair<std::string, YAML::Node>> found;
    if (!in_.IsMap()) return YAML::Node(YAML::NodeType::Undefined);
    if (const YAML::Node node = in_[name]) found.emplace_back(name, node);
    for (const FieldAlias& alias : aliases_) {
      const YAML::Node node = in_[alias.other];
      if (alias.path != name || !node) continue;
      bool on = true;
      if (!alias.value.empty()) read_value(node, on, path(alias.other.c_str()));
      if (on) found.emplace_back(alias.other, alias.value.empty() ? node : YAML::Node(alias.value));
    }
    if (found.empty()) return YAML::Node(YAML::NodeType::Undefined);
    require_usage(found.size() == 1, "{}: '{}' and '{}' are one setting, given twice", where_,
                  found[0].first, found.back().first);
    return found[0].second;
  }
  std::string path(const char* name) const { return where_ + ": " + name; }
  template <class Value>
  void read(const char* name, Value& value) {
    known_.emplace_back(name);
    if (const YAML::Node node = find(name)) read_value(node, value, path(name));
  }

  const YAML::Node in_;  // const: operator[] of a mutable node would insert
  std::string where_;
  std::vector<std::string> known_;
  std::vector<FieldAlias> aliases_;
};

// ---- YAML and JSON out ----

class JsonWriter final : public FieldVisitor {
 public:
  explicit JsonWriter(Json& out) : out_(out) { out_ = Json::object(); }
  void field(const char* n, bool& v, const char*, const char*) override { out_[n] = v; }
  void field(const char* n, std::int64_t& v, const char*, const char*) override { out_[n] = v; }
  void field(const char* n, double& v, const char*, const char*) override { out_[n] = v; }
  void field(const char* n, std::string& v, const char*, const char*) override { out_[n] = v; }
  void field(const char* n, std::vector<double>& v, const char*, const char*) override {
    out_[n] = v;
  }
  void field(const char* n, std::vector<std::string>& v, const char*, const char*) override {
    out_[n] = v;
  }
  void field(const char* n, std::optional<bool>& v, const char*) override { write(n, v); }
  void field(const char* n, std::optional<double>& v, const char*) override { write(n, v); }
  void group(const char* name, const Fields& fields, const char*) override {
    out_[name] = fields_to_json(fields);
  }
  void list(const char* name, const FieldList& items, const char*) override {
    if (out_.contains(name) && (out_[name] != "" || items.size() == 0)) return;
    Json list = Json::array();
    for (std::size_t i = 0; i < items.size(); ++i) list.push_back(fields_to_json(items.item(i)));
    out_[name] = std::move(list);
  }

 private:
  template <class Value>
  void write(const char* name, const std::optional<Value>& value) {
    out_[name] = value ? Json(*value) : Json();
  }

  Json& out_;
};

// JSON is YAML's flow style, except for the numbers that JSON prints and YAML can't read back
// (none), so the block style below needs only scalars and nesting.
void emit(YAML::Emitter& out, const Json& value) {
  if (value.is_object()) {
    out << YAML::BeginMap;
    for (const auto& [name, item] : value.items()) {
      out << YAML::Key << name << YAML::Value;
      emit(out, item);
    }
    out << YAML::EndMap;
  } else if (value.is_array()) {
    out << YAML::Flow << YAML::BeginSeq;
    for (const Json& item : value) emit(out, item);
    out << YAML::EndSeq;
  } else if (value.is_string()) {
    out << YAML::DoubleQuoted << value.get<std::string>();
  } else if (value.is_number_float()) {
    out << fmt::format("{}", value.get<double>());
  } else if (value.is_null()) {
    out << YAML::Null;
  } else {
    out << value.dump();
  }
}

// ---- JSON in ----

// Values become YAML nodes, so that one set of conversions and messages serves both.
YAML::Node to_yaml(const Json& value) {
  YAML::Node node;
  if (value.is_object()) {
    node = YAML::Node(YAML::NodeType::Map);
    for (const auto& [name, item] : value.items()) node[name] = to_yaml(item);
  } else if (value.is_array()) {
    node = YAML::Node(YAML::NodeType::Sequence);
    for (const Json& item : value) node.push_back(to_yaml(item));
  } else if (value.is_string()) {
    node = value.get<std::string>();
  } else if (value.is_number_float()) {
    node = fmt::format("{}", value.get<double>());
  } else if (!value.is_null()) {
    node = value.dump();
  }
  return node;
}

// ---- Other names ----

struct DoNothing {
  void operator()(const std::string&, auto&, const char*, const char*) const {}
};
class AliasReader final : public EachField<DoNothing> {
 public:
  AliasReader() : EachField(DoNothing{}) {}
  void alias(const char* other, const char* name, const char* value) override {
    found.push_back({path(other), path(name), value});
  }
  std::vector<FieldAlias> found;
};

YAML::Node load_yaml(const std::string& path) {
  const std::string text = read_file(path, /*limit_bytes=*/std::int64_t{16} << 20);
  try {
    std::vector<YAML::Node> documents = YAML::LoadAll(text);
    std::erase_if(documents, [](const YAML::Node& node) { return !node || node.IsNull(); });
    require_usage(documents.size() <= 1, "{}: holds {} YAML documents, expected one", path,
                  documents.size());
    return documents.empty() ? YAML::Node() : documents.front();
  } catch (const YAML::Exception& e) {
    fail_usage("{}: line {}: {}", path, e.mark.line + 1, e.msg);
  }
}

// {a: {b: value}} for "a.b".
YAML::Node nested(const std::string& path, YAML::Node value) {
  const std::vector<std::string> names = split(path, '.');
  for (auto name = names.rbegin(); name != names.rend(); ++name) {
    YAML::Node outer(YAML::NodeType::Map);
    outer[*name] = value;
    value.reset(outer);
  }
  return value;
}

}  // namespace

void fields_from_yaml(const Fields& fields, const YAML::Node& in, const std::string& where) {
  YamlReader reader(in, where);
  fields(reader);
  reader.refuse_unknown();
}

void fields_from_yaml_file(const Fields& fields, const std::string& path) {
  fields_from_yaml(fields, load_yaml(path), path);
}

struct SettingsFile::Nodes {
  YAML::Node own;
  std::vector<YAML::Node> arms;
};

SettingsFile::SettingsFile(const std::string& path)
    : path_(path), nodes_(std::make_unique<Nodes>()) {
  const YAML::Node file = load_yaml(path);
  if (!file.IsMap()) {
    nodes_->own = file;
    return;
  }
  nodes_->own = YAML::Node(YAML::NodeType::Map);
  for (const auto& pair : file) {
    if (scalar(pair.first, path) != "arms") {
      nodes_->own.force_insert(pair.first, pair.second);
      continue;
    }
    require_usage(pair.second.IsMap(), "{}: arms: expected `NAME: {{field: value}}`", path);
    for (const auto& arm : pair.second) {
      arms_.push_back(scalar(arm.first, path + ": arms"));
      const std::string& name = arms_.back();
      require_usage(!name.empty() && name != "all" && name[0] != '.' &&
                        name.find_first_of("/:") == std::string::npos,
                    "{}: arms: '{}' cannot be an arm's name, which is a folder's and follows a ':'",
                    path, name);
      require_usage(std::count(arms_.begin(), arms_.end(), name) == 1,
                    "{}: arms: '{}' is there twice", path, name);
      require_usage(arm.second.IsMap() || arm.second.IsNull(),
                    "{}: arms: {}: expected `field: value` pairs", path, name);
      nodes_->arms.push_back(arm.second);
    }
  }
}
SettingsFile::~SettingsFile() = default;

void SettingsFile::apply(const Fields& fields, const std::string& arm) const {
  fields_from_yaml(fields, nodes_->own, path_);
  if (arm.empty()) return;
  const auto found = std::find(arms_.begin(), arms_.end(), arm);
  require_usage(found != arms_.end(), "{}: has no arm '{}'{}{}", path_, arm,
                did_you_mean(arm, arms_), arms_.empty() ? "" : "; there are " + join(arms_, ", "));
  const YAML::Node& changes = nodes_->arms[static_cast<std::size_t>(found - arms_.begin())];
  if (changes.IsNull()) return;
  const std::string where = path_ + ": arms: " + arm;
  for (const auto& change : changes) {
    const std::string path = scalar(change.first, where);
    fields_from_yaml(fields, nested(path, change.second), where + ": " + path);
  }
}

std::string fields_to_yaml(const Fields& fields) {
  YAML::Emitter out;
  emit(out, fields_to_json(fields));
  return std::string(out.c_str()) + "\n";
}

std::vector<FieldAlias> aliases_of(const Fields& fields) {
  AliasReader reader;
  fields(reader);
  return reader.found;
}

void fields_from_json(const Fields& fields, const Json& in, const std::string& where) {
  fields_from_yaml(fields, to_yaml(in), where);
}

Json fields_to_json(const Fields& fields) {
  Json out;
  JsonWriter writer(out);
  fields(writer);
  return out;
}

void set_field(const Fields& fields, const std::string& assignment, const std::string& option) {
  const std::size_t equals = assignment.find('=');
  require_usage(equals != std::string::npos && equals > 0, "{} '{}': expected FIELD=VALUE", option,
                assignment);
  YAML::Node value;
  try {
    value = YAML::Load(assignment.substr(equals + 1));
  } catch (const YAML::Exception& e) {
    fail_usage("{} {}: {}", option, assignment, e.msg);
  }
  const std::string path = assignment.substr(0, equals);
  fields_from_yaml(fields, nested(path, value), option + " " + path);
}

void assign_fields(const Fields& fields,
                   const std::map<std::string, std::vector<std::string>>& words) {
  EachField assign([&](const std::string& path, auto& value, const char*, const char*) {
    const auto found = words.find(path);
    if (found == words.end()) return;
    using Value = std::decay_t<decltype(value)>;
    if constexpr (std::is_same_v<Value, std::vector<std::string>>)
      value = found->second;
    else if constexpr (std::is_same_v<Value, std::string>)
      value = found->second.back();
    else
      read_value(YAML::Node(found->second.back()), value, "--" + path);
  });
  fields(assign);
}

}  // namespace cresco
