#include "cresco/verbs/train_manifest.h"

#include "cresco/artifacts/shared_table.h"
#include "cresco/dictionaries/released.h"
#include "cresco/lifecycle/decoder_geometry.h"
#include "cresco/lifecycle/rate_lifecycle.h"

#include <algorithm>
#include <cmath>

namespace cresco::verbs {
namespace {

const std::vector<std::string> kColumns{"kind",
                                        "model",
                                        "matrix",
                                        "d_sae",
                                        "d_model",
                                        "vocab",
                                        "seed",
                                        "n_steps",
                                        "epochs",
                                        "batch",
                                        "lr",
                                        "l1",
                                        "jumprelu_lr_factor",
                                        "tanh_stretch",
                                        "input_preprocess",
                                        "optimizer",
                                        "amp_dtype",
                                        "EV",
                                        "L0",
                                        "dead_rate",
                                        "CUSUM_p",
                                        "rate_rotation_r",
                                        "path",
                                        "notes"};

}  // namespace

void append_to_manifest(const Path& csv, const dictionaries::TrainingOutcome& trained,
                        const std::string& kind, const trajectories::Stack& stack,
                        const std::string& notes) {
  const Path path = std::filesystem::weakly_canonical(trained.files[0]);
  const dictionaries::Dictionary d = dictionaries::read_dictionary(path);
  const dictionaries::CrosscoderConfig& c = d.training;
  std::string matrix = d.matrix;  // the reference writes WU
  std::erase(matrix, '_');
  double r = std::nan("");
  if (d.parameters.num_heads() > 1)
    r = lifecycle::rate_rotation_correlation(
        trained.quality.rates_KF, lifecycle::adjacent_rotation(d.parameters.decoder_KFD));
  const auto cell = [](const auto& value) { return artifacts::Table::cell(value); };
  artifacts::NamedCells cells{{"kind", kind},
                              {"model", d.model_name},
                              {"matrix", matrix},
                              {"d_sae", cell(d.parameters.num_features())},
                              {"d_model", cell(d.parameters.width())},
                              {"vocab", cell(stack.num_rows())},
                              {"seed", cell(d.seed)},
                              {"n_steps", cell(d.steps.size())},
                              {"epochs", cell(c.n_epochs)},
                              {"batch", cell(c.batch_size)},
                              {"lr", cell(c.lr)},
                              {"l1", cell(c.l1_coefficient)},
                              {"jumprelu_lr_factor", cell(c.jumprelu_lr_factor)},
                              {"tanh_stretch", cell(c.tanh_stretch_coefficient)},
                              {"input_preprocess", c.input_preprocess},
                              {"optimizer", c.optimizer},
                              {"amp_dtype", c.amp_dtype},
                              {"EV", cell(trained.quality.explained_variance_pooled)},
                              {"L0", cell(trained.quality.l0)},
                              {"dead_rate", cell(trained.quality.dead_rate)},
                              {"rate_rotation_r", cell(r)},
                              {"path", path.string()}};
  if (!notes.empty()) cells.emplace_back("notes", notes);
  artifacts::upsert_row(csv, kColumns, "path", cells);
}

}  // namespace cresco::verbs
