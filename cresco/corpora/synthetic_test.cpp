#include "cresco/corpora/synthetic.h"

#include "cresco/base/strings.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

namespace cresco::corpora {
namespace {

TEST(SyntheticLanguage, WalksFromClassToClass) {
  const SyntheticLanguage language = make_language(1);
  std::map<std::string, std::size_t> class_of;
  for (std::size_t c = 0; c < language.classes.size(); ++c)
    for (const auto& word : language.classes[c]) EXPECT_TRUE(class_of.emplace(word, c).second);
  std::map<std::size_t, std::map<std::size_t, int>> follows;
  for (const auto& document : make_documents(language, 2, 2000)) {
    std::string last;
    for (const auto& line : split(document, '\n'))
      for (const auto& word : split(trim(line), ' ')) {
        if (word != "." && !last.empty() && last != ".")
          ++follows[class_of.at(last)][class_of.at(word)];
        last = word;
      }
  }
  // Three successors each, the first in 60 % of about 2,400 steps: within 5 standard errors of 1 %.
  for (const auto& [c, next] : follows) {
    EXPECT_EQ(next.size(), 3u);
    double total = 0;
    for (const auto& [_, count] : next) total += count;
    EXPECT_NEAR(next.at(static_cast<std::size_t>(language.successors[c][0])) / total, 0.6,
                5 * std::sqrt(0.24 / total));
  }
}

TEST(SyntheticLanguage, IsAFunctionOfItsSeed) {
  EXPECT_EQ(make_documents(make_language(1), 2, 5), make_documents(make_language(1), 2, 5));
  EXPECT_NE(make_documents(make_language(1), 2, 5), make_documents(make_language(1), 3, 5));
}

}  // namespace
}  // namespace cresco::corpora
