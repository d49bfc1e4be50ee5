#include "cresco/pretrain/data.h"

#include "cresco/base/hash.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <ATen/ATen.h>

namespace cresco::pretrain {

RunData RunData::open(const Recipe& recipe, std::shared_ptr<const formats::TokenFile> training_file,
                      std::shared_ptr<const formats::TokenFile> validation_file) {
  const auto seed = static_cast<std::uint64_t>(recipe.data.seed);
  const double fraction =
      validation_file ? 0 : parse_double(recipe.data.validation, "data.validation");
  require_usage(fraction >= 0 && fraction < 1, "data.validation is {}, expected a share below 1",
                fraction);
  const auto held_out = [=](std::int64_t d) { return corpora::is_held_out(seed, d, fraction); };
  corpora::TokenStream training_stream(training_file, [&](std::int64_t d) { return !held_out(d); });
  corpora::TokenStream validation_stream =
      validation_file ? corpora::TokenStream(validation_file, [](std::int64_t) { return true; })
                      : corpora::TokenStream(training_file, held_out);
  const std::int64_t T = recipe.data.sequence_length;
  corpora::Windows training(std::move(training_stream), T),
      validation(std::move(validation_stream), T);
  require(training.size() > 0, "{}: {} training tokens are less than one window of {}",
          training_file->prefix().string(), training.stream().num_tokens(), training.window_ids());
  require(validation.size() > 0,
          "{}: {} validation tokens (of {} documents held out) are less than one window of {}; "
          "hold out a larger share",
          (validation_file ? validation_file : training_file)->prefix().string(),
          validation.stream().num_tokens(), validation.stream().num_documents(),
          validation.window_ids());
  corpora::WindowOrder order(recipe.data.order, seed, training.size());
  return {std::move(training), std::move(validation), std::move(order),
          sha256_of_file(training_file->bin_path())};
}

namespace {

template <class WindowAt>
at::Tensor read_windows(const corpora::Windows& windows, std::int64_t count,
                        std::int64_t vocab_size, const WindowAt& window_at) {
  at::Tensor ids = at::empty({count, windows.window_ids()}, at::kLong);
  std::vector<std::int32_t> window(static_cast<std::size_t>(windows.window_ids()));
  auto* out = ids.mutable_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t index = window_at(i);
    windows.read(index, window);
    for (const std::int32_t id : window) {
      require(id >= 0 && id < vocab_size,
              "window {} holds token id {}, but the model's vocab_size is {}: another tokenizer's "
              "corpus?",
              index, id, vocab_size);
      *out++ = id;
    }
  }
  return ids;
}

}  // namespace

at::Tensor read_batch(const RunData& data, std::int64_t first, std::int64_t count,
                      std::int64_t vocab_size) {
  return read_windows(data.training, count, vocab_size,
                      [&](std::int64_t i) { return data.order.at(first + i); });
}

at::Tensor read_validation(const RunData& data, std::int64_t first, std::int64_t count,
                           std::int64_t vocab_size) {
  return read_windows(data.validation, count, vocab_size,
                      [&](std::int64_t i) { return first + i; });
}

}  // namespace cresco::pretrain
