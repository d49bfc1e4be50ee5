// A config lists its fields once; the command line, YAML, JSON and --help are visitors of that
// list.
//
//   struct ScheduleConfig {
//     std::string name = "cosine";
//     std::int64_t warmup_steps = 0;
//     void fields(FieldVisitor& v) {
//       v.field("name", name, "cosine | linear | constant");
//       v.field("warmup_steps", warmup_steps, "steps of linear warm-up", "steps");
//     }
//   };
//
// An unknown name is a UsageError that gives the nearest known one.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace YAML {
class Node;
}

namespace cresco {

using Json = nlohmann::ordered_json;

class FieldVisitor;
// The fields of one config: [&](FieldVisitor& v) { config.fields(v); }
using Fields = std::function<void(FieldVisitor&)>;

// A list of configs, for fields such as `rules`.
struct FieldList {
  std::function<std::size_t()> size;
  std::function<void(std::size_t)> resize;
  std::function<Fields(std::size_t)> item;
};

template <class Item>
FieldList field_list(std::vector<Item>& items) {
  return {[&items] { return items.size(); }, [&items](std::size_t n) { items.resize(n); },
          [&items](std::size_t i) -> Fields {
            return [&items, i](FieldVisitor& v) { items[i].fields(v); };
          }};
}

class FieldVisitor {
 public:
  virtual ~FieldVisitor() = default;
  virtual void field(const char* name, bool& value, const char* help, const char* unit = "") = 0;
  virtual void field(const char* name, std::int64_t& value, const char* help,
                     const char* unit = "") = 0;
  virtual void field(const char* name, double& value, const char* help, const char* unit = "") = 0;
  // Text also takes a YAML list of plain values, joined by commas: `at: [0, 1, 2]` is "0,1,2".
  virtual void field(const char* name, std::string& value, const char* help,
                     const char* unit = "") = 0;
  virtual void field(const char* name, std::vector<double>& value, const char* help,
                     const char* unit = "") = 0;
  virtual void field(const char* name, std::vector<std::string>& value, const char* help,
                     const char* unit = "") = 0;
  // A value that need not be set stands in configs of a list only: what visits plain fields passes
  // it by.
  virtual void field(const char* /*name*/, std::optional<bool>& /*value*/, const char* /*help*/) {}
  virtual void field(const char* /*name*/, std::optional<double>& /*value*/, const char* /*help*/) {
  }
  virtual void group(const char* name, const Fields& fields, const char* help) = 0;
  virtual void list(const char* name, const FieldList& items, const char* help) = 0;
  // Another name that the field goes by wherever settings are read; or, with a value, a word for
  // that: use_sparse_adam for `optimizer: sparse_adam`. Stands before the field.
  virtual void alias(const char* /*other*/, const char* /*name*/, const char* /*value*/ = "") {}

  // A nested config: the same as `group` of its fields.
  template <class Config>
  void config(const char* name, Config& config, const char* help) {
    group(
        name, [&config](FieldVisitor& v) { config.fields(v); }, help);
  }
};

// A visitor that does the same with every plain field, whatever its type, and walks into groups.
// `action(path, value, help, unit)`; a list is left to `on_list(path, items)`.
template <class Action>
class EachField : public FieldVisitor {
 public:
  using FieldVisitor::field;
  explicit EachField(Action action) : action_(std::move(action)) {}
  void field(const char* n, bool& v, const char* h, const char* u) override {
    action_(path(n), v, h, u);
  }
  void field(const char* n, std::int64_t& v, const char* h, const char* u) override {
    action_(path(n), v, h, u);
  }
  void field(const char* n, double& v, const char* h, const char* u) override {
    action_(path(n), v, h, u);
  }
  void field(const char* n, std::string& v, const char* h, const char* u) override {
    action_(path(n), v, h, u);
  }
  void field(const char* n, std::vector<double>& v, const char* h, const char* u) override {
    action_(path(n), v, h, u);
  }
  void field(const char* n, std::vector<std::string>& v, const char* h, const char* u) override {
    action_(path(n), v, h, u);
  }
  void group(const char* name, const Fields& fields, const char*) override {
    const std::string outer = prefix_;
    prefix_ = path(name) + ".";
    fields(*this);
    prefix_ = outer;
  }
  void list(const char*, const FieldList&, const char*) override {}

 protected:
  std::string path(const char* name) const { return prefix_ + name; }

 private:
  Action action_;
  std::string prefix_;
};

// Reads the fields that `in` names; the others keep their values. `where` begins every message.
void fields_from_yaml(const Fields& fields, const YAML::Node& in, const std::string& where);
void fields_from_yaml_file(const Fields& fields, const std::string& path);
std::string fields_to_yaml(const Fields& fields);  // every field with its value

// A YAML file of fields and of its arms, variants by name that each state only their difference:
//   arms: {half: {optimizer.lr: 5e-4}, frozen: {optimizer: {rules: [{match: "*", frozen: true}]}}}
class SettingsFile {
 public:
  explicit SettingsFile(const std::string& path);
  ~SettingsFile();
  const std::vector<std::string>& arms() const { return arms_; }  // in the file's order
  // The file's fields, then those that the arm changes; "" is the file as it stands. UsageError
  // with the nearest name for an arm that the file has not.
  void apply(const Fields& fields, const std::string& arm) const;

 private:
  struct Nodes;
  std::string path_;
  std::vector<std::string> arms_;
  std::unique_ptr<Nodes> nodes_;
};

// The other names of fields, in their order; `value` is empty for a plain name.
struct FieldAlias {
  std::string other, path, value;
};
std::vector<FieldAlias> aliases_of(const Fields& fields);

void fields_from_json(const Fields& fields, const Json& in, const std::string& where);
Json fields_to_json(const Fields& fields);

// "optimizer.lr=1e-3": the value is read as YAML. Unknown paths are UsageErrors, which begin with
// `option`.
void set_field(const Fields& fields, const std::string& assignment,
               const std::string& option = "--set");

// Words of a command line, by the path of the field they are for: text is taken as it stands,
// numbers of a list are separated by commas.
void assign_fields(const Fields& fields,
                   const std::map<std::string, std::vector<std::string>>& words);

}  // namespace cresco
