#include "cresco/corpora/bigram.h"

#include "cresco/base/temporary_folder.h"
#include "cresco/formats/megatron.h"

#include <gtest/gtest.h>

#include <cmath>

namespace cresco::corpora {
namespace {

TokenStream stream_of(const Path& prefix, const std::vector<std::int32_t>& ids) {
  formats::TokenFileWriter writer(prefix, formats::TokenType::U16);
  writer.append(ids);
  writer.commit();
  return TokenStream(std::make_shared<formats::TokenFile>(prefix),
                     [](std::int64_t) { return true; });
}

// A probability, whatever came before: also after a token that was never seen.
TEST(BigramModel, SumsToOne) {
  const TemporaryFolder folder;
  const BigramModel model(stream_of(folder / "c", {0, 1, 2, 0, 1, 3, 0, 1, 2, 2, 4, 0, 1}), 7);
  for (std::int32_t a = 0; a < 7; ++a) {
    double sum = 0, unigram = 0;
    for (std::int32_t b = 0; b < 7; ++b) {
      EXPECT_GT(model.probability(a, b), 0);
      sum += model.probability(a, b);
      unigram += model.unigram_probability(b);
    }
    EXPECT_NEAR(sum, 1, 1e-12) << a;
    EXPECT_NEAR(unigram, 1, 1e-12);
  }
}

TEST(BigramModel, LearnsWhatFollowsWhat) {
  const TemporaryFolder folder;
  std::vector<std::int32_t> ids;
  for (int i = 0; i < 4000; ++i) ids.push_back(i % 4);
  const TokenStream stream = stream_of(folder / "c", ids);
  const BigramModel model(stream, 4);
  const Windows windows(stream, 16);
  const auto losses = model.losses(windows, windows.size());
  EXPECT_LT(losses.bigram, 0.01);
  EXPECT_NEAR(losses.unigram, std::log(4.0), 1e-3);
}

}  // namespace
}  // namespace cresco::corpora
