// A synthetic language whose structure is known: for tests, and for demonstrations without real
// text.
//
// Words belong to classes. A sentence walks from class to class with fixed odds, and at each place
// says one word of the class, the first ones more often. So all that a model can learn of a word is
// its class and its frequency, and the classes are the true features of an unembedding trained on
// it.
#pragma once

#include "cresco/base/random.h"

#include <cstdint>
#include <string>
#include <vector>

namespace cresco::corpora {

struct SyntheticLanguage {
  std::vector<std::vector<std::string>> classes;      // words; all different
  std::vector<std::vector<std::int32_t>> successors;  // three of each class, likeliest first
};

SyntheticLanguage make_language(std::uint64_t seed, int num_classes = 24, int words_per_class = 16);

// A few sentences, one a line.
std::string make_document(const SyntheticLanguage& language, RandomStream stream);
std::vector<std::string> make_documents(const SyntheticLanguage& language, std::uint64_t seed,
                                        std::int64_t count);

}  // namespace cresco::corpora
