#include "cresco/trajectories/lint_warnings.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <algorithm>
#include <map>
#include <set>

namespace cresco::trajectories {

std::string lint_warning(const Trajectory& trajectory, const std::vector<std::int64_t>& steps,
                         const std::string& lint_json) {
  namespace fs = std::filesystem;
  Path file = lint_json.empty() ? trajectory.path() : Path(lint_json);
  if (fs::is_directory(file)) file /= "lint.json";
  if (lint_json.empty() && (!fs::exists(file) || file.filename() != "lint.json")) return "";
  const Json report = read_json_file(file);
  const bool is_lint = report.is_object() && report.contains("findings") &&
                       report["findings"].is_array() && report.contains("ok");
  require(is_lint, "{}: is not what `cresco lint --out` writes", file.string());

  std::set<std::int64_t> wrong;
  std::set<std::string> codes;
  std::size_t errors = 0;
  for (const Json& finding : report["findings"]) {
    if (!finding.is_object() || finding.value("level", Json()) != "error") continue;
    const Json step = finding.value("step", Json());
    if (!step.is_number_integer() ||
        !std::binary_search(steps.begin(), steps.end(), step.get<std::int64_t>()))
      continue;
    ++errors;
    wrong.insert(step.get<std::int64_t>());
    if (finding.value("code", Json()).is_string()) codes.insert(finding["code"].get<std::string>());
  }
  if (errors == 0) return "";
  return fmt::format("warning: lint found {} error{} at steps {} of those used here ({}): {}",
                     errors, errors == 1 ? "" : "s", list_steps({wrong.begin(), wrong.end()}),
                     escape_for_terminal(join({codes.begin(), codes.end()}, ", ")), file.string());
}

}  // namespace cresco::trajectories
