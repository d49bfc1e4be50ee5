#include "cresco/corpora/tokenize.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/base/threads.h"
#include "cresco/corpora/synthetic.h"
#include "cresco/formats/megatron.h"
#include "cresco/text/bpe_trainer.h"

#include <gtest/gtest.h>

namespace cresco::corpora {
namespace {

TEST(Tokenize, KeepsTheTextAndDoesNotDependOnThreads) {
  const TemporaryFolder folder;
  auto texts = make_documents(make_language(1), 2, 200);
  texts.push_back("\xff\xfe not UTF-8");
  texts.push_back("");
  const text::Tokenizer tokenizer = text::train_bpe(texts, {.vocab_size = 400});
  std::string last;
  for (const int threads : {1, 2, 3}) {
    set_num_threads(threads);
    const auto documents = in_memory(texts);
    const TokenizeResult result = tokenize(*documents, tokenizer, folder / "c", {}, no_progress());
    EXPECT_EQ(result.num_documents, 202);
    const std::string bytes = read_file(folder / "c.bin") + read_file(folder / "c.idx");
    if (!last.empty()) {
      EXPECT_EQ(bytes, last);
    }
    last = bytes;
  }
  set_num_threads(0);
  const formats::TokenFile file(folder / "c");
  for (std::int64_t d = 0; d < file.num_sequences(); ++d) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(file.begin(d + 1) - file.begin(d)));
    file.read(file.begin(d), ids);
    EXPECT_EQ(ids.back(), *tokenizer.end_of_text());
    ids.pop_back();
    EXPECT_EQ(tokenizer.decode(ids), texts[static_cast<std::size_t>(d)]);
  }
}

TEST(Tokenize, RefusesNothing) {
  const TemporaryFolder folder;
  const text::Tokenizer tokenizer =
      text::train_bpe(make_documents(make_language(1), 2, 50), {.vocab_size = 300});
  const auto none = in_memory({});
  EXPECT_THROW(tokenize(*none, tokenizer, folder / "c", {}, no_progress()), Error);
  EXPECT_FALSE(std::filesystem::exists(folder / "c.bin"));
}

}  // namespace
}  // namespace cresco::corpora
