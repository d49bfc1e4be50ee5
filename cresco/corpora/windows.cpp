#include "cresco/corpora/windows.h"

#include "cresco/base/random.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/corpora/numpy_random.h"

#include <algorithm>
#include <array>
#include <mutex>
#include <utility>

namespace cresco::corpora {

TokenStream::TokenStream(std::shared_ptr<const formats::TokenSource> file,
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
std::int64_t document_at(const formats::TokenSource& file, std::int64_t position) {
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

WindowKind window_kind_named(const std::string& name) {
  const std::vector<std::string> known{"overlap", "block", "row2049"};
  const auto found = std::find(known.begin(), known.end(), name);
  require_usage(found != known.end(), "data.window '{}' is not one of {}{}", name,
                join(known, ", "), did_you_mean(name, known));
  return static_cast<WindowKind>(found - known.begin());
}

Windows::Windows(TokenStream stream, std::int64_t sequence_length, WindowKind kind)
    : stream_(std::make_shared<const TokenStream>(std::move(stream))),
      window_ids_(kind == WindowKind::Block ? sequence_length : sequence_length + 1),
      stride_(kind == WindowKind::Row ? sequence_length + 1 : sequence_length),
      size_(stream_->num_tokens() < window_ids_
                ? 0
                : (stream_->num_tokens() - window_ids_) / stride_ + 1) {}

Windows Windows::slice(std::int64_t first, std::int64_t last) const {
  require(first >= 0 && first <= last && last <= size_, "windows {} to {} of {}", first, last,
          size_);
  const std::int64_t end = last == size_   ? stream_->num_tokens()
                           : last == first ? first * stride_
                                           : begin(last - 1) + window_ids_;
  Windows part = *this;
  part.stream_ = std::make_shared<const TokenStream>(stream_->slice(first * stride_, end));
  part.size_ = last - first;
  return part;
}

std::int64_t Windows::begin(std::int64_t index) const {
  require(index >= 0 && index < size_, "window {} of {} asked for", index, size_);
  return index * stride_;
}

void Windows::read(std::int64_t index, std::span<std::int32_t> out) const {
  stream_->read(begin(index), out);
}

std::vector<DocumentPiece> Windows::pieces(std::int64_t index) const {
  return stream_->pieces(begin(index), window_ids_);
}

struct WindowOrder::Cache {
  std::mutex mutex;
  std::array<std::pair<std::int64_t, Permutation>, 2> epochs{{{-1, nullptr}, {-1, nullptr}}};
};

const std::vector<std::string>& WindowOrder::names() {
  static const std::vector<std::string> names{"shuffled", "sequential", "pythia", "numpy"};
  return names;
}

WindowOrder::WindowOrder(const std::string& name, std::uint64_t seed, std::int64_t num_windows,
                         const std::string& purpose)
    : name_(name),
      purpose_(purpose),
      seed_(seed),
      num_windows_(num_windows),
      cache_(std::make_shared<Cache>()) {
  require_usage(std::find(names().begin(), names().end(), name) != names().end(),
                "data.order '{}' is not one of {}{}", name, join(names(), ", "),
                did_you_mean(name, names()));
  require(num_windows > 0 && num_windows <= std::int64_t{UINT32_MAX},
          "{} windows, expected 1 to 2^32 - 1", num_windows);
}

std::int64_t WindowOrder::at(std::int64_t place) const {
  require(place >= 0, "place {} of an order", place);
  const std::int64_t epoch = place / num_windows_, in_epoch = place % num_windows_;
  require(name_ != "pythia" || epoch == 0,
          "data.order pythia reads each row once: row {} is wanted, the data has {}", place,
          num_windows_);
  if (name_ == "sequential" || name_ == "pythia") return in_epoch;
  return (*permutation_of(epoch))[static_cast<std::size_t>(in_epoch)];
}

// A batch may lie in two epochs, so that two are kept.
WindowOrder::Permutation WindowOrder::permutation_of(std::int64_t epoch) const {
  const std::lock_guard lock(cache_->mutex);
  auto& [newest, other] = cache_->epochs;
  if (newest.first != epoch) std::swap(newest, other);
  if (newest.first != epoch) {
    const auto n = static_cast<std::uint32_t>(num_windows_);
    const auto e = static_cast<std::uint64_t>(epoch);
    newest = {-1, nullptr};  // its memory first
    newest = {epoch, std::make_shared<const std::vector<std::uint32_t>>(
                         name_ == "numpy"
                             ? NumpyGenerator(static_cast<std::int64_t>(seed_ + e)).permutation(n)
                             : permutation(n, RandomStream(seed_, purpose_, e)))};
  }
  return newest.second;
}

bool is_held_out(std::uint64_t seed, std::int64_t document, double fraction) {
  return RandomStream(seed, "validation", static_cast<std::uint64_t>(document)).uniform() <
         fraction;
}

}  // namespace cresco::corpora
