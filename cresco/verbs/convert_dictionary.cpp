#include "cresco/verbs/convert_dictionary.h"

#include "cresco/base/json.h"
#include "cresco/base/output_folder.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/dictionaries/exports.h"
#include "cresco/dictionaries/imports.h"
#include "cresco/dictionaries/index.h"
#include "cresco/trajectories/steps.h"

#include <algorithm>

namespace cresco::verbs {
namespace {

namespace fs = std::filesystem;
using dictionaries::Dictionary;
using dictionaries::SnapshotStatistics;

dictionaries::DictionaryLabels labels_of(const ConvertVerbConfig& config) {
  dictionaries::DictionaryLabels labels{config.model, config.convert.matrix, {}};
  if (config.convert.steps != "all")
    labels.steps = trajectories::named_steps(config.convert.steps, 0);
  return labels;
}

// Those that the dictionary's rows were preprocessed with, of a stack or, without one, of the file
// itself; none when nothing was done to the rows, or when nobody says.
std::vector<SnapshotStatistics> statistics_of(const ConvertVerbConfig& config,
                                              const Dictionary& dictionary) {
  const std::string& mode = dictionary.training.input_preprocess;
  std::vector<SnapshotStatistics> statistics;
  if (mode == "none") return statistics;
  if (config.stack.empty()) return dictionary.statistics;
  const trajectories::Stack stack(config.stack);
  for (const std::int64_t k : heads_in(stack, dictionary))
    statistics.push_back(dictionaries::snapshot_statistics(stack.at(k), mode));
  return statistics;
}

// The files as they will stand in `folder`.
std::vector<std::string> placed(const std::vector<Path>& files, const Path& folder) {
  std::vector<std::string> texts;
  for (const Path& file : files) texts.push_back((folder / file.filename()).string());
  return texts;
}

// What a user of the files has to do to the rows himself.
std::string remaining_work(const Dictionary& dictionary, bool folded) {
  const std::string& mode = dictionary.training.input_preprocess;
  if (mode == "none") return "";
  return folded ? fmt::format("{} is folded into the numbers: give rows as they are\n", mode)
                : fmt::format("{} is not folded: rows have to be preprocessed (--stack folds it)\n",
                              mode);
}

}  // namespace

bool is_dictionary_layout(const std::string& layout) {
  const auto& names = dictionaries::export_layouts();
  return layout == "dictionary" || std::find(names.begin(), names.end(), layout) != names.end();
}

Outcome convert_dictionary(const ConvertVerbConfig& config, VerbContext& context) {
  const Path in = config.trajectory;
  const std::string& to = config.convert.to;
  require(fs::exists(in), "{}: no such file or folder", in.string());
  const std::string from = config.from.empty() ? dictionaries::recognised_layout(in) : config.from;
  require(!from.empty(),
          "{}: holds no dictionary: looked for a .safetensors file with its .config.json, a "
          "training's .pt, and the files of {}",
          in.string(), join(dictionaries::export_layouts(), ", "));
  const std::vector<Path> inputs = dictionaries::files_of_layout(in, from);
  require(to != from || inputs[0].extension() == ".pt", "{}: is of layout {} already", in.string(),
          from);
  require_usage(to != "dictionary" || config.stack.empty(),
                "--stack is for other libraries' files: a dictionary says how its rows are "
                "preprocessed");
  const Dictionary dictionary = dictionaries::import_dictionary(in, from, labels_of(config));
  for (const std::string& note : dictionary.notes) context.progress.note(note);
  const auto statistics = statistics_of(config, dictionary);
  if (to != "dictionary") dictionaries::check_export(dictionary, to, statistics);
  if (context.options.dry_run)
    return {.text = fmt::format("would convert {} ({}) to {}\n", dictionary.name, from, to)};

  const Path out = context.options.out;
  require_usage(!out.empty(), "--out is needed: the folder to write");
  require_usage(!is_within(in, out), "--out {}: holds what is to be read", out.string());
  OutputFolder output(out, context.options.overwrite, inputs);
  artifacts::Manifest manifest = manifest_of("convert", config, context);
  manifest.inputs = inputs;
  if (!config.stack.empty()) manifest.inputs.emplace_back(config.stack);
  Outcome outcome{.summary = {{"from", from}, {"to", to}, {"out", out.string()}}};
  if (to == "dictionary") {
    write_dictionary(output.folder(), dictionary);
    outcome.summary["files"] = placed(dictionary.files(out), out);
    outcome.text = fmt::format("{} ({}) is written to {}\n", dictionary.name, from, out.string());
  } else {
    const auto made = dictionaries::export_dictionary(dictionary, to, output.folder(), statistics);
    const auto apart = dictionaries::export_difference(
        dictionary, dictionaries::import_dictionary(output.folder(), to, {}), statistics,
        context.seed());
    outcome.summary["files"] = placed(made.files, out);
    outcome.summary["origin"] = made.origin;
    outcome.summary["codes_relative_difference"] = apart.codes;
    outcome.summary["reconstructions_relative_difference"] = apart.reconstructions;
    manifest.facts = {{"origin", made.origin},
                      {"codes_relative_difference", apart.codes},
                      {"reconstructions_relative_difference", apart.reconstructions}};
    outcome.text = fmt::format(
        "{} is written to {} for {}; read again, codes differ by {:.2g} and reconstructions by "
        "{:.2g} (relative)\n{}",
        dictionary.name, out.string(), to, apart.codes, apart.reconstructions,
        remaining_work(dictionary, !statistics.empty()));
  }
  artifacts::write_manifest(output.folder(), manifest);
  output.commit();
  return outcome;
}

Outcome convert_to_index(const ConvertVerbConfig& config, VerbContext& context) {
  const Path tree = config.trajectory;
  require(fs::is_directory(tree), "{}: is no folder", tree.string());
  auto index = dictionaries::scan_dictionaries(tree);
  for (const auto& problem : index.problems) fail("{}", problem.error);
  require(!index.dictionaries.empty(),
          "{}: holds no dictionary (a .safetensors file with its .config.json)", tree.string());
  const Path out = context.options.out.empty() ? tree / "index.json" : Path(context.options.out);
  std::int64_t bytes = 0, files = static_cast<std::int64_t>(index.other_files.size());
  for (const auto& file : index.other_files) bytes += file.bytes;
  for (const auto& dictionary : index.dictionaries) {
    files += static_cast<std::int64_t>(dictionary.files.size());
    for (const auto& file : dictionary.files) bytes += file.bytes;
  }
  const std::string what = fmt::format("{} dictionaries, {} files, {}", index.dictionaries.size(),
                                       files, human_bytes(static_cast<double>(bytes)));
  if (context.options.dry_run) return {.text = fmt::format("would read {}\n", what)};
  make_output_file(out, context.options.overwrite);
  dictionaries::hash_files(index, tree, context.progress);
  const Json json = dictionaries::index_json(index);
  write_json_file(out, json);
  artifacts::write_manifest(out, manifest_of("convert", config, context));
  return {.summary = json, .text = fmt::format("{}: {}\n", out.string(), what)};
}

}  // namespace cresco::verbs
