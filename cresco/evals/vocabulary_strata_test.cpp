#include "cresco/evals/vocabulary_strata.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/formats/megatron.h"

#include <gtest/gtest.h>

namespace cresco::evals {
namespace {

TEST(VocabularyStrata, CallTokensWhatTheyAre) {
  const std::pair<const char*, const char*> expected[] = {{"", "whitespace"},
                                                          {"   ", "whitespace"},
                                                          {"\n", "ascii_whitespace"},
                                                          {" \t\n", "ascii_whitespace"},
                                                          {"12", "ascii_digit"},
                                                          {" 7", "ascii_digit"},
                                                          {"12a", "ascii_letter_mixed"},
                                                          {"...", "ascii_punct"},
                                                          {" (\"", "ascii_punct"},
                                                          {"_", "ascii_punct"},
                                                          {". \n", "ascii_other"},
                                                          {"1.5", "ascii_other"},
                                                          {" the", "ascii_letter_lower"},
                                                          {"café", "ascii_letter_lower"},
                                                          {"NASA", "ascii_letter_upper"},
                                                          {"The", "ascii_letter_mixed"},
                                                          {"don't", "ascii_letter_mixed"},
                                                          {"<|endoftext|>", "ascii_letter_mixed"},
                                                          {" река", "script_Cyrillic"},
                                                          {"河", "script_CJK"},
                                                          {"ひ", "script_Japanese"},
                                                          {"강", "script_Korean"},
                                                          {"ไทย", "script_Thai"},
                                                          {"نهر", "script_Arabic"},
                                                          {"नदी", "script_Devanagari"},
                                                          {"নদী", "script_Bengali"},
                                                          {"é", "other_unicode"},
                                                          {"\xEF\xBF\xBD", "other_unicode"}};
  for (const auto& [text, name] : expected) EXPECT_EQ(class_of_text(text), name) << text;
  const Partition classes = coarse_classes({"a", "河", "é", ""});
  EXPECT_EQ(classes.bins[static_cast<std::size_t>(classes.bin_of[1])], "script_CJK");
  EXPECT_EQ(classes.bins[static_cast<std::size_t>(classes.bin_of[2])], "other_unicode");
  EXPECT_EQ(classes.bin_of[3], 0);
}

TEST(VocabularyStrata, MeasureTokensInCharacters) {
  const Partition lengths =
      length_bins({"", " \n", " a", "é", " ab ", "abc", "abcd", " abcdefg", "abcdefgh", "河河"});
  EXPECT_EQ(lengths.bins, (std::vector<std::string>{"1", "2-3", "4-7", "8+"}));
  EXPECT_EQ(lengths.bin_of, (std::vector<std::int64_t>{0, 0, 0, 0, 1, 1, 2, 2, 3, 1}));
}

TEST(VocabularyStrata, RankWhatWasSeen) {
  std::vector<std::int64_t> counts(24);
  for (std::size_t i = 0; i < 21; ++i) counts[23 - i] = static_cast<std::int64_t>(100 + i);
  const Partition deciles = frequency_deciles(counts);
  EXPECT_EQ(deciles.bin_of[0], -1);
  EXPECT_EQ(deciles.bin_of[23], 0);  // rank 0 of 0 .. 20
  EXPECT_EQ(deciles.bin_of[22], 0);  // 10 * 1 / 20
  EXPECT_EQ(deciles.bin_of[21], 1);  // 10 * 2 / 20
  EXPECT_EQ(deciles.bin_of[3], 9);   // 9.999
  EXPECT_EQ(frequency_deciles({0, 5}).bin_of, (std::vector<std::int64_t>{-1, 0}));
  EXPECT_EQ(frequency_deciles({5, 5}).bin_of, (std::vector<std::int64_t>{0, 9}));
}

TEST(VocabularyStrata, CountTheWholeCorpus) {
  const TemporaryFolder folder;
  formats::TokenFileWriter writer(folder / "c", formats::TokenType::U16);
  const std::vector<std::int32_t> ids{3, 1, 3}, more{0, 3};
  writer.append(ids);
  writer.append(more);
  writer.commit();
  const formats::TokenFile file(folder / "c");
  EXPECT_EQ(count_tokens(file, 5), (std::vector<std::int64_t>{1, 1, 0, 3, 0}));
  EXPECT_THROW(count_tokens(file, 3), Error);
}

TEST(VocabularyStrata, ReadTokensAsText) {
  text::TokenizerParts parts;
  parts.vocabulary = {{"a", 0}, {" b", 1}, {"\xE6\xB2", 2}};
  const auto texts = token_texts(text::Tokenizer(parts, "test"), 5);
  EXPECT_EQ(texts, (std::vector<std::string>{"a", " b", "\xEF\xBF\xBD", "", ""}));
}

}  // namespace
}  // namespace cresco::evals
