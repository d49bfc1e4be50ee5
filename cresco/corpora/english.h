// English text that Debian packages put on the disk: the glosses of WordNet (wordnet-base) and the
// King James Bible (bible-kjv, printed by its program).
#pragma once

#include "cresco/base/files.h"

#include <string>
#include <vector>

namespace cresco::corpora {

// One document an entry: "dog, domestic dog: a member of the genus Canis ...; \"the dog barked\"".
// Error with file and line for anything that is not WordNet's data format.
std::vector<std::string> parse_wordnet(std::string_view data, const std::string& where);
std::vector<std::string> read_wordnet(const Path& folder = "/usr/share/wordnet");

// One document a chapter, as the program prints it: the title, then a line a verse.
std::vector<std::string> parse_bible(std::string_view printed);
std::vector<std::string> read_bible();  // runs `bible`

// Why the texts are not there ("the package bible-kjv is not installed"), or "" when they are.
std::string missing_english();

}  // namespace cresco::corpora
