// The decoder rows of one dictionary as `match` compares them: read by slices, scaled so that the
// similarity of two features is the product of their rows.
#pragma once

#include "cresco/dictionaries/match.h"

#include <algorithm>
#include <vector>

namespace cresco::dictionaries {

// T rows of one dictionary are multiplied with T of the other, always: the last tile of a
// dictionary is filled up with zeros.
inline constexpr std::int64_t kTile = 256;

inline std::int64_t num_tiles(std::int64_t num_features) {
  return (num_features + kTile - 1) / kTile;
}

class UnitRows {
 public:
  // `similarity` concatenated: a row has length 1 over all heads together; mean: every head of it
  // has length 1 / sqrt(K). Zeros stay zero. Dead features, those of which no head's norm is above
  // `dead_share` of the largest of all, take no part when they are excluded. Error when nothing is
  // left.
  UnitRows(const StoredDecoder& decoder, std::vector<std::int64_t> heads,
           const MatchConfig& config);

  std::int64_t size() const { return decoder_.num_features(); }
  std::int64_t num_heads() const { return static_cast<std::int64_t>(heads_.size()); }
  std::int64_t width() const { return decoder_.width(); }

  bool is_zero(std::int64_t i) const { return zero_[static_cast<std::size_t>(i)]; }
  bool is_counted(std::int64_t i) const { return counted_[static_cast<std::size_t>(i)]; }
  std::int64_t num_zero() const { return std::count(zero_.begin(), zero_.end(), true); }
  std::int64_t num_dead() const { return std::count(dead_.begin(), dead_.end(), true); }
  std::int64_t num_counted() const { return std::count(counted_.begin(), counted_.end(), true); }

  // float32 (count, heads and width as one).
  at::Tensor rows(std::int64_t begin, std::int64_t count) const;
  // The same of the features from `begin` on, filled up to kTile rows.
  at::Tensor tile(std::int64_t begin) const;
  std::int64_t in_tile(std::int64_t begin) const { return std::min(kTile, size() - begin); }

 private:
  const StoredDecoder& decoder_;
  std::vector<std::int64_t> heads_;
  at::Tensor length_FK_;  // what each head of a row is divided by
  std::vector<bool> zero_, dead_, counted_;
};

}  // namespace cresco::dictionaries
