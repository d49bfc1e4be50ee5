#include "cresco/trajectories/snapshot_digest.h"

#include "cresco/base/hash.h"
#include "cresco/base/require.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace cresco::trajectories {
namespace {

constexpr std::int64_t kPieceBytes = 1 << 20;

float from_half(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t rest = static_cast<std::uint32_t>(bits & 0x7fffu) << 13;
  if (rest >= 0x0f800000u) return std::numeric_limits<float>::infinity();  // or NaN: not finite
  // The exponent's bias is 112 less; numbers below the least normal one come out right as well.
  return std::bit_cast<float>(sign |
                              std::bit_cast<std::uint32_t>(std::bit_cast<float>(rest) * 0x1p112f));
}

// Sums over numbers that come in pieces, and the sample at its places.
class Statistics {
 public:
  explicit Statistics(std::int64_t num_elements)
      : size_(num_elements), places_(std::min(num_elements, kSampleSize)) {}

  template <class Stored, class ToFloat>
  void take(Bytes piece, const ToFloat& to_float) {
    const std::int64_t count = static_cast<std::int64_t>(piece.size() / sizeof(Stored));
    double lanes[4] = {};
    for (std::int64_t i = 0; i < count; ++i) {
      Stored stored;
      std::memcpy(&stored, piece.data() + i * static_cast<std::int64_t>(sizeof stored),
                  sizeof stored);
      const double value = to_float(stored);
      if (std::isfinite(value)) [[likely]]
        lanes[i % 4] += value * value;
      else
        ++not_finite_;
    }
    sum_squares_ += (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
    for (; next_ < places_; ++next_) {
      const std::int64_t at = place(next_) - done_;
      if (at >= count) break;
      Stored stored;
      std::memcpy(&stored, piece.data() + at * static_cast<std::int64_t>(sizeof stored),
                  sizeof stored);
      const auto value = static_cast<float>(to_float(stored));
      sample_.push_back(std::isfinite(value) ? value : 0.f);
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

  std::int64_t size_, places_, next_ = 0, done_ = 0, not_finite_ = 0;
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
  Statistics statistics(digest.num_elements);
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
