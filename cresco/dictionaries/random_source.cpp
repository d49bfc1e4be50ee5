#include "cresco/dictionaries/random_source.h"

#include "cresco/base/random.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace cresco::dictionaries {
namespace {

std::mt19937 torch_generator(std::uint64_t seed) {
  return std::mt19937(static_cast<std::uint32_t>(seed));
}

std::span<float> numbers(at::Tensor& t) {
  return {t.mutable_data_ptr<float>(), static_cast<std::size_t>(t.numel())};
}

}  // namespace

RandomKind random_kind(const std::string& name) {
  if (name == "philox") return RandomKind::Philox;
  if (name == "torch") return RandomKind::Torch;
  fail_usage("random '{}' is not one of philox, torch{}", name,
             did_you_mean(name, {"philox", "torch"}));
}

at::Tensor torch_randperm(std::mt19937& generator, std::int64_t n) {
  at::Tensor order = at::arange(n, at::kLong);
  std::int64_t* const r = order.mutable_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i + 1 < n; ++i)
    std::swap(r[i],
              r[i + static_cast<std::int64_t>(generator() % static_cast<std::uint64_t>(n - i))]);
  return order;
}

void torch_uniform(std::mt19937& generator, at::Tensor& out, float low, float high) {
  const double width = high - low;  // rounded to float before it is widened
  for (float& x : numbers(out))
    x = static_cast<float>(static_cast<double>(generator() & 0xffffffu) * 0x1p-24 * width +
                           static_cast<double>(low));
}

InitialMatrices draw_initial_matrices(RandomKind kind, std::uint64_t seed, std::int64_t width,
                                      std::int64_t num_features) {
  InitialMatrices drawn{at::empty({width, num_features}), at::empty({num_features, width})};
  const auto encoder_bound = static_cast<float>(1 / std::sqrt(static_cast<double>(width)));
  const auto decoder_bound = static_cast<float>(1 / std::sqrt(static_cast<double>(num_features)));
  if (kind == RandomKind::Torch) {
    std::mt19937 generator = torch_generator(seed);
    torch_uniform(generator, drawn.encoder_DF, -encoder_bound, encoder_bound);
    torch_uniform(generator, drawn.decoder_FD, -decoder_bound, decoder_bound);
  } else {
    RandomStream(seed, "init/W_E")
        .fill_uniform(numbers(drawn.encoder_DF), -encoder_bound, encoder_bound);
    RandomStream(seed, "init/W_D")
        .fill_uniform(numbers(drawn.decoder_FD), -decoder_bound, decoder_bound);
  }
  return drawn;
}

RowOrder::RowOrder(RandomKind kind, std::uint64_t seed, std::int64_t num_rows)
    : kind_(kind), seed_(seed), num_rows_(num_rows), generator_(torch_generator(seed)) {}

at::Tensor RowOrder::of_epoch(std::int64_t epoch) {
  if (kind_ == RandomKind::Philox) {
    const auto order = permutation(static_cast<std::uint32_t>(num_rows_),
                                   RandomStream(seed_, "order", static_cast<std::uint64_t>(epoch)));
    at::Tensor rows = at::empty({num_rows_}, at::kLong);
    std::copy(order.begin(), order.end(), rows.mutable_data_ptr<std::int64_t>());
    return rows;
  }
  if (epoch < next_epoch_) {
    generator_ = torch_generator(seed_);
    next_epoch_ = 0;
  }
  for (; next_epoch_ < epoch; ++next_epoch_)
    generator_.discard(static_cast<unsigned long long>(num_rows_ - 1));
  ++next_epoch_;
  return torch_randperm(generator_, num_rows_);
}

}  // namespace cresco::dictionaries
