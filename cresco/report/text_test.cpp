#include "cresco/base/files.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/report/render.h"
#include "cresco/report/sections.h"
#include "cresco/report/testing/demo_folder.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace cresco::report {
namespace {

// What the page says, as a file whose changes can be read. CRESCO_UPDATE_GOLDENS=1 writes it anew.
TEST(RenderText, SaysWhatItSaidBefore) {
  const TemporaryFolder folder;
  testing::write_demo_folder(folder / "demo");
  const std::string text = render_text(make_report("Demo", open_sources({folder / "demo"})));
  const Path golden = Path(CRESCO_SOURCE_DIR) / "cresco/report/testdata/demo.txt";
  if (std::getenv("CRESCO_UPDATE_GOLDENS") != nullptr) write_file(golden, text);
  EXPECT_EQ(text, read_file(golden));
}

TEST(RenderText, ShowsControlCharactersInsteadOfObeyingThem) {
  const Report report{.title = "a\x1b[2Jb\u202e", .sections = {{.id = "x", .title = "new\nline"}}};
  const std::string text = render_text(report);
  EXPECT_TRUE(text.starts_with("a\\x1b[2Jb\\u202e\n")) << text;
  EXPECT_NE(text.find("new\\nline\n---------\n"), std::string::npos) << text;
}

}  // namespace
}  // namespace cresco::report
