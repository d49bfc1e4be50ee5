// Where text is cut before byte pairs are merged: the splits that GPT-2's and cl100k's regular
// expressions make, scanned by hand. No token crosses a cut.
#pragma once

#include <cstddef>
#include <string_view>

namespace cresco::text {

enum class Split { None, Gpt2, Cl100k };

// The regular expressions, as tokenizer.json writes them.
inline constexpr std::string_view kGpt2Regex =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kCl100kRegex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";

// The end of the piece that begins at `begin` < text.size(). A byte that is not UTF-8 is a
// character of no class.
std::size_t piece_end(Split split, std::string_view text, std::size_t begin);

}  // namespace cresco::text
