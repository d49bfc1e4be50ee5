#include "cresco/corpora/windows.h"

#include "cresco/base/random.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <algorithm>

namespace cresco::corpora {

TokenStream::TokenStream(std::shared_ptr<const formats::TokenFile> file,
                         const std::function<bool(std::int64_t)>& keep)
    : file_(std::move(file)), begin_{0} {
  for (std::int64_t i = 0; i < file_->num_sequences(); ++i) {
    const std::int64_t size = file_->begin(i + 1) - file_->begin(i);
    if (size == 0 || !keep(i)) continue;
    first_.push_back(file_->begin(i));
    begin_.push_back(begin_.back() + size);
  }
}

TokenStream TokenStream::slice(std::int64_t first, std::int64_t last) const {
  require(first >= 0 && first <= last && last <= num_tokens(), "tokens {} to {} of a stream of {}",
          first, last, num_tokens());
  TokenStream part;
  part.file_ = file_;
  part.begin_ = {0};
  for (std::size_t i = 0; i < first_.size(); ++i) {
    const std::int64_t from = std::max(first, begin_[i]), to = std::min(last, begin_[i + 1]);
    if (from >= to) continue;
    part.first_.push_back(first_[i] + from - begin_[i]);
    part.begin_.push_back(part.begin_.back() + to - from);
  }
  return part;
}

template <class Action>
void TokenStream::for_stretches(std::int64_t position, std::int64_t count,
                                const Action& action) const {
  require(position >= 0 && count <= num_tokens() - position,
          "tokens {} to {} of a stream of {} asked for", position, position + count, num_tokens());
  auto document = static_cast<std::size_t>(
      std::upper_bound(begin_.begin(), begin_.end(), position) - begin_.begin() - 1);
  for (; count > 0; ++document) {
    const std::int64_t here = std::min(begin_[document + 1] - position, count);
    action(first_[document] + position - begin_[document], here);
    position += here;
    count -= here;
  }
}

void TokenStream::read(std::int64_t position, std::span<std::int32_t> out) const {
  for_stretches(position, static_cast<std::int64_t>(out.size()),
                [&](std::int64_t begin, std::int64_t count) {
                  file_->read(begin, out.first(static_cast<std::size_t>(count)));
                  out = out.subspan(static_cast<std::size_t>(count));
                });
}

namespace {

// The document that token `position` is of; documents before it may be empty.
std::int64_t document_at(const formats::TokenFile& file, std::int64_t position) {
  std::int64_t low = 0, high = file.num_sequences();
  while (low < high) {
    const std::int64_t middle = (low + high) / 2;
    if (file.begin(middle + 1) > position)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

}  // namespace

std::vector<DocumentPiece> TokenStream::pieces(std::int64_t position, std::int64_t count) const {
  std::vector<DocumentPiece> pieces;
  std::int64_t done = 0;
  for_stretches(position, count, [&](std::int64_t begin, std::int64_t here) {
    const std::int64_t document = document_at(*file_, begin);
    pieces.push_back({done, document, begin - file_->begin(document), here});
    done += here;
  });
  return pieces;
}

Windows::Windows(TokenStream stream, std::int64_t sequence_length)
    : stream_(std::move(stream)),
      sequence_length_(sequence_length),
      size_(std::max<std::int64_t>(0, (stream_.num_tokens() - 1) / sequence_length)) {}

void Windows::read(std::int64_t index, std::span<std::int32_t> out) const {
  stream_.read(index * sequence_length_, out);
}

std::vector<DocumentPiece> Windows::pieces(std::int64_t index) const {
  return stream_.pieces(index * sequence_length_, window_ids());
}

WindowOrder::WindowOrder(const std::string& name, std::uint64_t seed, std::int64_t num_windows)
    : shuffled_(name == "shuffled"), seed_(seed), num_windows_(num_windows) {
  const std::vector<std::string> known{"shuffled", "sequential"};
  require_usage(std::find(known.begin(), known.end(), name) != known.end(),
                "data.order '{}' is not one of {}{}", name, join(known, ", "),
                did_you_mean(name, known));
  require(num_windows > 0 && num_windows <= std::int64_t{UINT32_MAX},
          "{} windows, expected 1 to 2^32", num_windows);
}

std::int64_t WindowOrder::at(std::int64_t position) const {
  const std::int64_t epoch = position / num_windows_, place = position % num_windows_;
  if (!shuffled_) return place;
  if (epoch != epoch_) {
    permutation_ = permutation(static_cast<std::uint32_t>(num_windows_),
                               RandomStream(seed_, "order", static_cast<std::uint64_t>(epoch)));
    epoch_ = epoch;
  }
  return permutation_[static_cast<std::size_t>(place)];
}

bool is_held_out(std::uint64_t seed, std::int64_t document, double fraction) {
  return RandomStream(seed, "validation", static_cast<std::uint64_t>(document)).uniform() <
         fraction;
}

}  // namespace cresco::corpora
