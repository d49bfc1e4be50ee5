// The folders that a report is made of, read once: tables and arrays under their file names.
// See docs/formats/tables.md.
#pragma once

#include "cresco/artifacts/table.h"
#include "cresco/base/fields.h"
#include "cresco/base/files.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace cresco::report {

struct Matrix {
  std::size_t rows = 0, columns = 0;
  std::vector<float> values;

  float at(std::size_t row, std::size_t column) const { return values[row * columns + column]; }
};

struct Source {
  std::string name;  // what the page calls it: "run", "quality"
  std::string path;
  Json manifest, model;                            // manifest.json and config.json, or null
  std::string recipe;                              // the text of recipe.yaml
  std::map<std::string, artifacts::Table> tables;  // metrics.jsonl is a table too
  std::map<std::string, Matrix> arrays;
  std::vector<std::int64_t> snapshot_steps;  // of a run, in order
  std::vector<Path> files;                   // all that were read

  bool has(const std::string& file) const { return tables.contains(file) || arrays.contains(file); }
};

using Sources = std::vector<Source>;

// Each folder, or the folders directly inside it, or both: whatever holds tables or a manifest.
// Error when a folder holds neither, or a file is damaged.
Sources open_sources(const std::vector<Path>& folders);

}  // namespace cresco::report
