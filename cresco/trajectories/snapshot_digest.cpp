#include "cresco/trajectories/snapshot_digest.h"

#include "cresco/base/hash.h"
#include "cresco/base/require.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

namespace cresco::trajectories {
namespace {

constexpr std::int64_t kPieceBytes = 1 << 20;

double squared(double x) { return x * x; }

// NaN and infinities come out as numbers from 65,536 up, which no half is.
float from_half(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t rest = static_cast<std::uint32_t>(bits & 0x7fffu) << 13;
  // The exponent's bias is 112 less; numbers below the least normal one come out right as well.
  const float magnitude = std::bit_cast<float>(rest) * 0x1p112f;
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
}

// Sums over numbers that come in pieces, and the sample at its places.
class Statistics {
 public:
  // Numbers from `limit` up are not finite.
  Statistics(std::int64_t num_elements, double limit)
      : size_(num_elements), limit_(limit), places_(std::min(num_elements, kSampleSize)) {}

  template <class Stored, class ToFloat>
  void take(Bytes piece, const ToFloat& to_float) {
    const std::int64_t count = static_cast<std::int64_t>(piece.size() / sizeof(Stored));
    const auto value_at = [&](std::int64_t i) {
      Stored stored;
      std::memcpy(&stored, piece.data() + i * static_cast<std::int64_t>(sizeof stored),
                  sizeof stored);
      return to_float(stored);
    };
    // Blocks of a fixed size without a question asked; one that holds what is not finite shows it
    // in its sum or its largest number, and is gone through again.
    constexpr std::int64_t kBlock = 1024, kLanes = 8;
    std::int64_t at = 0;
    for (; at + kBlock <= count; at += kBlock) {
      double lanes[kLanes] = {}, largest[kLanes] = {};
      for (std::int64_t i = 0; i < kBlock; i += kLanes)
        for (std::int64_t lane = 0; lane < kLanes; ++lane) {
          const double square = squared(value_at(at + i + lane));
          lanes[lane] += square;
          largest[lane] = square > largest[lane] ? square : largest[lane];
        }
      const double sum = std::accumulate(std::begin(lanes), std::end(lanes), 0.0);
      const double most = *std::max_element(std::begin(largest), std::end(largest));
      if (std::isfinite(sum) && most < limit_ * limit_) [[likely]]
        sum_squares_ += sum;
      else
        take_one_by_one(at, at + kBlock, value_at);
    }
    take_one_by_one(at, count, value_at);
    for (; next_ < places_; ++next_) {
      at = place(next_) - done_;
      if (at >= count) break;
      const auto value = static_cast<float>(value_at(at));
      sample_.push_back(is_finite(value) ? value : 0.f);
    }
    done_ += count;
  }

  void put_into(TensorDigest& digest) {
    digest.is_real = true;
    digest.not_finite = not_finite_;
    digest.sum_squares = sum_squares_;
    digest.sample = std::move(sample_);
  }

 private:
  // Part i begins at i * size / places, rounded down, without overflow. Its place is moved by a
  // number that changes from part to part: a stride alone would stay in a few columns.
  std::int64_t place(std::int64_t i) const {
    const std::int64_t begin = boundary(i), length = boundary(i + 1) - begin;
    return begin + static_cast<std::int64_t>(static_cast<std::uint64_t>(i) * 2654435761u %
                                             static_cast<std::uint64_t>(length));
  }
  std::int64_t boundary(std::int64_t i) const {
    return size_ / places_ * i + size_ % places_ * i / places_;
  }

  bool is_finite(double value) const { return std::abs(value) < limit_; }
  template <class ValueAt>
  void take_one_by_one(std::int64_t begin, std::int64_t end, const ValueAt& value_at) {
    for (std::int64_t i = begin; i < end; ++i) {
      const double value = value_at(i);
      if (is_finite(value))
        sum_squares_ += value * value;
      else
        ++not_finite_;
    }
  }

  std::int64_t size_;
  double limit_;
  std::int64_t places_, next_ = 0, done_ = 0, not_finite_ = 0;
  double sum_squares_ = 0;
  std::vector<float> sample_;
};

}  // namespace

TensorDigest digest_of(const formats::StoredTensor& tensor) {
  using formats::DType;
  TensorDigest digest{.shape = tensor.shape,
                      .dtype = tensor.dtype,
                      .file = tensor.file->path(),
                      .num_elements = tensor.num_elements()};
  const bool is_real = tensor.dtype == DType::F64 || tensor.dtype == DType::F32 ||
                       tensor.dtype == DType::F16 || tensor.dtype == DType::BF16;
  Sha256 hash;
  Statistics statistics(digest.num_elements, tensor.dtype == DType::F16
                                                 ? 65536
                                                 : std::numeric_limits<double>::infinity());
  formats::read_pieces(tensor, kPieceBytes, [&](Bytes piece) {
    hash.update(piece);
    if (tensor.dtype == DType::F32)
      statistics.take<float>(piece, [](float x) { return x; });
    else if (tensor.dtype == DType::F16)
      statistics.take<std::uint16_t>(piece, from_half);
    else if (tensor.dtype == DType::BF16)
      statistics.take<std::uint16_t>(piece, [](std::uint16_t bits) {
        return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
      });
    else if (tensor.dtype == DType::F64)
      statistics.take<double>(piece, [](double x) { return x; });
  });
  digest.sha256 = hash.hex();
  if (is_real) statistics.put_into(digest);
  return digest;
}

SnapshotDigest digest_of(const Trajectory& trajectory, std::int64_t step) {
  SnapshotDigest digest{.step = step};
  try {
    const Snapshot snapshot = trajectory.open(step);
    digest.config = snapshot.config();
    digest.foreign_objects = snapshot.foreign_objects();
    for (const formats::StoredTensor& tensor : snapshot.tensors()) {
      digest.tensors.emplace(tensor.name, digest_of(tensor));
      digest.num_bytes += tensor.num_bytes();
    }
    snapshot.require_unchanged();
  } catch (const std::exception& e) {
    digest.error = e.what();
    return digest;
  }
  Sha256 hash;
  for (const auto& [name, tensor] : digest.tensors)
    hash.update(as_bytes(fmt::format("{} {} {} {}\n", name, formats::name_of(tensor.dtype),
                                     formats::shape_text(tensor.shape), tensor.sha256)));
  digest.sha256 = hash.hex();
  return digest;
}

}  // namespace cresco::trajectories
