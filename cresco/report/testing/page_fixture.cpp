// report_page_fixture FOLDER: writes FOLDER/demo (tables) and FOLDER/report.html for the test in a
// browser.
#include "cresco/report/render.h"
#include "cresco/report/sections.h"
#include "cresco/report/testing/demo_folder.h"

#include <cstdio>
#include <exception>

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
    const auto report = cresco::report::make_report(
        "Demo <b>& friends</b>", cresco::report::open_sources({folder / "demo"}));
    cresco::write_file(folder / "report.html", cresco::report::render_html(report));
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "report_page_fixture: %s\n", error.what());
    return 1;
  }
}
