#include "cresco/base/files.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/report/render.h"
#include "cresco/report/sections.h"
#include "cresco/report/testing/demo_folder.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace cresco::report {
namespace {

// What a page says, as a file whose changes can be read. CRESCO_UPDATE_GOLDENS=1 writes it anew.
void expect_golden(const std::string& name, const std::string& title,
                   const std::vector<Path>& tables) {
  const std::string text = render_text(make_report(title, open_sources(tables)));
  const Path golden = Path(CRESCO_SOURCE_DIR) / "cresco/report/testdata" / name;
  if (std::getenv("CRESCO_UPDATE_GOLDENS") != nullptr) write_file(golden, text);
  EXPECT_EQ(text, read_file(golden));
}

TEST(RenderText, SaysWhatItSaidBefore) {
  const TemporaryFolder folder;
  testing::write_demo_folder(folder / "demo");
  expect_golden("demo.txt", "Demo", {folder / "demo"});
}

TEST(RenderText, SaysWhatItSaidOfArmsBefore) {
  const TemporaryFolder folder;
  testing::write_arms_folder(folder.path());
  expect_golden("arms.txt", "Arms", {folder / "arms", folder / "seeds", folder / "geometry"});
}

TEST(RenderText, ShowsControlCharactersInsteadOfObeyingThem) {
  const Report report{.title = "a\x1b[2Jb\u202e", .sections = {{.id = "x", .title = "new\nline"}}};
  const std::string text = render_text(report);
  EXPECT_TRUE(text.starts_with("a\\x1b[2Jb\\u202e\n")) << text;
  EXPECT_NE(text.find("new\\nline\n---------\n"), std::string::npos) << text;
}

}  // namespace
}  // namespace cresco::report
