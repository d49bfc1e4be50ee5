// What a verb of the program gets and what it gives back. Each verb is a config with `fields` and a
// function `Outcome run_x(const XConfig&, VerbContext&)`; cli/main.cpp is the table of them.
#pragma once

#include "cresco/artifacts/manifest.h"
#include "cresco/base/fields.h"
#include "cresco/base/progress.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <set>
#include <string>
#include <vector>

namespace cresco::verbs {

// The options that all verbs share, beside --config and --set, which the program handles itself.
struct CommonOptions {
  std::string out, lint;
  std::int64_t seed = -1;
  std::string device = "cpu";
  std::int64_t threads = 0;
  bool overwrite = false, quiet = false, json = false, dry_run = false;

  void fields(FieldVisitor& v) {
    v.alias("output", "out");
    v.field("out", out, "what to write: a file or a folder, as the verb says");
    v.field(
        "lint", lint,
        "findings of `cresco lint --out` to warn of: its folder or file; empty is the lint.json "
        "that stands in a trajectory's own folder");
    v.field("seed", seed, "of everything random; -1 is the config's own, else 0");
    v.field("device", device, "cpu or cuda[:i]");
    v.field("threads", threads, "0 is as many as this process may use");
    v.field("overwrite", overwrite, "replace what stands at --out");
    v.field("quiet", quiet, "no progress on stderr");
    v.field("json", json, "print the summary as one JSON object");
    v.field("dry_run", dry_run, "check the inputs, print the plan, write nothing");
  }
};

struct VerbContext {
  CommonOptions options;
  std::vector<std::string> command;  // as it was typed
  Progress& progress;
  // The fields that the command line names, by an option or --set: not those of files and recipes.
  std::set<std::string> given = {};

  // What goes on where this command stopped: the same without --overwrite, which would begin anew.
  std::string resume_command() const {
    std::string text;
    for (const std::string& word : command)
      if (!word.starts_with("--overwrite")) text += (text.empty() ? "" : " ") + shell_quoted(word);
    return text;
  }
  std::uint64_t seed() const {
    require_usage(options.seed >= -1, "--seed is {}, expected 0 or more", options.seed);
    return options.seed < 0 ? 0 : static_cast<std::uint64_t>(options.seed);
  }
};

// For verbs whose kernels run on the CPU alone.
inline void require_cpu(const VerbContext& context, const char* verb) {
  require_usage(context.options.device == "cpu", "--device {}: {} runs on the CPU only",
                context.options.device, verb);
}

// stdout gets `summary` as one JSON object with --json, else `text`.
struct Outcome {
  Json summary = Json::object();
  std::string text;
  int exit_code = 0;
};

// The manifest of this verb's output, with command and settings filled in; inputs are the caller's.
template <class Config>
artifacts::Manifest manifest_of(const char* verb, const Config& config,
                                const VerbContext& context) {
  Config copy = config;  // visiting takes references that a visitor could write to
  return {.verb = verb,
          .command = context.command,
          .settings = fields_to_json([&copy](FieldVisitor& v) { copy.fields(v); }),
          .device = context.options.device};
}

}  // namespace cresco::verbs
