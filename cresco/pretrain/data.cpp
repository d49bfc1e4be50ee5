#include "cresco/pretrain/data.h"

#include "cresco/base/hash.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

namespace cresco::pretrain {

namespace {

std::string hash_of(const formats::TokenFile& file) {
  return sha256_hex(as_bytes(sha256_of_file(file.bin_path()) + sha256_of_file(file.idx_path())));
}

struct Split {
  corpora::TokenStream training, validation;
  std::string kind;
};

Split hold_out(const Recipe& recipe, const std::shared_ptr<const formats::TokenFile>& file) {
  const double fraction =
      as_usage([&] { return parse_double(recipe.data.validation, "data.validation"); });
  require_usage(fraction > 0 && fraction < 1,
                "data.validation is {}, expected a share between 0 and 1", fraction);
  const auto seed = static_cast<std::uint64_t>(recipe.data.seed);
  const auto held_out = [=](std::int64_t d) { return corpora::is_held_out(seed, d, fraction); };
  corpora::TokenStream training(file, [&](std::int64_t d) { return !held_out(d); });
  corpora::TokenStream validation(file, held_out);
  const std::int64_t window = recipe.data.sequence_length + 1;
  if (validation.num_tokens() >= window && training.num_tokens() >= window)
    return {std::move(training), std::move(validation), "documents"};

  const corpora::TokenStream all(file, [](std::int64_t) { return true; });
  const auto share = static_cast<std::int64_t>(fraction * static_cast<double>(all.num_tokens()));
  const std::int64_t cut = std::max<std::int64_t>(0, all.num_tokens() - std::max(share, window));
  return {all.slice(0, cut), all.slice(cut, all.num_tokens()), "tokens"};
}

}  // namespace

RunData RunData::open(const Recipe& recipe, std::shared_ptr<const formats::TokenFile> training_file,
                      std::shared_ptr<const formats::TokenFile> validation_file) {
  const auto everything = [](std::int64_t) { return true; };
  Split parts = validation_file ? Split{corpora::TokenStream(training_file, everything),
                                        corpora::TokenStream(validation_file, everything), "corpus"}
                                : hold_out(recipe, training_file);
  const std::int64_t T = recipe.data.sequence_length;
  corpora::Windows training(std::move(parts.training), T),
      validation(std::move(parts.validation), T);
  require(training.size() > 0, "{}: {} training tokens are less than one window of {}",
          training_file->prefix().string(), training.stream().num_tokens(), training.window_ids());
  require(validation.size() > 0, "{}: {} validation tokens are less than one window of {}",
          (validation_file ? validation_file : training_file)->prefix().string(),
          validation.stream().num_tokens(), validation.window_ids());
  corpora::WindowOrder order(recipe.data.order, static_cast<std::uint64_t>(recipe.data.seed),
                             training.size());
  return {std::move(training),
          std::move(validation),
          std::move(order),
          hash_of(*training_file),
          validation_file ? hash_of(*validation_file) : "",
          parts.kind};
}

bool is_share(const std::string& validation) {
  return validation.find_first_not_of("0123456789.eE-+") == std::string::npos;
}

Json data_order(const Recipe& recipe, const RunData& data) {
  return {{"corpus", recipe.data.tokens},
          {"corpus_sha256", data.corpus_sha256},
          {"validation_sha256", data.validation_sha256},
          {"split", data.split},
          {"validation", recipe.data.validation},
          {"seed", recipe.data.seed},
          {"order", recipe.data.order},
          {"window", recipe.data.window},
          {"sequence_length", recipe.data.sequence_length},
          {"sequences_per_step", recipe.batch.sequences},
          {"num_training_windows", data.training.size()},
          {"num_training_documents", data.training.stream().num_documents()},
          {"num_validation_windows", data.validation.size()},
          {"num_validation_documents", data.validation.stream().num_documents()}};
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
