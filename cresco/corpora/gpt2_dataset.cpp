#include "cresco/corpora/gpt2_dataset.h"

#include "cresco/base/require.h"
#include "cresco/corpora/numpy_random.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace cresco::corpora {
namespace {

constexpr std::int64_t kStride = 32;  // windows between two landmarks

}  // namespace

std::int64_t gpt2_samples_wanted(std::int64_t steps, std::int64_t batch_size) {
  require_usage(steps > 0 && batch_size > 0 && steps <= (std::int64_t{1} << 40) / batch_size,
                "{} steps of {} windows: both have to be at least 1, and their product at most "
                "2^40",
                steps, batch_size);
  // In double, as the original computes it.
  return static_cast<std::int64_t>(std::ceil(static_cast<double>(steps * batch_size) * 1.005));
}

Gpt2Dataset::Gpt2Dataset(std::shared_ptr<const formats::TokenFile> file,
                         std::int64_t sequence_length, std::int64_t samples_wanted,
                         std::int64_t seed)
    : file_(std::move(file)), sequence_length_(sequence_length) {
  NumpyRandom random(seed);
  const std::string where = file_->idx_path().string();
  const std::int64_t S = sequence_length, n = samples_wanted, T = file_->num_tokens(),
                     D = file_->num_sequences();
  require_usage(S > 0 && S < (std::int64_t{1} << 20),
                "a sequence length of {}, expected 1 to 2^20 - 1", S);
  require_usage(n > 0 && n <= (std::int64_t{1} << 41), "{} samples, expected 1 to 2^41", n);
  require(T > 0, "{}: holds no tokens", where);
  num_epochs_ = (n * S + T) / T;  // the least E with E T - 1 >= n S
  require(D <= INT32_MAX / num_epochs_,
          "{}: {} documents in {} epochs are more than 2^31 - 1: the corpus of {} tokens is too "
          "small for {} windows of {}",
          where, D, num_epochs_, T, n, S);
  const std::int64_t m = (num_epochs_ * T - 1) / S;
  require(m < std::int64_t{UINT32_MAX}, "{}: {} windows, at most 2^32 - 2 can be shuffled", where,
          m);

  doc_idx_.resize(static_cast<std::size_t>(D * num_epochs_));
  for (std::size_t i = 0; i < doc_idx_.size(); ++i)
    doc_idx_[i] = static_cast<std::int32_t>(i % static_cast<std::size_t>(D));
  random.shuffle(std::span(doc_idx_));

  landmarks_.reserve(static_cast<std::size_t>(m / kStride + 1));
  Begin begin;
  for (std::int64_t j = 0; j <= m; ++j) {
    if (j % kStride == 0) landmarks_.push_back(begin);
    if (j < m) begin = advance(begin);
  }

  shuffle_idx_.resize(static_cast<std::size_t>(m));
  std::iota(shuffle_idx_.begin(), shuffle_idx_.end(), 0u);
  random.shuffle(std::span(shuffle_idx_));
}

std::int64_t Gpt2Dataset::document_size(std::int32_t place) const {
  const std::int64_t document = doc_idx_[static_cast<std::size_t>(place)];
  return file_->begin(document + 1) - file_->begin(document);
}

// To the token that lies S further on. A window's begin is the last token of the one before it, so
// it always lies inside a document.
Gpt2Dataset::Begin Gpt2Dataset::advance(Begin from) const {
  std::int64_t offset = from.offset + sequence_length_;
  std::int32_t place = from.place;
  for (std::int64_t size; offset >= (size = document_size(place)); ++place) offset -= size;
  return {place, static_cast<std::int32_t>(offset)};
}

Gpt2Dataset::Begin Gpt2Dataset::window_begin(std::int64_t j) const {
  require(j >= 0 && j <= size(), "window {} of {}", j, size());
  Begin begin = landmarks_[static_cast<std::size_t>(j / kStride)];
  for (std::int64_t i = 0; i < j % kStride; ++i) begin = advance(begin);
  return begin;
}

std::vector<DocumentPiece> Gpt2Dataset::pieces(std::int64_t sample) const {
  require(sample >= 0 && sample < size(), "{}: sample {}, its order has {}",
          file_->prefix().string(), sample, size());
  auto [place, offset] = window_begin(shuffle_idx_[static_cast<std::size_t>(sample)]);
  std::vector<DocumentPiece> pieces;
  for (std::int64_t position = 0; position < window_ids(); ++place, offset = 0) {
    const std::int64_t count = std::min(document_size(place) - offset, window_ids() - position);
    if (count == 0) continue;  // an empty document
    pieces.push_back({position, doc_idx_[static_cast<std::size_t>(place)], offset, count});
    position += count;
  }
  return pieces;
}

void Gpt2Dataset::read(std::int64_t sample, std::span<std::int32_t> out) const {
  require(static_cast<std::int64_t>(out.size()) == window_ids(), "room for {} ids, a window has {}",
          out.size(), window_ids());
  for (const DocumentPiece& piece : pieces(sample))
    file_->read(file_->begin(piece.document) + piece.offset,
                out.subspan(static_cast<std::size_t>(piece.position),
                            static_cast<std::size_t>(piece.count)));
}

}  // namespace cresco::corpora
