// Time of one update of each optimizer at the 31M recipe's shapes, beside a plain a += b of the
// same bytes in the same run: what the memory gives.
#include "cresco/optim/optimizer.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <limits>

namespace {

using cresco::tensor::NamedTensor;

std::vector<NamedTensor> model() {
  constexpr std::int64_t kWidth = 256, kLayers = 6, kVocabulary = 50304;
  std::vector<NamedTensor> out;
  const auto add = [&](const std::string& name, at::IntArrayRef shape) {
    out.emplace_back(name, at::randn(shape).mul_(0.04));
    out.back().second.mutable_grad() = at::randn(shape).mul_(1e-3);
  };
  add("embed_in.weight", {kVocabulary, kWidth});
  for (std::int64_t layer = 0; layer < kLayers; ++layer) {
    for (const auto& [name, rows, columns] :
         {std::tuple{"query_key_value", 3 * kWidth, kWidth}, std::tuple{"dense", kWidth, kWidth},
          std::tuple{"dense_h_to_4h", 4 * kWidth, kWidth},
          std::tuple{"dense_4h_to_h", kWidth, 4 * kWidth}}) {
      add(fmt::format("layers.{}.{}.weight", layer, name), {rows, columns});
      add(fmt::format("layers.{}.{}.bias", layer, name), {rows});
    }
    for (const char* norm : {"a.weight", "a.bias", "b.weight", "b.bias"})
      add(fmt::format("layers.{}.{}", layer, norm), {kWidth});
  }
  add("norm.weight", {kWidth});
  add("norm.bias", {kWidth});
  add("embed_out.weight", {kVocabulary, kWidth});
  return out;
}

double least_seconds(const std::function<void()>& work) {
  double least = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 20; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    least = std::min(least, taken.count());
  }
  return least;
}

}  // namespace

int main() {
  std::int64_t numbers = 0;
  for (const auto& [name, p] : model()) numbers += p.numel();
  const auto count = static_cast<double>(numbers);
  const at::Tensor a = at::zeros({2 * numbers}), b = at::ones({2 * numbers});
  const double plain = 12 * 2 * count / least_seconds([&] { a.add_(b); });
  fmt::print("{} parameters, {} threads; a += b: {:.2f} GB/s\n", numbers, at::get_num_threads(),
             plain / 1e9);
  // Bytes a parameter: read p, g and the state, write p and the state; g once more for its norm.
  for (const auto& [name, bytes] : {std::pair{"adamw", 32}, std::pair{"adam", 32},
                                    std::pair{"sgd", 16}, std::pair{"muon", 0}}) {
    const auto optimizer = cresco::optim::make_optimizer({.name = name}, model());
    optimizer->step(1);
    const double seconds = least_seconds([&] { optimizer->step(1, 1024); });
    fmt::print("{:6} {:7.2f} ms", name, seconds * 1e3);
    if (bytes > 0)
      fmt::print("  {:6.2f} GB/s at {} bytes a parameter, {:.2f} of a += b",
                 bytes * count / seconds / 1e9, bytes, bytes * count / seconds / plain);
    fmt::print("\n");
  }
}
