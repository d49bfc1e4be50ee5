#include "cresco/verbs/tokenize.h"

#include "cresco/base/hash.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/formats/megatron.h"

namespace cresco::verbs {

Outcome run_tokenize(const TokenizeVerbConfig& config, VerbContext& context) {
  require_usage(!config.tokenizer.empty(), "--tokenizer is needed: a tokenizer.json");
  const text::Tokenizer tokenizer = text::read_tokenizer(config.tokenizer);
  const auto documents = corpora::text_files(config.files);
  const Path prefix = formats::token_file_prefix(context.options.out);
  require_usage(prefix.has_filename(), "--out is needed: the corpus's prefix, as in data/notes");
  if (context.options.dry_run)
    return {.text = fmt::format(
                "would read {} files, {}, and write {}.bin and .idx\n", config.files.size(),
                human_bytes(static_cast<double>(documents->bytes_total())), prefix.string())};

  const Path bin = prefix.string() + ".bin", copy = corpora::corpus_tokenizer_path(prefix);
  std::vector<Path> inputs(config.files.begin(), config.files.end());
  inputs.emplace_back(config.tokenizer);
  make_output_file(bin, context.options.overwrite, inputs);
  corpora::put_tokenizer(config.tokenizer, copy);
  const corpora::TokenizeResult result =
      corpora::tokenize(*documents, tokenizer, prefix, config.tokenize, context.progress);

  artifacts::Manifest manifest = manifest_of("tokenize", config, context);
  manifest.inputs = inputs;
  manifest.facts = {{"num_documents", result.num_documents},
                    {"num_tokens", result.num_tokens},
                    {"num_bytes", result.num_bytes},
                    {"replaced", result.replaced},
                    {"dropped", result.dropped},
                    {"vocab_size", tokenizer.vocab_size()}};
  artifacts::write_manifest(bin, manifest);
  if (result.replaced > 0)
    context.progress.note(
        fmt::format("{} places that are not UTF-8 became U+FFFD", result.replaced));
  if (result.dropped > 0)
    context.progress.note(fmt::format("{} bytes have no token and were dropped", result.dropped));

  const std::string hash = sha256_of_file(bin);
  return {.summary = {{"num_tokens", result.num_tokens},
                      {"num_documents", result.num_documents},
                      {"sha256", hash}},
          .text = fmt::format(
              "{}: {} documents, {} tokens, {:.2f} bytes a token\n", bin.string(),
              result.num_documents, result.num_tokens,
              static_cast<double>(result.num_bytes) / static_cast<double>(result.num_tokens))};
}

}  // namespace cresco::verbs
