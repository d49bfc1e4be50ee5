#include "cresco/verbs/tokenizer.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/corpora/documents.h"
#include "cresco/formats/npy.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <iostream>
#include <iterator>

namespace cresco::verbs {
namespace {

constexpr std::int64_t kMaxTextBytes = std::int64_t{1} << 30;

text::Tokenizer open_tokenizer(const std::string& path) {
  require_usage(!path.empty(), "--tokenizer is needed: a tokenizer.json");
  return text::read_tokenizer(path);
}

std::string read_input(const std::string& file) {
  if (file != "-") return read_file(file, kMaxTextBytes);
  std::string all(std::istreambuf_iterator<char>(std::cin), {});
  require(!std::cin.bad(), "standard input cannot be read");
  return all;
}

std::string name_of_input(const std::string& file) { return file == "-" ? "standard input" : file; }

// A .npy array of any shape, or numbers with white space, commas or brackets between.
std::vector<std::int64_t> parse_ids(std::string_view input, const std::string& where) {
  if (input.starts_with("\x93NUMPY"))
    return formats::npy_integers(formats::parse_npy(as_bytes(input), where), where);
  constexpr std::string_view kBetween = " \t\r\n,[]";
  std::vector<std::int64_t> ids;
  for (;;) {
    const std::size_t begin = input.find_first_not_of(kBetween);
    if (begin == std::string_view::npos) return ids;
    input.remove_prefix(begin);
    const std::string_view number = input.substr(0, input.find_first_of(kBetween));
    require(number.find_first_not_of("-0123456789") == std::string_view::npos,
            "{}: '{}' at place {} is not an id", where, escape_for_terminal(number), ids.size());
    ids.push_back(parse_int(number, fmt::format("{}: place {}", where, ids.size())));
    input.remove_prefix(number.size());
  }
}

std::string plural(std::size_t count, std::string_view what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

// On one line, and no longer than a line.
std::string shown(std::string_view token) {
  constexpr std::size_t kMost = 60;
  if (token.size() <= kMost) return fmt::format("'{}'", escape_for_terminal(token));
  return fmt::format("'{}' ...", escape_for_terminal(token.substr(0, kMost)));
}

}  // namespace

Outcome run_tokenizer_train(const TokenizerTrainConfig& config, VerbContext& context) {
  require_usage(!config.files.empty(), "no text is given: name one file or more");
  require_usage(!context.options.out.empty(), "--out is needed: the tokenizer.json to write");
  const auto documents = corpora::text_files(config.files);
  if (context.options.dry_run)
    return {.text = fmt::format("would train a vocabulary of {} on {}, {}, and write {}\n",
                                config.trainer.vocab_size, plural(config.files.size(), "file"),
                                human_bytes(static_cast<double>(documents->bytes_total())),
                                context.options.out)};

  const Path out = context.options.out;
  const std::vector<Path> inputs(config.files.begin(), config.files.end());
  make_output_file(out, context.options.overwrite, inputs);
  const text::Tokenizer tokenizer =
      text::train_bpe([&](std::string& document) { return documents->next(document); },
                      config.trainer, context.progress);
  write_file(out, tokenizer.to_json());

  const std::size_t num_merges = tokenizer.parts().merges.size();
  artifacts::Manifest manifest = manifest_of("tokenizer train", config, context);
  manifest.inputs = inputs;
  manifest.facts = {{"vocab_size", tokenizer.vocab_size()}, {"num_merges", num_merges}};
  artifacts::write_manifest(out, manifest);
  return {.summary = manifest.facts,
          .text = fmt::format("{}: {} tokens, {} merges\n", out.string(), tokenizer.vocab_size(),
                              num_merges)};
}

Outcome run_tokenizer_encode(const TokenizerEncodeConfig& config, VerbContext& context) {
  const text::Tokenizer tokenizer = open_tokenizer(config.tokenizer);
  const Path out = context.options.out;
  if (context.options.dry_run)
    return {.text = fmt::format("would encode {} with {} tokens\n", name_of_input(config.file),
                                tokenizer.vocab_size())};

  if (!out.empty())
    make_output_file(out, context.options.overwrite, {config.file, config.tokenizer});
  std::vector<std::int32_t> ids;
  text::EncodeStats stats;
  text::Encoder(tokenizer, {.parse_special = config.parse_special})
      .encode(read_input(config.file), ids, &stats);
  if (stats.replaced > 0)
    context.progress.note(fmt::format("{} in the text that are not UTF-8 became U+FFFD",
                                      plural(static_cast<std::size_t>(stats.replaced), "place")));
  if (stats.dropped > 0)
    context.progress.note(fmt::format("{} without a token left out",
                                      plural(static_cast<std::size_t>(stats.dropped), "byte")));

  Outcome outcome;
  if (out.empty()) {
    outcome.summary["ids"] = ids;
    outcome.text = fmt::format("{}\n", fmt::join(ids, " "));
  } else {
    const std::int64_t shape[] = {static_cast<std::int64_t>(ids.size())};
    formats::write_npy(out, shape, std::vector<std::uint32_t>(ids.begin(), ids.end()));
    outcome.text = fmt::format("{}: {}\n", out.string(), plural(ids.size(), "token"));
  }
  outcome.summary["num_tokens"] = ids.size();
  return outcome;
}

Outcome run_tokenizer_decode(const TokenizerDecodeConfig& config, VerbContext& context) {
  const text::Tokenizer tokenizer = open_tokenizer(config.tokenizer);
  const Path out = context.options.out;
  if (context.options.dry_run)
    return {.text = fmt::format("would decode {} with {} tokens\n", name_of_input(config.file),
                                tokenizer.vocab_size())};

  if (!out.empty())
    make_output_file(out, context.options.overwrite, {config.file, config.tokenizer});
  const std::string where = name_of_input(config.file);
  std::string bytes;
  const std::vector<std::int64_t> ids = parse_ids(read_input(config.file), where);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    require(ids[i] >= 0 && ids[i] < tokenizer.vocab_size(),
            "{}: id {} at place {} is out of range: {} has ids 0 to {}", where, ids[i], i,
            config.tokenizer, tokenizer.vocab_size() - 1);
    bytes += tokenizer.token_bytes(static_cast<std::int32_t>(ids[i]));
  }

  Outcome outcome;
  outcome.summary = {{"num_tokens", ids.size()}, {"num_bytes", bytes.size()}};
  if (out.empty()) {
    outcome.summary["text"] = bytes;  // what is not UTF-8 becomes U+FFFD in JSON
    outcome.text = std::move(bytes);
  } else {
    write_file(out, bytes);
    outcome.text = fmt::format("{}: {}\n", out.string(), plural(bytes.size(), "byte"));
  }
  return outcome;
}

Outcome run_tokenizer_show(const TokenizerShowConfig& config, VerbContext&) {
  const text::Tokenizer tokenizer = open_tokenizer(config.tokenizer);
  const text::TokenizerParts& parts = tokenizer.parts();
  const char* const split = parts.split == text::Split::Gpt2     ? "GPT-2"
                            : parts.split == text::Split::Cl100k ? "cl100k"
                                                                 : "none";

  Outcome outcome;
  Json added = Json::array();
  for (const text::AddedToken& token : parts.added_tokens)
    added.push_back({{"id", token.id}, {"content", token.content}, {"special", token.special}});
  outcome.summary = {{"kind", "tokenizer"},
                     {"vocab_size", tokenizer.vocab_size()},
                     {"num_merges", parts.merges.size()},
                     {"normalizer", parts.nfc ? "NFC" : "none"},
                     {"split", split},
                     {"keeps_bytes", tokenizer.keeps_bytes()},
                     {"added_tokens", added}};

  std::string& text = outcome.text;
  text = fmt::format(
      "{}: byte-level BPE, ids 0 to {}\n"
      "  model         {}, {}\n"
      "  normaliser    {}\n"
      "  split         {}{}\n"
      "  other bytes   {}\n",
      config.tokenizer, tokenizer.vocab_size() - 1, plural(parts.vocabulary.size(), "token"),
      plural(parts.merges.size(), "merge"), parts.nfc ? "NFC" : "none", split,
      parts.add_prefix_space ? ", with a space before the text" : "",
      tokenizer.keeps_bytes() ? "any bytes are encoded exactly" : "read as U+FFFD");

  text += fmt::format("  added tokens  {}\n", parts.added_tokens.size());
  for (const text::AddedToken& token : parts.added_tokens)
    text += fmt::format("    {:>8}  {}{}{}\n", token.id, shown(token.content),
                        token.special ? "  special" : "", token.normalized ? "  normalised" : "");

  std::vector<text::VocabularyEntry> longest = parts.vocabulary;
  std::stable_sort(longest.begin(), longest.end(),
                   [](const auto& a, const auto& b) { return a.bytes.size() > b.bytes.size(); });
  longest.resize(std::min(longest.size(),
                          static_cast<std::size_t>(std::max<std::int64_t>(config.longest, 0))));
  text += "  longest tokens\n";
  for (const text::VocabularyEntry& entry : longest)
    text += fmt::format("    {:>8}  {}  {}\n", entry.id, shown(entry.bytes),
                        plural(entry.bytes.size(), "byte"));
  return outcome;
}

}  // namespace cresco::verbs
