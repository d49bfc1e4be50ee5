// Partitions of a vocabulary, for numbers that are wanted by kind of token.
#pragma once

#include "cresco/formats/token_source.h"
#include "cresco/text/tokenizer.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cresco::evals {

struct Partition {
  std::string name;                  // freq_decile | length_bin | coarse_class
  std::vector<std::string> bins;     // those that rows may be in, in order
  std::vector<std::int64_t> bin_of;  // of each row of the matrix; -1: in none
};

// How often each id stands in the whole corpus. Error for an id past the rows.
std::vector<std::int64_t> count_tokens(const formats::TokenSource& corpus, std::int64_t num_rows);

// Bin b of 0 to 9: tokens that were seen, by rank from the rarest (0) of n, min(10 rank / max(n -
// 1, 1), 9.999) rounded down; of equal counts the lower id comes first. Tokens that were not seen
// are in none.
Partition frequency_deciles(const std::vector<std::int64_t>& counts);

// The text of each row as Python decodes it: U+FFFD where a token is no UTF-8, empty for rows that
// stand for no token.
std::vector<std::string> token_texts(const text::Tokenizer& tokenizer, std::int64_t num_rows);

// By characters without the white space around them: "1" (or none), "2-3", "4-7", "8+".
Partition length_bins(const std::vector<std::string>& texts);

// By class_of_text.
Partition coarse_classes(const std::vector<std::string>& texts);

// Without its leading spaces: whitespace (nothing is left); when it begins with ASCII
// ascii_whitespace, ascii_digit, ascii_letter_lower or ascii_letter_upper (all of it is),
// ascii_punct (no letter, number or white space), ascii_letter_mixed (a letter somewhere),
// ascii_other; else script_<name of the first character's script>, or other_unicode. `text` is
// UTF-8.
std::string class_of_text(std::string_view text);

// The scripts that are told apart, by code point; empty for all others.
std::string script_of(char32_t c);

}  // namespace cresco::evals
