#include "cresco/pretrain/data.h"

#include "cresco/base/hash.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/corpora/open_tokens.h"
#include "cresco/corpora/tokenize.h"

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace cresco::pretrain {
namespace {

using corpora::TokenStream;
using corpora::WindowKind;
using corpora::Windows;
using formats::TokenSource;

TokenStream everything(const std::shared_ptr<const TokenSource>& tokens) {
  return TokenStream(tokens, [](std::int64_t) { return true; });
}

struct Split {
  Windows training, validation;
  std::string kind;
};

Split hold_out_share(const DataConfig& config, WindowKind kind, double share,
                     const std::shared_ptr<const TokenSource>& tokens) {
  const auto seed = static_cast<std::uint64_t>(config.seed);
  const auto held_out = [=](std::int64_t d) { return corpora::is_held_out(seed, d, share); };
  const std::int64_t T = config.sequence_length;
  Windows training(TokenStream(tokens, [&](std::int64_t d) { return !held_out(d); }), T, kind);
  Windows validation(TokenStream(tokens, held_out), T, kind);
  if (training.size() > 0 && validation.size() > 0)
    return {std::move(training), std::move(validation), "documents"};

  const TokenStream all = everything(tokens);
  const std::int64_t window = training.window_ids();
  const auto last = static_cast<std::int64_t>(share * static_cast<double>(all.num_tokens()));
  std::int64_t cut = std::max<std::int64_t>(0, all.num_tokens() - std::max(last, window));
  // Rows and blocks stay whole.
  if (kind != WindowKind::Overlap) cut -= cut % window;
  return {Windows(all.slice(0, cut), T, kind), Windows(all.slice(cut, all.num_tokens()), T, kind),
          "tokens"};
}

Split hold_out(const DataConfig& config, const Validation& held, WindowKind kind,
               const std::shared_ptr<const TokenSource>& tokens) {
  if (held.kind == Validation::Share) return hold_out_share(config, kind, held.share, tokens);
  const Windows all(everything(tokens), config.sequence_length, kind);
  if (held.kind == Validation::Corpus) return {all, all.slice(0, 0), "corpus"};
  // All but one at most, so that there is something to train on.
  const std::int64_t last = std::min(held.blocks, std::max<std::int64_t>(0, all.size() - 1));
  return {all.slice(0, all.size() - last), all.slice(all.size() - last, all.size()), "blocks"};
}

// What an error about too few tokens ends with.
std::string because_of(const TokenSource& tokens) {
  const std::string warning = tokens.warning();
  return warning.empty() ? "" : "; " + warning;
}

void require_a_window(const Windows& windows, const char* purpose, const std::string& name,
                      const TokenSource& tokens) {
  require(windows.size() > 0, "{}: {} {} tokens are less than one window of {}{}", name,
          windows.stream().num_tokens(), purpose, windows.window_ids(), because_of(tokens));
}

// The most windows in the sources' shares that can be had of `sizes`.
std::int64_t most_windows(const corpora::Shares& shares, const std::vector<Windows>& windows) {
  const auto fits = [&](std::int64_t n) {
    const auto counts = shares.counts(n);
    for (std::size_t s = 0; s < counts.size(); ++s)
      if (counts[s] > windows[s].size()) return false;
    return true;
  };
  std::int64_t low = 0, high = 1;
  for (const Windows& w : windows) high += w.size();
  while (high - low > 1) {
    const std::int64_t middle = (low + high) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return low;
}

std::vector<double> weights_of(const std::vector<MixturePart>& parts) {
  std::vector<double> weights;
  for (const MixturePart& part : parts) weights.push_back(part.weight);
  return weights;
}

// Whether each source has what is taken of it.
void require_enough(const RunData& data, std::int64_t windows, const char* taker,
                    const char* cause) {
  const auto taken = data.shares.counts(windows);
  for (std::size_t s = 0; s < taken.size(); ++s) {
    const TrainingSource& source = data.sources[s];
    require(source.training.size() >= taken[s],
            "{}: has {} training windows of {} ids, {} takes {} of them{}{}", source.name,
            source.training.size(), source.training.window_ids(), taker, taken[s], cause,
            because_of(*source.tokens));
  }
}

}  // namespace

void require_all_windows(const Recipe& recipe, const RunData& data) {
  if (recipe.data.order == "pythia")
    require_enough(data, recipe.place_at(recipe.total_steps()), "the run",
                   ", and order pythia reads each once: a shorter budget, or more of the data?");
}

RunData RunData::open(const Recipe& recipe) {
  const DataConfig& config = recipe.data;
  const std::vector<MixturePart> parts = config.sources();
  require_usage(!parts.empty(), "data.tokens is needed: the prefix of a corpus");
  const WindowKind kind = corpora::window_kind_named(config.window);
  const std::int64_t T = config.sequence_length;
  const std::int64_t row_tokens = kind == WindowKind::Row ? T + 1 : 0;
  const Validation held = parse_validation(config.validation);

  RunData data{{}, corpora::Shares(weights_of(parts)), {}, nullptr};
  for (const MixturePart& part : parts) {
    auto tokens = corpora::open_tokens(part.prefix, row_tokens);
    Split split = hold_out(config, held, kind, tokens);
    require_a_window(split.training, "training", part.prefix, *tokens);
    if (held.kind != Validation::Corpus) {
      require_a_window(split.validation, "validation", part.prefix, *tokens);
      data.validation.push_back(split.validation);
    }
    // Each source is shuffled by permutations of its own; the first one's are those it has alone.
    const std::string purpose =
        data.sources.empty() ? "order" : fmt::format("order/{}", data.sources.size());
    corpora::WindowOrder order(config.order, static_cast<std::uint64_t>(config.seed),
                               split.training.size(), purpose);
    data.sources.push_back({part.prefix, std::move(tokens), std::move(split.training),
                            std::move(order), std::move(split.kind)});
  }
  if (held.kind == Validation::Corpus) {
    data.validation_tokens = corpora::open_tokens(config.validation, row_tokens);
    data.validation.emplace_back(everything(data.validation_tokens), T, kind);
    require_a_window(data.validation.front(), "validation", config.validation,
                     *data.validation_tokens);
    data.num_validation_windows = data.validation.front().size();
  } else {
    data.num_validation_windows = most_windows(data.shares, data.validation);
  }
  require_enough(data, recipe.batch.sequences, "one batch",
                 ": a smaller batch.sequences, or more text?");
  return data;
}

RunData::Place RunData::training_place(std::int64_t place) const {
  const auto [source, index] = shares.at(place);
  return {source, sources[source].order.at(index)};
}

RunData::Place RunData::validation_place(std::int64_t place) const {
  require(place >= 0 && place < num_validation_windows, "validation window {} of {}", place,
          num_validation_windows);
  if (validation_tokens) return {0, place};
  const auto [source, index] = shares.at(place);
  return {source, index};
}

std::int64_t RunData::num_training_windows() const {
  std::int64_t sum = 0;
  for (const TrainingSource& source : sources) sum += source.training.size();
  return sum;
}

std::vector<Path> RunData::files() const {
  std::vector<Path> files;
  const auto add = [&files](const TokenSource& tokens) {
    for (const Path& file : tokens.files()) files.push_back(file);
  };
  for (const TrainingSource& source : sources) add(*source.tokens);
  if (validation_tokens) add(*validation_tokens);
  return files;
}

std::vector<std::string> RunData::warnings() const {
  std::vector<std::string> all;
  const auto add = [&all](const TokenSource& tokens) {
    std::string warning = tokens.warning();
    if (!warning.empty() && std::find(all.begin(), all.end(), warning) == all.end())
      all.push_back(std::move(warning));
  };
  for (const TrainingSource& source : sources) add(*source.tokens);
  if (validation_tokens) add(*validation_tokens);
  return all;
}

Path tokenizer_path(const DataConfig& data) {
  std::optional<Path> first;
  for (const MixturePart& part : data.sources()) {
    const Path path = corpora::corpus_tokenizer_path(part.prefix);
    if (!first) first = path;
    if (path == *first) continue;
    const auto text = [](const Path& file) {
      return std::filesystem::exists(file) ? read_file(file) : std::string();
    };
    require(text(path) == text(*first),
            "{}: is not the tokenizer of {}: corpora of one mixture need one tokenizer",
            path.string(), first->string());
  }
  return first.value_or(Path());
}

namespace {

// A corpus of more than this is known by its size and by samples, evenly spread, the first and the
// last bytes among them: the whole Pile would take half an hour at each start.
constexpr std::int64_t kMostHashed = std::int64_t{64} << 30, kSamples = 4096, kSampleBytes = 65536;

bool is_sampled(const TokenSource& tokens) {
  std::int64_t sum = 0;
  for (const Path& file : tokens.files()) sum += InputFile(file).size();
  return sum > kMostHashed;
}

std::string sampled_hash(const Path& path) {
  const InputFile file(path);
  const std::int64_t last = std::max<std::int64_t>(0, file.size() - kSampleBytes);
  Sha256 hash;
  hash.update(as_bytes(fmt::format("{} bytes\n", file.size())));
  for (std::int64_t i = 0; i < kSamples; ++i) {
    const auto at = static_cast<std::int64_t>(static_cast<double>(last) * static_cast<double>(i) /
                                              (kSamples - 1));
    hash.update(as_bytes(file.read_text(at, std::min(kSampleBytes, file.size() - at))));
  }
  return hash.hex();
}

// Of a single file its SHA-256; of several, of theirs in hexadecimal digits.
std::string hash_of(const TokenSource& tokens) {
  const bool sampled = is_sampled(tokens);
  std::vector<std::string> hashes;
  for (const Path& file : tokens.files())
    hashes.push_back(sampled ? sampled_hash(file) : sha256_of_file(file));
  return hashes.size() == 1 ? hashes.front() : sha256_hex(as_bytes(join(hashes, "")));
}

// What only some corpora have to say.
void add_layout(const TokenSource& tokens, Json& out) {
  if (std::string_view(tokens.layout()) != "megatron") out["layout"] = tokens.layout();
  if (is_sampled(tokens)) out["corpus_hash"] = "samples";
}

}  // namespace

Json data_order(const Recipe& recipe, const RunData& data) {
  const std::string validation_sha256 =
      data.validation_tokens ? hash_of(*data.validation_tokens) : "";
  Json out;
  if (data.sources.size() == 1) {
    const TrainingSource& source = data.sources.front();
    out = {{"corpus", source.name},
           {"corpus_sha256", hash_of(*source.tokens)},
           {"validation_sha256", validation_sha256},
           {"split", source.split}};
  } else {
    for (std::size_t s = 0; s < data.sources.size(); ++s) {
      const TrainingSource& source = data.sources[s];
      Json entry{{"corpus", source.name},
                 {"share", data.shares.share(s)},
                 {"corpus_sha256", hash_of(*source.tokens)},
                 {"split", source.split},
                 {"num_training_windows", source.training.size()},
                 {"num_training_documents", source.training.stream().num_documents()}};
      add_layout(*source.tokens, entry);
      out["sources"].push_back(std::move(entry));
    }
    out["validation_sha256"] = validation_sha256;
  }
  std::int64_t training_documents = 0, validation_documents = 0;
  for (const TrainingSource& source : data.sources)
    training_documents += source.training.stream().num_documents();
  for (const Windows& windows : data.validation)
    validation_documents += windows.stream().num_documents();
  out.update(Json{{"validation", recipe.data.validation},
                  {"seed", recipe.data.seed},
                  {"order", recipe.data.order},
                  {"window", recipe.data.window},
                  {"sequence_length", recipe.data.sequence_length},
                  {"sequences_per_step", recipe.batch.sequences},
                  {"num_training_windows", data.num_training_windows()},
                  {"num_training_documents", training_documents},
                  {"num_validation_windows", data.num_validation_windows},
                  {"num_validation_documents", validation_documents}});
  if (data.sources.size() == 1) add_layout(*data.sources.front().tokens, out);
  return with_beginning(std::move(out), recipe.begins);
}

Json with_beginning(Json order, const Beginning& begins) {
  order.erase("begins");
  if (begins.step > 0)
    order["begins"] = {{"step", begins.step}, {"tokens", begins.tokens}, {"place", begins.place}};
  return order;
}

Json without_places(Json order) {
  if (!order.is_object()) return order;
  order.erase("corpus");
  if (order.contains("sources") && order["sources"].is_array())
    for (Json& source : order["sources"])
      if (source.is_object()) source.erase("corpus");
  if (order.contains("validation_sha256") && order["validation_sha256"] != "")
    order.erase("validation");
  return order;
}

bool same_training_data(const Json& order, const Json& other) {
  const auto training = [](const Json& of) {
    Json kept = without_places(of);
    if (kept.is_object())
      for (const char* name : {"begins", "sequences_per_step", "validation_sha256",
                               "num_validation_windows", "num_validation_documents"})
        kept.erase(name);
    return kept;
  };
  return training(order) == training(other);
}

namespace {

// "window 5, document 3, its token 12" of a window's token.
std::string describe(const Windows& windows, const TokenSource& tokens, std::int64_t window,
                     std::int64_t position) {
  for (const corpora::DocumentPiece& piece : windows.pieces(window)) {
    if (position >= piece.position + piece.count) continue;
    const std::int64_t offset = piece.offset + position - piece.position;
    return tokens.names_documents()
               ? fmt::format("window {} (document {}, its token {}; position {})", window,
                             piece.document, offset, position)
               : fmt::format("window {} (token {} of the file; position {})", window, offset,
                             position);
  }
  return fmt::format("window {} (position {})", window, position);
}

// `window_at(i)` is {windows, tokens, index} of row i.
template <class WindowAt>
at::Tensor read_windows(std::int64_t window_ids, std::int64_t count, std::int64_t vocab_size,
                        const WindowAt& window_at) {
  at::Tensor ids = at::empty({count, window_ids}, at::kLong);
  std::vector<std::int32_t> window(static_cast<std::size_t>(window_ids));
  auto* out = ids.mutable_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < count; ++i) {
    const auto [windows, tokens, index] = window_at(i);
    windows->read(index, window);
    for (std::size_t t = 0; t < window.size(); ++t) {
      const std::int32_t id = window[t];
      require(id >= 0 && id < vocab_size,
              "{}: {} holds token id {}, but the model's vocab_size is {}: another tokenizer's "
              "corpus?",
              tokens->name(), describe(*windows, *tokens, index, static_cast<std::int64_t>(t)), id,
              vocab_size);
      *out++ = id;
    }
  }
  return ids;
}

using WindowOf = std::tuple<const Windows*, const TokenSource*, std::int64_t>;

}  // namespace

at::Tensor read_batch(const RunData& data, std::int64_t first, std::int64_t count,
                      std::int64_t vocab_size) {
  return read_windows(data.window_ids(), count, vocab_size, [&](std::int64_t i) -> WindowOf {
    const auto [s, window] = data.training_place(first + i);
    const TrainingSource& source = data.sources[s];
    return {&source.training, source.tokens.get(), window};
  });
}

at::Tensor read_validation(const RunData& data, std::int64_t first, std::int64_t count,
                           std::int64_t vocab_size) {
  return read_windows(data.window_ids(), count, vocab_size, [&](std::int64_t i) -> WindowOf {
    const auto [s, window] = data.validation_place(first + i);
    const TokenSource& tokens =
        data.validation_tokens ? *data.validation_tokens : *data.sources[s].tokens;
    return {&data.validation[s], &tokens, window};
  });
}

}  // namespace cresco::pretrain
