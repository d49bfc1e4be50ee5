#include "cresco/report/sections.h"

#include "cresco/artifacts/manifest.h"
#include "cresco/report/sections/build.h"

#include <fmt/format.h>

namespace cresco::report {

std::vector<SectionKind> section_kinds() {
  return {
      {"Summary and provenance", "manifest.json", build_summary},
      {"Loss", "metrics.jsonl", build_loss},
      {"What the model says", "continuations.csv", build_continuations},
      {"Training of the dictionary", "metrics.jsonl", build_dictionary_training},
      {"Sweep", "sweep.csv", build_sweep},
      {"Quality of the dictionary", "quality_per_snapshot.csv", build_quality},
      {"Fidelity of the readout", "readout_functional_fidelity.csv", build_fidelity},
      {"Population of features", "population.csv", build_population},
      {"Firing rates", "firing_density.csv", build_firing_density},
      {"Decoder norms", "decoder_norms.npy", build_decoder_norms},
      {"Weight spectra", "singular_values.csv", build_spectra},
      {"Planted features", "planted.csv", build_planted},
      {"Features in another dictionary", "matches.csv", build_matches},
      {"Feature atlas", "features.csv", build_atlas},
  };
}

Report make_report(const std::string& title, const Sources& sources) {
  Report report{.title = title, .version = artifacts::version()};
  for (const SectionKind& kind : section_kinds()) {
    if (std::optional<Section> section = kind.build(sources)) {
      if (section->title.empty()) section->title = kind.title;
      report.sections.push_back(std::move(*section));
    } else {
      report.absent.push_back(fmt::format("{} ({})", kind.title, kind.needs));
    }
  }
  std::vector<std::string> names;
  for (const Source& source : sources) names.push_back(source.name);
  report.subtitle = fmt::format("From {} folder{} of tables: {}", names.size(),
                                names.size() == 1 ? "" : "s", fmt::join(names, ", "));
  return report;
}

}  // namespace cresco::report
