#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/text/tokenizer.h"
#include "cresco/trajectories/lint_checks.h"

#include <algorithm>
#include <map>

namespace cresco::trajectories {
namespace {

// Fields of a config.json that say nothing of what the model computes.
const std::set<std::string>& fields_without_effect() {
  static const std::set<std::string> kFields{"transformers_version",
                                             "_name_or_path",
                                             "torch_dtype",
                                             "dtype",
                                             "use_cache",
                                             "architectures",
                                             "bos_token_id",
                                             "eos_token_id",
                                             "pad_token_id",
                                             "initializer_range",
                                             "auto_map",
                                             "_commit_hash"};
  return kFields;
}

Json with_effect(const Json& config) {
  Json kept = Json::object();
  if (config.is_object())
    for (const auto& [key, value] : config.items())
      if (!fields_without_effect().contains(key)) kept[key] = value;
  return kept;
}

// The value that most snapshots have; of those that are as frequent, the first.
template <class Value, class Of>
std::optional<Value> most_frequent(const Digests& digests, const Of& value_of) {
  std::vector<std::pair<Value, int>> counts;
  for (const SnapshotDigest& digest : digests) {
    const std::optional<Value> value = value_of(digest);
    if (!value) continue;
    const auto found = std::find_if(counts.begin(), counts.end(),
                                    [&](const auto& count) { return count.first == *value; });
    if (found == counts.end())
      counts.emplace_back(*value, 1);
    else
      ++found->second;
  }
  if (counts.empty()) return std::nullopt;
  return std::max_element(counts.begin(), counts.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

class ContentsCheck {
 public:
  ContentsCheck(const Digests& digests, Findings& findings, Suspects& suspects)
      : digests_(digests), findings_(findings), suspects_(suspects) {}

  void run() {
    const auto usual_config = most_frequent<Json>(digests_, [](const SnapshotDigest& digest) {
      return digest.config.is_null() ? std::nullopt : std::optional(with_effect(digest.config));
    });
    for (index_ = 0; index_ < digests_.size(); ++index_) {
      const SnapshotDigest& digest = here();
      if (!digest.is_readable()) {
        add("unreadable", Level::Error, "", digest.error);
        continue;
      }
      if (!digest.foreign_objects.empty())
        add("foreign-object", Level::Warning, "",
            fmt::format("its pickle names {}, which stayed closed: what it stands for is not read",
                        escape_for_terminal(join(digest.foreign_objects, ", "))));
      check_numbers();
      if (usual_config && !digest.config.is_null()) check_config(*usual_config);
      if (!check_family()) check_against_others();
      check_types();
    }
  }

 private:
  const SnapshotDigest& here() const { return digests_[index_]; }

  void add(const char* code, Level level, const std::string& tensor, std::string message) {
    if (level == Level::Error) suspects_.insert(index_);
    findings_.push_back({code, level, here().step, tensor, std::move(message)});
  }

  void check_numbers() {
    for (const auto& [name, tensor] : here().tensors) {
      if (tensor.not_finite > 0)
        add("not-finite", Level::Error, name,
            fmt::format("{} of {} numbers are NaN or infinite", tensor.not_finite,
                        tensor.num_elements));
      if (!tensor.is_real)
        add("not-real", Level::Error, name,
            fmt::format("is of type {}: weights are F64, F32, F16 or BF16",
                        formats::name_of(tensor.dtype)));
    }
  }

  void check_config(const Json& usual) {
    const std::string changed = first_difference(usual, with_effect(here().config));
    if (!changed.empty())
      add("config-differs", Level::Error, "",
          fmt::format("config.json is not that of the other steps: {}",
                      escape_for_terminal(changed)));
  }

  // False when nothing says which tensors there should be.
  bool check_family() {
    const Json& config = here().config;
    const families::Family* const family = families::find_family(config);
    if (!family) return false;
    try {
      const auto specs = family->tensors(config, "config.json");
      std::set<std::string> known;
      std::vector<std::string> missing;
      std::optional<std::string> wrong;
      for (const families::TensorSpec& spec : specs) {
        known.insert(spec.name);
        const auto found = here().tensors.find(spec.name);
        if (found == here().tensors.end())
          missing.push_back(spec.name);
        else if (found->second.shape != spec.shape)
          add("wrong-shape", Level::Error, spec.name,
              fmt::format("has shape {}, its config.json says {}",
                          formats::shape_text(found->second.shape),
                          formats::shape_text(spec.shape)));
      }
      report_missing(missing, "its config.json");
      check_head(*family, known);
      std::vector<std::string> surplus;
      for (const auto& [name, tensor] : here().tensors)
        if (!known.contains(name)) surplus.push_back(name);
      report_surplus(surplus, "its config.json");
    } catch (const Error& e) {
      add("bad-config", Level::Error, "", e.what());
    }
    return true;
  }

  // Of a tied model the head may be stored as well; it is the embedding then.
  void check_head(const families::Family& family, std::set<std::string>& known) {
    std::string embedding;
    for (const families::MatrixPart& part : family.matrices(here().config, "config.json"))
      if (part.name == "W_E") embedding = part.tensor;
    const auto input = here().tensors.find(embedding);
    for (const char* name : {"lm_head.weight", "embed_out.weight"}) {
      const auto head = here().tensors.find(name);
      if (head == here().tensors.end() || input == here().tensors.end()) continue;
      const bool equal = head->second.sha256 == input->second.sha256;
      if (family.is_tied(here().config, "config.json")) {
        known.insert(name);
        if (!equal)
          add("tied-head-differs", Level::Error, name,
              fmt::format("is not '{}', though config.json has tie_word_embeddings: one of the two "
                          "is never used",
                          embedding));
      } else if (equal) {
        add("untied-head-equals", Level::Note, name,
            fmt::format("equals '{}', though config.json does not tie them", embedding));
      }
    }
  }

  void report_missing(const std::vector<std::string>& names, const char* whose) {
    if (names.empty()) return;
    add("missing-tensor", Level::Error, names.size() == 1 ? names[0] : "",
        fmt::format("{} tensor{} of {} missing: {}", names.size(), names.size() == 1 ? "" : "s",
                    whose, shown(names)));
  }
  void report_surplus(const std::vector<std::string>& names, const char* whose) {
    if (names.empty()) return;
    add("surplus-tensor", Level::Warning, names.size() == 1 ? names[0] : "",
        fmt::format("{} tensor{} that {} does not know: {}", names.size(),
                    names.size() == 1 ? "" : "s", whose, shown(names)));
  }
  static std::string shown(std::vector<std::string> names) {
    const std::size_t count = names.size();
    if (count > 4) names.resize(4);
    return escape_for_terminal(join(names, ", ")) + (count > 4 ? ", ..." : "");
  }

  // Without a config, the other steps say what a snapshot holds.
  void check_against_others() {
    std::vector<std::string> missing, surplus;
    for (const auto& [name, usual] : usual_shapes()) {
      const auto found = here().tensors.find(name);
      if (found == here().tensors.end())
        missing.push_back(name);
      else if (found->second.shape != usual)
        add("wrong-shape", Level::Error, name,
            fmt::format("has shape {}, at other steps {}", formats::shape_text(found->second.shape),
                        formats::shape_text(usual)));
    }
    for (const auto& [name, tensor] : here().tensors)
      if (!usual_shapes().contains(name)) surplus.push_back(name);
    report_missing(missing, "the other steps");
    report_surplus(surplus, "the other steps");
  }

  using Shapes = std::map<std::string, std::vector<std::int64_t>>;
  const Shapes& usual_shapes() {
    if (!usual_shapes_) {
      usual_shapes_ = most_frequent<Shapes>(digests_, [](const SnapshotDigest& digest) {
        Shapes shapes;
        for (const auto& [name, tensor] : digest.tensors) shapes[name] = tensor.shape;
        return digest.is_readable() ? std::optional(shapes) : std::nullopt;
      });
    }
    return *usual_shapes_;  // of this snapshot, if of no other
  }

  void check_types() {
    if (!usual_types_) {
      usual_types_.emplace();
      for (const SnapshotDigest& digest : digests_)
        for (const auto& [name, tensor] : digest.tensors) ++(*usual_types_)[name][tensor.dtype];
    }
    std::map<formats::DType, std::vector<std::string>> unusual;
    formats::DType usual{};
    for (const auto& [name, tensor] : here().tensors) {
      const auto& counts = usual_types_->at(name);
      const auto most = std::max_element(counts.begin(), counts.end(),
                                         [](auto& a, auto& b) { return a.second < b.second; });
      if (counts.at(tensor.dtype) == most->second) continue;
      unusual[tensor.dtype].push_back(name);
      usual = most->first;
    }
    for (const auto& [dtype, names] : unusual)
      add("type-differs", Level::Warning, names.size() == 1 ? names[0] : "",
          fmt::format("{} of {} tensors are stored as {}, at other steps as {}: {}", names.size(),
                      here().tensors.size(), formats::name_of(dtype), formats::name_of(usual),
                      shown(names)));
  }

  const Digests& digests_;
  Findings& findings_;
  Suspects& suspects_;
  std::size_t index_ = 0;
  std::optional<Shapes> usual_shapes_;
  std::optional<std::map<std::string, std::map<formats::DType, int>>> usual_types_;
};

// Rows of the input embedding, or of whatever matrix stands for the vocabulary.
std::optional<std::int64_t> vocabulary_rows(const SnapshotDigest& digest) {
  for (const char* name : {"gpt_neox.embed_in.weight", "model.embed_tokens.weight",
                           "transformer.wte.weight", "W_E", "W_U"})
    if (const auto found = digest.tensors.find(name);
        found != digest.tensors.end() && found->second.shape.size() == 2)
      return found->second.shape[0];
  return std::nullopt;
}

void check_tokenizer(const Path& path, const Digests& digests, Findings& findings) {
  std::int64_t size = 0;
  try {
    size = text::read_tokenizer(path).vocab_size();
  } catch (const Error& e) {
    findings.push_back({"bad-tokenizer", Level::Warning, std::nullopt, "", e.what()});
    return;
  }
  std::set<std::int64_t> padded;
  for (const SnapshotDigest& digest : digests) {
    const auto rows = vocabulary_rows(digest);
    if (!rows) continue;
    if (size > *rows)
      findings.push_back(
          {"tokenizer-too-large", Level::Error, digest.step, "",
           fmt::format("{} has ids up to {}, the model {} rows: the tokenizer of another model?",
                       path.string(), size - 1, *rows)});
    else if (size < *rows)
      padded.insert(*rows);
  }
  for (const std::int64_t rows : padded)
    findings.push_back({"padding-rows", Level::Note, std::nullopt, "",
                        fmt::format("rows {} to {} of the vocabulary stand for no token: no text "
                                    "has trained them",
                                    size, rows - 1)});
}

}  // namespace

void check_contents(const Trajectory& trajectory, const Digests& digests, Findings& findings,
                    Suspects& suspects) {
  ContentsCheck(digests, findings, suspects).run();
  if (trajectory.tokenizer()) check_tokenizer(*trajectory.tokenizer(), digests, findings);
}

}  // namespace cresco::trajectories
