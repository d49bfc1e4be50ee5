#include "cresco/evals/score.h"

#include "cresco/base/random.h"
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/formats/megatron.h"
#include "cresco/formats/npy.h"
#include "cresco/models/neox.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace cresco::evals {
namespace {

families::NeoxConfig tiny() {
  families::NeoxConfig c;
  c.vocab_size = 11;
  c.hidden_size = 8;
  c.num_hidden_layers = 1;
  c.num_attention_heads = 2;
  c.intermediate_size = 16;
  c.max_position_embeddings = 6;
  c.rotary_pct = 0.5;
  return c;
}

models::Neox random_model() {
  at::manual_seed(1);
  std::vector<tensor::NamedTensor> weights;
  for (const auto& spec : families::neox_tensors(tiny()))
    weights.emplace_back(spec.name, at::randn(spec.shape));
  return models::Neox(tiny(), std::move(weights));
}

Path write_corpus(const TemporaryFolder& folder, std::int64_t num_tokens) {
  formats::TokenFileWriter writer(folder / "c", formats::TokenType::U16);
  RandomStream random(3, "tokens");
  std::vector<std::int32_t> document;
  for (std::int64_t i = 0; i < num_tokens; ++i) {
    document.push_back(static_cast<std::int32_t>(random.below(11)));
    if (document.size() == 5 || i + 1 == num_tokens) {
      writer.append(document);
      document.clear();
    }
  }
  writer.commit();
  return folder / "c";
}

// -log p of one id after another, one prefix at a time, in double.
double slow_loss(const models::LanguageModel& model, const std::vector<std::int32_t>& ids,
                 std::int64_t context) {
  double sum = 0;
  std::int64_t count = 0;
  for (std::size_t begin = 0; begin + static_cast<std::size_t>(context) < ids.size();
       begin += static_cast<std::size_t>(context))
    for (std::int64_t t = 0; t < context; ++t, ++count) {
      at::Tensor prefix = at::empty({1, t + 1}, at::kLong);
      for (std::int64_t i = 0; i <= t; ++i) prefix[0][i] = ids[begin + static_cast<std::size_t>(i)];
      const at::Tensor logits = model.logits(prefix)[0][t].to(at::kDouble);
      const at::Tensor p = logits.softmax(0);
      sum -= std::log(p[ids[begin + static_cast<std::size_t>(t) + 1]].item<double>());
    }
  return sum / static_cast<double>(count);
}

TEST(Score, IsTheMeanLossOfAllWindows) {
  const TemporaryFolder folder;
  const models::Neox model = random_model();
  const Path prefix = write_corpus(folder, 40);  // 9 windows of 4 + 1, three tokens left over
  const ScoreWindows windows = windows_of_corpus(prefix, 4);
  EXPECT_EQ(windows.count, 9);
  std::vector<std::int32_t> ids(37);
  formats::TokenFile(prefix).read(0, ids);
  const double expected = slow_loss(model, ids, 4);
  std::int64_t seen = 0;
  for (const std::int64_t batch : {1, 2, 100}) {
    const Score made = score(model, windows, batch, [&](std::int64_t done) { seen = done; });
    EXPECT_NEAR(made.loss, expected, 1e-5);
    EXPECT_EQ(made.num_tokens, 36);
    EXPECT_EQ(seen, 9);
    EXPECT_DOUBLE_EQ(made.perplexity(), std::exp(made.loss));
  }
}

TEST(Score, ReadsIdsOfOthers) {
  const TemporaryFolder folder;
  const models::Neox model = random_model();
  const std::vector<std::int64_t> ids{1, 2, 3, 4, 5, 6};
  formats::write_npy(folder / "ids.npy", std::vector<std::int64_t>{2, 3}, ids);
  const ScoreWindows windows = windows_of_ids(folder / "ids.npy");
  EXPECT_EQ(windows.ids_each, 3);
  const double expected = (slow_loss(model, {1, 2, 3}, 2) + slow_loss(model, {4, 5, 6}, 2)) / 2;
  EXPECT_NEAR(score(model, windows, 8, [](std::int64_t) {}).loss, expected, 1e-5);
}

TEST(Score, RefusesWhatTheModelCannotRead) {
  const TemporaryFolder folder;
  const models::Neox model = random_model();
  const auto nothing = [](std::int64_t) {};
  const std::vector<std::int64_t> ids{1, 11, 3};  // the vocabulary has 11 entries
  formats::write_npy(folder / "ids.npy", std::vector<std::int64_t>{1, 3}, ids);
  EXPECT_THROW(score(model, windows_of_ids(folder / "ids.npy"), 1, nothing), Error);
  EXPECT_THROW(score(model, windows_of_corpus(write_corpus(folder, 40), 7), 1, nothing), Error);
  EXPECT_THROW(windows_of_corpus(write_corpus(folder, 4), 4), Error);
}

}  // namespace
}  // namespace cresco::evals
