#include "cresco/verbs/batch.h"

#include "cresco/base/hash.h"
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/corpora/gpt2_dataset.h"
#include "cresco/corpora/preshuffled.h"
#include "cresco/corpora/tokenize.h"
#include "cresco/formats/npy.h"
#include "cresco/pretrain/data.h"
#include "cresco/pretrain/run_folder.h"
#include "cresco/text/tokenizer.h"

#include <optional>

namespace cresco::verbs {
namespace {

using corpora::DocumentPiece;

// Rows of one update, row_tokens ids each.
struct Batch {
  std::string order;  // preshuffled | neox, or a run's own: shuffled | sequential
  std::int64_t batch_size = 0, first = 0, count = 0, row_tokens = 0;
  std::vector<std::int32_t> ids;
  std::vector<std::vector<DocumentPiece>> documents;  // of each row; none when nobody knows
  std::vector<Path> files;                            // read from
  Path tokenizer;                                     // may not be there

  std::span<const std::int32_t> row(std::int64_t i) const {
    return std::span(ids).subspan(static_cast<std::size_t>(i * row_tokens),
                                  static_cast<std::size_t>(row_tokens));
  }
};

// Checks --first and --count against the batch, and the whole against what fits in memory.
Batch choose_rows(const BatchVerbConfig& config, std::string order, std::int64_t batch_size,
                  std::int64_t row_tokens) {
  constexpr std::int64_t kMost = std::int64_t{1} << 30;
  require_usage(batch_size > 0 && batch_size <= kMost, "--batch-size is {}, expected 1 to 2^30",
                batch_size);
  require_usage(config.first >= 0 && config.first < batch_size,
                "--first is {}, the batch has rows 0 to {}", config.first, batch_size - 1);
  require_usage(config.count >= 0 && config.count <= batch_size - config.first,
                "--count is {}, from row {} on the batch has {}", config.count, config.first,
                batch_size - config.first);
  const std::int64_t count = config.count > 0 ? config.count : batch_size - config.first;
  require_usage(row_tokens > 0 && row_tokens <= kMost / count,
                "{} rows of {} ids, at most 2^30 ids can be shown at a time: ask for fewer with "
                "--count",
                count, row_tokens);
  return {std::move(order), batch_size, config.first, count, row_tokens};
}

// `dataset` is anything with read(place, ids) and pieces(place); `at(i)` is the place of row i of
// the batch.
template <class Dataset, class At>
void read_rows(const Dataset& dataset, const At& at, bool documents, Batch& batch) {
  batch.ids.resize(static_cast<std::size_t>(batch.count * batch.row_tokens));
  std::span<std::int32_t> left(batch.ids);
  for (std::int64_t i = 0; i < batch.count; ++i) {
    const std::int64_t place = at(batch.first + i);
    const auto size = static_cast<std::size_t>(batch.row_tokens);
    dataset.read(place, left.first(size));
    left = left.subspan(size);
    if (documents) batch.documents.push_back(dataset.pieces(place));
  }
}

Batch read_preshuffled(const BatchVerbConfig& config) {
  require_usage(!config.documents,
                "--documents: preshuffled rows don't say where documents begin; the unshuffled "
                "corpus (--order neox) does");
  Batch batch = choose_rows(config, "preshuffled", config.batch_size, config.row_tokens);
  const corpora::PreshuffledRows rows(config.data, config.row_tokens, config.shard_bytes);
  const std::int64_t first = config.step * batch.batch_size + batch.first;
  for (const auto& part : rows.parts(first, batch.count)) batch.files.push_back(part.file);
  batch.ids = rows.read(first, batch.count);
  return batch;
}

Batch read_neox(const BatchVerbConfig& config, VerbContext& context) {
  const std::int64_t samples = corpora::gpt2_samples_wanted(config.train_steps, config.batch_size);
  require_usage(config.step < config.train_steps,
                "--step is {}, a run of {} steps has the updates 0 to {}", config.step,
                config.train_steps, config.train_steps - 1);
  Batch batch = choose_rows(config, "neox", config.batch_size, config.sequence_length + 1);
  const auto file = std::make_shared<formats::TokenFile>(config.data);
  if (file->num_sequences() > 1'000'000)
    context.progress.note(
        fmt::format("putting {} documents in order; this takes a while", file->num_sequences()));
  const corpora::Gpt2Dataset dataset(file, config.sequence_length, samples, config.data_seed);
  batch.files = {file->bin_path(), file->idx_path()};
  read_rows(
      dataset, [&](std::int64_t row) { return config.step * batch.batch_size + row; },
      config.documents, batch);
  return batch;
}

Batch read_run(const BatchVerbConfig& config) {
  const pretrain::RunFolder run{config.run};
  pretrain::Recipe recipe;
  fields_from_yaml_file([&recipe](FieldVisitor& v) { recipe.fields(v); }, run.recipe().string());
  if (!config.data.empty()) recipe.data.tokens = config.data;
  pretrain::check(recipe);
  require(config.step < recipe.total_steps(), "{}: --step is {}, the run has the updates 0 to {}",
          config.run, config.step, recipe.total_steps() - 1);
  Batch batch = choose_rows(config, recipe.data.order, recipe.batch.sequences,
                            recipe.data.sequence_length + 1);
  const auto corpus = std::make_shared<formats::TokenFile>(recipe.data.tokens);
  const auto data =
      pretrain::RunData::open(recipe, corpus,
                              pretrain::is_share(recipe.data.validation)
                                  ? nullptr
                                  : std::make_shared<formats::TokenFile>(recipe.data.validation));
  // The run must have read what stands there now; only the place may be another one.
  const Json before = read_json_file(run.data_order());
  Json now = pretrain::data_order(recipe, data);
  if (before.contains("corpus")) now["corpus"] = before["corpus"];
  const std::string changed = first_difference(before, now);
  require(changed.empty(), "{}: the corpus is not the one that the run read: {}",
          run.data_order().string(), changed);
  batch.files = {corpus->bin_path(), corpus->idx_path(), run.recipe(), run.data_order()};
  batch.tokenizer = run.path / "tokenizer.json";
  struct Windows {
    const corpora::Windows& windows;
    const corpora::WindowOrder& order;
    void read(std::int64_t place, std::span<std::int32_t> out) const {
      windows.read(order.at(place), out);
    }
    auto pieces(std::int64_t place) const { return windows.pieces(order.at(place)); }
  };
  read_rows(
      Windows{data.training, data.order},
      [&](std::int64_t row) { return config.step * batch.batch_size + row; }, config.documents,
      batch);
  return batch;
}

Batch read_batch(BatchVerbConfig config, VerbContext& context) {
  require_usage(!config.run.empty() || !config.data.empty(),
                "a run or --data is needed: what the step read");
  require_usage(config.order == "auto" || config.order == "preshuffled" || config.order == "neox",
                "--order '{}' is not one of auto, preshuffled, neox{}", config.order,
                did_you_mean(config.order, {"auto", "preshuffled", "neox"}));
  if (!config.run.empty()) {
    if (pretrain::RunFolder{config.run}.is_run()) return read_run(config);
    require(config.data.empty(), "{}: is not a run: it has no recipe.yaml", config.run);
    config.data = config.run;
  }
  require(!std::filesystem::is_directory(config.data),
          "{}: is a folder, expected a run or the prefix of a corpus's files", config.data);
  if (config.order == "auto")
    config.order = corpora::is_preshuffled(config.data, config.row_tokens) ? "preshuffled" : "neox";
  Batch batch =
      config.order == "preshuffled" ? read_preshuffled(config) : read_neox(config, context);
  batch.tokenizer = corpora::corpus_tokenizer_path(config.data);
  return batch;
}

// "[document 5]" where one begins, "[document 5 from its token 17 on]" where a row begins in one.
std::string mark(const DocumentPiece& piece) {
  return piece.offset == 0
             ? fmt::format("[document {}]", piece.document)
             : fmt::format("[document {} from its token {} on]", piece.document, piece.offset);
}

std::string row_text(const Batch& batch, std::int64_t i,
                     const std::optional<text::Tokenizer>& tokenizer) {
  const auto shown = [&](std::span<const std::int32_t> ids) {
    if (!tokenizer) return fmt::format("{}", fmt::join(ids, " "));
    for (const std::int32_t id : ids)
      require(id >= 0 && id < tokenizer->vocab_size(),
              "row {} holds id {}, the tokenizer has {}: does it belong to this corpus? (--format "
              "ids shows the numbers)",
              batch.first + i, id, tokenizer->vocab_size());
    return escape_for_terminal(tokenizer->decode(ids));
  };
  std::string text = fmt::format("row {}:", batch.first + i);
  const auto row = batch.row(i);
  if (batch.documents.empty()) return text + " " + shown(row) + "\n";
  for (const DocumentPiece& piece : batch.documents[static_cast<std::size_t>(i)])
    text += " " + mark(piece) + " " +
            shown(row.subspan(static_cast<std::size_t>(piece.position),
                              static_cast<std::size_t>(piece.count)));
  return text + "\n";
}

std::string batch_text(const Batch& batch, const BatchVerbConfig& config) {
  const Path tokenizer = config.tokenizer.empty() ? batch.tokenizer : Path(config.tokenizer);
  const bool as_text =
      config.format == "text" ||
      (config.format.empty() && (!config.tokenizer.empty() || std::filesystem::exists(tokenizer)));
  std::optional<text::Tokenizer> reader;
  if (as_text) {
    require(!config.tokenizer.empty() || std::filesystem::exists(tokenizer),
            "{}: no tokenizer.json is there; name one with --tokenizer", tokenizer.string());
    reader = text::read_tokenizer(tokenizer);
  }
  std::string text;
  for (std::int64_t i = 0; i < batch.count; ++i) text += row_text(batch, i, reader);
  return text;
}

Json documents_json(const Batch& batch) {
  Json out = Json::array();
  for (std::size_t i = 0; i < batch.documents.size(); ++i)
    for (const DocumentPiece& piece : batch.documents[i])
      out.push_back({{"row", batch.first + static_cast<std::int64_t>(i)},
                     {"position", piece.position},
                     {"document", piece.document},
                     {"offset", piece.offset}});
  return out;
}

void write_ids(const Batch& batch, const BatchVerbConfig& config, const VerbContext& context,
               const Json& summary) {
  const Path out = context.options.out;
  make_output_file(out, context.options.overwrite);
  const std::vector<std::int64_t> shape{batch.count, batch.row_tokens};
  formats::write_npy(out, shape, batch.ids);
  artifacts::Manifest manifest = manifest_of("batch", config, context);
  manifest.facts = summary;
  // The Pile would take an hour to hash: large files are named with their size alone.
  constexpr std::uintmax_t kMostHashed = std::uintmax_t{1} << 30;
  Json large = Json::object();
  for (const Path& file : batch.files) {
    const std::uintmax_t size = std::filesystem::file_size(file);
    if (size <= kMostHashed)
      manifest.inputs.push_back(file);
    else
      large[file.string()] = size;
  }
  if (!large.empty()) manifest.facts["read_from_without_hash"] = large;
  artifacts::write_manifest(out, manifest);
}

}  // namespace

Outcome run_batch(const BatchVerbConfig& config, VerbContext& context) {
  require_usage(config.step >= 0 && config.step <= (std::int64_t{1} << 31),
                "--step is {}: it is needed, 0 or more: the update that takes step N to N + 1",
                config.step);
  require_usage(config.format.empty() || config.format == "text" || config.format == "ids",
                "--format '{}' is not one of text, ids", config.format);
  const Batch batch = read_batch(config, context);
  Json summary{{"step", config.step},
               {"order", batch.order},
               {"batch_size", batch.batch_size},
               {"first", batch.first},
               {"rows", batch.count},
               {"row_tokens", batch.row_tokens},
               {"tokens", batch.count * batch.row_tokens},
               {"sha256", sha256_hex(std::as_bytes(std::span(batch.ids)))}};
  const std::string line =
      fmt::format("step {}: rows {} to {} of {}, {} ids each, order {}\n", config.step, batch.first,
                  batch.first + batch.count - 1, batch.batch_size, batch.row_tokens, batch.order);
  if (context.options.dry_run) return {.summary = summary, .text = "would show " + line};
  const bool writes = !context.options.out.empty();
  Outcome outcome{.summary = summary};
  if (writes) {
    write_ids(batch, config, context, summary);
    outcome.summary["out"] = context.options.out;
    outcome.text = context.options.out + ": " + line;
  } else if (!context.options.json) {
    outcome.text = line + batch_text(batch, config);
  } else {
    outcome.summary["ids"] = Json::array();
    for (std::int64_t i = 0; i < batch.count; ++i)
      outcome.summary["ids"].push_back(std::vector(batch.row(i).begin(), batch.row(i).end()));
  }
  if (config.documents) outcome.summary["documents"] = documents_json(batch);
  return outcome;
}

}  // namespace cresco::verbs
