#include "cresco/corpora/english.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <array>
#include <cstdio>
#include <memory>

namespace cresco::corpora {
namespace {

// The next field of a line, up to a space.
std::string_view take_field(std::string_view& line) {
  const std::size_t end = std::min(line.find(' '), line.size());
  const std::string_view field = line.substr(0, end);
  line.remove_prefix(std::min(end + 1, line.size()));
  return field;
}

// "domestic_dog" -> "domestic dog"; adjectives may end in a marker of position: "galore(ip)".
std::string lemma_of(std::string_view word) {
  std::string lemma(word.substr(0, word.find('(')));
  for (char& c : lemma)
    if (c == '_') c = ' ';
  return lemma;
}

// synset_offset lex_filenum ss_type w_cnt(hex) {word lex_id}... p_cnt ... | gloss
std::string wordnet_document(std::string_view line, const std::string& where) {
  const std::size_t bar = line.find(" | ");
  require(bar != std::string_view::npos, "{}: has no gloss", where);
  std::string_view fields = line.substr(0, bar);
  for (int i = 0; i < 3; ++i) take_field(fields);
  const std::string count_text(take_field(fields));
  char* end = nullptr;
  const long count = std::strtol(count_text.c_str(), &end, 16);
  require(*end == '\0' && count >= 1 && count <= 255, "{}: '{}' is no count of words", where,
          escape_for_terminal(count_text));
  std::vector<std::string> lemmas;
  for (long i = 0; i < count; ++i) {
    lemmas.push_back(lemma_of(take_field(fields)));
    take_field(fields);
  }
  return join(lemmas, ", ") + ": " + std::string(trim(line.substr(bar + 3)));
}

}  // namespace

std::vector<std::string> parse_wordnet(std::string_view data, const std::string& where) {
  std::vector<std::string> documents;
  std::size_t number = 0;
  for (std::size_t begin = 0; begin < data.size();) {
    const std::size_t end = std::min(data.find('\n', begin), data.size());
    const std::string_view line = data.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.starts_with("  ")) continue;  // the licence
    documents.push_back(wordnet_document(line, fmt::format("{}: line {}", where, number)));
  }
  return documents;
}

std::vector<std::string> read_wordnet(const Path& folder) {
  std::vector<std::string> documents;
  for (const char* part : {"data.noun", "data.verb", "data.adj", "data.adv"}) {
    auto some = parse_wordnet(read_file(folder / part), (folder / part).string());
    documents.insert(documents.end(), std::make_move_iterator(some.begin()),
                     std::make_move_iterator(some.end()));
  }
  return documents;
}

std::vector<std::string> parse_bible(std::string_view printed) {
  std::vector<std::string> documents;
  for (const std::string& raw : split(printed, '\n')) {
    const std::string line(trim(raw));
    if (line.empty()) continue;
    const bool verse = raw.starts_with(' ') && std::isdigit(static_cast<unsigned char>(line[0]));
    const bool title = !verse || line.find(' ') == std::string::npos ||
                       std::isdigit(static_cast<unsigned char>(line.back()));
    if (title)
      documents.push_back(line);
    else if (!documents.empty())
      documents.back() += "\n" + line;
  }
  return documents;
}

std::vector<std::string> read_bible() {
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(
      ::popen("bible -l1000000 Gen1:1-Rev22:21 2>/dev/null", "r"), ::pclose);
  require(pipe != nullptr, "the program `bible` could not be started");
  std::string printed;
  std::array<char, 1 << 16> chunk;
  while (const std::size_t got = std::fread(chunk.data(), 1, chunk.size(), pipe.get()))
    printed.append(chunk.data(), got);
  auto documents = parse_bible(printed);
  // 1,189 chapters; another edition of the package may count a few more or fewer headings.
  require(documents.size() > 1000, "`bible` printed {} chapters, expected some 1,189",
          documents.size());
  return documents;
}

std::string missing_english() {
  if (!std::filesystem::exists("/usr/share/wordnet/data.noun"))
    return "the package wordnet-base is not installed";
  if (!std::filesystem::exists("/usr/bin/bible")) return "the package bible-kjv is not installed";
  return "";
}

}  // namespace cresco::corpora
