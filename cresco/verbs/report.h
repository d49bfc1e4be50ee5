// cresco report DIR... --out FILE.html: folders of tables become one page.
#pragma once

#include "cresco/verbs/verb.h"

#include <string>
#include <vector>

namespace cresco::verbs {

struct ReportConfig {
  std::vector<std::string> dirs;
  std::string title;
  bool text = false;

  void fields(FieldVisitor& v) {
    v.field("dirs", dirs,
            "what verbs wrote: run, dictionary, quality, lifecycle, ... folders, or folders that "
            "hold such folders");
    v.field("title", title, "heading of the page; empty is the name of the first folder");
    v.field("text", text, "also print what the page says, as plain text");
  }
};

// Summary: `out`, `title`, `bytes`, `sections` and `absent` (titles), `sources` (folders).
Outcome run_report(const ReportConfig& config, VerbContext& context);

}  // namespace cresco::verbs
