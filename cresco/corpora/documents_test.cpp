#include "cresco/corpora/documents.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"

#include <gtest/gtest.h>

namespace cresco::corpora {
namespace {

std::vector<std::string> all(Documents& documents) {
  std::vector<std::string> read;
  for (std::string document; documents.next(document);) read.push_back(document);
  return read;
}

TEST(TextFiles, AreOneDocumentAFileOrALine) {
  const TemporaryFolder folder;
  write_file(folder / "a.txt", "one\ntwo\n");
  write_file(folder / "b.jsonl",
             "{\"text\": \"x\\ny\", \"id\": 3}\n\n{\"text\": \"\"}\n{\"text\":\"z\"}");
  const auto files = text_files({(folder / "a.txt").string(), (folder / "b.jsonl").string()});
  EXPECT_EQ(all(*files), (std::vector<std::string>{"one\ntwo\n", "x\ny", "", "z"}));
}

TEST(TextFiles, RefuseWhatIsNotText) {
  const TemporaryFolder folder;
  write_file(folder / "empty", "");
  write_file(folder / "binary", std::string("ab\0c", 4));
  write_file(folder / "bad.jsonl", "{\"text\": \"x\"}\n{\"txt\": \"y\"}\n");
  const auto read = [&](const char* name) {
    const auto files = text_files({(folder / name).string()});
    return all(*files);
  };
  EXPECT_THROW(read("empty"), Error);
  EXPECT_THROW(read("binary"), Error);
  EXPECT_THROW(read("none"), Error);
  try {
    read("bad.jsonl");
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("line 2: 'text' is missing"), std::string::npos)
        << e.what();
  }
  EXPECT_THROW(text_files({}), UsageError);
}

}  // namespace
}  // namespace cresco::corpora
