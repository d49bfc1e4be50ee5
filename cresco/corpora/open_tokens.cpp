#include "cresco/corpora/open_tokens.h"

#include "cresco/base/pattern.h"
#include "cresco/base/require.h"
#include "cresco/corpora/preshuffled.h"
#include "cresco/formats/flat_tokens.h"
#include "cresco/formats/megatron.h"

namespace cresco::corpora {

std::shared_ptr<const formats::TokenSource> open_tokens(const Path& data, std::int64_t row_tokens) {
  using std::filesystem::is_regular_file;
  if (is_pattern(data)) return std::make_shared<formats::FlatTokenFiles>(data);
  const Path prefix = formats::token_file_prefix(data);
  const Path bin = prefix.string() + ".bin", idx = prefix.string() + ".idx";
  if (is_regular_file(bin) && !parse_shard_name(bin.filename().string())) {
    if (!is_regular_file(idx)) return std::make_shared<formats::FlatTokenFile>(bin);
    if (row_tokens > 0) return std::make_shared<PreshuffledRows>(bin, row_tokens);
    return std::make_shared<formats::TokenFile>(prefix);
  }
  if (is_regular_file(data) && data.extension() != ".bin" && data.extension() != ".idx")
    return std::make_shared<formats::FlatTokenFile>(data);
  return std::make_shared<PreshuffledRows>(data, row_tokens);
}

}  // namespace cresco::corpora
