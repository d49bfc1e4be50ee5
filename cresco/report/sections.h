// Which sections a report can have, and what each is built from.
#pragma once

#include "cresco/report/report.h"
#include "cresco/report/sources.h"

#include <optional>
#include <string>
#include <vector>

namespace cresco::report {

struct SectionKind {
  const char* title;
  const char* needs;  // the file without which there is no such section
  std::optional<Section> (*build)(const Sources& sources);
};

// In the order of the page.
std::vector<SectionKind> section_kinds();

Report make_report(const std::string& title, const Sources& sources);

}  // namespace cresco::report
