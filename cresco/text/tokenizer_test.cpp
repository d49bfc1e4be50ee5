#include "cresco/text/tokenizer.h"

#include "cresco/base/json.h"
#include "cresco/base/random.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cstdlib>
#include <thread>

namespace cresco::text {
namespace {

using Ids = std::vector<std::int32_t>;

const Path kData = Path(CRESCO_TEST_DATA) / "text";

Ids encode(const Tokenizer& tokenizer, std::string_view text, EncodeStats* stats = nullptr,
           EncodeOptions options = {}) {
  Ids out;
  Encoder(tokenizer, options).encode(text, out, stats);
  return out;
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

// Ids as Hugging Face's tokenizers gives them, made by tests/data/text/make_tokenizer_data.py.
class EncodesAsHuggingFace : public testing::TestWithParam<const char*> {};

TEST_P(EncodesAsHuggingFace, EveryCase) {
  const Tokenizer tokenizer = read_tokenizer(kData / (std::string(GetParam()) + ".json"));
  const Tokenizer written = Tokenizer::from_json(tokenizer.to_json(), "written");
  Encoder encoder(tokenizer);  // one for all, so that its cache is used
  int num_cases = 0;
  for (const std::string& line :
       split(read_file(kData / (std::string(GetParam()) + "_cases.jsonl")), '\n')) {
    if (line.empty()) continue;
    const Json item = parse_json(line, "case");
    const auto text = item["text"].get<std::string>();
    const auto expected = item["ids"].get<Ids>();
    Ids ids;
    encoder.encode(text, ids);
    EXPECT_EQ(ids, expected) << escape_for_terminal(text);
    EXPECT_EQ(encode(tokenizer, text), expected) << escape_for_terminal(text);
    EXPECT_EQ(encode(written, text), expected) << escape_for_terminal(text);
    ++num_cases;
  }
  EXPECT_EQ(num_cases, 179);
}

INSTANTIATE_TEST_SUITE_P(, EncodesAsHuggingFace,
                         testing::Values("trained", "like_neox", "like_olmo2"),
                         [](const auto& info) { return info.param; });

// The vocabulary of GPT-NeoX-20B and Pythia; its ids by Hugging Face's tokenizers 0.23.2.
TEST(NeoxTokenizer, GivesTheKnownIds) {
  const char* path = std::getenv("CRESCO_NEOX_TOKENIZER");
  if (path == nullptr)
    GTEST_SKIP() << "CRESCO_NEOX_TOKENIZER does not name the tokenizer.json of GPT-NeoX-20B";
  const Tokenizer tokenizer = read_tokenizer(path);
  const std::pair<std::string, Ids> cases[] = {
      {"Hello, I am", {12092, 13, 309, 717}},
      {"The quick brown fox jumps over the lazy dog.",
       {510, 3158, 8516, 30013, 27287, 689, 253, 22658, 4370, 15}},
      {" hello", {23120}},
      {"a  b", {66, 50276, 67}},
      {"a   b\n", {66, 50275, 67, 187}},
      {"def f(x):\n    return x + 1\n",
       {1545, 269, 9, 89, 2262, 187, 50274, 2309, 1269, 559, 337, 187}},
      {"x" + std::string(30, ' ') + "y", {89, 50254, 50272, 90}},
      {"don't I'LL we'll", {9903, 626, 309, 8, 2293, 359, 1833}},
      {"12345 67", {42594, 9963}},
      {"naïve café", {2072, 30180, 36241}},
      {"cafe\u0301", {68, 2320, 860}},
      {"日本語テスト", {49868, 19119, 241, 28656, 38206}},
      {"<|endoftext|>Hi", {0, 12764}},
      {"tab\t\tend  ", {8476, 186, 186, 423, 50276}},
      {"\u00A0nbsp\u2003em", {575, 6732, 3930, 358}},
      {"🙂👍🏽", {14931, 18713, 14931, 228, 224, 14931, 226, 123}},
      {"'s's", {434, 434}},
      {"\r\n\r\n", {15971}},
      {"   ", {50275}},
      {"It's 3.14 — ok?", {1147, 434, 495, 15, 1047, 1905, 8718, 32}},
      {"\u0085x", {16643, 89}},
      {"\u200Bx", {12882, 89}},
      {"²½Ⅳ", {15818, 8313, 158, 216, 98}},
      {"  <|endoftext|>  ", {50276, 0, 50276}},
      {"é\u0301", {860, 136, 212}},
      {" \n\n x", {15267, 1269}},
      {"\u2126 \u212B", {138, 104, 17732}},
      {"\x1C\x1D\x1E\x1F\x61", {205, 206, 207, 208, 66}},
      {"fi ﬁ Å", {11125, 16141, 107, 212, 17732}},
      {"fi ﬁ A\u030A", {11125, 16141, 107, 212, 17732}},
  };
  for (const auto& [text, ids] : cases)
    EXPECT_EQ(encode(tokenizer, text), ids) << escape_for_terminal(text);

  EXPECT_EQ(tokenizer.vocab_size(), 50277);
  EXPECT_EQ(tokenizer.end_of_text(), 0);
  EXPECT_FALSE(tokenizer.keeps_bytes());
  for (int n = 2; n <= 24; ++n)  // the runs of spaces
    EXPECT_EQ(tokenizer.token_id(std::string(n, ' ')), 50278 - n);
  EXPECT_EQ(tokenizer.decode(Ids{66, 50276, 67}), "a  b");
}

TEST(Tokenizer, GivesAnyBytesBackExactly) {
  const Tokenizer tokenizer = read_tokenizer(kData / "trained.json");
  ASSERT_TRUE(tokenizer.keeps_bytes());
  RandomStream random(1, "tokenizer_test");
  Encoder encoder(tokenizer);
  for (int i = 0; i < 500; ++i) {
    std::string text;
    for (std::uint64_t n = random.below(300); n > 0; --n)
      text += static_cast<char>(random.below(i % 2 == 0 ? 256 : 128));
    EncodeStats stats;
    Ids ids;
    encoder.encode(text, ids, &stats);
    ASSERT_EQ(tokenizer.decode(ids), text);
    ASSERT_EQ(stats.replaced + stats.dropped, 0);
  }
}

TEST(Tokenizer, ReadsReplacementsWhereItCannotKeepBytes) {
  const Tokenizer tokenizer = read_tokenizer(kData / "like_neox.json");
  EncodeStats stats;
  EXPECT_EQ(tokenizer.decode(encode(tokenizer, "a\xFF\xFE\xE2\x82 b", &stats)),
            "a\uFFFD\uFFFD\uFFFD b");
  EXPECT_EQ(stats.replaced, 3);
  EXPECT_EQ(tokenizer.decode(encode(tokenizer, "cafe\u0301", &stats)), "café");
  EXPECT_EQ(stats.replaced, 3);
}

TEST(Tokenizer, DropsAndCountsBytesWithoutAToken) {
  TokenizerParts parts;
  parts.vocabulary = {{"a", 0}, {"b", 1}, {"ab", 2}};
  parts.merges = {{0, 1}};
  const Tokenizer tokenizer(parts, "test");
  Encoder encoder(tokenizer);
  for (int i = 0; i < 2; ++i) {  // the cache must not forget to count
    EncodeStats stats;
    Ids ids;
    encoder.encode("axb", ids, &stats);
    EXPECT_EQ(ids, Ids{2});  // what is left stands side by side
    EXPECT_EQ(stats.dropped, 1);
  }
}

TEST(Tokenizer, TakesWholePiecesWhenMergesAreIgnored) {
  TokenizerParts parts;
  parts.vocabulary = {{"a", 0}, {"b", 1}, {"aba", 2}};
  EXPECT_EQ(encode(Tokenizer(parts, "test"), "aba abb"), (Ids{0, 1, 0, 0, 1, 1}));
  parts.ignore_merges = true;
  EXPECT_EQ(encode(Tokenizer(parts, "test"), "aba abb"), (Ids{2, 0, 1, 1}));
}

TEST(Tokenizer, ReadsSpecialTokensAsTextWhenAsked) {
  const Tokenizer tokenizer = read_tokenizer(kData / "trained.json");
  const std::string text = "a<|endoftext|>b";
  const Ids plain = encode(tokenizer, text, nullptr, {.parse_special = false});
  EXPECT_EQ(std::count(plain.begin(), plain.end(), 0), 0);
  EXPECT_EQ(tokenizer.decode(plain), text);
  const Ids parsed = encode(tokenizer, text);
  EXPECT_EQ(std::count(parsed.begin(), parsed.end(), 0), 1);
  EXPECT_EQ(parsed.size(), 3u);
}

TEST(Tokenizer, SaysWhichIdIsWrong) {
  TokenizerParts parts;
  parts.vocabulary = {{"a", 0}, {"b", 3}};
  const Tokenizer tokenizer(parts, "test");
  EXPECT_EQ(tokenizer.vocab_size(), 4);
  EXPECT_EQ(tokenizer.token_bytes(3), "b");
  EXPECT_EQ(message_of([&] { tokenizer.token_bytes(2); }),
            "token id 2 is not used by this tokenizer");
  EXPECT_EQ(message_of([&] {
              tokenizer.decode(Ids{0, 4});
            }),
            "token id 4 is out of range: the tokenizer has ids 0 to 3");
  EXPECT_EQ(message_of([&] { tokenizer.token_bytes(-1); }),
            "token id -1 is out of range: the tokenizer has ids 0 to 3");
  EXPECT_EQ(tokenizer.token_id("c"), std::nullopt);
  EXPECT_EQ(tokenizer.end_of_text(), std::nullopt);
}

TEST(Tokenizer, ServesManyThreads) {
  const std::string text = read_file(kData / "sample.txt");
  std::vector<Ids> ids(4);
  {
    const Tokenizer tokenizer = read_tokenizer(kData / "like_neox.json");
    std::vector<std::jthread> threads;
    for (Ids& out : ids)
      threads.emplace_back([&out, &text, encoder = Encoder(tokenizer)]() mutable {
        for (int i = 0; i < 3; ++i) encoder.encode(text, out);
      });
  }  // an encoder keeps what it needs of its tokenizer
  for (const Ids& out : ids) EXPECT_EQ(out, ids[0]);
}

// More different pieces than the cache holds, twice: what it forgets is worked out again.
TEST(Encoder, GivesTheSameIdsWhateverItHasSeen) {
  const Tokenizer tokenizer = read_tokenizer(kData / "trained.json");
  RandomStream random(2, "tokenizer_test");
  std::string text;
  for (int i = 0; i < 100'000; ++i) {
    text += ' ';
    for (std::uint64_t n = 1 + random.below(26); n > 0; --n)
      text += static_cast<char>('a' + random.below(4));
  }
  Encoder encoder(tokenizer);
  Ids first, second;
  encoder.encode(text, first);
  encoder.encode(text, second);
  EXPECT_EQ(first, second);
  EXPECT_EQ(tokenizer.decode(first), text);
}

}  // namespace
}  // namespace cresco::text
