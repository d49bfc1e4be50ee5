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
#include "cresco/verbs/input_files.h"

#include <ATen/ATen.h>

#include <optional>

namespace cresco::verbs {
namespace {

using corpora::DocumentPiece;

// Where a row comes from.
struct Origin {
  std::size_t source = 0;
  std::vector<DocumentPiece> pieces;
};

// A corpus that rows come from.
struct Source {
  std::string name;
  bool names_documents = true;
};

// Rows of one update, row_tokens ids each.
struct Batch {
  std::string order;  // preshuffled | neox, or a run's own
  std::int64_t batch_size = 0, first = 0, count = 0, row_tokens = 0;
  std::vector<std::int32_t> ids;
  std::vector<Origin> origins;     // of each row, when they are asked for
  std::vector<Source> sources{1};  // which origins name; one of several is shown by its name
  std::vector<Path> files;         // read from
  Path tokenizer;                  // may not be there

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

Batch read_preshuffled(const BatchVerbConfig& config) {
  require_usage(!config.documents,
                "--documents: preshuffled rows don't say where documents begin; the unshuffled "
                "corpus (--order neox) does");
  Batch batch = choose_rows(config, "preshuffled", config.batch_size, config.row_tokens);
  const corpora::PreshuffledRows rows(config.data, config.row_tokens, config.shard_bytes);
  const std::int64_t first = config.step * batch.batch_size + batch.first;
  for (const auto& part : rows.parts(first, batch.count)) batch.files.push_back(part.file);
  batch.ids = rows.read_rows(first, batch.count);
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
  batch.ids.resize(static_cast<std::size_t>(batch.count * batch.row_tokens));
  std::span<std::int32_t> left(batch.ids);
  for (std::int64_t i = 0; i < batch.count; ++i) {
    const std::int64_t sample = config.step * batch.batch_size + batch.first + i;
    const auto size = static_cast<std::size_t>(batch.row_tokens);
    dataset.read(sample, left.first(size));
    left = left.subspan(size);
    if (config.documents) batch.origins.push_back({0, dataset.pieces(sample)});
  }
  return batch;
}

// Where the corpora of a run are now: the one of `data`, or those of their names in that folder.
void relocate(const Path& data, pretrain::DataConfig& config) {
  const bool in_folder = std::filesystem::is_directory(data);
  require_usage(in_folder || !config.tokens.empty(),
                "--data {}: the run read a mixture, expected the folder that holds its {} corpora",
                data.string(), config.mixture.size());
  const auto moved = [&](const std::string& prefix) {
    return in_folder ? (data / Path(prefix).filename()).string() : data.string();
  };
  if (!config.tokens.empty()) config.tokens = moved(config.tokens);
  for (pretrain::MixturePart& part : config.mixture) part.prefix = moved(part.prefix);
  if (in_folder &&
      pretrain::parse_validation(config.validation).kind == pretrain::Validation::Corpus)
    config.validation = moved(config.validation);
}

Batch read_run(const BatchVerbConfig& config) {
  const pretrain::RunFolder run{config.run}, settings = run.settings_at(config.step);
  pretrain::Recipe recipe = settings.read_recipe();
  if (!config.data.empty()) relocate(config.data, recipe.data);
  pretrain::check(recipe);
  const std::int64_t steps = run.read_recipe().total_steps();
  require(config.step < steps, "{}: --step is {}, the run has the updates 0 to {}", config.run,
          config.step, steps - 1);
  const pretrain::RunData data = pretrain::RunData::open(recipe);
  Batch batch = choose_rows(config, recipe.data.order, recipe.batch.sequences, data.window_ids());
  // The run must have read what stands there now; only the place may be another one.
  const std::string changed =
      first_difference(pretrain::without_places(read_json_file(settings.data_order())),
                       pretrain::without_places(pretrain::data_order(recipe, data)));
  require(changed.empty(), "{}: the corpus is not the one that the run read: {}",
          settings.data_order().string(), changed);
  batch.files = data.files();
  batch.files.insert(batch.files.end(), {settings.recipe(), settings.data_order()});
  batch.tokenizer = settings.path / "tokenizer.json";

  const std::int64_t first = recipe.place_at(config.step) + batch.first;
  const at::Tensor ids = pretrain::read_batch(data, first, batch.count, recipe.model.vocab_size());
  const auto* begin = ids.const_data_ptr<std::int64_t>();
  batch.ids.assign(begin, begin + ids.numel());
  if (!config.documents) return batch;
  batch.sources.clear();
  for (const pretrain::TrainingSource& source : data.sources)
    batch.sources.push_back({source.name, source.tokens->names_documents()});
  for (std::int64_t i = 0; i < batch.count; ++i) {
    const auto [source, window] = data.training_place(first + i);
    batch.origins.push_back({source, data.sources[source].training.pieces(window)});
  }
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

// "[document 5]" where one begins, "[document 5 from its token 17 on]" where a row begins in one;
// in a mixture "[corpus/a: document 5]". Of a file without documents "[from its token 17 on]".
std::string mark(const Batch& batch, const Source& source, const DocumentPiece& piece) {
  std::string text = batch.sources.size() > 1 ? source.name + ": " : "";
  if (source.names_documents) text += fmt::format("document {}", piece.document);
  if (!source.names_documents || piece.offset > 0)
    text += fmt::format("{}from its token {} on", source.names_documents ? " " : "", piece.offset);
  return "[" + text + "]";
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
  if (batch.origins.empty()) return text + " " + shown(row) + "\n";
  const auto& [source, pieces] = batch.origins[static_cast<std::size_t>(i)];
  for (const DocumentPiece& piece : pieces)
    text += " " + mark(batch, batch.sources[source], piece) + " " +
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
  for (std::size_t i = 0; i < batch.origins.size(); ++i)
    for (const DocumentPiece& piece : batch.origins[i].pieces) {
      out.push_back({{"row", batch.first + static_cast<std::int64_t>(i)},
                     {"position", piece.position},
                     {"document", piece.document},
                     {"offset", piece.offset}});
      if (batch.sources.size() > 1) out.back()["source"] = batch.origins[i].source;
    }
  return out;
}

void write_ids(const Batch& batch, const BatchVerbConfig& config, const VerbContext& context,
               const Json& summary) {
  const Path out = context.options.out;
  make_output_file(out, context.options.overwrite, batch.files);
  const std::vector<std::int64_t> shape{batch.count, batch.row_tokens};
  formats::write_npy(out, shape, batch.ids);
  artifacts::Manifest manifest = manifest_of("batch", config, context);
  manifest.facts = summary;
  add_input_files(batch.files, manifest);
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
  if (!config.documents) return outcome;
  outcome.summary["documents"] = documents_json(batch);
  if (batch.sources.size() > 1)
    for (const Source& source : batch.sources) outcome.summary["sources"].push_back(source.name);
  return outcome;
}

}  // namespace cresco::verbs
