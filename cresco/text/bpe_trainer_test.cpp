#include "cresco/text/bpe_trainer.h"

#include "cresco/base/random.h"
#include "cresco/base/require.h"
#include "cresco/base/threads.h"
#include "cresco/text/byte_alphabet.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

namespace cresco::text {
namespace {

const Path kData = Path(CRESCO_TEST_DATA) / "text";

std::string message_of(const std::vector<std::string>& documents, const TrainerConfig& config) {
  try {
    train_bpe(documents, config);
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

// The definition: count every pair in every piece, again for each merge.
TokenizerParts train_reference(std::string_view text, std::int64_t vocab_size) {
  std::vector<std::string> tokens{std::string(kEndOfText)};
  for (const std::uint8_t byte : bytes_in_alphabet_order())
    tokens.emplace_back(1, static_cast<char>(byte));
  std::map<std::string, std::int32_t> ids;
  for (const std::string& token : tokens) ids.emplace(token, static_cast<std::int32_t>(ids.size()));
  std::vector<std::vector<std::int32_t>> pieces;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = piece_end(Split::Gpt2, text, begin);
    pieces.emplace_back();
    for (std::size_t i = begin; i < end; ++i)
      pieces.back().push_back(ids.at(std::string(1, text[i])));
    begin = end;
  }

  TokenizerParts parts;
  while (static_cast<std::int64_t>(tokens.size()) < vocab_size) {
    std::map<std::pair<std::int32_t, std::int32_t>, int> count;
    for (const auto& piece : pieces)
      for (std::size_t i = 0; i + 1 < piece.size(); ++i) ++count[{piece[i], piece[i + 1]}];
    if (count.empty()) break;
    const auto best =
        std::max_element(count.begin(), count.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; });
    const auto pair = best->first;
    parts.merges.push_back(pair);
    const std::string both = tokens[pair.first] + tokens[pair.second];
    const auto [entry, is_new] = ids.emplace(both, static_cast<std::int32_t>(tokens.size()));
    if (is_new) tokens.push_back(both);
    for (auto& piece : pieces)
      for (std::size_t i = 0; i + 1 < piece.size(); ++i)
        if (std::pair(piece[i], piece[i + 1]) == pair) {
          piece[i] = entry->second;
          piece.erase(piece.begin() + static_cast<std::ptrdiff_t>(i) + 1);
        }
  }
  for (std::size_t i = 0; i < tokens.size(); ++i)
    parts.vocabulary.push_back({tokens[i], static_cast<std::int32_t>(i)});
  return parts;
}

TEST(BpeTrainer, AgreesWithTheDefinition) {
  RandomStream random(1, "bpe_trainer_test");
  for (int round = 0; round < 20; ++round) {
    std::string text;
    for (int i = 0; i < 400; ++i)
      text += random.below(8) == 0 ? ' ' : static_cast<char>('a' + random.below(round % 3 + 2));
    const TokenizerParts expected = train_reference(text, 285);
    const Tokenizer tokenizer =
        train_bpe(std::vector{text}, {.vocab_size = 285, .min_frequency = 1});
    ASSERT_EQ(tokenizer.parts().vocabulary, expected.vocabulary);
    ASSERT_EQ(tokenizer.parts().merges, expected.merges);
  }
}

// trained.json was made by Hugging Face's trainer from the same text.
TEST(BpeTrainer, MakesWhatHuggingFaceMakes) {
  const std::string text = read_file(kData / "sample.txt");
  const Tokenizer expected = read_tokenizer(kData / "trained.json");
  const Tokenizer trained = train_bpe(std::vector{text}, {.vocab_size = 560});
  EXPECT_EQ(trained.parts(), expected.parts());
  EXPECT_EQ(trained.vocab_size(), 560);
  EXPECT_EQ(trained.end_of_text(), 0);
  EXPECT_TRUE(trained.keeps_bytes());
}

TEST(BpeTrainer, IsTheSameForAnyThreadsAndDocuments) {
  std::string text;
  const std::string sample = read_file(kData / "sample.txt");
  RandomStream random(2, "bpe_trainer_test");
  while (text.size() < 3'000'000) {  // several tasks
    text += sample;
    text += std::string(1, static_cast<char>('a' + random.below(26))) + " ";
  }
  set_num_threads(1);
  const Tokenizer one = train_bpe(std::vector{text}, {.vocab_size = 500});
  set_num_threads(3);
  EXPECT_EQ(train_bpe(std::vector{text}, {.vocab_size = 500}).parts(), one.parts());
  const std::size_t half = text.find(" the", text.size() / 2);
  EXPECT_EQ(
      train_bpe(std::vector{text.substr(0, half), text.substr(half)}, {.vocab_size = 500}).parts(),
      one.parts());
  EXPECT_EQ(train_bpe(std::vector{text.substr(half) + "<|endoftext|>" + text.substr(0, half)},
                      {.vocab_size = 500})
                .parts(),
            one.parts());
  set_num_threads(0);
}

TEST(BpeTrainer, SaysWhatTheTextSupports) {
  const std::vector<std::string> sample{read_file(kData / "sample.txt")};
  EXPECT_EQ(message_of(sample, {.vocab_size = 4096}),
            "a vocabulary of 4096 was asked for, but the text supports only 587: no further pair "
            "occurs 2 "
            "times; ask for at most 587, or give more text");
  EXPECT_EQ(train_bpe(sample, {.vocab_size = 587}).vocab_size(), 587);
  EXPECT_EQ(message_of({}, {}), "the text to train a tokenizer on is empty");
  EXPECT_EQ(message_of({"", ""}, {}), "the text to train a tokenizer on is empty");
  EXPECT_THROW(train_bpe(sample, {.vocab_size = 256}), UsageError);
  EXPECT_THROW(train_bpe(sample, {.vocab_size = 300, .min_frequency = 0}), UsageError);
  EXPECT_EQ(train_bpe(sample, {.vocab_size = 257}).parts().merges.size(), 0u);
}

TEST(BpeTrainer, LearnsFromAnyBytes) {
  std::string text;
  for (int i = 0; i < 10; ++i) text += "\xFF\xFE\xC3 ";
  const Tokenizer tokenizer = train_bpe(std::vector{text}, {.vocab_size = 258});
  // As often as FF FE, and FE stands before FF in the alphabet.
  EXPECT_EQ(tokenizer.token_bytes(257), "\xFE\xC3");
}

}  // namespace
}  // namespace cresco::text
