#include "cresco/evals/vocabulary_strata.h"

#include "cresco/base/require.h"
#include "cresco/text/unicode.h"

#include <algorithm>
#include <numeric>

namespace cresco::evals {
namespace {

struct Script {
  char32_t first, last;
  const char* name;
};
constexpr Script kScripts[] = {{0x0400, 0x04FF, "Cyrillic"}, {0x0E00, 0x0E7F, "Thai"},
                               {0x0600, 0x06FF, "Arabic"},   {0x0900, 0x097F, "Devanagari"},
                               {0x0980, 0x09FF, "Bengali"},  {0x4E00, 0x9FFF, "CJK"},
                               {0x3040, 0x30FF, "Japanese"}, {0xAC00, 0xD7AF, "Korean"}};

std::vector<char32_t> characters(std::string_view text) {
  std::vector<char32_t> out;
  while (!text.empty()) {
    const text::Decoded c = text::decode(text);
    out.push_back(c.code_point);
    text.remove_prefix(c.length);
  }
  return out;
}

bool is_letter(char32_t c) { return text::char_class(c) == text::CharClass::Letter; }
bool is_number(char32_t c) { return text::char_class(c) == text::CharClass::Number; }
// Python counts four control characters among the white space.
bool is_space(char32_t c) {
  return text::char_class(c) == text::CharClass::Space || (c >= 0x1C && c <= 0x1F);
}

template <class Predicate>
bool all(const std::vector<char32_t>& text, const Predicate& predicate) {
  return std::all_of(text.begin(), text.end(), predicate);
}

}  // namespace

std::vector<std::int64_t> count_tokens(const formats::TokenSource& corpus, std::int64_t num_rows) {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(num_rows));
  std::vector<std::int32_t> ids(std::size_t{1} << 16);
  for (std::int64_t at = 0; at < corpus.num_tokens();) {
    ids.resize(std::min(ids.size(), static_cast<std::size_t>(corpus.num_tokens() - at)));
    corpus.read(at, ids);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      require(ids[i] >= 0 && ids[i] < num_rows, "{}: token {} is id {}, the matrix has {} rows",
              corpus.name(), at + static_cast<std::int64_t>(i), ids[i], num_rows);
      ++counts[static_cast<std::size_t>(ids[i])];
    }
    at += static_cast<std::int64_t>(ids.size());
  }
  return counts;
}

Partition frequency_deciles(const std::vector<std::int64_t>& counts) {
  Partition partition{"freq_decile", {}, std::vector<std::int64_t>(counts.size(), -1)};
  for (int i = 0; i < 10; ++i) partition.bins.push_back(std::to_string(i));
  std::vector<std::size_t> seen;
  for (std::size_t id = 0; id < counts.size(); ++id)
    if (counts[id] > 0) seen.push_back(id);
  std::stable_sort(seen.begin(), seen.end(),
                   [&](std::size_t a, std::size_t b) { return counts[a] < counts[b]; });
  const double last = std::max(static_cast<double>(seen.size()) - 1, 1.0);
  for (std::size_t rank = 0; rank < seen.size(); ++rank)
    partition.bin_of[seen[rank]] =
        static_cast<std::int64_t>(std::min(10 * static_cast<double>(rank) / last, 9.999));
  return partition;
}

std::vector<std::string> token_texts(const text::Tokenizer& tokenizer, std::int64_t num_rows) {
  std::vector<std::string> texts(static_cast<std::size_t>(num_rows));
  const auto set = [&](std::int32_t id, std::string_view bytes) {
    std::int64_t replaced = 0;
    if (id < num_rows)
      texts[static_cast<std::size_t>(id)] = text::replace_invalid_utf8(bytes, replaced);
  };
  for (const auto& entry : tokenizer.parts().vocabulary) set(entry.id, entry.bytes);
  for (const auto& token : tokenizer.parts().added_tokens) set(token.id, token.content);
  return texts;
}

Partition length_bins(const std::vector<std::string>& texts) {
  Partition partition{"length_bin", {"1", "2-3", "4-7", "8+"}, {}};
  for (const std::string& text : texts) {
    const std::vector<char32_t> all = characters(text);
    const auto first = std::find_if_not(all.begin(), all.end(), is_space);
    const auto last = std::find_if_not(all.rbegin(), std::make_reverse_iterator(first), is_space);
    const auto length = last.base() - first;
    partition.bin_of.push_back(length <= 1 ? 0 : length <= 3 ? 1 : length <= 7 ? 2 : 3);
  }
  return partition;
}

std::string script_of(char32_t c) {
  for (const Script& script : kScripts)
    if (c >= script.first && c <= script.last) return script.name;
  return "";
}

std::string class_of_text(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  const std::vector<char32_t> c = characters(text);
  if (c.empty()) return "whitespace";
  if (c[0] >= 0x80) {
    const std::string script = script_of(c[0]);
    return script.empty() ? "other_unicode" : "script_" + script;
  }
  const auto is_lower = [](char32_t x) { return (text::properties(x) & text::kLowerBit) != 0; };
  const auto is_upper = [](char32_t x) { return (text::properties(x) & text::kUpperBit) != 0; };
  if (all(c, is_space)) return "ascii_whitespace";
  if (all(c, is_number)) return "ascii_digit";
  if (all(c, [](char32_t x) { return !is_letter(x) && !is_number(x) && !is_space(x); }))
    return "ascii_punct";
  if (all(c, is_lower)) return "ascii_letter_lower";
  if (all(c, is_upper)) return "ascii_letter_upper";
  if (std::any_of(c.begin(), c.end(), is_letter)) return "ascii_letter_mixed";
  return "ascii_other";
}

Partition coarse_classes(const std::vector<std::string>& texts) {
  Partition partition{
      "coarse_class",
      {"whitespace", "ascii_whitespace", "ascii_digit", "ascii_punct", "ascii_letter_lower",
       "ascii_letter_upper", "ascii_letter_mixed", "ascii_other"},
      {}};
  for (const Script& script : kScripts)
    partition.bins.push_back(std::string("script_") + script.name);
  partition.bins.emplace_back("other_unicode");
  for (const std::string& text : texts)
    partition.bin_of.push_back(
        std::find(partition.bins.begin(), partition.bins.end(), class_of_text(text)) -
        partition.bins.begin());
  return partition;
}

}  // namespace cresco::evals
