// An interpolated bigram model: what a language model has to beat to have learned more than which
// token follows which.
#pragma once

#include "cresco/corpora/windows.h"

#include <cstdint>
#include <unordered_map>
#include <vector>

namespace cresco::corpora {

// Interpolated Kneser-Ney (Chen and Goodman 1999, eq. 17 with one discount): with n1, n2 the
// bigrams seen once and twice, discount d = n1/(n1 + 2 n2), c(a,b) the count, N(a) the different
// successors of a,
//   P(b|a) = max(c(a,b) - d, 0)/c(a) + d N(a)/c(a) * P_1(b)
// P_1(b) is the share of different predecessors that b has among all bigram types, itself smoothed
// by adding one to each of the V entries. After an a that was never seen, P_1 alone.
class BigramModel {
 public:
  BigramModel(const TokenStream& training, std::int64_t vocab_size);

  double probability(std::int32_t a, std::int32_t b) const;
  // The same from counts of single tokens, plus one each.
  double unigram_probability(std::int32_t b) const;

  struct Losses {
    double unigram = 0, bigram = 0;  // mean nats per token
    std::int64_t num_tokens = 0;
  };
  // Over the targets of the windows, the very tokens that a model's loss is taken on.
  Losses losses(const Windows& windows, std::int64_t num_windows) const;

 private:
  std::int64_t vocab_size_;
  std::unordered_map<std::uint64_t, std::int64_t> count_;  // of (a, b)
  std::vector<std::int64_t> count_first_, successors_, predecessors_, count_single_;
  std::int64_t num_types_ = 0, num_tokens_ = 0;
  double discount_ = 0.75;
};

}  // namespace cresco::corpora
