// Tokens that are found in the text as they stand, before anything else looks at it.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cresco::text {

struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space behind it
  bool normalized = true;    // is looked for in the normalised text
  bool special = false;      // has a meaning that user text can be kept from using

  bool operator==(const AddedToken&) const = default;
};

// Finds the leftmost, then longest of some tokens. Immutable.
class AddedTokenMatcher {
 public:
  AddedTokenMatcher() = default;
  // patterns[i] is what tokens[i] looks like in the text; none is empty.
  AddedTokenMatcher(std::vector<AddedToken> tokens, const std::vector<std::string>& patterns);

  // Calls on_text(stretch) and on_token(id) in order. With parse_special false the special tokens
  // are text, as far as they reach.
  template <class OnText, class OnToken>
  void split(std::string_view text, bool parse_special, OnText on_text, OnToken on_token) const {
    std::size_t done = 0;
    for (Match match = find(text, 0); match.token != nullptr; match = find(text, match.end)) {
      if (match.token->special && !parse_special) continue;
      std::size_t begin = match.begin, end = match.end;
      if (!trim(text, *match.token, begin, end)) continue;
      if (done < begin) on_text(text.substr(done, begin - done));
      on_token(match.token->id);
      done = end;
    }
    if (done < text.size()) on_text(text.substr(done));
  }

 private:
  struct Match {
    const AddedToken* token;
    std::size_t begin, end;
  };
  struct Node {
    std::uint32_t first_edge = 0, num_edges = 0;
    std::int32_t token = -1;  // that ends here
  };
  struct Edge {
    unsigned char byte;
    std::uint32_t node;
  };
  Match find(std::string_view text, std::size_t from) const;
  Match match_at(std::string_view text, std::size_t begin) const;
  // Widens over white space as the token asks; false when it has to stand alone and does not.
  static bool trim(std::string_view text, const AddedToken& token, std::size_t& begin,
                   std::size_t& end);

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;  // a trie; node 0 is its root
  std::vector<Edge> edges_;
  std::array<bool, 256> begins_{};  // bytes that a token begins with
  int only_begin_ = -1;             // the one such byte, when there is one
};

}  // namespace cresco::text
