// Tokenizers as Hugging Face's tokenizer.json. See docs/formats/tokenizer.md.
#include "cresco/base/files.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/text/byte_alphabet.h"
#include "cresco/text/detail/escaped.h"
#include "cresco/text/tokenizer.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <unordered_map>

namespace cresco::text {
namespace {

constexpr std::int64_t kMaxFileBytes = 100'000'000;
constexpr std::size_t kMaxDepth = 100;

using Value = nlohmann::json;

std::string shown(const Value& value) {
  std::string line = value.dump(-1, ' ', false, Value::error_handler_t::replace);
  if (line.size() > 60) line = line.substr(0, 57) + "...";
  return escape_for_terminal(line);
}

struct NamedId {
  std::string name;  // in the byte alphabet
  std::int32_t id;
};

// The file with its two large parts, `model.vocab` and `model.merges`, beside the rest: an object
// of 100,000 members is not built only to be walked once.
struct Document {
  Value rest;
  bool has_vocabulary = false, has_merges = false;
  std::vector<NamedId> vocabulary;
  std::vector<std::pair<std::string, std::string>> merges;
};

class DocumentReader : public nlohmann::json_sax<Value> {
 public:
  DocumentReader(Document& out, const std::string& where) : out_(out), where_(where) {}

  bool null() override { return scalar(nullptr); }
  bool boolean(bool value) override { return scalar(value); }
  bool number_integer(std::int64_t value) override {
    if (part_ == Part::Vocabulary) fail("{}: {} has the negative id {}", where_, entry(), value);
    return scalar(value);
  }
  bool number_unsigned(std::uint64_t value) override {
    if (part_ != Part::Vocabulary) return scalar(value);
    require(value <= INT32_MAX, "{}: model.vocab['{}'] has id {}, more than 2147483647", where_,
            Escaped{key_}, value);
    out_.vocabulary.push_back({std::move(key_), static_cast<std::int32_t>(value)});
    return true;
  }
  bool number_float(double value, const std::string&) override { return scalar(value); }
  bool string(std::string& value) override {
    if (part_ == Part::Merges) {
      add_merge(value);
    } else if (part_ == Part::MergePair) {
      require(num_parts_ < 2, "{}: model.merges[{}] has more than two parts", where_,
              out_.merges.size() - 1);
      (num_parts_++ == 0 ? out_.merges.back().first : out_.merges.back().second) = std::move(value);
    } else {
      return scalar(std::move(value));
    }
    return true;
  }
  bool binary(Value::binary_t&) override { return false; }

  bool start_object(std::size_t) override {
    if (part_ == Part::Rest && is_member_of_model("vocab")) {
      part_ = Part::Vocabulary;
      out_.has_vocabulary = true;
      return true;
    }
    return open(Value::object());
  }
  bool key(std::string& name) override {
    key_ = std::move(name);
    if (part_ == Part::Rest)
      require(!open_.back()->contains(key_) && !is_second(key_),
              "{}: the name '{}' stands twice in one object", where_, Escaped{key_});
    return true;
  }
  bool end_object() override {
    if (part_ == Part::Vocabulary)
      part_ = Part::Rest;
    else
      open_.pop_back();
    return true;
  }
  bool start_array(std::size_t) override {
    if (part_ == Part::Rest && is_member_of_model("merges")) {
      part_ = Part::Merges;
      out_.has_merges = true;
      return true;
    }
    if (part_ == Part::Merges) {
      part_ = Part::MergePair;
      num_parts_ = 0;
      out_.merges.emplace_back();
      return true;
    }
    return open(Value::array());
  }
  bool end_array() override {
    if (part_ == Part::Merges) {
      part_ = Part::Rest;
    } else if (part_ == Part::MergePair) {
      require(num_parts_ == 2, "{}: model.merges[{}] has {} parts, not two", where_,
              out_.merges.size() - 1, num_parts_);
      part_ = Part::Merges;
    } else {
      open_.pop_back();
    }
    return true;
  }
  bool parse_error(std::size_t byte, const std::string&,
                   const nlohmann::detail::exception&) override {
    fail("{}: not JSON at byte {}: an incomplete copy?", where_, byte);
  }

 private:
  enum class Part { Rest, Vocabulary, Merges, MergePair };

  std::string entry() const { return fmt::format("model.vocab['{}']", Escaped{key_}); }

  bool is_member_of_model(std::string_view name) const {
    return open_.size() == 2 && key_ == name && model_ == open_.back();
  }
  bool is_second(const std::string& name) const {
    return model_ != nullptr && open_.back() == model_ &&
           ((name == "vocab" && out_.has_vocabulary) || (name == "merges" && out_.has_merges));
  }

  // "a b": one space, as no token of the byte alphabet has any.
  void add_merge(std::string_view text) {
    if (text.starts_with("#version")) return;
    const std::size_t space = text.find(' ');
    require(space != std::string_view::npos && space > 0 && space + 1 < text.size() &&
                text.find(' ', space + 1) == std::string_view::npos,
            "{}: model.merges[{}] is '{}', not two tokens with a space between", where_,
            out_.merges.size(), Escaped{text});
    out_.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
  }

  template <class Scalar>
  bool scalar(Scalar&& value) {
    refuse_outside_rest(Value(value));
    place(std::forward<Scalar>(value));
    return true;
  }

  void refuse_outside_rest(const Value& value) const {
    if (part_ == Part::Vocabulary) fail("{}: {} is {}, not an id", where_, entry(), shown(value));
    if (part_ != Part::Rest)
      fail("{}: a merge is {}, not two tokens, after {} of model.merges", where_, shown(value),
           out_.merges.size());
  }

  Value* place(Value value) {
    if (open_.empty()) return &(out_.rest = std::move(value));
    Value& parent = *open_.back();
    if (parent.is_object()) return &(parent[key_] = std::move(value));
    parent.push_back(std::move(value));
    return &parent.back();
  }

  bool open(Value value) {
    refuse_outside_rest(value);
    require(open_.size() < kMaxDepth, "{}: JSON nested deeper than {} levels", where_, kMaxDepth);
    const bool is_model = open_.size() == 1 && open_[0]->is_object() && key_ == "model";
    open_.push_back(place(std::move(value)));
    if (is_model) model_ = open_.back();
    return true;
  }

  Document& out_;
  const std::string& where_;
  Part part_ = Part::Rest;
  std::vector<Value*>
      open_;  // objects and arrays not yet closed; their addresses hold as they grow
  Value* model_ = nullptr;
  std::string key_;
  int num_parts_ = 0;
};

// One object of the file. Every member has to be asked for: close() names one that was not, since a
// setting that is not understood would change what the tokenizer does.
class Section {
 public:
  Section(const Value& value, std::string path, const std::string& where)
      : value_(value), path_(std::move(path)), where_(where) {
    require(value.is_object(), "{}: {} is {}, not an object", where,
            path_.empty() ? "the file" : path_, shown(value));
  }

  const Value& get(const char* name) {
    const auto found = value_.find(name);
    require(found != value_.end(), "{}: {} is missing", where_, path(name));
    known_.push_back(name);
    return *found;
  }
  // Nothing when it is left out or null.
  const Value* get_optional(const char* name) {
    known_.push_back(name);
    const auto found = value_.find(name);
    return found == value_.end() || found->is_null() ? nullptr : &*found;
  }

  bool get_bool(const char* name) {
    const Value& value = get(name);
    require(value.is_boolean(), "{}: {} is {}, not true or false", where_, path(name),
            shown(value));
    return value.get<bool>();
  }
  bool get_bool(const char* name, bool otherwise) {
    return get_optional(name) != nullptr ? get_bool(name) : otherwise;
  }
  std::string get_text(const char* name) {
    const Value& value = get(name);
    require(value.is_string(), "{}: {} is {}, not text", where_, path(name), shown(value));
    return value.get<std::string>();
  }
  std::int32_t get_id(const char* name) {
    const Value& value = get(name);
    require(value.is_number_integer() && value >= 0 && value <= INT32_MAX,
            "{}: {} is {}, not an id", where_, path(name), shown(value));
    return value.get<std::int32_t>();
  }

  // A setting that has to be left out, null, or the one value that changes nothing.
  void refuse(const char* name, const Value& harmless, const char* why) {
    const Value* value = get_optional(name);
    if (value == nullptr || *value == harmless) return;
    fail("{}: {} is {}: {}", where_, path(name), shown(*value), why);
  }
  void refuse(const char* name, const char* why) { refuse(name, Value(), why); }

  void close() const {
    for (const auto& [name, value] : value_.items())
      require(std::find(known_.begin(), known_.end(), name) != known_.end(),
              "{}: {} is not a setting that is known here", where_, path(name));
  }

  std::string path(std::string_view name) const {
    const std::string shown_name = escape_for_terminal(name);
    return path_.empty() ? shown_name : path_ + "." + shown_name;
  }
  const std::string& where() const { return where_; }

 private:
  const Value& value_;
  std::string path_;
  const std::string& where_;
  std::vector<std::string> known_;
};

void read_normalizer(const Value& value, const std::string& path, const std::string& where,
                     TokenizerParts& parts) {
  Section section(value, path, where);
  const std::string type = section.get_text("type");
  if (type == "NFC") {
    parts.nfc = true;
  } else if (type == "Sequence") {
    const Value& all = section.get("normalizers");
    require(all.is_array(), "{}: {} is not a list", where, section.path("normalizers"));
    for (std::size_t i = 0; i < all.size(); ++i)
      read_normalizer(all[i], fmt::format("{}[{}]", section.path("normalizers"), i), where, parts);
  } else {
    fail("{}: {} is '{}': only NFC is implemented", where, section.path("type"), Escaped{type});
  }
  section.close();
}

// A ByteLevel object, in whichever of its three roles.
struct ByteLevel {
  bool add_prefix_space, use_regex;
};

ByteLevel read_byte_level(Section& section) {
  const std::string type = section.get_text("type");
  require(type == "ByteLevel", "{}: {} is '{}': only ByteLevel is implemented here",
          section.where(), section.path("type"), Escaped{type});
  section.get_bool("trim_offsets", true);  // of offsets alone, which are not given here
  const ByteLevel out{section.get_bool("add_prefix_space", true),
                      section.get_bool("use_regex", true)};
  section.close();
  return out;
}

Split read_split(Section& section) {
  const std::string type = section.get_text("type");
  require(type == "Split", "{}: {} is '{}': only Split is implemented here", section.where(),
          section.path("type"), Escaped{type});
  Section pattern(section.get("pattern"), section.path("pattern"), section.where());
  const std::string regex = pattern.get_text("Regex");
  pattern.close();

  // Both mean: every match is a piece. The expressions match every character of any text.
  const std::string behavior = section.get_text("behavior");
  const bool invert = section.get_bool("invert");
  require((behavior == "Removed" && invert) || (behavior == "Isolated" && !invert),
          "{}: {} is '{}' with invert {}: Removed with invert, or Isolated without, is implemented",
          section.where(), section.path("behavior"), Escaped{behavior}, invert);
  section.close();

  if (regex == kCl100kRegex) return Split::Cl100k;
  require(regex == kGpt2Regex,
          "{}: {} is '{}': only the expressions of GPT-2 and cl100k are implemented",
          section.where(), section.path("pattern"), Escaped{regex});
  return Split::Gpt2;
}

void read_pre_tokenizer(const Value& value, const std::string& where, TokenizerParts& parts) {
  Section section(value, "pre_tokenizer", where);
  if (section.get_text("type") != "Sequence") {
    const ByteLevel byte_level = read_byte_level(section);
    parts.split = byte_level.use_regex ? Split::Gpt2 : Split::None;
    parts.add_prefix_space = byte_level.add_prefix_space;
    return;
  }
  const Value& steps = section.get("pretokenizers");
  section.close();
  require(
      steps.is_array() && steps.size() == 2,
      "{}: pre_tokenizer.pretokenizers is not a list of two: Split and ByteLevel are implemented",
      where);
  Section first(steps[0], "pre_tokenizer.pretokenizers[0]", where);
  parts.split = read_split(first);
  Section second(steps[1], "pre_tokenizer.pretokenizers[1]", where);
  const ByteLevel byte_level = read_byte_level(second);
  require(
      !byte_level.use_regex && !byte_level.add_prefix_space,
      "{}: {} splits again, or adds spaces: use_regex and add_prefix_space have to be false there",
      where, "pre_tokenizer.pretokenizers[1]");
  parts.add_prefix_space = false;
}

void read_added_tokens(const Value& list, const std::string& where, TokenizerParts& parts) {
  require(list.is_array(), "{}: added_tokens is {}, not a list", where, shown(list));
  for (std::size_t i = 0; i < list.size(); ++i) {
    Section section(list[i], fmt::format("added_tokens[{}]", i), where);
    AddedToken token;
    token.id = section.get_id("id");
    token.content = section.get_text("content");
    token.single_word = section.get_bool("single_word");
    token.lstrip = section.get_bool("lstrip");
    token.rstrip = section.get_bool("rstrip");
    token.normalized = section.get_bool("normalized");
    token.special = section.get_bool("special");
    section.close();
    parts.added_tokens.push_back(std::move(token));
  }
}

// The BPE model's settings, without vocabulary and merges.
void read_model_settings(const Value& value, bool has_all_bytes, const std::string& where,
                         TokenizerParts& parts) {
  Section section(value, "model", where);
  section.refuse("type", "BPE", "only BPE is implemented");
  section.refuse("dropout", 0.0, "encoding at random is not implemented");
  section.refuse("continuing_subword_prefix", "", "it is not implemented");
  section.refuse("end_of_word_suffix", "", "it is not implemented");
  section.get_bool("fuse_unk", false);
  // Neither of these is ever used when each byte has a token.
  if (has_all_bytes) {
    section.get_optional("unk_token");
    section.get_optional("byte_fallback");
  } else {
    const char* why = "it is not implemented, and some bytes have no token";
    section.refuse("unk_token", why);
    section.refuse("byte_fallback", false, why);
  }
  parts.ignore_merges = section.get_bool("ignore_merges", false);
  section.close();
}

using NameIds = std::unordered_map<std::string_view, std::int32_t>;

NameIds ids_by_name(const Document& document, const std::string& where) {
  NameIds ids;
  ids.reserve(document.vocabulary.size());
  for (const NamedId& entry : document.vocabulary)
    require(ids.emplace(entry.name, entry.id).second, "{}: '{}' stands twice in model.vocab", where,
            Escaped{entry.name});
  return ids;
}

// Names that are not of the byte alphabet stand in a vocabulary only as added tokens.
void read_vocabulary(const Document& document, const NameIds& ids, const std::string& where,
                     TokenizerParts& parts) {
  std::unordered_map<std::string_view, std::int32_t> added;
  for (const AddedToken& token : parts.added_tokens) {
    added.emplace(token.content, token.id);
    const auto found = ids.find(token.content);
    require(found == ids.end() || found->second == token.id,
            "{}: '{}' has id {} in added_tokens and {} in model.vocab", where,
            Escaped{token.content}, token.id, found == ids.end() ? 0 : found->second);
  }
  for (const NamedId& entry : document.vocabulary) {
    std::optional<std::string> bytes = from_alphabet(entry.name);
    require(
        bytes || added.contains(entry.name),
        "{}: model.vocab['{}'] has a character that is not of the byte alphabet: not a byte-level "
        "tokenizer?",
        where, Escaped{entry.name});
    parts.vocabulary.push_back({bytes ? std::move(*bytes) : entry.name, entry.id});
  }
}

void read_merges(const Document& document, const NameIds& ids, const std::string& where,
                 TokenizerParts& parts) {
  for (const auto& [left, right] : document.merges) {
    const auto id_of = [&](const std::string& name) {
      const auto found = ids.find(name);
      require(found != ids.end() && name.find(' ') == std::string::npos,
              "{}: model.merges[{}]: '{}' is not in model.vocab", where, parts.merges.size(),
              Escaped{name});
      return found->second;
    };
    parts.merges.emplace_back(id_of(left), id_of(right));
  }
}

std::string json_text(std::string_view text) { return Value(text).dump(); }

std::string byte_level_text(bool add_prefix_space, bool use_regex) {
  return fmt::format(
      R"({{"type": "ByteLevel", "add_prefix_space": {}, "trim_offsets": true, "use_regex": {}}})",
      add_prefix_space, use_regex);
}

std::string pre_tokenizer_text(const TokenizerParts& parts) {
  if (parts.split != Split::Cl100k)
    return byte_level_text(parts.add_prefix_space, parts.split == Split::Gpt2);
  return fmt::format(
      "{{\"type\": \"Sequence\", \"pretokenizers\": [\n    {{\"type\": \"Split\", \"pattern\": "
      "{{\"Regex\": {}}}, \"behavior\": \"Removed\", \"invert\": true}},\n    {}\n  ]}}",
      json_text(kCl100kRegex), byte_level_text(false, false));
}

std::string added_token_text(const AddedToken& token) {
  return fmt::format(
      R"(    {{"id": {}, "content": {}, "single_word": {}, "lstrip": {}, "rstrip": {}, )"
      R"("normalized": {}, "special": {}}})",
      token.id, json_text(token.content), token.single_word, token.lstrip, token.rstrip,
      token.normalized, token.special);
}

// Lines with commas between, in brackets.
std::string bracketed(const std::vector<std::string>& lines, char open, char close,
                      std::string_view indent) {
  if (lines.empty()) return {open, close};
  return fmt::format("{}\n{}\n{}{}", open, join(lines, ",\n"), indent, close);
}

}  // namespace

Tokenizer Tokenizer::from_json(std::string_view text, const std::string& where) {
  require(static_cast<std::int64_t>(text.size()) <= kMaxFileBytes,
          "{}: {} bytes: a tokenizer has at most {}", where, text.size(), kMaxFileBytes);
  Document document;
  DocumentReader reader(document, where);
  Value::sax_parse(text, &reader);

  TokenizerParts parts;
  Section top(document.rest, "", where);
  top.refuse("version", "1.0", "only version 1.0 is known");
  top.refuse("truncation", "texts are not cut short here; set it to null");
  top.refuse("padding", "texts are not padded here; set it to null");
  if (const Value* normalizer = top.get_optional("normalizer"))
    read_normalizer(*normalizer, "normalizer", where, parts);
  read_pre_tokenizer(top.get("pre_tokenizer"), where, parts);
  if (const Value* added_tokens = top.get_optional("added_tokens"))
    read_added_tokens(*added_tokens, where, parts);
  for (const char* name : {"post_processor", "decoder"})  // the first changes offsets alone
    if (const Value* value = top.get_optional(name)) {
      Section section(*value, name, where);
      read_byte_level(section);
    }
  require(top.get_optional("decoder") != nullptr, "{}: decoder is missing: ByteLevel is expected",
          where);
  const Value& model = top.get("model");
  require(model.is_object(), "{}: model is {}, not an object", where, shown(model));
  require(document.has_vocabulary, "{}: model.vocab is missing, or not an object", where);
  require(document.has_merges, "{}: model.merges is missing, or not a list", where);

  const NameIds ids = ids_by_name(document, where);
  read_vocabulary(document, ids, where, parts);
  std::size_t num_bytes = 0;
  for (const VocabularyEntry& entry : parts.vocabulary) num_bytes += entry.bytes.size() == 1;
  read_model_settings(model, num_bytes == 256, where, parts);
  read_merges(document, ids, where, parts);
  top.close();
  return Tokenizer(std::move(parts), where);
}

std::string Tokenizer::to_json() const {
  const TokenizerParts& parts = this->parts();
  std::vector<std::string> added_tokens;
  for (const AddedToken& token : parts.added_tokens)
    added_tokens.push_back(added_token_text(token));

  // The names of tokens, by id. One that is not of the byte alphabet is an added token, by its
  // content.
  std::vector<std::string> names(vocab_size());
  for (const VocabularyEntry& entry : parts.vocabulary) names[entry.id] = to_alphabet(entry.bytes);
  for (const AddedToken& token : parts.added_tokens)
    if (!names[token.id].empty() && !from_alphabet(token.content)) names[token.id] = token.content;

  std::vector<std::string> vocabulary, merges;
  for (const VocabularyEntry& entry : parts.vocabulary)
    vocabulary.push_back(fmt::format("      {}: {}", json_text(names[entry.id]), entry.id));
  for (const auto& [left, right] : parts.merges)
    merges.push_back("      " + json_text(names[left] + " " + names[right]));

  return fmt::format(
      R"({{
  "version": "1.0",
  "truncation": null,
  "padding": null,
  "added_tokens": {},
  "normalizer": {},
  "pre_tokenizer": {},
  "post_processor": {},
  "decoder": {},
  "model": {{
    "type": "BPE",
    "dropout": null,
    "unk_token": null,
    "continuing_subword_prefix": null,
    "end_of_word_suffix": null,
    "fuse_unk": false,
    "byte_fallback": false,
    "ignore_merges": {},
    "vocab": {},
    "merges": {}
  }}
}}
)",
      bracketed(added_tokens, '[', ']', "  "), parts.nfc ? R"({"type": "NFC"})" : "null",
      pre_tokenizer_text(parts), byte_level_text(parts.add_prefix_space, true),
      byte_level_text(parts.add_prefix_space, true), parts.ignore_merges,
      bracketed(vocabulary, '{', '}', "    "), bracketed(merges, '[', ']', "    "));
}

Tokenizer read_tokenizer(const Path& path) {
  return Tokenizer::from_json(read_file(path, kMaxFileBytes), path.string());
}

}  // namespace cresco::text
