#include "cresco/text/added_tokens.h"

#include "cresco/text/unicode.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace cresco::text {
namespace {

// The start of the last character of `text`, and that character.
Decoded last_character(std::string_view text, std::size_t& begin) {
  const std::size_t earliest = text.size() < 4 ? 0 : text.size() - 4;
  for (begin = text.size() - 1;; --begin) {
    const Decoded character = decode(text.substr(begin));
    if (character.valid && begin + character.length == text.size()) return character;
    if (begin == earliest) break;
  }
  begin = text.size() - 1;
  return {kReplacement, 1, false};
}

bool is_word(const Decoded& c) { return c.valid && (properties(c.code_point) & kWordBit); }
bool is_space(const Decoded& c) { return c.valid && char_class(c.code_point) == CharClass::Space; }

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens,
                                     const std::vector<std::string>& patterns)
    : tokens_(std::move(tokens)) {
  if (tokens_.empty()) return;
  std::vector<std::size_t> order(patterns.size());
  std::iota(order.begin(), order.end(), 0);
  // Of equal patterns the first token counts: it is the last to be written into the node.
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return patterns[a] != patterns[b] ? patterns[a] < patterns[b] : a > b;
  });

  // Each node stands for the patterns order[begin..end), which share their first `depth` bytes.
  struct Range {
    std::size_t begin, end, depth;
  };
  std::vector<Range> ranges{{0, order.size(), 0}};
  nodes_.emplace_back();
  for (std::size_t node = 0; node < nodes_.size(); ++node) {
    auto [i, end, depth] = ranges[node];
    while (i < end && patterns[order[i]].size() == depth)
      nodes_[node].token = static_cast<std::int32_t>(order[i++]);
    nodes_[node].first_edge = static_cast<std::uint32_t>(edges_.size());
    while (i < end) {
      const char byte = patterns[order[i]][depth];
      const std::size_t first = i;
      while (i < end && patterns[order[i]][depth] == byte) ++i;
      edges_.push_back(
          {static_cast<unsigned char>(byte), static_cast<std::uint32_t>(nodes_.size())});
      nodes_.emplace_back();
      ranges.push_back({first, i, depth + 1});
    }
    nodes_[node].num_edges = static_cast<std::uint32_t>(edges_.size()) - nodes_[node].first_edge;
  }

  for (const std::string& pattern : patterns)
    begins_[static_cast<unsigned char>(pattern[0])] = true;
  if (nodes_[0].num_edges == 1) only_begin_ = edges_[0].byte;
}

AddedTokenMatcher::Match AddedTokenMatcher::match_at(std::string_view text,
                                                     std::size_t begin) const {
  Match longest{nullptr, begin, begin};
  const Node* node = &nodes_[0];
  for (std::size_t i = begin; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i++]);
    const Edge* edge = edges_.data() + node->first_edge;
    const Edge* const end = edge + node->num_edges;
    while (edge != end && edge->byte != byte) ++edge;
    if (edge == end) break;
    node = &nodes_[edge->node];
    if (node->token >= 0) longest = {&tokens_[node->token], begin, i};
  }
  return longest;
}

AddedTokenMatcher::Match AddedTokenMatcher::find(std::string_view text, std::size_t from) const {
  if (tokens_.empty()) return {nullptr, 0, 0};
  for (std::size_t i = from; i < text.size(); ++i) {
    if (only_begin_ >= 0) {
      const void* next = std::memchr(text.data() + i, only_begin_, text.size() - i);
      if (next == nullptr) break;
      i = static_cast<const char*>(next) - text.data();
    } else if (!begins_[static_cast<unsigned char>(text[i])]) {
      continue;
    }
    const Match match = match_at(text, i);
    if (match.token != nullptr) return match;
  }
  return {nullptr, 0, 0};
}

bool AddedTokenMatcher::trim(std::string_view text, const AddedToken& token, std::size_t& begin,
                             std::size_t& end) {
  std::size_t before = 0;
  if (token.single_word) {
    if (begin > 0 && is_word(last_character(text.substr(0, begin), before))) return false;
    if (end < text.size() && is_word(decode(text.substr(end)))) return false;
  }
  if (token.lstrip)
    while (begin > 0 && is_space(last_character(text.substr(0, begin), before))) begin = before;
  if (token.rstrip)
    while (end < text.size()) {
      const Decoded next = decode(text.substr(end));
      if (!is_space(next)) break;
      end += next.length;
    }
  return true;
}

}  // namespace cresco::text
