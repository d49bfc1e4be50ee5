// The folder of a run: what stands where, and what a resumed run goes on from.
//
//   manifest.json  recipe.yaml  config.json  tokenizer.json  data_order.json  metrics.jsonl
//   tensorboard/events.out.tfevents.cresco, which says what metrics.jsonl does
//   snapshots/step<N>/{model.safetensors,config.json} state/step<N>/{state.safetensors,state.json}
//   earlier/step<N>/{recipe.yaml,data_order.json,config.json,tokenizer.json}, where the run was
//   changed on the way: what held for the updates before step N
//   COMPLETE
#pragma once

#include "cresco/base/fields.h"
#include "cresco/base/files.h"
#include "cresco/base/json.h"
#include "cresco/pretrain/recipe.h"

#include <fmt/format.h>

#include <optional>
#include <vector>

namespace cresco::pretrain {

struct RunFolder {
  Path path;

  Path recipe() const { return path / "recipe.yaml"; }
  Path metrics() const { return path / "metrics.jsonl"; }
  Path events() const { return path / "tensorboard" / "events.out.tfevents.cresco"; }
  Path data_order() const { return path / "data_order.json"; }
  Path snapshot(std::int64_t step) const {
    return path / "snapshots" / fmt::format("step{}", step);
  }
  Path state(std::int64_t step) const { return path / "state" / fmt::format("step{}", step); }
  Path earlier(std::int64_t step) const { return path / "earlier" / fmt::format("step{}", step); }
  Path complete() const { return path / "COMPLETE"; }

  bool is_run() const { return std::filesystem::exists(recipe()); }
  bool is_complete() const { return std::filesystem::exists(complete()); }
  // Steps of the states, of the snapshots and of earlier/, ascending.
  std::vector<std::int64_t> states() const;
  std::vector<std::int64_t> snapshots() const;
  std::vector<std::int64_t> changes() const;
  // The steps that snapshots were due at, by all its recipes.
  std::vector<std::int64_t> due_snapshots() const;

  // The run, or the folder in earlier/ that holds its recipe.yaml and data_order.json of the update
  // from `step` on.
  RunFolder settings_at(std::int64_t step) const;
  Recipe read_recipe() const;

  // Temporaries of a killed writer go. Of the states that the recipe asks for, and that which it
  // began with, the last `keep` stay; one written by an interrupt stays only while it is the
  // newest, so that it pushes no other out. Those from before the recipe go.
  void clean(const Recipe& recipe) const;
};

}  // namespace cresco::pretrain
