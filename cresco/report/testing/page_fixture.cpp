// report_page_fixture FOLDER: writes FOLDER/demo (tables) and FOLDER/report.html, and the same of
// the arms of an experiment, arms and arms.html, and of a dictionary of 24,576 features, large and
// large.html, for the test in a browser.
#include "cresco/report/render.h"
#include "cresco/report/sections.h"
#include "cresco/report/testing/demo_folder.h"
#include "cresco/report/testing/large_lifecycle.h"

#include <cstdio>
#include <exception>

namespace {

void write_page(const std::vector<cresco::Path>& tables, const std::string& title,
                const cresco::Path& page) {
  const auto report = cresco::report::make_report(title, cresco::report::open_sources(tables));
  cresco::write_file(page, cresco::report::render_html(report));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: report_page_fixture FOLDER\n");
    return 2;
  }
  try {
    const cresco::Path folder = argv[1];
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
    cresco::report::testing::write_demo_folder(folder / "demo");
    write_page({folder / "demo"}, "Demo <b>& friends</b>", folder / "report.html");
    const cresco::Path arms = folder / "arms";
    cresco::report::testing::write_arms_folder(arms);
    write_page({arms / "arms", arms / "seeds", arms / "geometry"}, "Arms", folder / "arms.html");
    cresco::report::testing::write_large_lifecycle(folder / "large", 24576);
    write_page({folder / "large"}, "A dictionary of 24,576 features", folder / "large.html");
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "report_page_fixture: %s\n", error.what());
    return 1;
  }
}
