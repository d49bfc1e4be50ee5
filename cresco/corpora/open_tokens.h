// Token ids in any layout, told apart by what the files are and not by their names.
#pragma once

#include "cresco/formats/token_source.h"

#include <cstdint>
#include <memory>

namespace cresco::corpora {

// `data` is a prefix or a file:
//   <data>.bin and <data>.idx              a pair of Megatron-LM's or GPT-NeoX's, with documents
//   <data>-NNNNN-of-MMMMM.bin, any one     shards of rows in training order, as Pythia's
//   <data>.bin, or <data> itself, alone    flat ids of 16 bits, or llm.c's with its header
//   a pattern, train_*.bin                 such flat files in order of their names, as one
// `row_tokens` is the length of the rows that are wanted of a preshuffled corpus, 0 when none are:
// a pair or shards whose index names other rows are then an Error.
std::shared_ptr<const formats::TokenSource> open_tokens(const Path& data,
                                                        std::int64_t row_tokens = 0);

}  // namespace cresco::corpora
