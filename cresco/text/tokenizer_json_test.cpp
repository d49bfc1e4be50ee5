// What a tokenizer.json may not be, and the message for each.
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/text/byte_alphabet.h"
#include "cresco/text/tokenizer.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace cresco::text {
namespace {

const char* const kSmall = R"({
  "version": "1.0", "truncation": null, "padding": null,
  "added_tokens": [{"id": 4, "content": "<|endoftext|>", "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": true}],
  "normalizer": {"type": "NFC"},
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
  "post_processor": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
  "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
  "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false,
            "vocab": {"a": 0, "b": 1, "Ġ": 2, "Ġa": 3}, "merges": ["Ġ a"]}
})";

std::string message_of_text(const std::string& text) {
  try {
    Tokenizer::from_json(text, "t.json");
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

// The message for the small tokenizer with one value changed, given by its JSON pointer.
std::string message_with(const char* pointer, const char* value) {
  Json json = parse_json(kSmall, "test");
  json[Json::json_pointer(pointer)] = Json::parse(value);
  return message_of_text(json.dump());
}

std::string message_without(const char* object, const char* member) {
  Json json = parse_json(kSmall, "test");
  json[Json::json_pointer(object)].erase(member);
  return message_of_text(json.dump());
}

TEST(TokenizerJson, ReadsASmallOne) {
  const Tokenizer tokenizer = Tokenizer::from_json(kSmall, "t.json");
  EXPECT_EQ(tokenizer.vocab_size(), 5);
  EXPECT_EQ(tokenizer.token_bytes(3), " a");
  EXPECT_EQ(tokenizer.token_id(" "), 2);
  EXPECT_EQ(tokenizer.end_of_text(), 4);
  EXPECT_TRUE(tokenizer.parts().nfc);
  EXPECT_EQ(tokenizer.parts().merges.size(), 1u);
}

TEST(TokenizerJson, ReadsMergesAsPairsToo) {
  EXPECT_EQ(message_with("/model/merges", R"([["Ġ", "a"]])"), "no error");
  EXPECT_EQ(message_with("/model/merges", R"(["#version: 0.2", "Ġ a"])"), "no error");
}

TEST(TokenizerJson, NamesWhatIsMissingOrOfTheWrongKind) {
  EXPECT_EQ(message_without("/model", "vocab"), "t.json: model.vocab is missing, or not an object");
  EXPECT_EQ(message_without("/model", "merges"), "t.json: model.merges is missing, or not a list");
  EXPECT_EQ(message_without("", "model"), "t.json: model is missing");
  EXPECT_EQ(message_without("", "pre_tokenizer"), "t.json: pre_tokenizer is missing");
  EXPECT_EQ(message_without("", "decoder"), "t.json: decoder is missing: ByteLevel is expected");
  EXPECT_EQ(message_without("/added_tokens/0", "special"),
            "t.json: added_tokens[0].special is missing");
  EXPECT_EQ(message_without("/pre_tokenizer", "type"), "t.json: pre_tokenizer.type is missing");
  EXPECT_EQ(message_with("/added_tokens", "3"), "t.json: added_tokens is 3, not a list");
  EXPECT_EQ(message_with("/added_tokens/0/id", "\"4\""),
            "t.json: added_tokens[0].id is \"4\", not an id");
  EXPECT_EQ(message_with("/added_tokens/0/special", "1"),
            "t.json: added_tokens[0].special is 1, not true or false");
  EXPECT_EQ(message_with("/added_tokens/0/content", "null"),
            "t.json: added_tokens[0].content is null, not text");
  EXPECT_EQ(message_with("/model", "[]"), "t.json: model is [], not an object");
  EXPECT_EQ(message_with("/model/vocab", "[]"), "t.json: model.vocab is missing, or not an object");
  EXPECT_EQ(message_with("/model/vocab/a", "\"x\""),
            "t.json: model.vocab['a'] is \"x\", not an id");
  EXPECT_EQ(message_with("/model/vocab/a", "0.5"), "t.json: model.vocab['a'] is 0.5, not an id");
  EXPECT_EQ(message_with("/model/vocab/a", "{}"), "t.json: model.vocab['a'] is {}, not an id");
  EXPECT_EQ(message_with("/model/vocab/a", "[]"), "t.json: model.vocab['a'] is [], not an id");
  EXPECT_EQ(message_with("/model/merges/0", "7"),
            "t.json: a merge is 7, not two tokens, after 0 of model.merges");
  EXPECT_EQ(message_with("/model/merges/0", "[\"a\"]"),
            "t.json: model.merges[0] has 1 parts, not two");
  EXPECT_EQ(message_with("/model/merges/0", "[\"a\",\"b\",\"b\"]"),
            "t.json: model.merges[0] has more than two parts");
  EXPECT_EQ(message_with("/model/merges/0", "[\"a\",[]]"),
            "t.json: a merge is [], not two tokens, after 1 of model.merges");
  EXPECT_EQ(message_of_text("5"), "t.json: the file is 5, not an object");
  EXPECT_EQ(message_of_text(""), "t.json: not JSON at byte 1: an incomplete copy?");
  EXPECT_EQ(message_of_text(std::string(kSmall).substr(0, 300)),
            "t.json: not JSON at byte 301: an incomplete copy?");
  EXPECT_EQ(message_of_text(std::string(100'000, '[')),
            "t.json: JSON nested deeper than 100 levels");
}

TEST(TokenizerJson, RefusesIdsThatCannotBe) {
  EXPECT_EQ(message_with("/model/vocab/a", "-1"),
            "t.json: model.vocab['a'] has the negative id -1");
  EXPECT_EQ(message_with("/added_tokens/0/id", "-4"),
            "t.json: added_tokens[0].id is -4, not an id");
  EXPECT_EQ(message_with("/model/vocab/a", "4294967296"),
            "t.json: model.vocab['a'] has id 4294967296, more than 2147483647");
  EXPECT_EQ(message_with("/model/vocab/a", "2000000000"),
            "t.json: token 'a' has id 2000000000, with 5 tokens in all");
  EXPECT_EQ(message_with("/model/vocab/a", "1"), "t.json: tokens 'a' and 'b' have the same id 1");
  EXPECT_EQ(message_with("/added_tokens/0/id", "3"),
            "t.json: added token '<|endoftext|>' has id 3, which is that of token ' a'");
  EXPECT_EQ(message_with("/model/vocab/<|endoftext|>", "5"),
            "t.json: '<|endoftext|>' has id 4 in added_tokens and 5 in model.vocab");
}

TEST(TokenizerJson, RefusesTokensThatCannotBe) {
  EXPECT_EQ(message_with("/model/vocab/日", "5"),
            "t.json: model.vocab['日'] has a character that is not of the byte alphabet: not a "
            "byte-level tokenizer?");
  EXPECT_EQ(message_with("/model/vocab/ ", "5"),
            "t.json: model.vocab[' '] has a character that is not of the byte alphabet: not a "
            "byte-level tokenizer?");
  EXPECT_EQ(message_with("/model/vocab/", "5"), "t.json: the token of id 5 is empty");
  EXPECT_EQ(message_with("/added_tokens/0/content", "\"\""),
            "t.json: the added token of id 4 is empty");
  std::string twice = kSmall;
  twice.replace(twice.find("\"b\": 1"), 6, "\"a\": 1");
  EXPECT_EQ(message_of_text(twice), "t.json: 'a' stands twice in model.vocab");
  Json json = parse_json(kSmall, "test");
  json["added_tokens"].push_back(json["added_tokens"][0]);
  json["added_tokens"][1]["id"] = 5;
  EXPECT_EQ(message_of_text(json.dump()), "t.json: added token '<|endoftext|>' stands there twice");
  EXPECT_EQ(message_of_text(R"({"version": "1.0", "version": "1.0"})"),
            "t.json: the name 'version' stands twice in one object");
}

TEST(TokenizerJson, RefusesMergesThatCannotBe) {
  EXPECT_EQ(message_with("/model/merges/0", "\"Ġ c\""),
            "t.json: model.merges[0]: 'c' is not in model.vocab");
  EXPECT_EQ(message_with("/model/merges/0", "\"b a\""),
            "t.json: merge 0 makes 'ba', which is not in the vocabulary");
  EXPECT_EQ(message_with("/model/merges/0", "\"Ġa\""),
            "t.json: model.merges[0] is 'Ġa', not two tokens with a space between");
  EXPECT_EQ(message_with("/model/merges/0", "\"Ġ  a\""),
            "t.json: model.merges[0] is 'Ġ  a', not two tokens with a space between");
  EXPECT_EQ(message_with("/model/merges", R"(["Ġ a", "Ġ a"])"),
            "t.json: merge 1 (' ' + 'a') stands there a second time");
  // A token that is made of itself needs an empty other half.
  EXPECT_EQ(message_with("/model/merges", R"([["a", ""]])"),
            "t.json: model.merges[0]: '' is not in model.vocab");
}

TEST(TokenizerJson, NamesEverySettingThatItWouldIgnore) {
  EXPECT_EQ(message_with("/version", "\"2.0\""),
            "t.json: version is \"2.0\": only version 1.0 is known");
  EXPECT_EQ(
      message_with("/truncation", R"({"max_length": 5})"),
      "t.json: truncation is {\"max_length\":5}: texts are not cut short here; set it to null");
  EXPECT_EQ(message_with("/padding", "{}"),
            "t.json: padding is {}: texts are not padded here; set it to null");
  EXPECT_EQ(message_with("/normalizer", R"({"type": "Lowercase"})"),
            "t.json: normalizer.type is 'Lowercase': only NFC is implemented");
  EXPECT_EQ(
      message_with("/normalizer",
                   R"({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "NFKC"}]})"),
      "t.json: normalizer.normalizers[1].type is 'NFKC': only NFC is implemented");
  EXPECT_EQ(message_with("/normalizer", R"({"type": "Sequence", "normalizers": []})"), "no error");
  EXPECT_EQ(message_with("/pre_tokenizer", R"({"type": "Whitespace"})"),
            "t.json: pre_tokenizer.type is 'Whitespace': only ByteLevel is implemented here");
  EXPECT_EQ(message_with("/pre_tokenizer/surprise", "1"),
            "t.json: pre_tokenizer.surprise is not a setting that is known here");
  EXPECT_EQ(
      message_with("/post_processor", R"({"type": "TemplateProcessing", "single": []})"),
      "t.json: post_processor.type is 'TemplateProcessing': only ByteLevel is implemented here");
  EXPECT_EQ(message_with("/post_processor", "null"), "no error");
  EXPECT_EQ(message_with("/decoder/type", "\"WordPiece\""),
            "t.json: decoder.type is 'WordPiece': only ByteLevel is implemented here");
  EXPECT_EQ(message_with("/model/type", "\"Unigram\""),
            "t.json: model.type is \"Unigram\": only BPE is implemented");
  EXPECT_EQ(message_with("/model/dropout", "0.1"),
            "t.json: model.dropout is 0.1: encoding at random is not implemented");
  EXPECT_EQ(
      message_with("/model/unk_token", "\"a\""),
      "t.json: model.unk_token is \"a\": it is not implemented, and some bytes have no token");
  EXPECT_EQ(
      message_with("/model/byte_fallback", "true"),
      "t.json: model.byte_fallback is true: it is not implemented, and some bytes have no token");
  EXPECT_EQ(message_with("/model/end_of_word_suffix", "\"</w>\""),
            "t.json: model.end_of_word_suffix is \"</w>\": it is not implemented");
  EXPECT_EQ(message_with("/model/surprise", "1"),
            "t.json: model.surprise is not a setting that is known here");
  EXPECT_EQ(message_with("/surprise", "1"), "t.json: surprise is not a setting that is known here");
}

TEST(TokenizerJson, KnowsTwoSplitsByTheirExpression) {
  const auto with = [](const char* regex, const char* behavior, bool invert, bool use_regex) {
    const Json split{{"type", "Split"},
                     {"pattern", {{"Regex", regex}}},
                     {"behavior", behavior},
                     {"invert", invert}};
    const Json bytes{{"type", "ByteLevel"},
                     {"add_prefix_space", false},
                     {"trim_offsets", true},
                     {"use_regex", use_regex}};
    Json sequence{{"type", "Sequence"}, {"pretokenizers", Json::array({split, bytes})}};
    return message_with("/pre_tokenizer", sequence.dump().c_str());
  };
  const std::string cl100k(kCl100kRegex);
  EXPECT_EQ(with(cl100k.c_str(), "Removed", true, false), "no error");
  EXPECT_EQ(with(cl100k.c_str(), "Isolated", false, false), "no error");
  EXPECT_EQ(with(std::string(kGpt2Regex).c_str(), "Isolated", false, false), "no error");
  EXPECT_EQ(with("\\s+", "Isolated", false, false),
            "t.json: pre_tokenizer.pretokenizers[0].pattern is '\\s+': only the expressions of "
            "GPT-2 and cl100k "
            "are implemented");
  EXPECT_EQ(with(cl100k.c_str(), "Removed", false, false),
            "t.json: pre_tokenizer.pretokenizers[0].behavior is 'Removed' with invert false: "
            "Removed with invert, or "
            "Isolated without, is implemented");
  EXPECT_EQ(with(cl100k.c_str(), "Removed", true, true),
            "t.json: pre_tokenizer.pretokenizers[1] splits again, or adds spaces: use_regex and "
            "add_prefix_space have "
            "to be false there");
}

TEST(TokenizerJson, ReadsWhatItWrites) {
  TokenizerParts parts;
  for (int byte = 0; byte < 256; ++byte)
    parts.vocabulary.push_back({std::string(1, static_cast<char>(byte)), byte});
  parts.vocabulary.push_back({"\xE2\x80", 300});  // half a character, after a gap
  parts.vocabulary.push_back({"日本", 301});      // by its content, as it is an added token
  parts.merges = {{0xE2, 0x80}};
  parts.added_tokens = {{301, "日本", true, true, false, true, false},
                        {302, "\"quoted\"\n", false, false, true, false, true}};
  for (const Split split : {Split::None, Split::Gpt2, Split::Cl100k})
    for (const bool flag : {false, true}) {
      parts.split = split;
      parts.nfc = parts.ignore_merges = flag;
      parts.add_prefix_space = flag && split != Split::Cl100k;
      const std::string text = Tokenizer(parts, "test").to_json();
      const Tokenizer read = Tokenizer::from_json(text, "written");
      EXPECT_EQ(read.parts(), parts);
      EXPECT_EQ(read.to_json(), text);
    }
}

TEST(TokenizerJson, SaysWhichFileIsTooLarge) {
  const TemporaryFolder folder;
  write_file(folder / "t.json", "{}");
  std::filesystem::resize_file(folder / "t.json", 100'000'001);  // takes no room on the disk
  try {
    read_tokenizer(folder / "t.json");
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("t.json"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("100000000"), std::string::npos) << e.what();
  }
}

TEST(ByteAlphabet, GoesThereAndBack) {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string bytes(1, static_cast<char>(byte));
    EXPECT_EQ(from_alphabet(to_alphabet(bytes)), bytes);
  }
  EXPECT_EQ(to_alphabet(" the\n"), "ĠtheĊ");
  EXPECT_EQ(from_alphabet("a b"), std::nullopt);
  EXPECT_EQ(from_alphabet("日"), std::nullopt);
  EXPECT_EQ(bytes_in_alphabet_order()[0], '!');
  EXPECT_EQ(bytes_in_alphabet_order()[255], 173);
}

}  // namespace
}  // namespace cresco::text
