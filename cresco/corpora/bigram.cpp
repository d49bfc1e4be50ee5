#include "cresco/corpora/bigram.h"

#include "cresco/base/require.h"

#include <algorithm>
#include <cmath>

namespace cresco::corpora {
namespace {

std::uint64_t key(std::int32_t a, std::int32_t b) {
  return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(a)) << 32) |
         static_cast<std::uint32_t>(b);
}

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

}  // namespace

BigramModel::BigramModel(const TokenStream& training, std::int64_t vocab_size)
    : vocab_size_(vocab_size),
      count_first_(static_cast<std::size_t>(vocab_size)),
      successors_(count_first_.size()),
      predecessors_(count_first_.size()),
      count_single_(count_first_.size()) {
  constexpr std::int64_t kBlock = 1 << 16;
  std::vector<std::int32_t> ids;
  std::int32_t last = -1;
  for (std::int64_t at = 0; at < training.num_tokens(); at += kBlock) {
    ids.resize(static_cast<std::size_t>(std::min(kBlock, training.num_tokens() - at)));
    training.read(at, ids);
    for (const std::int32_t id : ids) {
      require(id >= 0 && id < vocab_size, "token id {} at position {}, the vocabulary has {}", id,
              at, vocab_size);
      ++count_single_[index(id)];
      if (last >= 0) {
        ++count_[key(last, id)];
        ++count_first_[index(last)];
      }
      last = id;
    }
  }
  num_tokens_ = training.num_tokens();
  double once = 0, twice = 0;
  for (const auto& [pair, count] : count_) {
    ++successors_[pair >> 32];
    ++predecessors_[pair & 0xffffffff];
    once += count == 1;
    twice += count == 2;
  }
  num_types_ = static_cast<std::int64_t>(count_.size());
  if (once > 0 && twice > 0) discount_ = once / (once + 2 * twice);
}

double BigramModel::unigram_probability(std::int32_t b) const {
  return static_cast<double>(count_single_[index(b)] + 1) /
         static_cast<double>(num_tokens_ + vocab_size_);
}

double BigramModel::probability(std::int32_t a, std::int32_t b) const {
  const double lower = static_cast<double>(predecessors_[index(b)] + 1) /
                       static_cast<double>(num_types_ + vocab_size_);
  const auto total = static_cast<double>(count_first_[index(a)]);
  if (total == 0) return lower;
  const auto found = count_.find(key(a, b));
  const double seen = found == count_.end() ? 0 : static_cast<double>(found->second);
  return std::max(seen - discount_, 0.0) / total +
         discount_ * static_cast<double>(successors_[index(a)]) / total * lower;
}

BigramModel::Losses BigramModel::losses(const Windows& windows, std::int64_t num_windows) const {
  Losses losses;
  std::vector<std::int32_t> ids(static_cast<std::size_t>(windows.window_ids()));
  for (std::int64_t i = 0; i < num_windows; ++i) {
    windows.read(i, ids);
    for (std::size_t t = 1; t < ids.size(); ++t) {
      losses.unigram -= std::log(unigram_probability(ids[t]));
      losses.bigram -= std::log(probability(ids[t - 1], ids[t]));
      ++losses.num_tokens;
    }
  }
  if (losses.num_tokens > 0) {
    losses.unigram /= static_cast<double>(losses.num_tokens);
    losses.bigram /= static_cast<double>(losses.num_tokens);
  }
  return losses;
}

}  // namespace cresco::corpora
