#include "cresco/verbs/report.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/report/render.h"
#include "cresco/report/sections.h"

#include <fmt/format.h>

namespace cresco::verbs {
namespace {

std::string default_title(const Path& folder) {
  const Path whole = std::filesystem::absolute(folder).lexically_normal();
  return (whole.has_filename() ? whole : whole.parent_path()).filename().string();
}

Json summary_of(const report::Report& page, const report::Sources& sources) {
  Json sections = Json::array(), folders = Json::array();
  for (const report::Section& section : page.sections) sections.push_back(section.title);
  for (const report::Source& source : sources) folders.push_back(source.path);
  return {{"title", page.title},
          {"sections", std::move(sections)},
          {"absent", page.absent},
          {"sources", std::move(folders)}};
}

}  // namespace

Outcome run_report(const ReportConfig& config, VerbContext& context) {
  require_usage(!config.dirs.empty(),
                "report: which folders of tables? cresco report DIR... --out FILE.html");
  require_usage(!context.options.out.empty(), "report: --out FILE.html is missing");
  const Path out = context.options.out;

  const report::Sources sources =
      report::open_sources(std::vector<Path>(config.dirs.begin(), config.dirs.end()));
  const report::Report page = report::make_report(
      config.title.empty() ? default_title(config.dirs[0]) : config.title, sources);
  Outcome outcome;
  outcome.summary = summary_of(page, sources);
  outcome.summary["out"] = out.string();
  if (config.text) outcome.text = report::render_text(page);
  if (context.options.dry_run) {
    outcome.text +=
        fmt::format("{}: {} sections, nothing written\n", out.string(), page.sections.size());
    return outcome;
  }

  artifacts::Manifest manifest = manifest_of("report", config, context);
  for (const report::Source& source : sources)
    manifest.inputs.insert(manifest.inputs.end(), source.files.begin(), source.files.end());
  make_output_file(out, context.options.overwrite, manifest.inputs);
  const std::string html = report::render_html(page);
  write_file(out, html);
  artifacts::write_manifest(out, manifest);
  outcome.summary["bytes"] = html.size();
  outcome.text +=
      fmt::format("{}: {} sections from {} folders, {}\n", out.string(), page.sections.size(),
                  sources.size(), human_bytes(static_cast<double>(html.size())));
  return outcome;
}

}  // namespace cresco::verbs
