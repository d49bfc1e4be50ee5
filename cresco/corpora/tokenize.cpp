#include "cresco/corpora/tokenize.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/base/threads.h"
#include "cresco/formats/megatron.h"

namespace cresco::corpora {

Path corpus_tokenizer_path(const Path& prefix) {
  return formats::token_file_prefix(prefix).parent_path() / "tokenizer.json";
}

void put_tokenizer(const Path& from, const Path& to) {
  const std::string json = read_file(from);
  if (!std::filesystem::exists(to)) return write_file(to, json);
  require(read_file(to) == json,
          "{}: is another tokenizer than {}; choose another folder, or remove it", to.string(),
          from.string());
}

TokenizeResult tokenize(Documents& documents, const text::Tokenizer& tokenizer, const Path& prefix,
                        const TokenizeConfig& config, Progress& progress) {
  constexpr std::size_t kBatchBytes = std::size_t{8} << 20;
  const auto end_of_text = tokenizer.end_of_text();
  require(!config.append_eod || end_of_text.has_value(),
          "the tokenizer has no <|endoftext|>, which --append-eod puts after each document; use "
          "--append-eod=false");
  formats::TokenFileWriter writer(prefix, formats::token_type_for(tokenizer.vocab_size()));
  std::vector<text::Encoder> encoders;
  for (int i = 0; i < num_threads(); ++i) encoders.emplace_back(tokenizer);

  TokenizeResult result;
  progress.begin("tokenize", documents.bytes_total() >> 20, "MiB");
  bool more = true;
  while (more) {
    std::vector<std::string> batch;
    std::size_t bytes = 0;
    for (std::string document; bytes < kBatchBytes && (more = documents.next(document));) {
      bytes += document.size();
      batch.push_back(std::move(document));
    }
    // Each thread takes every n-th document with an encoder of its own.
    std::vector<std::vector<std::int32_t>> ids(batch.size());
    std::vector<text::EncodeStats> stats(encoders.size());
    parallel_for(static_cast<std::int64_t>(encoders.size()), [&](std::int64_t thread) {
      const auto t = static_cast<std::size_t>(thread);
      for (std::size_t i = t; i < batch.size(); i += encoders.size()) {
        encoders[t].encode(batch[i], ids[i], &stats[t]);
        if (config.append_eod) ids[i].push_back(*end_of_text);
      }
    });
    for (const auto& document : ids) writer.append(document);
    for (const auto& s : stats) {
      result.replaced += s.replaced;
      result.dropped += s.dropped;
    }
    result.num_bytes += static_cast<std::int64_t>(bytes);
    progress.update(documents.bytes_read() >> 20,
                    human_count(static_cast<double>(writer.num_tokens())) + " tokens");
  }
  progress.end();
  require(writer.num_tokens() > 0, "{}: the text is empty, nothing was tokenized", prefix.string());
  result.num_documents = writer.num_documents();
  result.num_tokens = writer.num_tokens();
  writer.commit();
  return result;
}

}  // namespace cresco::corpora
