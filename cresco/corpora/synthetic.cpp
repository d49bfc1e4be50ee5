#include "cresco/corpora/synthetic.h"

#include <algorithm>
#include <set>
#include <string_view>

namespace cresco::corpora {
namespace {

constexpr double kSuccessorOdds[] = {0.6, 0.25, 0.15};

std::string make_word(RandomStream& stream) {
  constexpr std::string_view kConsonants = "bdfgklmnprstvz", kVowels = "aeiou";
  std::string word;
  const std::uint64_t syllables = 2 + stream.below(2);
  for (std::uint64_t i = 0; i < syllables; ++i) {
    word += kConsonants[stream.below(kConsonants.size())];
    word += kVowels[stream.below(kVowels.size())];
  }
  return word;
}

// Index i with odds proportional to 1/(i + 1).
std::size_t zipf(std::size_t n, RandomStream& stream) {
  double total = 0;
  for (std::size_t i = 0; i < n; ++i) total += 1.0 / static_cast<double>(i + 1);
  double left = stream.uniform() * total;
  for (std::size_t i = 0; i + 1 < n; ++i) {
    left -= 1.0 / static_cast<double>(i + 1);
    if (left < 0) return i;
  }
  return n - 1;
}

}  // namespace

SyntheticLanguage make_language(std::uint64_t seed, int num_classes, int words_per_class) {
  RandomStream stream(seed, "language");
  SyntheticLanguage language;
  std::set<std::string> taken;
  for (int c = 0; c < num_classes; ++c) {
    std::vector<std::string> words;
    while (words.size() < static_cast<std::size_t>(words_per_class)) {
      const std::string word = make_word(stream);
      if (taken.insert(word).second) words.push_back(word);
    }
    language.classes.push_back(std::move(words));
    std::vector<std::int32_t> successors;
    while (successors.size() < std::size(kSuccessorOdds)) {
      const auto next =
          static_cast<std::int32_t>(stream.below(static_cast<std::uint64_t>(num_classes)));
      if (std::find(successors.begin(), successors.end(), next) == successors.end())
        successors.push_back(next);
    }
    language.successors.push_back(std::move(successors));
  }
  return language;
}

std::string make_document(const SyntheticLanguage& language, RandomStream stream) {
  std::string text;
  const std::uint64_t sentences = 2 + stream.below(5);
  for (std::uint64_t s = 0; s < sentences; ++s) {
    auto at = static_cast<std::size_t>(stream.below(language.classes.size()));
    const std::uint64_t words = 4 + stream.below(9);
    for (std::uint64_t w = 0; w < words; ++w) {
      const auto& choice = language.classes[at];
      text += ' ' + choice[zipf(choice.size(), stream)];
      const double coin = stream.uniform();
      const int next = coin < kSuccessorOdds[0]                       ? 0
                       : coin < kSuccessorOdds[0] + kSuccessorOdds[1] ? 1
                                                                      : 2;
      at = static_cast<std::size_t>(language.successors[at][static_cast<std::size_t>(next)]);
    }
    text += " .\n";
  }
  return text;
}

std::vector<std::string> make_documents(const SyntheticLanguage& language, std::uint64_t seed,
                                        std::int64_t count) {
  std::vector<std::string> documents;
  for (std::int64_t i = 0; i < count; ++i)
    documents.push_back(
        make_document(language, RandomStream(seed, "document", static_cast<std::uint64_t>(i))));
  return documents;
}

}  // namespace cresco::corpora
